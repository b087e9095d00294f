"""A process in a container exchanges a directory and a link as fast as the kernel can, while the engine works there.

Whatever the engine does, nothing of the host is read or written: the fixture `canary` compares it afterwards.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import mount_pb2
from tests.e2e.containers import copy_steps as copies
from tests.e2e.containers import file_steps as files
from tests.e2e.containers.copy_steps import directory, member, tar
from tests.e2e.containers.steps import IMAGE, create, delete, get, load, refusal, start, started
from tests.e2e.execs import steps as execs
from tests.e2e.volumes import steps as volumes
from tests.security.canary import Canary
from tests.support import programs, tarball
from tests.support.engine import Engine
from tests.support.wait import until_now

#: How long one race goes on; a machine that is free does some hundreds of calls in it.
SECONDS = 0.8
#: What may be told of a path that is not what it was a moment ago.
PATHS = {"", "PATH_NOT_FOUND", "PATH_WRONG_KIND"}
STARTS = {"", "PROCESS_START_FAILED"}


@dataclass(frozen=True)
class Race:
    """A container whose `/race/a` and `/race/b` change places: a directory, and a link to the canary."""

    engine: Engine
    container: str
    canary: Canary

    def run(self, *works: Callable[[], object]) -> set[str]:
        """The reasons of what was refused; "" for what was not. Fails if nothing of the host was as it was."""
        outcomes = set()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            for work in works:
                try:
                    work()
                    outcomes.add("")
                except grpc.RpcError as error:
                    outcomes.add(refusal(error)[1])
            assert self.canary.changes() == []
        return outcomes

    def has_not_read(self, data: bytes) -> None:
        """Fails if the data has anything of the canary."""
        assert not self.canary.is_in(data)


@pytest.fixture(params=["outside", "climbing", "by_proc"])
def link(request: pytest.FixtureRequest, canary: Canary) -> str:
    """Where the link leads."""
    ways = {"outside": "", "climbing": "../../../../../../../../..", "by_proc": "/proc/1/root"}
    return f"{ways[request.param]}{canary.path}"


@pytest.fixture
def race(engine: Engine, canary: Canary, link: str) -> Race:
    """Under way."""
    image = load(
        engine,
        tarball.directory("race"),
        tarball.directory("race/a"),
        tarball.directory("race/a/deep"),
        tarball.file("race/a/secret", "inside"),
        tarball.file("race/a/deep/secret", "inside"),
        tarball.symlink("race/b", link),
        tarball.file("exchange", programs.exchanger("/race/a", "/race/b"), mode=0o755),
    )
    # A directory of a lower layer cannot be exchanged: it is made anew.
    script = "cp -a /race/a /race/c && rm -r /race/a && mv /race/c /race/a && exec /exchange"
    container = started(engine, "sh", "-c", script, image=image).id
    where = Path(f"/proc/{get(engine, container).host_pid}/root/race")
    kinds: set[bool] = set()
    until = time.monotonic() + 10
    while len(kinds) < 2 and time.monotonic() < until:
        try:
            kinds.add((where / "a").is_symlink())
        except FileNotFoundError:
            continue
    assert kinds == {True, False}, "they change places"
    return Race(engine, container, canary)


def test_copies_out(race: Race) -> None:
    def copy(path: str, *, follow_link: bool) -> None:
        race.has_not_read(copies.copy_from(race.engine, race.container, path, follow_link=follow_link)[1])

    outcomes = race.run(
        lambda: copy("/race/a/secret", follow_link=True),
        lambda: copy("/race/a/deep/secret", follow_link=False),
        lambda: copy("/race/a/", follow_link=True),
        lambda: copy("/race", follow_link=True),
    )
    assert "" in outcomes
    assert outcomes <= PATHS


def test_copies_in(race: Race) -> None:
    whole = tar(directory("a"), member("a/new", b"n"), member("a/deep/new", b"n"), member("b/secret", b"n"))
    part = tar(member("secret", b"n"), directory("made"), member("deep/new", b"n"))
    outcomes = race.run(
        lambda: copies.copy_to(race.engine, race.container, "/race", whole),
        lambda: copies.copy_to(race.engine, race.container, "/race/a", part),
        lambda: copies.copy_to(race.engine, race.container, "/race/a/deep", part),
    )
    assert "" in outcomes
    assert outcomes <= PATHS


def test_processes_in_a_working_directory(race: Race) -> None:
    def look(where: str) -> None:
        ended = execs.run(race.engine, race.container, "sh", "-c", "cat secret; ls -l; echo x > f", working_dir=where)
        race.has_not_read(ended.out)

    outcomes = race.run(lambda: look("/race/a"), lambda: look("/race/a/deep"))
    assert "" in outcomes
    assert outcomes <= STARTS


def test_exports_changes_and_commits(race: Race) -> None:
    committed = []

    def commit() -> None:
        answer = files.commit(race.engine, race.container, "race:1")
        committed.append(answer)
        race.has_not_read(race.engine.run("race:1", "sh", "-c", "cat /race/*/secret /race/*/*/secret")[0])

    outcomes = race.run(
        lambda: race.has_not_read(files.export(race.engine, race.container)),
        lambda: files.changes(race.engine, race.container),
        commit,
    )
    assert committed, outcomes
    race.engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="race:1", force=True))
    assert outcomes <= {"", "FILE_CHANGED", "PATH_NOT_FOUND", "IO_FAILED"}


@pytest.fixture
def volume_race(engine: Engine, canary: Canary, link: str) -> Iterator[Race]:
    """Under way in a volume that other containers mount."""
    root = Path(volumes.create(engine, "raced").mountpoint)
    (root / "a" / "deep").mkdir(parents=True)
    (root / "a" / "secret").write_text("inside")
    (root / "b").symlink_to(link)
    image = load(engine, tarball.file("exchange", programs.exchanger("/v/a", "/v/b"), mode=0o755))
    mount = mount_pb2.Mount(target="/v", volume=mount_pb2.VolumeMount(volume="raced"))
    container = started(engine, "/exchange", image=image, mounts=[mount]).id
    yield Race(engine, container, canary)
    delete(engine, container, force=True)
    volumes.delete(engine, "raced")


def test_starts_with_a_part_of_a_volume(volume_race: Race) -> None:
    def start(part: str) -> None:
        mount = mount_pb2.Mount(target="/m", volume=mount_pb2.VolumeMount(volume="raced", sub_path=part))
        script = "cat /m/secret /m/deep/secret; echo x > /m/written; rm -f /m/written"
        volume_race.has_not_read(volume_race.engine.run(IMAGE, "sh", "-c", script, mounts=[mount])[0])

    outcomes = volume_race.run(lambda: start("a"), lambda: start("a/deep"))
    assert "" in outcomes
    assert outcomes <= STARTS


def test_starts_with_a_mount_below_a_volume(volume_race: Race) -> None:
    def start(target: str) -> None:
        mounts = [
            mount_pb2.Mount(target="/v", volume=mount_pb2.VolumeMount(volume="raced")),
            mount_pb2.Mount(target=target, tmpfs=mount_pb2.TmpfsMount()),
        ]
        script = f"cat /v/a/secret /v/b/secret; echo x > {target}/written"
        volume_race.has_not_read(volume_race.engine.run(IMAGE, "sh", "-c", script, mounts=mounts)[0])

    outcomes = volume_race.run(lambda: start("/v/a/deep"), lambda: start("/v/a/new"))
    assert "" in outcomes
    assert outcomes <= STARTS


@pytest.mark.parametrize("is_running", [True, False])
def test_copies_with_a_mount_below_a_volume(volume_race: Race, is_running: bool) -> None:
    """CVE-2026-42306: a copy mounted the container's volumes anew, by a link onto the host."""
    engine = volume_race.engine
    mounts = [
        mount_pb2.Mount(target="/v", volume=mount_pb2.VolumeMount(volume="raced")),
        mount_pb2.Mount(target="/v/a/inner", volume=mount_pb2.VolumeMount(volume="inner")),
    ]
    name = create(engine, "sleep", "1000", mounts=mounts).id
    if is_running:
        until_now(lambda: _starts(engine, name), "a start in a moment in which the place is there")
    data = tar(member("new", b"n"), member("a/inner/new", b"n"))
    outcomes = volume_race.run(
        lambda: copies.copy_to(engine, name, "/v", data),
        lambda: copies.copy_to(engine, name, "/v/a/inner", tar(member("new", b"n"))),
        lambda: volume_race.has_not_read(copies.copy_from(engine, name, "/v/a/inner")[1]),
        lambda: volume_race.has_not_read(copies.copy_from(engine, name, "/v")[1]),
    )
    delete(engine, name, force=True)
    volumes.delete(engine, "inner")
    assert "" in outcomes
    assert outcomes <= PATHS


def _starts(engine: Engine, name: str) -> bool:
    """Whether it started; the only refusal may be that of the place."""
    reason = ""
    try:
        start(engine, name)
    except grpc.RpcError as error:
        reason = refusal(error)[1]
    assert reason in STARTS
    return not reason
