"""What a commit does to its container, on fakes: the lock, the freezer, and what is left when it fails."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from fluytd.containers import commit
from fluytd.containers.commit import CommitRequest
from fluytd.containers.files import ContainerFiles
from fluytd.containers.model import ExitStatus
from fluytd.containers.spec import ContainerSpec
from fluytd.containers.tree_ports import Change, TreeArchive
from fluytd.errors import CgroupBusy, ContainerNotFound, FieldInvalid, ImageNotFound, LimitExceeded
from fluytd.ids import ImageReference
from fluytd.images.commit import CommitOptions, Committed, Hold, Tree
from fluytd.operations.ports import CancelToken
from tests.support.fakes.containers import Bench
from tests.support.fakes.images import Flag
from tests.support.wait import until

SPEC = ContainerSpec(image="busybox", args=("true",), env=("A=1", "B"), labels={"l": "1"}, user="7")
PLAIN = CommitRequest(None, (), "", "", no_pause=False)
LIVE = CommitRequest(None, (), "", "", no_pause=True)


class FakeCommits:
    """Implements `ports.Commits`: reads nothing, as long as it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tree, CommitOptions]] = []
        self.is_reading = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.failure: Exception | None = None
        self.cancelled = False

    async def commit(
        self, tree: Tree, options: CommitOptions, hold: Hold, cancel: CancelToken, actor: str
    ) -> Committed:
        """See `ports.Commits`."""
        self.seen.append((tree, options))
        async with hold():
            self.is_reading.set()
            while not self.go_on.is_set() and not cancel.is_cancelled:  # noqa: ASYNC110 - a token is no event
                await asyncio.sleep(0)
            self.cancelled = cancel.is_cancelled
            if self.failure is not None:
                raise self.failure
        return cast("Committed", None)


class FakeTrees:
    """Implements `ports.Trees`."""

    def new_cancel_token(self) -> CancelToken:
        """See `ports.Trees`."""
        return Flag()

    async def list_changes(self, tree: Tree, cancel: CancelToken) -> Sequence[Change]:
        """See `ports.Trees`."""
        return [Change(b"/x", "added")]

    def open_archive(self, tree: Tree, cancel: CancelToken) -> TreeArchive:
        """See `ports.Trees`."""
        raise NotImplementedError


def files_of(bench: Bench, commits: FakeCommits) -> ContainerFiles:
    """Over the bench's containers."""
    return ContainerFiles(bench.service.ctx, FakeTrees(), commits)


async def test_a_running_container_is_frozen_while_it_is_read_and_thawed_however_that_ends(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    commits = FakeCommits()
    files = files_of(bench, commits)
    await files.commit("one", PLAIN, "root")
    assert (bench.runtime.freezes, bench.runtime.thaws) == ([made.id], [made.id])
    commits.failure = ImageNotFound(reference="x")
    with pytest.raises(ImageNotFound):
        await files.commit("one", PLAIN, "root")
    assert bench.runtime.thaws == [made.id] * 2
    commits.failure = None
    await files.commit("one", LIVE, "root")
    assert bench.runtime.freezes == [made.id] * 2


async def test_a_container_that_does_not_run_is_not_frozen_and_not_started_meanwhile(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    commits = FakeCommits()
    commits.go_on.clear()
    task = asyncio.ensure_future(files_of(bench, commits).commit("one", PLAIN, "root"))
    await commits.is_reading.wait()
    start = asyncio.ensure_future(bench.service.start("one"))
    await asyncio.sleep(0.01)
    assert not start.done()
    commits.go_on.set()
    await task
    await start
    assert bench.runtime.freezes == []


async def test_a_caller_that_goes_ends_the_commit_and_the_container_runs(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    commits = FakeCommits()
    commits.go_on.clear()
    task = asyncio.ensure_future(files_of(bench, commits).commit("one", PLAIN, "root"))
    await commits.is_reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert commits.cancelled
    assert bench.runtime.thaws == [made.id]
    await until(lambda: not bench.service.ctx.table.find("one").lock.locked())


async def test_a_container_that_cannot_be_frozen_is_told_and_thawed(bench: Bench, monkeypatch: Any) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")

    def busy(container_id: str) -> None:
        raise CgroupBusy(path=container_id)

    monkeypatch.setattr(bench.runtime, "freeze", busy)
    with pytest.raises(CgroupBusy):
        await files_of(bench, FakeCommits()).commit("one", PLAIN, "root")
    assert bench.runtime.thaws == [made.id]


async def test_a_container_that_is_deleted_before_its_turn_is_not_read(bench: Bench) -> None:
    await bench.service.create(SPEC, "one")
    commits = FakeCommits()
    lock = bench.service.ctx.table.find("one").lock
    await lock.acquire()
    deleting = asyncio.ensure_future(bench.service.delete("one", force=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    committing = asyncio.ensure_future(files_of(bench, commits).commit("one", PLAIN, "root"))
    await until(lambda: bool(commits.seen))
    lock.release()
    await deleting
    with pytest.raises(ContainerNotFound):
        await committing
    assert not commits.is_reading.is_set()


async def test_the_tree_and_the_config_are_the_containers(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    commits = FakeCommits()
    await files_of(bench, commits).commit("one", PLAIN, "root")
    tree, options = commits.seen[0]
    assert tree.layer_ids == made.image.layer_ids
    assert {"/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} <= set(tree.mount_points)
    assert (options.run, options.env, options.labels) == ({"Cmd": ["true"], "User": "7"}, ("A=1", "B"), {"l": "1"})
    assert (options.container_id, options.container_name) == (made.id, "one")


def test_an_own_entrypoint_takes_the_images_command_away() -> None:
    spec = ContainerSpec(image="busybox", entrypoint=(), args=("ls",))
    assert commit.run_of(spec) == {"Entrypoint": None, "Cmd": ["ls"]}
    assert commit.run_of(ContainerSpec(image="busybox", entrypoint=("sh",))) == {"Entrypoint": ["sh"], "Cmd": None}


def test_what_cannot_be_is_refused_before_anything_is_read() -> None:
    pinned = ImageReference.parse("made@sha256:" + "a" * 64)
    with pytest.raises(FieldInvalid):
        commit.check(CommitRequest(pinned, (), "", "", no_pause=False))
    with pytest.raises(LimitExceeded, match="MAX_REMARK_BYTES"):
        commit.check(CommitRequest(None, (), "", "é" * 40_000, no_pause=False))


async def test_the_end_of_the_process_meanwhile_is_no_failure(bench: Bench) -> None:
    made = await bench.service.create(SPEC, "one")
    await bench.service.start("one")
    commits = FakeCommits()
    commits.go_on.clear()
    task = asyncio.ensure_future(files_of(bench, commits).commit("one", PLAIN, "root"))
    await commits.is_reading.wait()
    bench.process(made).end(ExitStatus(exit_code=0))
    commits.go_on.set()
    await task
