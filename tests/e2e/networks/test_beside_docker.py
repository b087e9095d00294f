"""A real Docker on the same host, with its bridge, its rules and its published ports."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.containers.steps import EXISTS, refused
from tests.e2e.networks.conftest import HOST_ADDRESSES, OTHERS_ADDRESSES
from tests.e2e.networks.steps import (
    IMAGE,
    SERVE,
    Listener,
    create,
    delete,
    fetch,
    is_refused,
    port,
    served,
    shell,
    start,
)
from tests.support import image_files, images
from tests.support.dockerd import START_SECONDS, STOP_SECONDS, Docker
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("dockerd", "iptables", "nft", "ip")
OUTSIDE = HOST_ADDRESSES[0].partition("/")[0]
#: Beside the pools of both engines.
DOCKERS_BRIDGE = "172.31.249.1/24"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[NetworkEngine]:
    """An engine whose host Docker uses too."""
    with NetworkEngine(tmp_path) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def outside(engine: NetworkEngine) -> Iterator[Machine]:
    """Another machine."""
    with Machine() as machine:
        engine.host.connect_to(machine, HOST_ADDRESSES, OTHERS_ADDRESSES)
        machine.run("ip", "route", "add", "default", "via", OUTSIDE)
        yield machine


@pytest.fixture
def docker(engine: NetworkEngine) -> Iterator[Docker]:
    """Docker's command line; its daemon is on the engine's host, with mounts of its own and the same busybox."""
    with tempfile.TemporaryDirectory(prefix="fd-") as directory:  # a socket's path has room for 107 bytes
        root, group = Path(directory), f"fluyt-test-docker-{os.getpid()}"
        (root / "none").write_text("{}")
        command = [
            *("nsenter", f"--net=/proc/{engine.host.pid}/ns/net", "unshare", "--mount", "--propagation", "private"),
            *("dockerd", "--data-root", f"{root}/d", "--exec-root", f"{root}/x", "--pidfile", f"{root}/pid"),
            *("--host", f"unix://{root}/s", "--storage-driver", "vfs", "--config-file", f"{root}/none"),
            *("--bip", DOCKERS_BRIDGE, "--cgroup-parent", f"/{group}", "--exec-opt", "native.cgroupdriver=cgroupfs"),
        ]
        client = Docker(root / "s")
        with (root / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                ended = process.poll
                until_now(lambda: ended() is not None or client.is_serving(), "dockerd serves", START_SECONDS)
                assert ended() is None, (root / "log").read_text()
                (root / "image.tar").write_bytes(image_files.docker_archive({IMAGE: images.busybox_image(docker=True)}))
                client("load", "-q", "-i", f"{root}/image.tar")
                yield client
                for container in client("ps", "-aq").decode().split():
                    client("rm", "-f", container)
            finally:
                process.terminate()
                process.wait(STOP_SECONDS)
                for left in Path("/sys/fs/cgroup").glob(f"*/{group}"):
                    left.rmdir()


def is_free(machine: Machine, number: int) -> bool:
    """Whether anybody can have the port there."""
    try:
        Listener(machine, "0.0.0.0", number).close()  # noqa: S104 - what others try to take
    except OSError:
        return False
    return True


def test_docker_on_the_same_host_keeps_its_containers_and_we_ours(
    engine: NetworkEngine, outside: Machine, docker: Docker
) -> None:
    served(engine, "ours", published_ports=[port(80, 8001)])
    serve = SERVE.format(text="theirs").replace("[::]:80", "80")
    docker("run", "-d", "--name", "theirs", "-p", "8002:80", IMAGE, "sh", "-c", serve)
    until_now(lambda: b"ready" in docker("logs", "theirs"), "theirs is ready")
    # Docker drops what is forwarded unless its own rules take it; it documents a chain for whom it is in the way.
    for direction in ("-i", "-o"):
        engine.host.run("iptables", "-I", "DOCKER-USER", direction, "fluyt0", "-j", "ACCEPT")
    for machine, address in ((engine.host, "127.0.0.1"), (outside, OUTSIDE)):
        assert fetch(machine, address, 8001) == "ours"
        assert fetch(machine, address, 8002) == "theirs"
    # Each reaches the other's port as the host's, and none the other's containers.
    assert shell(engine, f"wget -qO- http://{OUTSIDE}:8002") == ("theirs\n", 0)
    assert docker("exec", "theirs", "wget", "-qO-", f"http://{OUTSIDE}:8001") == b"ours\n"
    # Who comes second is told.
    create(engine, "late", "true", published_ports=[port(80, 8002)])
    code, reason, facts = refused(lambda: start(engine, "late"))
    assert (code, reason, "docker" in facts["holder"]) == (EXISTS, "PORT_IN_USE", True), facts
    with pytest.raises(AssertionError, match="8001"):
        docker("run", "--rm", "-p", "8001:80", IMAGE, "true")
    # What one of us makes anew leaves the other's as it was.
    rules = engine.host.run("iptables", "-S"), engine.host.run("iptables", "-t", "nat", "-S")
    engine.kill()
    engine.start()
    assert fetch(outside, OUTSIDE, 8001) == "ours"
    delete(engine, "ours")
    delete(engine, "late")
    served(engine, "ours", published_ports=[port(80, 8001)])
    assert (engine.host.run("iptables", "-S"), engine.host.run("iptables", "-t", "nat", "-S")) == rules
    assert fetch(outside, OUTSIDE, 8002) == "theirs"
    docker("rm", "-f", "theirs")
    assert is_refused(outside, OUTSIDE, 8002)
    until_now(lambda: is_free(engine.host, 8002), "Docker's proxy has let the port go")
    served(engine, "next", published_ports=[port(80, 8002)])
    assert fetch(outside, OUTSIDE, 8001) == "ours"
    assert fetch(outside, OUTSIDE, 8002) == "next"
