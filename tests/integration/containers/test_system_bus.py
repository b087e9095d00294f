"""The connection to systemd over a real bus, on which something of the test's own answers in systemd's place: what is
silent, refuses, fails or goes away. What systemd itself does is shown by tests/e2e/systemd."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.threading import DBusConnection, ReceiveStopped, open_dbus_connection

from fluytd.containers import systemd
from fluytd.errors import SystemdUnavailable, SystemdUnitFailed
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("dbus-daemon")
MANAGER = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
JOB = "/org/freedesktop/systemd1/job/1"
CONFIG = """<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>"""
Answer = Callable[["Manager", Message], Message | None]


class Bus:
    """A bus that is started and ended."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "bus"
        self._config = directory / "bus.conf"
        self._config.write_text(CONFIG.format(self.path))
        self.start()

    def start(self) -> None:
        """It takes connections."""
        command = ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile"]
        self._process = subprocess.Popen(command)
        until_now(self._listens, "the bus takes connections")

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.path)) == 0

    def stop(self) -> None:
        """It has gone."""
        self._process.kill()
        self._process.wait()
        self.path.unlink(missing_ok=True)


class Manager:
    """Answers calls to systemd, by the method's name; what is not said is answered with nothing."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._answers = answers
        self._connection: DBusConnection = open_dbus_connection("SYSTEM")
        self._connection.send(message_bus.RequestName(MANAGER.bus_name))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Says something."""
        self._connection.send(message)

    def removed(self, unit: str, result: str, job: str = JOB) -> None:
        """The signal that a job has ended."""
        self.send(new_signal(MANAGER, "JobRemoved", "uoss", (1, job, unit, result)))

    def close(self) -> None:
        """It is silent from now on."""
        self._connection.interrupt()
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        with suppress(ReceiveStopped, OSError):
            while True:
                call = self._connection.receive()
                if call.header.message_type is not MessageType.method_call:
                    continue
                method = call.header.fields[HeaderFields.member]
                self.calls.append((method, call.body))
                answer = self._answers.get(method, nothing)(self, call)
                if answer is not None:
                    self.send(answer)


def nothing(_: "Manager", call: Message) -> Message:
    """An answer without values."""
    answer: Message = new_method_return(call)
    return answer


def job(result: str) -> Answer:
    """A job of another unit ends, one of another job of this unit, and then this one."""

    def answered(manager: Manager, call: Message) -> Message | None:
        manager.removed("other.scope", "failed")
        manager.removed(call.body[0], "failed", JOB + "1")
        manager.removed(call.body[0], result)
        return new_method_return(call, "o", (JOB,))

    return answered


def refusing(name: str) -> Answer:
    """An error of this name."""
    return lambda _, call: new_error(call, f"org.freedesktop.systemd1.{name}", "s", ("as asked",))


def in_turn(*answers: Answer) -> Answer:
    """The first answer, then the next."""
    left = [*answers]

    def answered(manager: Manager, call: Message) -> Message | None:
        return left.pop(0)(manager, call)

    return answered


