"""Containers in scopes that have a network, and steps of builds, under a real systemd: `make test-systemd`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluyt import execs
from fluyt.v1.types import network_pb2, resources_pb2
from tests.e2e.builds import steps as builds
from tests.e2e.containers.steps import IMAGE, create, delete, get, listed, started
from tests.e2e.networks.steps import BRIDGE, fetch, is_refused, port
from tests.e2e.networks.steps import start as start_by_name
from tests.support import image_files, images
from tests.support.engine import PATIENCE_SECONDS
from tests.support.namespaces import NetworkEngine
from tests.support.scopes import ROOT, SLICE_GROUP, ScopedEngine, scope, scope_group, scopes, systemctl
from tests.support.wait import until_now

pytestmark = pytest.mark.needs("systemd", "root", "nft", "ip")
#: Answers each connection, and ends when it is asked to: process 1 hears no signal that it does not wait for.
STAY = "trap 'exit 5' TERM; while :; do sleep 0.1; done"
SERVE = f"mkdir -p /www; echo web > /www/index.html; httpd -p [::]:80 -h /www; echo ready; {STAY}"
PUBLISHED = network_pb2.NetworkSpec(mode=BRIDGE, published_ports=[port(80, 8080)])


class ScopedNetworkEngine(ScopedEngine, NetworkEngine):
    """An engine with the driver systemd, whose host's network is a machine of its own."""


@pytest.fixture(scope="module")
def engine_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScopedNetworkEngine]:
    """One engine with a busybox."""
    with ScopedNetworkEngine(tmp_path_factory.mktemp("scopenets")) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


@pytest.fixture
def engine(engine_of_all: ScopedNetworkEngine) -> Iterator[ScopedNetworkEngine]:
    """The engine without containers; afterwards neither systemd nor the network has anything of one."""
    yield engine_of_all
    for container in listed(engine_of_all):
        delete(engine_of_all, container.id, force=True)
    until_now(lambda: scopes() == [], "no scope is left", PATIENCE_SECONDS)
    until_now(lambda: engine_of_all.host.links() <= {"lo", "fluyt0"}, "no interface is left", PATIENCE_SECONDS)


def test_a_container_in_a_scope_has_its_network_and_its_port(engine: ScopedNetworkEngine) -> None:
    limits = resources_pb2.Resources(pids_limit=40)
    made = create(engine, "sh", "-c", SERVE, name="web", network=PUBLISHED, resources=limits)
    running = start_by_name(engine, "web")
    until_now(lambda: b"ready" in engine.logs("web"), "it serves", PATIENCE_SECONDS)
    assert (scope_group(running) / "payload" / "pids.max").read_text() == "40\n"
    assert fetch(engine.host, "127.0.0.1", 8080) == "web"
    seen = execs.run(engine.channel, made.id, ["ip", "-o", "-4", "address", "show", "eth0"])
    assert running.networks[0].ipv4_address.encode() in seen.stdout
    other = started(engine, "sleep", "1000", network=network_pb2.NetworkSpec(mode=BRIDGE))
    address = running.networks[0].ipv4_address.partition("/")[0]
    assert execs.run(engine.channel, other.id, ["wget", "-q", "-O", "-", f"http://{address}/"]).stdout == b"web\n"
    # The port outlives the daemon's life and a reload of systemd, and goes with the scope.
    engine.kill()
    engine.start()
    systemctl("daemon-reload")
    assert fetch(engine.host, "127.0.0.1", 8080) == "web"
    systemctl("stop", scope(running))
    until_now(lambda: not get(engine, "web").host_pid, "it has ended", PATIENCE_SECONDS)
    until_now(lambda: is_refused(engine.host, "127.0.0.1", 8080), "the port is free", PATIENCE_SECONDS)
    assert scopes() == [scope(other)]
    # Another run has it again.
    start_by_name(engine, "web")
    until_now(lambda: not is_refused(engine.host, "127.0.0.1", 8080), "it serves again", PATIENCE_SECONDS)


def test_steps_of_a_build_leave_no_scope_however_they_end(engine: ScopedNetworkEngine, tmp_path: Path) -> None:
    dockerfile = """\
        FROM busybox:1
        RUN cat /proc/self/cgroup && ls /sys/class/net && echo made > /made
        RUN --network=none ls /sys/class/net
    """
    built = builds.build(engine, tmp_path, dockerfile)
    seen = built.output.decode().split()
    # The root of its own group; eth0 where the step has a network.
    assert seen[0] == "0::/"
    assert (seen.count("eth0"), seen.count("lo")) == (1, 2)
    assert builds.shell(engine, built, "cat /made") == "made\n"
    failure = builds.refused(engine, tmp_path, f"{dockerfile}RUN exit 7\n")
    assert (failure.reason, failure.metadata["exit_code"]) == ("BUILD_STEP_FAILED", "7")
    until_now(lambda: scopes() == [], "no step leaves a scope", PATIENCE_SECONDS)


def test_a_step_is_in_a_scope_that_systemctl_can_stop(engine: ScopedNetworkEngine, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        failure = pool.submit(builds.refused, engine, tmp_path, f"FROM busybox:1\nRUN {STAY}\n")
        until_now(lambda: len(scopes()) == 1, "the step runs", PATIENCE_SECONDS)
        (name,) = scopes()
        groups = ROOT / SLICE_GROUP / name
        assert {path.name for path in groups.iterdir() if path.is_dir()} == {"supervisor", "payload"}
        (step,) = {int(pid) for pid in (groups / "payload" / "cgroup.procs").read_text().split()[:1]}
        until_now(lambda: "trap" in Path(f"/proc/{step}/cmdline").read_text(), "it executes", PATIENCE_SECONDS)
        systemctl("stop", name)
        assert failure.result(PATIENCE_SECONDS).metadata["exit_code"] == "5"
    assert scopes() == []
