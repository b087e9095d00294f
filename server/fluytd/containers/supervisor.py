"""Processes of containers over `_core.process` and `_core.cgroup`. It keeps only paths, and decides nothing."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd._core import cgroup, host, process
from fluytd._core.network import Namespace
from fluytd.containers import bind_sources, host_devices
from fluytd.containers.host_devices import HostDevices
from fluytd.containers.model import Container
from fluytd.containers.process_ports import Ending, ExecProcess, Look, Process, ProcessInfo, Stats
from fluytd.containers.process_spec import ContainerStart, ExecStart, ResourceLimits
from fluytd.containers.relabelling import Relabelling
from fluytd.containers.scopes import Scopes
from fluytd.containers.start_facts import HostFacts, StartPaths, StartSettings
from fluytd.containers.start_spec import start_spec
from fluytd.containers.units import place_of
from fluytd.containers.volume_mounts import server_of
from fluytd.containers.waiting import WaitingSupervisors
from fluytd.errors import (
    ContainerNotFound,
    EngineError,
    FieldInvalid,
    IoFailed,
    KernelFeatureMissing,
    SupervisorLost,
    VolumeServerUnreachable,
)

#: A start that takes longer is broken off; far above what a slow disk or a loaded host needs.
START_TIMEOUT_MILLIS: Final = 30_000
#: Supervisors that wait for the next starts.
READY_SUPERVISORS: Final = 4
#: How long a supervisor may take to end after its exit record stands, before it is killed.
SUPERVISOR_EXIT_TIMEOUT_MILLIS: Final = 2_000
#: How long the last process of a killed group may take to go.
GROUP_EXIT_TIMEOUT_MILLIS: Final = 5_000
#: Processes of one that does not end that are told of.
MAX_WAITING_TOLD: Final = 4

_PRIVATE: Final = 0o700
#: In a run directory: the parent of the group, where that is not the engine's own. Steps of builds have no other
#: record, by which a daemon that comes after knows what to clear.
_PARENT_FILE: Final = "cgroup_parent"
_log = logging.getLogger(__name__)


class CoreRuntime:
    """Implements `ports.Runtime` with the Rust core."""

    def __init__(
        self,
        supervisor_path: Path,
        run_root: Path,
        settings: StartSettings,
        host_facts: HostFacts,
        devices: HostDevices,
        *,
        has_users: bool = False,
        scopes: Scopes | None = None,
    ) -> None:
        """Opens the supervisor program. `has_users`: most containers will be in a user namespace. `scopes`: who makes
        the groups of containers, if it is not the core. Raises IO_FAILED, VERSION_MISMATCH. Blocking."""
        self._has_users = has_users
        self._scopes = scopes
        #: Gives a container's network namespace its interfaces; set once networks are known.
        self.attach: Callable[[Container, Namespace], None] = _no_networks
        #: Makes an interface in a namespace that has no container yet.
        self.make_waiting: Callable[[Namespace], None] = lambda _: None
        self._waiting = WaitingSupervisors(self._make_waiting)
        self._host = process.SupervisorHost(str(supervisor_path))
        self._run_dirs = run_root / "containers"
        self._settings = settings
        self._host_facts = host_facts
        self._devices = devices
        self._relabelling = Relabelling(host.relabel, host_facts.selinux)
        #: Of containers whose control groups lie elsewhere than the engine's.
        self._parents: dict[str, str] = {}
        #: (parent, name) of those that run where an earlier daemon has put them.
        self._found: dict[str, tuple[str, str]] = {}
        self._run_dirs.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)

    def prepare(self) -> None:
        """See `ports.Runtime.prepare`."""
        failpoints.hit("container.prepare.supervisors")
        self._waiting.fill()
        self._host.prepare(READY_SUPERVISORS, self._has_users)

    def _make_waiting(self) -> tuple[process.ReadySupervisor, Namespace]:
        ready = self._host.take_ready("", self._has_users)
        try:
            namespace = ready.namespace(START_TIMEOUT_MILLIS, serves_names=True)
            self.make_waiting(namespace)
        except BaseException:
            ready.close()
            raise
        return ready, namespace

    def run_dir(self, container_id: str) -> str:
        """Absolute path of a container's run directory."""
        return f"{self._run_dirs}/{container_id}"

    def check_seccomp(self, profile: str, capabilities: Sequence[str]) -> None:
        """See `ports.Runtime.check_seccomp`."""
        process.check_seccomp(profile, list(capabilities))

    def check_parent(self, parent: str, field: str) -> None:
        """See `ports.Runtime.check_parent`."""
        if self._scopes is not None:
            self._scopes.check_parent(parent, field)
            return
        if f"{parent.strip('/')}/".startswith(f"{self._settings.cgroup_parent.strip('/')}/") and parent.strip("/") != (
            self._settings.cgroup_parent.strip("/")
        ):
            raise FieldInvalid(field=field, rule="must not lie below the engine's own")

    def learn(self, container: Container) -> None:
        """See `ports.Runtime.learn`."""
        if self._scopes is not None:
            self._scopes.learn(container)
        elif container.spec.cgroup_parent:
            self._parents[container.id] = container.spec.cgroup_parent.strip("/")

    def _place(self, container_id: str) -> tuple[str, str]:
        """(parent, name) of a container's group."""
        if (found := self._found.get(container_id)) is not None:
            return found
        if self._scopes is not None:
            return self._scopes.place(container_id)
        return self._parents.get(container_id, self._settings.cgroup_parent), container_id

    def start(self, container: Container, paths: StartPaths, joined: Sequence[Process], *, is_held: bool) -> Process:
        """See `ports.Runtime.start`."""
        self.learn(container)
        spec = start_spec(container, paths, self._settings, self._host_facts, is_held=is_held)
        spec = self._devices.given(container.spec, spec)
        if self._scopes is not None:
            parent, name = self._scopes.place(container.id)
            spec = replace(spec, cgroup_parent=parent, cgroup_name=name)
        bind_sources.check(container.resolved.binds or container.spec.binds)
        self._relabelling.before(container, paths, self._host_facts.kernel_release)
        if spec.journal_socket is not None and not Path(spec.journal_socket).is_socket():
            rule = f"journald needs the host's journal, and there is no socket {spec.journal_socket}"
            raise FieldInvalid(field="spec.log.driver", rule=rule)
        failpoints.hit("container.start.run_dir")
        self._make_run_dir(container.id, paths.run_dir)
        failpoints.hit("container.start.process")
        begin = time.monotonic()
        try:
            started = self._start(container, spec, joined)
        except BaseException as error:
            host.remove_tree(paths.run_dir)
            if isinstance(error, SupervisorLost) and time.monotonic() - begin >= START_TIMEOUT_MILLIS / 1000:
                _blame_server(container, error)
            raise
        failpoints.hit("container.start.executed")
        return started

    def _make_run_dir(self, container_id: str, path: str) -> None:
        try:
            os.mkdir(path, _PRIVATE)  # noqa: PTH102 - a Path takes longer to make than the call
        except FileExistsError:
            # Left by a run whose release failed; an exit record in it must not be taken for this run's.
            self._clear(container_id)
            Path(path).mkdir(_PRIVATE)
        except OSError as error:
            raise IoFailed(operation="mkdir", path=path, errno=error.errno) from error
        parent = self._parents.get(container_id)
        if parent is not None:
            try:
                Path(path, _PARENT_FILE).write_text(parent)
            except OSError as error:
                raise IoFailed(operation="write", path=f"{path}/{_PARENT_FILE}", errno=error.errno) from error

    def _start(self, container: Container, spec: ContainerStart, others: Sequence[Process]) -> process.Supervisor:
        joined: list[process.Supervisor] = [*others]  # type: ignore[list-item] # as in `exec`
        if not container.endpoints:
            if self._scopes is None:
                return self._host.start(spec, joined, START_TIMEOUT_MILLIS)
            ready = self._host.take_ready(container.id, spec.ids is not None)
            return self._start_with(ready, spec, joined)
        ready, namespace = self._with_namespace(container, has_users=spec.ids is not None)
        try:
            self.attach(container, namespace)
            failpoints.hit("network.attach.started")
        except BaseException:
            ready.close()
            raise
        return self._start_with(ready, spec, joined)

    def _start_with(
        self, ready: process.ReadySupervisor, spec: ContainerStart, joined: list[process.Supervisor]
    ) -> process.Supervisor:
        """A supervisor that waits has started the container, in its scope if there are scopes; else it has gone."""
        pid = ready.pid()
        try:
            if self._scopes is not None and pid is not None:
                self._scopes.enter(spec.container_id, pid, spec.limits)
            return self._host.start(spec, joined, START_TIMEOUT_MILLIS, ready)
        except BaseException:
            ready.close()
            if self._scopes is not None:
                _leave_failed(self._scopes, spec.container_id)
            raise
        finally:
            ready.close()

    def _with_namespace(self, container: Container, *, has_users: bool) -> tuple[process.ReadySupervisor, Namespace]:
        """A supervisor for a container on networks, and the namespace that it has made."""
        # Plugins want a namespace that they find empty.
        fits = has_users == self._has_users and all(endpoint.is_bridged for endpoint in container.endpoints)
        if fits and (waiting := self._waiting.take()) is not None:
            return waiting
        ready = self._host.take_ready(container.id, has_users)
        try:
            serves_names = any(endpoint.has_names for endpoint in container.endpoints)
            return ready, ready.namespace(START_TIMEOUT_MILLIS, serves_names)
        except BaseException:
            ready.close()
            raise

    def close(self) -> None:
        """No supervisor waits any more with an interface. Containers run on. Blocking."""
        self._waiting.close()
        if self._scopes is not None:
            self._scopes.close()

    def new_namespace(self) -> Namespace:
        """A network namespace of nobody; it goes with what is returned. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        ready = self._host.take_ready("", has_users=False)
        try:
            return ready.namespace(START_TIMEOUT_MILLIS, serves_names=False)
        finally:
            ready.close()

    def open_namespace(self, host_pid: int, timeout_millis: int) -> Namespace:
        """The network namespace of a process. Raises IO_FAILED, SUPERVISOR_LOST. Blocking."""
        return self._host.open_namespace(host_pid, timeout_millis)

    def exec(self, process: Process, start: ExecStart) -> ExecProcess:
        """See `ports.Runtime.exec`."""
        return self._host.exec(process, start)  # type: ignore[arg-type]  # it is one that `start` or `adopt` gave

    def adopt(self, container_id: str) -> Process | None:
        """See `ports.Runtime.adopt`."""
        if self._scopes is None and container_id not in self._parents:
            self._recall_parent(container_id)
        found = self._host.adopt(self.run_dir(container_id))
        if found is not None:
            self._find(container_id, found.host_pid)
        return found

    def _recall_parent(self, container_id: str) -> None:
        try:
            parent = Path(self.run_dir(container_id), _PARENT_FILE).read_text()
        except FileNotFoundError:
            return
        except OSError as error:
            raise IoFailed(
                operation="read", path=f"{self.run_dir(container_id)}/{_PARENT_FILE}", errno=error.errno
            ) from error
        # An empty one was about to be written: there is no group yet.
        if parent:
            self._parents[container_id] = parent

    def _find(self, container_id: str, host_pid: int) -> None:
        """Where an earlier daemon, perhaps one with the other driver, has put its processes."""
        try:
            told = Path(f"/proc/{host_pid}/cgroup").read_text()
        except OSError:
            return  # it has ended: what is left is where this daemon would have put it, or systemd takes it away
        place = place_of(told, container_id)
        if place is not None and place != self._place(container_id):
            self._found[container_id] = place

    def read_ending(self, container_id: str) -> Ending | None:
        """See `ports.Runtime.read_ending`."""
        record = process.read_exit_record(self.run_dir(container_id))
        if record is None:
            return None
        return Ending.of(record)

    def read_exec_ending(self, container_id: str, exec_id: str) -> Ending | None:
        """See `ports.Runtime.read_exec_ending`."""
        _check_name(container_id)
        record = process.read_exec_record(self.run_dir(container_id), exec_id)
        return None if record is None else Ending.of(record)

    def kill_group(self, container_id: str) -> None:
        """See `ports.Runtime.kill_group`."""
        _check_name(container_id)
        cgroup.kill(*self._place(container_id))

    def look(self, path: bytes, process: Process | None = None) -> Look:
        """See `ports.Runtime.look`."""
        if process is None:
            return self._host.look(path)
        root_fd = process.open_root_fd()
        try:
            return self._host.look(path, root_fd)
        finally:
            os.close(root_fd)

    def waiting(self, container_id: str) -> str:
        """See `ports.Runtime.waiting`."""
        _check_name(container_id)
        found = cgroup.process_ids(*self._place(container_id))
        # Nothing is read of their memory, for which one might have to wait as they do.
        return "; ".join(_waits_in(pid) for pid in found[:MAX_WAITING_TOLD]) or "no process of it is found"

    def freeze(self, container_id: str) -> None:
        """See `ports.Runtime.freeze`."""
        _check_name(container_id)
        cgroup.freeze(*self._place(container_id))

    def thaw(self, container_id: str) -> None:
        """See `ports.Runtime.thaw`."""
        _check_name(container_id)
        cgroup.thaw(*self._place(container_id))

    def update_limits(self, container_id: str, limits: ResourceLimits, fields: Mapping[str, str]) -> list[str]:
        """See `ports.Runtime.update_limits`."""
        _check_name(container_id)
        failpoints.hit("container.update.limits")
        limits = replace(limits, io_devices=host_devices.numbered(limits.io_devices, fields))
        place = self._place(container_id)
        if self._scopes is None or container_id in self._found:
            return cgroup.update(*place, limits)
        return self._scopes.update(container_id, limits, lambda: cgroup.update(*place, limits))

    def stats(self, groups: Sequence[tuple[str, int, tuple[Stats, bool] | None]]) -> Sequence[Stats]:
        """See `ports.Runtime.stats`."""
        places = [self._place(container_id) for container_id, _, _ in groups]
        wanted = [
            (name, pid, (before[0], before[1]) if before and isinstance(before[0], cgroup.Stats) else None)
            for (_, name), (_, pid, before) in zip(places, groups, strict=True)
        ]
        if len({parent for parent, _ in places}) == 1:
            return cgroup.stats(places[0][0], wanted)
        pairs = zip(places, wanted, strict=True)
        return [stats for (parent, _), group in pairs for stats in cgroup.stats(parent, [group])]

    def list_processes(self, container_id: str) -> list[ProcessInfo]:
        """See `ports.Runtime.list_processes`."""
        _check_name(container_id)
        return [*host.processes(cgroup.process_ids(*self._place(container_id)))]

    def release(self, container_id: str, process: Process | None) -> None:
        """See `ports.Runtime.release`."""
        if process is not None:
            if not process.wait_gone(SUPERVISOR_EXIT_TIMEOUT_MILLIS):
                process.kill_supervisor()
                process.wait_gone(SUPERVISOR_EXIT_TIMEOUT_MILLIS)
            process.close()
        self._clear(container_id)
        self._parents.pop(container_id, None)
        self._found.pop(container_id, None)
        if self._scopes is not None:
            self._scopes.forget(container_id)

    def _clear(self, container_id: str) -> None:
        _check_name(container_id)
        parent, name = self._place(container_id)
        failpoints.hit("container.exit.cgroup")
        cgroup.kill(parent, name)
        cgroup.remove(parent, name, GROUP_EXIT_TIMEOUT_MILLIS)
        if self._scopes is not None:
            self._scopes.leave(container_id)
        failpoints.hit("container.exit.run_dir")
        host.remove_tree(self.run_dir(container_id))

    def list_groups(self) -> list[str]:
        """See `ports.Runtime.list_groups`."""
        return cgroup.list_groups(self._settings.cgroup_parent) if self._scopes is None else self._scopes.list()

    def list_run_dirs(self) -> list[str]:
        """See `ports.Runtime.list_run_dirs`."""
        return [entry.name for entry in os.scandir(self._run_dirs)]


def _blame_server(container: Container, lost: SupervisorLost) -> None:
    """Raises VOLUME_SERVER_UNREACHABLE if a volume has a server, for which the supervisor has waited."""
    for volume in container.resolved.volumes:
        server = server_of(volume.driver_options) if volume.driver == "local" else None
        if server is not None:
            seconds = START_TIMEOUT_MILLIS / 1000
            detail = f"it takes connections, and the mount did not come about within {seconds:g} s"
            raise VolumeServerUnreachable(volume=volume.name, server=server.host, detail=detail) from lost


def _waits_in(pid: int) -> str:
    """What a process waits for: its name, its state and the place in the kernel. Source: proc_pid_wchan(5)."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").partition(" (")[2].rpartition(") ")
        where = Path(f"/proc/{pid}/wchan").read_text(errors="replace").strip("0\n")
    except OSError:
        return f"process {pid} has ended meanwhile"
    return f"process {pid} ({name}) is in state {rest[:1]}" + (f", in {where}" if where else "")


def _no_networks(container: Container, namespace: Namespace) -> None:
    raise KernelFeatureMissing(feature="networks", kernel_release=os.uname().release)


def _leave_failed(scopes: Scopes, container_id: str) -> None:
    # The failure that is told is the one that came before; a scope that stays is found by the next recovery.
    try:
        scopes.leave(container_id)
    except EngineError as error:
        _log.warning("container %s: its scope is left: %s", container_id, error.message)


def _check_name(name: str) -> None:
    # Names come from directory listings too; one with a slash would leave the engine's own tree.
    if not name or "/" in name or name in {".", ".."}:
        raise ContainerNotFound(id=name)