def silent(_: Manager, __: Message) -> None:
    """Nothing."""


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus that is the system's for this test."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    monkeypatch.setattr(systemd, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(systemd, "JOB_SECONDS", 0.5)
    made = Bus(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def connected(bus: Bus) -> Iterator[Callable[..., tuple[Manager, systemd.SystemBus]]]:
    """Makes what answers so, and the connection to it."""
    made: list[Manager | systemd.SystemBus] = []

    def connect(**answers: Answer) -> tuple[Manager, systemd.SystemBus]:
        manager = Manager(answers)
        made.append(manager)
        until_now(has_owner, "it has its name")
        found = systemd.SystemBus()
        made.append(found)
        return manager, found

    yield connect
    for one in reversed(made):
        one.close()


def has_owner() -> bool:
    """Whether something has systemd's name."""
    connection = open_dbus_connection("SYSTEM")
    connection.send(message_bus.NameHasOwner(MANAGER.bus_name), serial=77)
    while (answer := connection.receive(timeout=5)).header.fields.get(HeaderFields.reply_serial) != 77:
        pass
    connection.close()
    return bool(answer.body[0])


Connect = Callable[..., tuple[Manager, systemd.SystemBus]]


def test_a_host_without_a_bus_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(SystemdUnavailable) as caught:
        systemd.SystemBus()
    assert "set cgroup_driver to cgroupfs" in caught.value.next_step


def test_a_bus_without_systemd_is_no_better(bus: Bus) -> None:
    with pytest.raises(SystemdUnavailable):
        systemd.SystemBus()


def test_a_job_is_awaited_among_the_signals_of_others(connected: Connect) -> None:
    manager, bus = connected(StartTransientUnit=job("done"))
    bus.start("a.scope", [("Delegate", ("b", True)), ("PIDs", ("au", [7])), ("AllowedCPUs", ("ay", b"\x01"))])
    told = [("Delegate", ("b", True)), ("PIDs", ("au", [7])), ("AllowedCPUs", ("ay", b"\x01"))]
    assert manager.calls == [("Subscribe", ()), ("StartTransientUnit", ("a.scope", "fail", told, []))]


def test_a_job_that_fails_or_never_ends_is_an_error_of_the_unit(connected: Connect) -> None:
    _, bus = connected(StartTransientUnit=job("failed"), StopUnit=lambda _, call: new_method_return(call, "o", (JOB,)))
    with pytest.raises(SystemdUnitFailed) as caught:
        bus.start("a.scope", [])
    assert caught.value.metadata == {"unit": "a.scope", "operation": "start", "detail": "its job ended with 'failed'"}
    began = time.monotonic()
    with pytest.raises(SystemdUnitFailed, match="did not end within"):
        bus.stop("a.scope")
    assert time.monotonic() - began < 5


def test_a_unit_that_was_left_is_stopped_first(connected: Connect) -> None:
    manager, bus = connected(StartTransientUnit=in_turn(refusing("UnitExists"), job("done")), StopUnit=job("done"))
    bus.start("a.scope", [])
    methods = [method for method, _ in manager.calls]
    assert methods == [
        "Subscribe",
        "StartTransientUnit",
        "KillUnit",
        "StopUnit",
        "ResetFailedUnit",
        "StartTransientUnit",
    ]


def test_a_unit_that_has_gone_is_stopped(connected: Connect) -> None:
    manager, bus = connected(KillUnit=refusing("NoSuchUnit"))
    bus.stop("a.scope")
    assert [method for method, _ in manager.calls] == ["Subscribe", "KillUnit"]


def test_a_refusal_is_an_error_of_the_unit(connected: Connect) -> None:
    _, bus = connected(SetUnitProperties=refusing("NoSuchUnit"))
    with pytest.raises(SystemdUnitFailed) as caught:
        bus.set("a.scope", [("TasksMax", ("t", 2**64 - 1))])
    assert caught.value.metadata == {"unit": "a.scope", "operation": "set", "detail": "as asked"}


def test_what_is_silent_is_given_up(connected: Connect) -> None:
    _, bus = connected(AttachProcessesToUnit=silent)
    with pytest.raises(SystemdUnavailable, match="no answer"):
        bus.attach("a.scope", "/supervisor", 7)


def test_units_are_listed_with_what_they_say_of_themselves(connected: Connect) -> None:
    row = ("a.scope", "of ours", "loaded", "active", "running", "", "/a", 0, "", "/")
    _, bus = connected(ListUnitsByPatterns=lambda _, call: new_method_return(call, "a(ssssssouso)", ([row],)))
    assert bus.list("*.scope") == [("a.scope", "of ours")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bus_that_was_started_anew_is_connected_to_again(bus: Bus, connected: Connect) -> None:
    _, connection = connected()
    connection.set("a.scope", [])
    bus.stop()
    with pytest.raises(SystemdUnavailable):
        connection.set("a.scope", [])
    bus.start()
    manager = Manager({})
    until_now(has_owner, "it has its name")
    connection.set("a.scope", [])
    assert [method for method, _ in manager.calls] == ["Subscribe", "SetUnitProperties"]
    manager.close()
