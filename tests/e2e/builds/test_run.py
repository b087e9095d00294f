"""RUN by the cases of the field: mounts, here-documents, what of it is in the image, how it fails and ends."""

import gzip
import os
from pathlib import Path

from fluyt import builds, operations
from fluyt.v1 import builds_pb2
from fluyt.v1.types import operation_pb2
from tests.e2e.builds.steps import CACHED, DONE, build, config, context, records, refused, shell
from tests.support.engine import Engine
from tests.support.wait import until_now


def test_b07_declared_arguments_count_and_others_do_not(engine: Engine, tmp_path: Path) -> None:
    dockerfile = 'FROM busybox:1\nARG V\nENV V=$V\nRUN printf %s "$V" > /out\n'
    assert shell(engine, build(engine, tmp_path, dockerfile, build_args={"V": "1"}), "cat /out") == "1"
    second = build(engine, tmp_path, dockerfile, build_args={"V": "2"})
    assert (shell(engine, second, "cat /out"), second.state_of("RUN")) == ("2", DONE)
    third = build(engine, tmp_path, dockerfile, build_args={"V": "2", "OTHER": "x", "HTTP_PROXY": "http://p"})
    assert third.state_of("RUN") == CACHED
    # What was meant for an ARG and meets none is told.
    assert list(second.result.warnings) == []
    assert list(third.result.warnings) == ["One or more build-args [OTHER] were not consumed"]


def test_b09_what_run_writes_below_a_volume_stays(engine: Engine, tmp_path: Path) -> None:
    built = build(engine, tmp_path, "FROM busybox:1\nRUN mkdir /v\nVOLUME /v\nRUN echo hi > /v/f\n")
    assert shell(engine, built, "cat /v/f") == "hi\n"


def test_b17_b18_here_documents_are_scripts(engine: Engine, tmp_path: Path) -> None:
    """b18 with it: a body that begins with `#!` is run by its interpreter."""
    built = build(
        engine,
        tmp_path,
        """
        FROM busybox:1
        RUN <<EOF
        echo hello
        false
        echo world > /w
        EOF
        RUN <<EOF
        #!/bin/awk -f
        BEGIN { print 42 > "/o" }
        EOF
        """,
    )
    assert shell(engine, built, "cat /w /o") == "world\n42\n"
    failure = refused(engine, tmp_path, "FROM busybox:1\n\nRUN <<EOF\nset -e\necho seen\nexit 7\nEOF\n")
    assert failure.reason == "BUILD_STEP_FAILED"
    told = {key: failure.metadata[key] for key in ("step", "line", "exit_code", "cause")}
    assert told == {"step": "2", "line": "3", "exit_code": "7", "cause": "BUILD_COMMAND_FAILED"}


def test_b19_z07_caches_are_kept_by_id_and_never_in_the_image(engine: Engine, tmp_path: Path) -> None:
    """z07 with it: an id is no path."""
    line = "--mount=type=cache,{} sh -c 'stat -c \"%u %a\" /c; echo x >> /c/n; wc -l < /c/n'"
    own = f"FROM busybox:1\nRUN {line.format('target=/c,uid=7,mode=0700')}\n"
    first, second = (build(engine, tmp_path, own, no_cache=True) for _ in range(2))
    assert (first.output, second.output) == (b"7 700\n1\n", b"7 700\n2\n")
    assert shell(engine, second, "ls /c/n 2>/dev/null || echo none") == "none\n"
    before = {path.name for path in engine.root.iterdir()}
    other = build(engine, tmp_path, f"FROM busybox:1\nRUN {line.format('id=../../../escape,target=/c')}\n")
    assert other.output == b"0 755\n1\n"
    assert {path.name for path in engine.root.iterdir()} == before
    assert not (engine.root / "escape").exists()
    assert not (engine.root / "data" / "escape").exists()


def test_b20_secrets_are_nowhere_but_in_the_step(engine: Engine, tmp_path: Path) -> None:
    secret = b"never-stored-7b1f"
    built = build(
        engine,
        tmp_path,
        """
        FROM busybox:1
        RUN --mount=type=secret,id=s stat -c '%u %a' /run/secrets/s; cat /run/secrets/s | sha256sum > /h
        RUN --mount=type=secret,id=s,env=TOKEN test -n "$TOKEN"
        RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
        """,
        secrets={"s": secret},
    )
    assert b"0 400\n" in built.output
    assert shell(engine, built, "ls /run/secrets/s 2>/dev/null || echo none") == "none\n"
    # Files of ended steps may go while they are looked at; os.walk passes over them.
    paths = [Path(directory, name) for directory, _, names in os.walk(engine.root) for name in names]
    looked_at = 0
    for path in paths:
        try:
            data = path.read_bytes() if path.is_file() else b""
        except FileNotFoundError:
            continue
        looked_at += 1
        assert secret not in data, path
        if data[:2] == b"\x1f\x8b":
            assert secret not in gzip.decompress(data), path
    assert looked_at > 10
    failure = refused(engine, tmp_path, "FROM busybox:1\nRUN --mount=type=secret,id=gone,required=true true\n")
    assert failure.metadata["cause"] == "BUILD_SECRET_MISSING"


