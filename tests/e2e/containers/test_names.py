"""Name servers and names of hosts: what of the host's reaches a container (cases N06 and N07)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1.types import network_pb2
from tests.e2e.containers.sees_steps import shell
from tests.e2e.containers.steps import IMAGE
from tests.support import image_files, images
from tests.support.engine import Engine

HOST = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST)
OWN = network_pb2.NetworkSpec.MODE_NONE


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("names")


@pytest.fixture(scope="module")
def names_engine(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    options = ["--resolv-conf-path", f"{places}/resolv.conf", "--systemd-resolv-conf-path", f"{places}/systemd.conf"]
    options += ["--dns-fallback-servers", "192.0.2.53"]
    with Engine(tmp_path_factory.mktemp("names-engine"), options=options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


STUB = "# by systemd\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n"
REAL = "nameserver 10.1.1.1\nsearch lan\n"


@pytest.mark.parametrize(
    ("host", "systemd", "network", "expected"),
    [
        (REAL, None, {}, REAL),
        (STUB, None, {}, "# by systemd\noptions edns0\nsearch lan\nnameserver 192.0.2.53\n"),
        (STUB, REAL, {}, REAL),
        ("nameserver ::1\nnameserver 127.9.9.9\n", None, {}, "nameserver 192.0.2.53\n"),
        ("nameserver ::ffff:127.0.0.1\n", None, {}, "nameserver 192.0.2.53\n"),
        ("nameserver 127.0.0.1\nnameserver 10.2.2.2\n", REAL, {}, "nameserver 10.2.2.2\n"),
        (REAL, None, {"dns_servers": ["198.51.100.1"]}, "search lan\nnameserver 198.51.100.1\n"),
        (REAL, None, {"dns_search": ["a.example", "b.example"]}, "nameserver 10.1.1.1\nsearch a.example b.example\n"),
        (REAL, None, {"dns_search": ["."]}, "nameserver 10.1.1.1\n"),
        (REAL, None, {"dns_options": ["ndots:2"]}, REAL + "options ndots:2\n"),
        ("", None, {}, "nameserver 192.0.2.53\n"),
        (STUB, REAL, {"mode": network_pb2.NetworkSpec.MODE_HOST}, STUB),
        (None, None, {}, "nameserver 192.0.2.53\n"),
    ],
)
def test_n06_a_container_has_the_servers_that_it_can_reach(
    names_engine: Engine, places: Path, host: str | None, systemd: str | None, network: dict[str, object], expected: str
) -> None:
    for name, text in (("resolv.conf", host), ("systemd.conf", systemd)):
        (places / name).unlink(missing_ok=True)
        if text is not None:
            (places / name).write_text(text)
    asked = network_pb2.NetworkSpec(**{"mode": OWN, **network})  # type: ignore[arg-type]
    assert shell(names_engine, "cat /etc/resolv.conf", network=asked) == expected


def test_n07_without_a_network_there_is_the_loopback_device_alone_and_it_works(engine: Engine) -> None:
    network = network_pb2.NetworkSpec(mode=OWN)
    script = "ls /sys/class/net; ping -c1 -W1 127.0.0.1 >/dev/null && echo up; grep localhost /etc/hosts | head -1"
    assert shell(engine, script, network=network).split() == ["lo", "up", "127.0.0.1", "localhost"]


def test_in_the_network_of_the_host_its_names_are_the_hosts(engine: Engine) -> None:
    own = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_HOST, extra_hosts=["db:10.0.0.7"])
    told = shell(engine, "cat /etc/hosts", network=own)
    assert told == Path("/etc/hosts").read_text().rstrip("\n") + "\n10.0.0.7\tdb\n"
    assert shell(engine, "cat /etc/resolv.conf", network=HOST) == Path("/etc/resolv.conf").read_text()
