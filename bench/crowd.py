"""Many containers on one network, and bytes between two of them: part of `python -m bench.networks`."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from bench.__main__ import REFERENCE
from bench.figures import Figure
from bench.ours import Ours
from bench.peers import quiet_run
from fluyt.v1 import containers_pb2, containers_pb2_grpc, networks_pb2, networks_pb2_grpc
from fluyt.v1.types import container_spec_pb2, network_pb2

CALLERS: Final = 8
CROWDED: Final = "crowd"
#: What is sent from one container to the other, in turn with the peers.
SECONDS: Final = 3
_PORT: Final = 5201


def crowd(ours: Ours, count: int) -> list[Figure]:
    """Containers started on a network with names by eight callers until the last runs, which then reaches the first."""
    networks = networks_pb2_grpc.NetworkServiceStub(ours.channel)
    containers = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    networks.CreateNetwork(networks_pb2.CreateNetworkRequest(name=CROWDED))
    attachment = network_pb2.NetworkAttachment(network=CROWDED)
    spec = container_spec_pb2.ContainerSpec(
        image=REFERENCE,
        args=["/bin/sleep", "100000"],
        network=network_pb2.NetworkSpec(attachments=[attachment]),
    )

    def start(number: int) -> tuple[float, str]:
        request = containers_pb2.CreateContainerRequest(spec=spec, name=f"{CROWDED}-{number}")
        begin = time.perf_counter()
        made = containers.CreateContainer(request).container.id
        begun = containers.StartContainer(containers_pb2.StartContainerRequest(container=made)).container
        return time.perf_counter() - begin, str(begun.networks[0].ipv4_address)

    def remove(number: int) -> None:
        name = f"{CROWDED}-{number}"
        try:
            containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:  # where a run was broken off, not all were made
                raise

    with ThreadPoolExecutor(CALLERS) as pool:
        try:
            begin = time.perf_counter()
            started = [*pool.map(start, range(count))]
            seconds = time.perf_counter() - begin
            if len({address for _, address in started}) != count:
                raise RuntimeError("two containers have one address")
            _reach(containers, f"{CROWDED}-{count - 1}", started[0][1].partition("/")[0])
        finally:
            begin = time.perf_counter()
            list(pool.map(remove, range(count)))
            gone = time.perf_counter() - begin
    networks.DeleteNetwork(networks_pb2.DeleteNetworkRequest(network=CROWDED))
    each = [one * 1e3 for one, _ in started]
    tenth = max(1, count // 10)
    return [
        Figure(f"{count} containers on one network, eight callers", "started per second", "/s", (count / seconds,)),
        Figure("... until the last runs", "seconds", "s", (seconds,)),
        Figure("... created and started, one", "the first tenth", "ms", tuple(each[:tenth])),
        Figure("... created and started, one", "the last tenth", "ms", tuple(each[-tenth:])),
        Figure("... and removed again", "removed per second", "/s", (count / gone,)),
    ]


def _reach(containers: containers_pb2_grpc.ContainerServiceStub, name: str, address: str) -> None:
    pid = containers.GetContainer(containers_pb2.GetContainerRequest(container=name)).container.host_pid
    quiet_run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", "busybox", "ping", "-c", "1", "-W", "5", address], {})


def throughput(ours: Ours, scratch: Path, rounds: int) -> list[Figure]:
    """Gbit per second from one container to another by iperf3, on a bridge of each engine, in turn."""
    tar = scratch / "rootfs.tar"
    containers = containers_pb2_grpc.ContainerServiceStub(ours.channel)
    spec = container_spec_pb2.ContainerSpec(
        image=REFERENCE,
        args=["/bin/sleep", "100000"],
        network=network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_BRIDGE),
    )
    made = [containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec)).container.id for _ in range(2)]
    pairs: dict[str, tuple[int, int]] = {}
    pids = [
        containers.StartContainer(containers_pb2.StartContainerRequest(container=one)).container.host_pid
        for one in made
    ]
    pairs["fluyt"] = (pids[0], pids[1])
    holder, podman, environment = _podman(scratch / "podman")
    daemon, docker = _docker(scratch / "docker")
    try:
        if docker:
            quiet_run([*docker, "import", str(tar), REFERENCE], {})
            dockers = []
            for name in ("bench-a", "bench-b"):
                quiet_run([*docker, "run", "-d", "--name", name, REFERENCE, "/bin/sleep", "100000"], {})
                asked = [*docker, "inspect", name, "--format", "{{.State.Pid}}"]
                dockers.append(int(subprocess.check_output(asked)))
            pairs["docker"] = (dockers[0], dockers[1])
        quiet_run([*podman, "import", "-q", str(tar), REFERENCE], environment)
        theirs = []
        for name in ("bench-a", "bench-b"):
            options = ["--name", name, "--cgroups=disabled", "--network", "podman"]
            quiet_run([*podman, "run", "-d", *options, f"localhost/{REFERENCE}", "sleep", "100000"], environment)
            asked = [*podman, "inspect", name, "--format", "{{.State.Pid}}"]
            theirs.append(int(subprocess.check_output(asked, env=os.environ | environment)))
        pairs["podman"] = (theirs[0], theirs[1])
        values: dict[str, list[float]] = {name: [] for name in pairs}
        for _ in range(rounds):
            for name, pair in pairs.items():
                values[name].append(_sent(*pair))
    finally:
        for name in ("bench-a", "bench-b"):
            with suppress(RuntimeError):
                quiet_run([*podman, "rm", "-f", "-t", "0", name], environment)
        holder.kill()
        holder.communicate()
        if daemon is not None:
            with suppress(RuntimeError):
                quiet_run([*docker, "rm", "-f", "bench-a", "bench-b"], {})
            daemon.terminate()
            daemon.wait()
        for one in made:
            containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=one, force=True))
    section = "one container sends to another by TCP"
    return [Figure(section, name, "Gbit/s", tuple(series)) for name, series in values.items()]


def _podman(home: Path) -> "tuple[subprocess.Popen[bytes], list[str], dict[str, str]]":
    """Podman on a store of the run's own: its networks lie where the bench's network namespace is."""
    home.mkdir()
    (home / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=20000:20000","nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
    )
    (home / "storage.conf").write_text(f'[storage]\ndriver="vfs"\ngraphroot="{home}/root"\nrunroot="{home}/run"\n')
    # Its mounts are its own, and it is shown no hybrid control groups, which crun refuses.
    hidden = "[ ! -e /sys/fs/cgroup/unified ] || mount -t tmpfs tmpfs /sys/fs/cgroup; echo ready; exec sleep 3600"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden], stdout=subprocess.PIPE
    )
    if holder.stdout is None or holder.stdout.readline() != b"ready\n":
        raise RuntimeError("no mount namespace for podman")
    return (
        holder,
        ["nsenter", "--mount", f"--target={holder.pid}", "podman"],
        {
            "CONTAINERS_CONF": str(home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        },
    )


def _docker(home: Path) -> "tuple[subprocess.Popen[bytes] | None, list[str]]":
    """dockerd with roots of the run's own in the bench's network namespace, and its command line; none where it is not
    installed."""
    if shutil.which("dockerd") is None:
        return None, []
    home.mkdir()
    socket = f"unix://{home}/docker.sock"
    command = ["dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid"]
    command += ["-H", socket, "--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    with (home / "log").open("wb") as log:
        daemon = subprocess.Popen(["unshare", "--mount", *command], stdout=log, stderr=log)
    docker = ["docker", "-H", socket]
    _until(lambda: subprocess.run([*docker, "version"], capture_output=True, check=False).returncode == 0, "dockerd")
    return daemon, docker


def _sent(server: int, client: int) -> float:
    """Gbit per second that the server of iperf3 received."""

    def inside(pid: int, *command: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{pid}/ns/net", "--", *command]

    shown = subprocess.check_output(inside(server, "ip", "-4", "-o", "address", "show", "eth0"), text=True)
    address = shown.split()[3].partition("/")[0]
    with subprocess.Popen(inside(server, "iperf3", "-s", "-1", "-p", str(_PORT)), stdout=subprocess.DEVNULL) as serving:
        try:
            _until(lambda: f":{_PORT}" in subprocess.check_output(inside(server, "ss", "-ltn"), text=True))
            command = inside(client, "iperf3", "-c", address, "-p", str(_PORT), "-t", str(SECONDS), "-J")
            found = json.loads(subprocess.check_output(command, text=True))
        finally:
            serving.terminate()
    return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9


def _until(is_so: Callable[[], bool], what: str = "iperf3") -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} does not listen")
        time.sleep(0.02)
