"""How each failpoint on the way of files into a container is reached, and what must hold after it."""

from tests.e2e.containers.copy_steps import copy_to, directory, member, read, tar
from tests.recovery.crash import COUNT, CrashedEngine, Scenario, delete, start_ready
from tests.support.wait import until_now

NAME = "receiving"
_MIB = 1024 * 1024
FILES = tar(directory("new"), member("new/first", b"1" * _MIB), member("new/second", b"2" * _MIB))


def running(engine: CrashedEngine) -> None:
    """A container that counts."""
    start_ready(engine, NAME, COUNT)


def copy(engine: CrashedEngine) -> None:
    """CopyTo of two files, in several pieces."""
    copy_to(engine, NAME, "/var", FILES)


def copy_again(engine: CrashedEngine) -> None:
    """The container counts on; the same copy succeeds and is whole."""
    seen = len(engine.logs(NAME))
    until_now(lambda: len(engine.logs(NAME)) > seen, "it counts on")
    copy(engine)
    assert read(engine, NAME, "/var/new/second") == b"2" * _MIB
    delete(engine, NAME)


COPYING = Scenario(copy, copy_again, running)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "container.copy.begin": COPYING,
    "container.copy.write": COPYING,
    "container.copy.finish": COPYING,
}
