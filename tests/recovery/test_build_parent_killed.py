"""A step of a build whose control group lies elsewhere leaves nothing there, though it is in no store."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from fluyt import builds, errors
from fluyt.v1 import builds_pb2
from tests.e2e.builds.steps import context
from tests.recovery.crash import CrashedEngine, die_at, until_nothing_unowned
from tests.support.wait import until_now

PARENT = f"fluyt-test-builds-{os.getpid()}"
DOCKERFILE = b"FROM busybox:1\nRUN sleep 1000\n"


def groups() -> list[Path]:
    """Those of steps, in whatever hierarchy."""
    parents = [*Path("/sys/fs/cgroup").glob(f"*/{PARENT}"), Path("/sys/fs/cgroup", PARENT)]
    return [group for parent in parents if parent.is_dir() for group in parent.iterdir() if group.is_dir()]


def build(engine: CrashedEngine) -> None:
    """Comes to the step and waits for it; a daemon that dies is no failure of its own."""
    folder = context(engine.root / "context", {"f": ""})
    context_id = builds.upload_context(engine.channel, folder)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), dockerfile=DOCKERFILE, cgroup_parent=f"/{PARENT}"
    )
    with suppress(errors.FluytError):
        builds.followed(engine.channel, builds.begin(engine.channel, request))


def end(pid: int) -> None:
    """The process is on its way out, or has gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("is_supervised", [True, False])
def test_the_group_of_a_step_goes_with_its_daemon(engine: CrashedEngine, *, is_supervised: bool) -> None:
    engine.kill()
    try:
        die_at(engine, "container.start.executed", build)
        assert groups(), "the step's group is where it was asked for"
        if not is_supervised:
            # No supervisor answers the next daemon: it has the run directory alone.
            (pid, *_) = {pid for group in groups() for pid in (group / "cgroup.procs").read_text().split()}
            status = Path(f"/proc/{pid}/status").read_text()
            (supervisor,) = (line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))
            end(int(supervisor))
            until_now(lambda: not Path(f"/proc/{supervisor}").exists(), "the supervisor has gone")
        engine.start()
        until_now(lambda: not groups(), "the next daemon has cleared the group")
        until_nothing_unowned(engine)
    finally:
        for parent in [*Path("/sys/fs/cgroup").glob(f"*/{PARENT}"), Path("/sys/fs/cgroup", PARENT)]:
            with suppress(OSError):
                parent.rmdir()


def test_a_parent_that_cannot_be_is_refused_before_the_build(engine: CrashedEngine) -> None:
    for parent in ("a/../b", f"{engine.cgroup_parent}/x"):
        request = builds_pb2.BuildImageRequest(
            context=builds_pb2.BuildSource(context_id="0" * 32), dockerfile=DOCKERFILE, cgroup_parent=parent
        )
        with pytest.raises(errors.InvalidInput, match="cgroup_parent"):
            builds.begin(engine.channel, request)
