"""A pull that is watched: through a lost connection, and to an end by Ctrl-C."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import PATIENCE_SECONDS, Program
from tests.e2e.cli.terminal import Terminal
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, blob_path, slow, stall
from tests.support.relay import Relay
from tests.support.wait import until_now


@pytest.fixture
def stalled(tmp_path: Path) -> Iterator[tuple[FaultyRegistry, str]]:
    """A registry that stops in the middle of the one layer of an image, once, and the image's reference."""
    layer = images.layer(tarball.file("f", str(tmp_path).encode() * 1000), compression="none")
    with FaultyRegistry() as registry:
        registry.put("slow", "1", images.image([layer]))
        registry.on(blob_path("slow", layer.digest), [stall(1000)])
        yield registry, f"{registry.address}/slow:1"


def _operation(fluyt: Program, state: str) -> list[str]:
    operations = fluyt("operation", "ls", "--format", "json").objects
    return [one["id"] for one in operations if one["state"] == f"STATE_{state}"]


def test_a_pull_shows_a_line_for_each_layer_and_the_total(fluyt: Program, tmp_path: Path) -> None:
    shared, slow_one, last = (
        images.layer(tarball.file(name, (str(tmp_path) + name).encode() * 1000), compression="none")
        for name in ("shared", "slow", "last")
    )
    short = {layer.digest[7:19]: layer for layer in (shared, slow_one, last)}
    with FaultyRegistry() as registry:
        registry.put("lines", "1", images.image([shared, slow_one]))
        registry.put("lines", "2", images.image([shared, slow_one, last]))
        registry.on(blob_path("lines", slow_one.digest), [slow(1.0)])
        first = fluyt("pull", f"{registry.address}/lines:1")
        assert first.code == 0
        shown = first.err.splitlines()
        for name in list(short)[:2]:
            assert len([line for line in shown if line == f"{name}: done"]) == 1
        assert any(line.startswith(f"{slow_one.digest[7:19]}: downloading ") for line in shown)
        assert [line for line in shown if line.startswith("total: 2 layers, 0 already there, ")]
        registry.on(blob_path("lines", last.digest), [slow(1.0)])
        with Terminal(fluyt, "pull", f"{registry.address}/lines:2") as terminal:
            terminal.until("downloading")
            bars = terminal.ended()
        assert bars.code == 0
        for name, word in zip(short, ("already here", "already here", "done"), strict=True):
            assert re.search(rf"{name}: {word} +\[", bars.text)
        assert re.search(r"total: 2/3 done +\[", bars.text)
        assert re.search(r"total: 3/3 done +\[=+\]", bars.text)
    fluyt.ok("rmi", f"{registry.address}/lines:1", f"{registry.address}/lines:2")


def test_ctrl_c_cancels_the_pull_and_gives_130(fluyt: Program, stalled: tuple[FaultyRegistry, str]) -> None:
    _, reference = stalled
    with Terminal(fluyt, "pull", reference) as terminal:
        terminal.until("downloading")
        [running] = _operation(fluyt, "RUNNING")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.ended()
    assert shown.code == 130
    assert "cancelling; press Ctrl-C again" in shown.text
    assert "kept and resumed" in shown.text
    assert running in _operation(fluyt, "CANCELLED")
    assert fluyt("pull", "-q", reference).code == 0
    fluyt.ok("rmi", reference)


def test_a_second_ctrl_c_leaves_while_the_engine_is_silent(
    fluyt: Program, cli_engine: Engine, stalled: tuple[FaultyRegistry, str]
) -> None:
    _, reference = stalled
    with Terminal(fluyt, "pull", reference) as terminal:
        terminal.until("downloading")
        cli_engine.process.send_signal(signal.SIGSTOP)
        try:
            terminal.process.send_signal(signal.SIGINT)
            terminal.until("cancelling")
            terminal.process.send_signal(signal.SIGINT)
            shown = terminal.ended()
        finally:
            cli_engine.process.send_signal(signal.SIGCONT)
    assert shown.code == 130
    assert "fluyt operation watch" in shown.text
    # The cancellation was on its way; where it was not read, it is asked for here.
    for running in _operation(fluyt, "RUNNING"):
        fluyt.ok("operation", "cancel", running)
    until_now(lambda: not _operation(fluyt, "RUNNING"), "the pull has ended")


def test_who_watches_an_operation_of_another_leaves_it_at_ctrl_c(
    fluyt: Program, stalled: tuple[FaultyRegistry, str]
) -> None:
    _, reference = stalled
    with Terminal(fluyt, "pull", reference) as puller:
        puller.until("downloading")
        [running] = _operation(fluyt, "RUNNING")
        with Terminal(fluyt, "operation", "watch", running) as watcher:
            watcher.until("downloading")
            watcher.process.send_signal(signal.SIGINT)
            shown = watcher.ended()
        assert shown.code == 130
        assert "goes on" in shown.text
        assert _operation(fluyt, "RUNNING") == [running]
        fluyt.ok("operation", "cancel", running)
        assert puller.ended().code == 1


def test_a_pull_outlives_its_connections(
    fluyt: Program, cli_engine: Engine, stalled: tuple[FaultyRegistry, str], tmp_path: Path
) -> None:
    registry, reference = stalled
    listen = tmp_path / "relay.sock"
    engine_socket = cli_engine.root / "run" / "fluytd.sock"
    with Relay(listen, engine_socket) as relay, Terminal(Program(listen), "pull", reference) as terminal:
        terminal.until("downloading")
        relay.cut()
        terminal.until("connection lost; connecting again")
        until_now(lambda: relay.accepted_count > 1, "the command has come back")
        assert len(_operation(fluyt, "RUNNING")) == 1
        registry.stop()
        shown = terminal.ended()
    assert shown.code == 1
    assert "closed the stream" not in shown.text
    assert _operation(fluyt, "RUNNING") == []


def test_save_is_given_up_on_a_signal_without_a_file(fluyt: Program, cli_engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    listen = tmp_path / "relay.sock"
    with Relay(listen, cli_engine.root / "run" / "fluytd.sock") as relay:
        relay.hold_after(200_000)
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            relay.held.clear()
            with Program(listen).spawn("save", "-o", str(target / "a.tar"), "busybox:1") as process:
                assert relay.held.wait(PATIENCE_SECONDS)
                until_now(lambda: any(target.iterdir()), "the file has been begun")
                process.send_signal(number)
                assert process.wait(PATIENCE_SECONDS) == code
            assert list(target.iterdir()) == []
    assert fluyt("save", "-o", str(target / "a.tar"), "busybox:1").code == 0
