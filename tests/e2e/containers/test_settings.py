"""Names and settings of a container's own namespaces: host name, hosts, resolv.conf, kernel parameters, /dev/shm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1.types import network_pb2
from tests.e2e.containers.steps import IMAGE, INVALID, WRONG_STATE, load, refused_run
from tests.support import tarball
from tests.support.engine import Engine

HOST = network_pb2.NetworkSpec.MODE_HOST
NONE = network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE)


def shell(engine: Engine, script: str, image: str = IMAGE, **spec: object) -> bytes:
    return engine.run(image, "sh", "-c", script, **spec)[0]


HOST_PARAMETERS = tuple(
    Path("/proc/sys") / name
    for name in ("kernel/core_pattern", "kernel/shm_rmid_forced", "vm/swappiness", "net/ipv4/ip_forward")
)


@pytest.fixture
def unchanged_host() -> Iterator[None]:
    """The host's kernel parameters and name are the same afterwards."""
    read = (*HOST_PARAMETERS, Path("/proc/sys/kernel/hostname"))
    before = [path.read_bytes() for path in read]
    yield
    assert [path.read_bytes() for path in read] == before


@pytest.mark.usefixtures("unchanged_host")
@pytest.mark.parametrize(
    ("key", "value", "mode"),
    [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x", 0),
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/x", 0),
        ("kernel.core_pattern", "|/x", 0),
        ("kernel.hostname", "x", 0),
        ("vm.swappiness", "1", 0),
        ("fs.file-max", "1", 0),
        ("net.ipv4.ip_forward", "1", HOST),
        ("net/ipv4/ip_forward", "1", 0),
        ("net.../vm.swappiness", "1", 0),
        ("net.ipv4", "", 0),
        ("", "1", 0),
    ],
)
def test_z10_a_kernel_parameter_of_the_host_is_refused(engine: Engine, key: str, value: str, mode: int) -> None:
    network = network_pb2.NetworkSpec(mode=mode)  # type: ignore[arg-type]
    assert refused_run(engine, "true", sysctls={key: value}, network=network)[:2] == (INVALID, "FIELD_INVALID")


@pytest.mark.usefixtures("unchanged_host")
def test_z10_a_parameter_of_the_containers_own_namespaces_is_set_there_alone(engine: Engine) -> None:
    wanted = {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1", "kernel.sem": "32000 1024000 500 32000"}
    script = "cd /proc/sys; cat kernel/shm_rmid_forced net/ipv4/ip_forward kernel/sem"
    assert shell(engine, script, sysctls=wanted, network=NONE).split() == b"1 1 32000 1024000 500 32000".split()


def test_z10_a_parameter_that_this_kernel_has_not_is_told_with_the_kernels_word(engine: Engine) -> None:
    code, reason, metadata = refused_run(engine, "true", sysctls={"net.ipv4.no_such": "1"}, network=NONE)
    assert (code, reason, metadata["step"]) == (WRONG_STATE, "PROCESS_START_FAILED", "sysctl")
    assert (metadata["path"], metadata["detail"]) == ("net.ipv4.no_such", "No such file or directory")


@pytest.mark.usefixtures("unchanged_host")
def test_the_host_name_can_be_long_and_is_the_containers_alone(engine: Engine) -> None:
    for name in ("x" * 64, "A1", "1", "a.b.c", "a_b"):
        assert shell(engine, "hostname; cat /etc/hostname", hostname=name).decode().split() == [name, name]
    for field in ("hostname", "domainname"):
        for bad in ("x" * 65, ".a", "a.", "a b", "a\n", "$(x)"):
            refusal = refused_run(engine, "true", **{field: bad})
            assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", f"spec.{field}")


def test_names_and_resolvers_are_those_asked_for_and_a_line_cannot_be_smuggled_in(engine: Engine) -> None:
    network = network_pb2.NetworkSpec(
        mode=network_pb2.NetworkSpec.MODE_NONE,
        extra_hosts=["db:10.0.0.7", "six:fe80::1"],
        dns_servers=["192.0.2.1", "2001:db8::1"],
        dns_search=["example.org"],
        dns_options=["ndots:2"],
    )
    hosts = shell(engine, "cat /etc/hosts", network=network, hostname="box").decode().splitlines()
    assert {"127.0.0.1\tlocalhost", "10.0.0.7\tdb", "fe80::1\tsix", "127.0.1.1\tbox"} <= set(hosts)
    resolv = shell(engine, "cat /etc/resolv.conf", network=network).decode().splitlines()
    assert {"nameserver 192.0.2.1", "nameserver 2001:db8::1", "search example.org", "options ndots:2"} <= set(resolv)
    for fields in (
        {"extra_hosts": ["db"]},
        {"extra_hosts": ["db:10.0.0.7\n1.2.3.4 x"]},
        {"extra_hosts": ["db:nowhere"]},
        {"dns_servers": ["nowhere"]},
        {"dns_search": ["a b"]},
        {"dns_options": ["x\ny"]},
    ):
        refusal = refused_run(engine, "true", network=network_pb2.NetworkSpec(**fields))  # type: ignore[arg-type]
        assert refusal[:2] == (INVALID, "FIELD_INVALID"), fields


def test_the_engines_files_cover_what_an_image_has_there_and_a_link_leads_nowhere(
    engine: Engine, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("of the host\n")
    image = load(
        engine,
        tarball.symlink("etc/hosts", str(canary)),
        tarball.symlink("etc/resolv.conf", "../../../../../.." + str(canary)),
        tarball.file("etc/hostname", "image\n"),
    )
    script = "cat /etc/hostname; echo x >> /etc/hosts; echo x >> /etc/resolv.conf; grep -c localhost /etc/hosts"
    assert shell(engine, script, image, hostname="box").split()[0] == b"box"
    assert canary.read_text() == "of the host\n"


def test_shared_memory_has_the_size_asked_for(engine: Engine) -> None:
    script = "df -k /dev/shm | awk 'NR==2 {print $2}'"
    assert shell(engine, script) == b"65536\n"
    assert shell(engine, script, shm_size_bytes=8 << 20) == b"8192\n"
    assert refused_run(engine, "true", shm_size_bytes=-1)[:2] == (INVALID, "FIELD_INVALID")


@pytest.mark.parametrize("score", [1000, 500])
def test_the_oom_score_is_the_one_asked_for(engine: Engine, score: int) -> None:
    assert shell(engine, "cat /proc/self/oom_score_adj", oom_score_adj=score) == b"%d\n" % score
    for bad in (1001, -1001):
        assert refused_run(engine, "true", oom_score_adj=bad)[:2] == (INVALID, "FIELD_INVALID")
