"""A daemon on roots of its own for as long as an example runs."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

READY_SECONDS = 20.0


@contextmanager
def running_daemon(network: str = "none") -> Iterator[grpc.Channel]:
    """Yields a channel to a fresh daemon that serves; ends the daemon and removes its roots afterwards.

    `network`: of containers that name none; with `none` nothing is made in the host's network.
    """
    root = Path(tempfile.mkdtemp(prefix="fluyt-example-"))
    socket = root / "run" / "fluytd.sock"
    log = (root / "fluytd.log").open("wb")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "fluytd", "--data-root", str(root / "data"), "--run-root", str(root / "run")]
        + ["--cgroup-parent", f"fluyt-example-{os.getpid()}", "--default-network", network],
        stdout=log,
        stderr=log,
    )
    try:
        with grpc.insecure_channel(f"unix://{socket}") as channel:
            _wait_until_serving(channel, daemon, root / "fluytd.log")
            print(f"daemon {daemon.pid} serves on {socket}")
            yield channel
    finally:
        daemon.terminate()
        daemon.wait(30)
        shutil.rmtree(root, ignore_errors=True)


def _wait_until_serving(channel: grpc.Channel, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
        except grpc.RpcError:
            continue
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
        time.sleep(0.05)
    raise SystemExit(f"the daemon does not serve; its log says:\n{log.read_text(errors='replace')}")
