"""Metrics as Prometheus collects them, from a live engine, read by Prometheus' own parser."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.metrics import address, collected

IMAGE = "busybox:1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("mtrs"), options=["--metrics-address", "127.0.0.1:0"]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def test_a_running_container_is_seen_with_its_figures_and_a_removed_one_is_not(engine: Engine) -> None:
    container = engine.start_container(IMAGE, "seen", "sleep", "100")
    found = collected(engine)
    labels = (container.id, IMAGE, container.name)
    assert found["fluyt_containers", ("running",)] == 1
    assert found["fluyt_container_processes", labels] == 1
    assert found["fluyt_container_memory_usage_bytes", labels] > 0
    assert found["fluyt_images", ()] == 1
    assert found["fluyt_disk_usage_bytes", ("layers",)] > 0
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))
    after = collected(engine)
    assert not [key for key in after if key[0].startswith("fluyt_container_")]
    assert after["fluyt_events_total", ()] > found["fluyt_events_total", ()]


def test_calls_are_counted_with_their_status(engine: Engine) -> None:
    rpc = "/fluyt.v1.ContainerService/GetContainer"
    before = collected(engine).get(("fluyt_rpcs_total", ("NOT_FOUND", rpc)), 0)
    with pytest.raises(grpc.RpcError):
        engine.containers.GetContainer(containers_pb2.GetContainerRequest(container="nobody"))
    found = collected(engine)
    assert found["fluyt_rpcs_total", ("NOT_FOUND", rpc)] == before + 1
    assert found["fluyt_rpc_duration_seconds_count", (rpc,)] == before + 1


def test_a_caller_that_sends_nothing_holds_up_neither_metrics_nor_the_engine(engine: Engine) -> None:
    host, port = address(engine).split(":")
    with socket.create_connection((host, int(port))):
        assert collected(engine)["fluyt_engine_info", tuple(labels(engine))] == 1  # once the silent one timed out
        assert engine.run(IMAGE, "echo", "serves")[0] == b"serves\n"


def labels(engine: Engine) -> list[str]:
    """Label values of the info metric."""
    return list(next(key[1] for key in collected(engine) if key[0] == "fluyt_engine_info"))


def test_metrics_beyond_loopback_are_refused_with_the_setting_named(tmp_path: Path) -> None:
    roots = ["--data-root", f"{tmp_path}/d", "--run-root", f"{tmp_path}/r"]
    command = [sys.executable, "-m", "fluytd", *roots, "--metrics-address", "0.0.0.0:9323"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "metrics_address: must be a loopback address" in ended.stderr
