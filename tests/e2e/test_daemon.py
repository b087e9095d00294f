"""The daemon as a process: arguments, start, stop, a second one, a start that fails, its own log."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fluyt import channel, engine, events

REPOSITORY = Path(__file__).resolve().parents[2]
#: How long a daemon may take to serve or to drain on a loaded machine.
PATIENCE_SECONDS = 30


def command(root: Path, *arguments: str) -> list[str]:
    """The daemon's command line on roots of its own."""
    own = [
        "--data-root",
        str(root / "data"),
        "--run-root",
        str(root / "run"),
        "--cgroup-parent",
        f"fluyt-test-{os.getpid()}",
    ]
    return [sys.executable, "-m", "fluytd", *own, *arguments]


def environment() -> dict[str, str]:
    """With the sources of this checkout first."""
    paths = [str(REPOSITORY / "server"), str(REPOSITORY / "clients" / "python"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": ":".join(filter(None, paths))}


def run(*line: str) -> "subprocess.CompletedProcess[str]":
    """A daemon that ends by itself."""
    return subprocess.run(
        line, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@contextmanager
def daemon(root: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A daemon that serves; killed at the end if it still runs."""
    line = command(root, *arguments)
    with subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until_serving(root, process)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def wait_until_serving(root: Path, process: "subprocess.Popen[str]") -> None:
    """Health says SERVING; fails with the daemon's log if it ends before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with grpc.insecure_channel(f"unix:{root}/run/fluytd.sock") as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                assert process.stderr is not None
                pytest.fail(f"the daemon ended with {process.returncode}: {process.stderr.read()}")
            try:
                remaining = deadline - time.monotonic()
                answer = stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=min(remaining, 1))
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    pytest.fail("the daemon did not serve in time")


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """(exit code, log) of a daemon that is told to end."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, log


def test_its_version_needs_nothing() -> None:
    ended = run(sys.executable, "-m", "fluytd", "--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("fluytd ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--no-such-setting", "1"], "unrecognized arguments"),
        (["--worker-count", "none"], "worker_count"),
        (["--config", "/nonexistent/file"], "/nonexistent/file"),
        (["--socket", "relative"], "socket_path"),
    ],
)
def test_wrong_settings_end_it_with_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    ended = run(*command(tmp_path, *arguments))
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "data").exists()


def test_it_serves_and_drains(tmp_path: Path) -> None:
    with daemon(tmp_path) as process:
        with channel.connect(f"unix://{tmp_path}/run/fluytd.sock") as connection:
            version = engine.version(connection)
            assert version.api_version == "fluyt.v1"
            assert version.version == version.core_version
            info = engine.info(connection)
            assert info.storage.data_root == str(tmp_path / "data")
            assert {capability.name for capability in info.capabilities} >= {"overlay", "openat2", "seccomp"}
            assert info.limits
        code, log = end(process)
    assert code == 0, log
    assert "Traceback" not in log
    assert not (tmp_path / "run" / "fluytd.sock").exists()


def test_the_log_can_be_json(tmp_path: Path) -> None:
    with daemon(tmp_path, "--log-format", "json") as process:
        code, log = end(process)
    assert code == 0
    assert any("serves on" in json.loads(line)["message"] for line in log.splitlines())


def test_what_it_is_and_what_happened_are_kept_over_a_restart(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/run/fluytd.sock"
    with daemon(tmp_path) as process:
        with channel.connect(address) as connection:
            first = engine.info(connection).engine_id
        assert end(process)[0] == 0
    with daemon(tmp_path) as process:
        with channel.connect(address) as connection:
            assert engine.info(connection).engine_id == first
            told = [event.WhichOneof("fact") for event in events.watch(connection, from_sequence=1, until_sequence=4)]
        assert end(process)[0] == 0
    assert told == ["network_created", "engine_started", "engine_stopping", "engine_started"]


def test_two_daemons_do_not_share_a_data_root(tmp_path: Path) -> None:
    with daemon(tmp_path) as process:
        second = run(*command(tmp_path, "--socket", str(tmp_path / "other.sock")))
        assert second.returncode == 1
        assert str(tmp_path / "data") in second.stderr
        assert "Traceback" not in second.stderr
        with channel.connect(f"unix://{tmp_path}/run/fluytd.sock") as connection:
            assert engine.version(connection).version
        assert end(process)[0] == 0


def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    with daemon(tmp_path) as process:
        process.kill()
        process.wait(PATIENCE_SECONDS)
    assert (tmp_path / "run" / "fluytd.sock").exists()
    with daemon(tmp_path) as process:
        assert end(process)[0] == 0


def test_an_absent_supervisor_is_told_and_nothing_listens(tmp_path: Path) -> None:
    ended = run(*command(tmp_path, "--supervisor-path", "/nonexistent/supervisor"))
    assert ended.returncode == 1
    assert "/nonexistent/supervisor" in ended.stderr
    assert "Traceback" not in ended.stderr
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match=r"No such file|refused"):
        probe.connect(str(tmp_path / "run" / "fluytd.sock"))
