"""The host's systemd over its system bus, by jeepney: calls from any thread, answers taken by one of its own.

It decides nothing. A bus or a systemd that was started anew is connected to again at the next call.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Final, TypeVar

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, Properties, message_bus, new_method_call
from jeepney.io.common import RouterClosed
from jeepney.io.threading import DBusConnection, DBusRouter, open_dbus_connection

from fluytd.containers.units import Property
from fluytd.errors import IoFailed, SystemdUnavailable, SystemdUnitFailed

T = TypeVar("T")

#: How long an answer may take.
CALL_SECONDS: Final = 10.0
#: How long systemd may take to carry out a job.
JOB_SECONDS: Final = 20.0
#: Signals kept of one unit's jobs: those of a start, of a stop before it, and some room.
MAX_JOBS: Final = 16
_AUTHENTICATION_SECONDS: Final = 5.0

_NAME: Final = "org.freedesktop.systemd1"
_PATH: Final = "/org/freedesktop/systemd1"
_MANAGER: Final = DBusAddress(_PATH, _NAME, f"{_NAME}.Manager")
_NO_UNIT: Final = f"{_NAME}.NoSuchUnit"
_UNIT_EXISTS: Final = f"{_NAME}.UnitExists"
_KILL: Final = 9


def make_group(path: str) -> None:
    """A group of the v2 hierarchy, by its path from the root. Raises IO_FAILED. Blocking."""
    # Source: proc_pid_mountinfo(5): the mount point is the fifth field, the type stands right after the dash.
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    root = next((line[4] for line in lines if line[line.index("-") + 1] == "cgroup2"), "/sys/fs/cgroup")
    try:
        Path(root, path).mkdir(exist_ok=True)
    except OSError as error:
        raise IoFailed(operation="mkdir", path=f"{root}/{path}", errno=error.errno or 0) from error


class _Refusal(Exception):
    """An error that systemd answered with."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class SystemBus:
    """Implements `unit_ports.Units`."""

    def __init__(self) -> None:
        """systemd answers. Raises SYSTEMD_UNAVAILABLE. Blocking."""
        self._lock = threading.Lock()
        self._connection: DBusConnection | None = None
        self._router: DBusRouter | None = None
        self._connected()

    def start(self, name: str, properties: Sequence[Property]) -> None:
        """See `Units.start`."""
        try:
            self._started(name, properties)
        except _Refusal as refusal:
            if refusal.name != _UNIT_EXISTS:
                raise SystemdUnitFailed(unit=name, operation="start", detail=str(refusal)) from refusal
            self.stop(name)
            self._do(name, "start", lambda: self._started(name, properties))

    def _started(self, name: str, properties: Sequence[Property]) -> None:
        self._job(name, "start", "StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "fail", [*properties], []))

    def attach(self, name: str, subgroup: str, pid: int) -> None:
        """See `Units.attach`."""
        self._do(name, "attach", lambda: self._call("AttachProcessesToUnit", "ssau", (name, subgroup, [pid])))

    def get(self, name: str, properties: Sequence[str]) -> list[Property]:
        """See `Units.get`."""

        def asked() -> list[Property]:
            (path,) = self._call("GetUnit", "s", (name,))
            scope = Properties(DBusAddress(path, _NAME, f"{_NAME}.Scope"))
            (known,) = self._send(scope.get_all())
            return [(one, known[one]) for one in properties]

        return self._do(name, "get", asked)

    def set(self, name: str, properties: Sequence[Property]) -> None:
        """See `Units.set`."""
        self._do(name, "set", lambda: self._call("SetUnitProperties", "sba(sv)", (name, True, [*properties])))

    def stop(self, name: str) -> None:
        """See `Units.stop`."""

        def stopped() -> None:
            # What runs in it has been told to end before; its stop waits for nobody.
            self._call("KillUnit", "ssi", (name, "all", _KILL))
            self._job(name, "stop", "StopUnit", "ss", (name, "replace"))
            # Only a unit that failed is there still.
            self._call("ResetFailedUnit", "s", (name,))

        try:
            stopped()
        except _Refusal as refusal:
            if refusal.name != _NO_UNIT:
                raise SystemdUnitFailed(unit=name, operation="stop", detail=str(refusal)) from refusal

    def list(self, pattern: str) -> Sequence[tuple[str, str]]:
        """See `Units.list`."""
        (found,) = self._do(pattern, "list", lambda: self._call("ListUnitsByPatterns", "asas", ([], [pattern])))
        return [(unit[0], unit[1]) for unit in found]

    def close(self) -> None:
        """See `Units.close`."""
        with self._lock:
            self._drop()

    def _do(self, name: str, operation: str, act: Callable[[], T]) -> T:
        try:
            return act()
        except _Refusal as refusal:
            raise SystemdUnitFailed(unit=name, operation=operation, detail=str(refusal)) from refusal

    def _job(self, name: str, operation: str, method: str, signature: str, body: tuple[object, ...]) -> None:
        """The job that a call begins is done."""
        rule = MatchRule(type="signal", interface=_MANAGER.interface, member="JobRemoved", path=_PATH)
        rule.add_arg_condition(2, name)
        queue: Queue[Message] = Queue(MAX_JOBS)

        def begun(router: DBusRouter) -> str:
            with router.filter(rule, queue=queue):
                (job,) = _answer(router, new_method_call(_MANAGER, method, signature, body))
                while True:
                    _, path, _, result = queue.get(timeout=JOB_SECONDS).body
                    if path == job:
                        return str(result)

        try:
            result = self._with_router(begun)
        except Empty:
            detail = f"its job did not end within {JOB_SECONDS:.0f} s"
            raise SystemdUnitFailed(unit=name, operation=operation, detail=detail) from None
        if result != "done":
            raise SystemdUnitFailed(unit=name, operation=operation, detail=f"its job ended with {result!r}")

    def _call(self, method: str, signature: str, body: tuple[object, ...]) -> Any:
        return self._send(new_method_call(_MANAGER, method, signature, body))

    def _send(self, message: Message) -> Any:
        return self._with_router(lambda router: _answer(router, message))

    def _with_router(self, act: Callable[[DBusRouter], T]) -> T:
        """What it answers. With a connection that has ended it is tried once more on a new one."""
        for is_last in (False, True):
            router = self._connected()
            try:
                return act(router)
            except TimeoutError:
                detail = f"no answer within {CALL_SECONDS:.0f} s"
                raise SystemdUnavailable(detail=detail) from None
            except (RouterClosed, OSError) as error:
                self._give_up(router)
                if is_last:
                    raise SystemdUnavailable(detail=f"its bus has gone: {error}") from error
        raise AssertionError

    def _connected(self) -> DBusRouter:
        with self._lock:
            return self._router or self._connect()

    def _connect(self) -> DBusRouter:
        try:
            self._connection = open_dbus_connection("SYSTEM", auth_timeout=_AUTHENTICATION_SECONDS)
            router = self._router = DBusRouter(self._connection)
            rule = MatchRule(type="signal", sender=_NAME, interface=_MANAGER.interface, member="JobRemoved", path=_PATH)
            for message in (message_bus.AddMatch(rule), new_method_call(_MANAGER, "Subscribe")):
                _answer(router, message)
        except Exception as error:
            self._drop()
            if isinstance(error, (OSError, RouterClosed, _Refusal, ValueError, KeyError)):
                raise SystemdUnavailable(detail=f"its system bus: {error or type(error).__name__}") from error
            raise
        return router

    def _give_up(self, router: DBusRouter) -> None:
        with self._lock:
            if self._router is router:
                self._drop()

    def _drop(self) -> None:
        router, connection, self._router, self._connection = self._router, self._connection, None, None
        if router is not None:
            router.close()
        if connection is not None:
            connection.close()


def _answer(router: DBusRouter, message: Message) -> Any:
    """The values that are answered. Raises _Refusal, TimeoutError, and what a lost connection raises."""
    answer = router.send_and_get_reply(message, timeout=CALL_SECONDS)
    if answer.header.message_type is MessageType.error:
        name = str(answer.header.fields.get(HeaderFields.error_name, ""))
        raise _Refusal(name, str(answer.body[0]) if answer.body else "")
    return answer.body
