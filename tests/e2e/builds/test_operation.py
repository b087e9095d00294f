"""A build as an operation: steps at the same time, watched by several, found again; and what holds of each step."""

import concurrent.futures
from pathlib import Path

import grpc
import pytest

from fluyt import builds, operations
from fluyt.errors import FluytError
from fluyt.v1 import builds_pb2, builds_pb2_grpc
from fluyt.v1.types import operation_pb2, resources_pb2
from tests.e2e.builds.steps import CACHED, DONE, build, context, refused, shell
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

MEET = "RUN --mount=type=cache,id={id},target=/c touch /c/{own} && until [ -e /c/{other} ]; do sleep 0.05; done"


def test_stages_that_need_nothing_of_each_other_run_at_the_same_time(engine: Engine, tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would never end.
    stages = [MEET.format(id="meet", own=own, other=other) for own, other in (("a", "b"), ("b", "a"))]
    dockerfile = (
        f"FROM busybox:1 AS a\n{stages[0]}\nRUN echo a > /a\nFROM busybox:1 AS b\n{stages[1]}\nRUN echo b > /b\n"
        "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=busybox:1 / /\n"
    )
    assert shell(engine, build(engine, tmp_path, dockerfile), "cat /a /b") == "a\nb\n"


def begun(engine: Engine, folder: Path, dockerfile: str) -> operation_pb2.Operation:
    context_id = builds.upload_context(engine.channel, context(folder, {"f": ""}))
    source = builds_pb2.BuildSource(context_id=context_id)
    return builds.begin(engine.channel, builds_pb2.BuildImageRequest(context=source, dockerfile=dockerfile.encode()))


def test_several_watch_one_build_and_one_who_lost_it_finds_it_again(engine: Engine, tmp_path: Path) -> None:
    wait = MEET.format(id="found", own="here", other="go")
    operation = begun(engine, tmp_path, f"FROM busybox:1\nRUN echo first\n{wait}\nRUN echo last\n")

    def watched() -> list[list[tuple[str, int]]]:
        """What one watcher with a connection of its own is told of the steps."""
        told = []
        with grpc.insecure_channel(f"unix:{engine.root}/run/fluytd.sock") as channel:
            for change in operations.watch(channel, operation.id):
                steps = change.operation.build_progress.steps
                told.append([(step.instruction, int(step.state)) for step in steps])
        return told

    def read(position: int) -> bytes:
        """The output from there on, to its end."""
        with grpc.insecure_channel(f"unix:{engine.root}/run/fluytd.sock") as channel:
            stub = builds_pb2_grpc.BuildServiceStub(channel)
            request = builds_pb2.ReadBuildLogRequest(operation_id=operation.id, position_bytes=position)
            return b"".join(piece.data for piece in stub.ReadBuildLog(request))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        watchers = [pool.submit(watched) for _ in range(2)]
        readers = [pool.submit(read, position) for position in (0, len("first\n"))]
        # Who knows nothing of it finds it among the operations that run.
        kind = operation_pb2.Operation.KIND_BUILD_IMAGE
        state = operation_pb2.Operation.STATE_RUNNING
        known = operations.list_all(engine.channel)
        running = [one.id for one in known if (one.kind, one.state) == (kind, state)]
        assert running == [operation.id]
        build(
            engine,
            context(tmp_path / "other", {"f": ""}),
            "FROM busybox:1\nRUN --mount=type=cache,id=found,target=/c touch /c/go\n",
        )
        ended = operations.wait(engine.channel, operation.id)
        assert ended.state == operation_pb2.Operation.STATE_SUCCEEDED, ended
        told = [watcher.result() for watcher in watchers]
        assert [reader.result() for reader in readers] == [b"first\nlast\n", b"last\n"]
    assert told[0][-1] == told[1][-1]
    assert [state for _, state in told[0][-1]] == [DONE] * 4


def test_a_step_that_writes_short_lines_without_end_is_read_in_large_pieces_and_ends_when_asked(
    engine: Engine, tmp_path: Path
) -> None:
    operation = begun(engine, tmp_path, "FROM busybox:1\nRUN yes\n")
    read_bytes = piece_count = 0
    for piece in builds_pb2_grpc.BuildServiceStub(engine.channel).ReadBuildLog(
        builds_pb2.ReadBuildLogRequest(operation_id=operation.id)
    ):
        assert set(piece.data) <= set(b"y\n")
        read_bytes += len(piece.data)
        piece_count += 1
        if read_bytes >= 1 << 20:
            break
    assert read_bytes / piece_count > 100 * len("y\n")
    operations.cancel(engine.channel, operation.id)
    with pytest.raises(FluytError) as caught:
        operations.wait(engine.channel, operation.id)
    assert caught.value.reason == "CANCELLED"


def test_each_step_is_held_to_the_limits_of_the_build(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"f": ""})
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, folder)),
        dockerfile=(
            b"FROM busybox:1\nRUN ulimit -n; grep friend /etc/hosts; df -k /dev/shm | tail -1 | awk '{print $2}'; "
            b"ls /sys/class/net\nRUN head -c 200m /dev/zero | tail -c 200m > /dev/null\n"
        ),
        resources=resources_pb2.Resources(memory_limit_bytes=32 << 20, memory_swap_limit_bytes=32 << 20),
        rlimits=[resources_pb2.Rlimit(name="nofile", soft=77, hard=77)],
        extra_hosts=["friend:10.1.2.3"],
        shm_size_bytes=3 << 20,
        network_mode="none",
    )
    output = bytearray()
    with pytest.raises(Exception, match="exit code 137") as caught:
        builds.followed(
            engine.channel,
            builds.begin(engine.channel, request),
            on_progress=lambda _: None,
            on_output=lambda piece: output.extend(piece.data),
        )
    assert caught.value.metadata["step"] == "3"  # type: ignore[attr-defined]
    lines = output.decode().splitlines()
    assert (lines[0], lines[1].split(), lines[2], lines[3]) == ("77", ["10.1.2.3", "friend"], str(3 << 10), "lo")