def test_b21_z08_binds_are_read_only_and_what_is_written_is_thrown_away(engine: Engine, tmp_path: Path) -> None:
    """z08 with it: what a bind of a stage shows is that stage's root."""
    folder = context(tmp_path, {"f": "from the context\n"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1 AS other
        RUN echo stage > /mark
        FROM busybox:1
        RUN --mount=type=bind,target=/m cat /m/f; touch /m/new 2>&1 | grep -o 'Read-only file system'
        RUN --mount=type=bind,target=/m,rw sh -c 'echo x > /m/g && cat /m/g'
        RUN --mount=type=bind,from=other,source=/,target=/s cat /s/mark; ls /s/etc/passwd
        RUN --mount=type=tmpfs,target=/t sh -c 'echo x > /t/f && stat -f -c %T /t'
        """,
    )
    expected = b"from the context\nRead-only file system\nx\nstage\n/s/etc/passwd\ntmpfs\n"
    assert built.output == expected
    assert shell(engine, built, "ls -d /m/* /s/* /t/* 2>/dev/null; echo end") == "end\n"
    assert [path.name for path in folder.iterdir()] == ["f"]


def test_b23_b24_moved_and_made_anew_directories_are_what_they_were_made(engine: Engine, tmp_path: Path) -> None:
    """b24 with it: what was in the old directory does not come back."""
    built = build(
        engine,
        tmp_path,
        """
        FROM busybox:1
        RUN mkdir -p /foo /a/c && touch /foo/bar /a/c/old
        RUN mv /foo /foo2 && rm -rf /a/c && mkdir /a/c && touch /a/c/foo
        """,
    )
    assert shell(engine, built, "ls -d /foo2/bar /foo 2>/dev/null; ls /a/c").split() == ["/foo2/bar", "foo"]


def test_stages_that_are_not_needed_are_skipped_and_a_target_ends_the_build(engine: Engine, tmp_path: Path) -> None:
    dockerfile = """
        FROM busybox:1 AS base
        RUN echo base > /base
        FROM base AS unneeded
        RUN exit 9
        FROM base AS left
        RUN echo left > /left
        FROM base AS right
        RUN echo right > /right
        FROM scratch AS last
        COPY --from=left /left /
        COPY --from=right /right /
        COPY --from=busybox:1 /bin/busybox /bin/sh
        """
    built = build(engine, tmp_path, dockerfile)
    assert {step.stage for step in built.steps} == {"base", "left", "right", "last"}
    assert shell(engine, built, "read a < /left; read b < /right; echo $a $b") == "left right\n"
    target = build(engine, tmp_path, dockerfile, target="left")
    assert shell(engine, target, "cat /base /left") == "base\nleft\n"


def test_triggers_of_a_parent_run_in_its_child(engine: Engine, tmp_path: Path) -> None:
    parent = build(engine, tmp_path, "FROM busybox:1\nWORKDIR /app\nONBUILD COPY . .\nONBUILD RUN cat f > g\n")
    folder = context(tmp_path, {"f": "child\n"})
    child = build(engine, folder, f"FROM {parent.reference}\n")
    assert shell(engine, child, "cat /app/g") == "child\n"
    assert "OnBuild" not in config(engine, child)["config"]


def test_the_same_inputs_give_the_same_image(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"d/f": "f"})
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, folder)),
        dockerfile=b"FROM busybox:1\nWORKDIR /w\nCOPY d d\nRUN date > /dev/null; echo x > y; mkdir z\n",
        no_cache=True,
    )
    request.source_date.seconds = 1_000_000_000
    found = {builds.followed(engine.channel, builds.begin(engine.channel, request)).image_id for _ in range(2)}
    assert len(found) == 1


def test_a_cancelled_build_ends_its_commands_and_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    context_id = builds.upload_context(engine.channel, tmp_path)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id),
        dockerfile=b"FROM busybox:1\nRUN echo begun; sleep 1000\n",
    )
    operation = builds.begin(engine.channel, request)
    assert next(iter(builds.read_log(engine.channel, operation.id))).data == b"begun\n"
    operations.cancel(engine.channel, operation.id)
    ended = engine.ended(operation)
    assert (ended.state, ended.failure.reason) == (operation_pb2.Operation.STATE_CANCELLED, "CANCELLED")
    until_now(lambda: not engine.left_on_host(), "nothing of the step is left on the host")
    until_now(lambda: not list((engine.root / "data" / "containers").iterdir()), "its files are gone")
    # Whoever comes late still reads what there was.
    assert b"".join(piece.data for piece in builds.read_log(engine.channel, operation.id)) == b"begun\n"


def test_the_cache_is_listed_and_pruned_and_used_images_stay_whole(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1\nRUN echo kept > /kept\n"
    built = build(engine, tmp_path, dockerfile)
    newest = records(engine)[0]
    assert (newest.description, newest.use_count, newest.layer_digest[:7]) == ("RUN echo kept > /kept", 0, "sha256:")
    assert builds.prune_cache(engine.channel, all=True, dry_run=True).deleted_count == len(records(engine))
    assert builds.prune_cache(engine.channel, all=True).deleted_count > 0
    assert records(engine) == []
    assert shell(engine, built, "cat /kept") == "kept\n"
    assert build(engine, tmp_path, dockerfile).state_of("RUN") == DONE
