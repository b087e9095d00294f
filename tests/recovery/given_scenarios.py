"""Kills on the way of a container that is given devices, namespaces of another, or files while it is stopped."""

from pathlib import Path

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, network_pb2, security_pb2
from tests.e2e.containers.copy_steps import copy_from, copy_to
from tests.e2e.execs.steps import run as execute
from tests.recovery.container_scenarios import END_WITH_5, NAME, STAY, start, stays_until_stopped
from tests.recovery.copy_scenarios import FILES
from tests.recovery.crash import CALL_SECONDS, EXITED, IMAGE, CrashedEngine, Scenario, delete, find, get, start_ready
from tests.recovery.crash import wait_for_end as until_ended

RUNNING = container_pb2.Container.STATE_RUNNING
OWNER = "owner"
#: No default device, so that the container's own rule decides, put where no image has a directory; to read it takes a
#: capability of the host's besides.
DEVICE = container_spec_pb2.Device(host_path="/dev/kmsg", container_path="/dev/my/deep/kmsg", permissions="r")
READER = security_pb2.SecuritySpec(add_capabilities=["SYSLOG"])
HOST_USERS = security_pb2.NamespacesSpec(
    user=security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_HOST)
)
LOOK = (
    "stat -c %t:%T /dev/my/deep/kmsg; (exec 3</dev/my/deep/kmsg) && echo reads;"
    "(exec 3>/dev/my/deep/kmsg) 2>/dev/null || echo no"
)
LINKS = ("pid", "uts", "cgroup", "net")


def _create(engine: CrashedEngine, script: str, **fields: object) -> None:
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", script], **fields)  # type: ignore[arg-type]
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=NAME), timeout=CALL_SECONDS)


def create_with_device(engine: CrashedEngine) -> None:
    """A container with a device, not started."""
    _create(engine, STAY, devices=[DEVICE], security=READER, namespaces=HOST_USERS)


def start_with_device(engine: CrashedEngine) -> None:
    """StartContainer."""
    start(engine)


def has_its_device(engine: CrashedEngine) -> None:
    """It runs, or can be started; either way the device is there and the kernel allows of it what was asked."""
    found = get(engine, NAME)
    if found.state != RUNNING:
        start(engine)
    told = execute(engine, NAME, "sh", "-c", LOOK)
    assert told.out == b"1:b\nreads\nno\n", told
    stays_until_stopped(engine)


def create_beside_its_owner(engine: CrashedEngine) -> None:
    """A container that runs, and one, not started, that is to have its namespaces."""
    start_ready(engine, OWNER, STAY)
    of_owner = security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.MODE_CONTAINER, container=OWNER)
    _create(
        engine,
        STAY,
        namespaces=security_pb2.NamespacesSpec(pid=of_owner, uts=of_owner, cgroup=of_owner),
        network=network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_CONTAINER, container=OWNER),
    )


def start_beside_its_owner(engine: CrashedEngine) -> None:
    """Both run."""
    create_beside_its_owner(engine)
    start(engine)


def start_sharing(engine: CrashedEngine) -> None:
    """StartContainer."""
    start(engine)


def links_of(pid: int) -> list[str]:
    """The namespaces of a process that are shared here."""
    return [str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in LINKS]


def shares_with_its_owner(engine: CrashedEngine) -> None:
    """The owner runs on; the other runs, or can be started, in the owner's namespaces, and ends by itself alone."""
    owner = get(engine, OWNER)
    assert owner.state == RUNNING
    if get(engine, NAME).state != RUNNING:
        start(engine)
    assert links_of(get(engine, NAME).host_pid) == links_of(owner.host_pid)
    request = containers_pb2.KillContainerRequest(container=NAME, signal="SIGKILL")
    engine.containers.KillContainer(request, timeout=CALL_SECONDS)
    assert until_ended(engine, NAME).signal == 9
    assert (get(engine, OWNER).state, get(engine, OWNER).host_pid) == (RUNNING, owner.host_pid)
    delete(engine, NAME)
    delete(engine, OWNER)


def kill_the_owner(engine: CrashedEngine) -> None:
    """The first process of the shared pid namespace is killed, and with it all others."""
    request = containers_pb2.KillContainerRequest(container=OWNER, signal="SIGKILL")
    engine.containers.KillContainer(request, timeout=CALL_SECONDS)
    until_ended(engine, OWNER)


def ended_with_their_owner(engine: CrashedEngine) -> None:
    """Both have ended, the owner for the first or second time of asking; the other can be started once the owner is."""
    if get(engine, OWNER).state == RUNNING:
        kill_the_owner(engine)
    ends = [until_ended(engine, name) for name in (OWNER, NAME)]
    assert [(one.state, one.signal) for one in ends] == [(EXITED, 9)] * 2, ends
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=OWNER), timeout=CALL_SECONDS)
    shares_with_its_owner(engine)


def has_ended(engine: CrashedEngine) -> None:
    """A container that has ended."""
    start_ready(engine, NAME, END_WITH_5)
    until_ended(engine, NAME)


def copy(engine: CrashedEngine) -> None:
    """CopyTo into a container that does not run, in several pieces."""
    copy_to(engine, NAME, "/var", FILES)


def copied_again(engine: CrashedEngine) -> None:
    """It is as it was; the same copy succeeds and is whole, also for the process that is started then."""
    assert (get(engine, NAME).state, find(engine, NAME) is not None) == (EXITED, True)
    copy(engine)
    _, archive = copy_from(engine, NAME, "/var/new/second")
    assert b"2" * 1024 * 1024 in archive
    start(engine)
    assert until_ended(engine, NAME).exit_code == 5
    _, again = copy_from(engine, NAME, "/var/new/second")
    assert again == archive
    delete(engine, NAME)


WITH_DEVICE = Scenario(start_with_device, has_its_device, create_with_device)
SHARING = Scenario(start_sharing, shares_with_its_owner, create_beside_its_owner)
OWNER_KILLED = Scenario(kill_the_owner, ended_with_their_owner, start_beside_its_owner)
INTO_STOPPED = Scenario(copy, copied_again, has_ended)

#: Failpoints that stand elsewhere too, and how such containers come by them.
FURTHER = [
    *((f"container.start.{name}", WITH_DEVICE) for name in ("record", "process", "executed", "running")),
    *((f"container.start.{name}", SHARING) for name in ("record", "process", "executed", "running")),
    ("container.kill.signal", OWNER_KILLED),
    ("container.exit.record", OWNER_KILLED),
    ("container.exit.record:2", OWNER_KILLED),
    *((f"container.copy.{name}", INTO_STOPPED) for name in ("begin", "write", "finish")),
]
