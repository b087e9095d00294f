"""Another engine and firewalls on the same host: nobody's rules are in the other's way."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.e2e.networks.conftest import HOST_ADDRESSES, OTHERS_ADDRESSES
from tests.e2e.networks.steps import IMAGE, SERVE, create, delete, fetch, is_refused, port, served, shell, start
from tests.support import image_files, images
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("nft", "ip")
OUTSIDE = HOST_ADDRESSES[0].partition("/")[0]
#: Podman's default needs limits that a machine may not be able to raise.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[NetworkEngine]:
    """An engine whose host others use too."""
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


class Podman:
    """Podman on the host of an engine, with a store of its own."""

    def __init__(self, host: Machine, root: Path) -> None:
        """Nothing has been made yet. Its mounts are its own, and it is shown no hybrid control groups, which crun
        refuses."""
        root.mkdir()
        (root / "containers.conf").write_text(CONTAINERS_CONF)
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{root}/root"\nrunroot = "{root}/run"\n'
        (root / "storage.conf").write_text(storage)
        hidden = "[ ! -e /sys/fs/cgroup/unified ] || mount -t tmpfs tmpfs /sys/fs/cgroup; echo ready; exec sleep 1000"
        self._holder = subprocess.Popen(
            ["nsenter", f"--net=/proc/{host.pid}/ns/net", "unshare", "--mount", "--propagation", "private"]
            + ["sh", "-c", hidden],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._environment = os.environ | {
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def __call__(self, *arguments: str) -> str:
        """What the command prints; it must succeed."""
        entered = ["nsenter", "--net", "--mount", f"--target={self._holder.pid}", "podman", *arguments]
        with subprocess.Popen(
            entered, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment
        ) as process:
            printed = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 0, printed
        return printed

    def close(self) -> None:
        """Its mounts are gone."""
        self._holder.kill()
        self._holder.communicate()


@pytest.mark.needs("podman", "iptables", "cni-plugins")
def test_podman_on_the_same_host_keeps_its_containers_and_we_ours(
    engine: NetworkEngine, outside: Machine, tmp_path: Path
) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(image_files.oci_archive({IMAGE: images.busybox_image()}))
    podman = Podman(engine.host, tmp_path / "podman")
    podman("load", "-q", "-i", str(archive))
    served(engine, "ours", published_ports=[port(80, 8001)])
    serve = SERVE.format(text="theirs")
    options = ("--name", "theirs", "--cgroups=disabled", "-p", "8002:80")
    podman("run", "-d", *options, f"localhost/{IMAGE}", "sh", "-c", serve)
    try:
        for machine, address in ((engine.host, "127.0.0.1"), (outside, OUTSIDE)):
            assert fetch(machine, address, 8001) == "ours"
            assert fetch(machine, address, 8002) == "theirs"
        # Each reaches the other's port as the host's.
        assert shell(engine, f"wget -qO- http://{OUTSIDE}:8002") == ("theirs\n", 0)
        assert podman("exec", "theirs", "wget", "-qO-", f"http://{OUTSIDE}:8001") == "ours\n"
        create(engine, "late", "true", published_ports=[port(80, 8002)])
        with pytest.raises(grpc.RpcError, match="8002"):
            start(engine, "late")
        delete(engine, "ours")
        assert fetch(outside, OUTSIDE, 8002) == "theirs"
        served(engine, "ours", published_ports=[port(80, 8001)])
        engine.kill()
        engine.start()
        assert fetch(outside, OUTSIDE, 8002) == "theirs"
    finally:
        podman("rm", "-f", "-t", "0", "theirs")
        podman.close()
    assert fetch(outside, OUTSIDE, 8001) == "ours"


def test_what_a_firewall_drops_stays_dropped_until_its_operator_lets_the_bridge_through(
    engine: NetworkEngine, outside: Machine
) -> None:
    # As Docker and ufw leave a host: what is forwarded is dropped, but for what their own chains take.
    rules = """
        table ip filter {
            chain DOCKER-USER { }
            chain FORWARD {
                type filter hook forward priority filter; policy drop;
                jump DOCKER-USER
                iifname "docker0" accept
            }
        }
    """
    engine.host.run("nft", rules)
    served(engine, "web", published_ports=[port(80, 8001)])
    assert fetch(engine.host, "127.0.0.1", 8001) == "web"
    assert is_refused(outside, OUTSIDE, 8001)
    for direction in ("iifname", "oifname"):
        engine.host.run("nft", "add", "rule", "ip", "filter", "DOCKER-USER", direction, "fluyt0", "accept")
    assert fetch(outside, OUTSIDE, 8001) == "web"
    theirs = engine.host.run("nft", "list", "table", "ip", "filter")
    engine.kill()
    engine.start()
    assert fetch(outside, OUTSIDE, 8001) == "web"
    delete(engine, "web")
    assert engine.host.run("nft", "list", "table", "ip", "filter") == theirs


def test_the_address_of_ports_that_name_none_is_a_setting(tmp_path: Path) -> None:
    with NetworkEngine(tmp_path, options=["--publish-address", "127.0.0.1"]) as engine, Machine() as outside:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        engine.host.connect_to(outside, HOST_ADDRESSES, OTHERS_ADDRESSES)
        web = served(engine, "web", published_ports=[port(80, 8001), port(80, 8002, host_address=OUTSIDE)])
        assert [one.host_address for one in web.published_ports] == ["127.0.0.1", OUTSIDE]
        assert fetch(engine.host, "127.0.0.1", 8001) == "web"
        assert is_refused(engine.host, OUTSIDE, 8001)
        assert is_refused(outside, OUTSIDE, 8001)
        assert fetch(outside, OUTSIDE, 8002) == "web"