def test_named_stages_alone_are_carried_out_again(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"f": ""})
    dockerfile = (
        "FROM busybox:1 AS a\nRUN echo named of a\nFROM a AS b\nRUN echo named of b\nFROM b\nRUN echo named last\n"
    )
    context_id = builds.upload_context(engine.channel, folder)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), dockerfile=dockerfile.encode()
    )
    states = []
    for stages in ([], ["b"]):
        request.no_cache = bool(stages)
        request.no_cache_stages.extend(stages)
        last: list[operation_pb2.Operation] = []
        builds.followed(engine.channel, builds.begin(engine.channel, request), on_progress=last.append)
        steps = last[-1].build_progress.steps
        states.append({step.instruction: step.state for step in steps if step.instruction.startswith("RUN")})
    assert set(states[0].values()) == {DONE}
    assert states[1] == {"RUN echo named of a": CACHED, "RUN echo named of b": DONE, "RUN echo named last": CACHED}


@pytest.mark.needs("docker-registry")
def test_a_base_is_resolved_anew_where_that_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": ""})
    with RealRegistry(tmp_path) as registry:
        base = f"{registry.address}/base:1"
        for turn, (text, pull, seen) in enumerate((("one", False, "one"), ("two", False, "one"), ("two", True, "two"))):
            image = images.image([images.busybox_layer(), images.layer(tarball.file("told", text))])
            image_files.push(registry.address, "base", "1", image)
            built = build(engine, folder, f"FROM {base}\nRUN cp /told /copy\n", pull=pull)
            assert shell(engine, built, "cat /copy") == seen, turn
        assert refused(engine, folder, f"FROM {registry.address}/none:1\n").reason == "BUILD_BASE_UNAVAILABLE"
