"""What `make example` does: a Debian root file system pushed to a real registry, pulled, and run with limits.

The container prints its own limits and how the kernel holds it to them: a program that wants more memory than its
limit is killed, and one that spins gets the share of a processor that it was given.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from daemon import running_daemon
from rootfs import busybox_tar

from fluyt.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from fluyt.v1.types import container_spec_pb2, operation_pb2, resources_pb2

MEMORY_BYTES = 48 * 1024 * 1024
CPUS = 0.25
SPIN_SECONDS = 2
REGISTRY_READY_SECONDS = 10.0

_SCRIPT = """
echo "wanted: 64 MiB of memory"
dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>/dev/null && echo "got it" || echo "refused by the limit"
""".strip()
_SPIN = """
begin=$(date +%s)
while [ $(($(date +%s) - begin)) -lt SECONDS_ ]; do i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; done
cat /proc/self/stat > /dev/null
set -- $(cat /proc/$$/stat)
echo "processor ticks used: $((${14} + ${15} + ${16} + ${17}))"
""".strip().replace("SECONDS_", str(SPIN_SECONDS))


@contextmanager
def real_registry(home: Path) -> Iterator[str]:
    """Debian's docker-registry on a free port of loopback; yields `host:port`."""
    program = shutil.which("docker-registry")
    if program is None:
        raise SystemExit("docker-registry is missing: apt-get install docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (home / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/registry}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(home / "registry.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        host, port = address.split(":")
        deadline = time.monotonic() + REGISTRY_READY_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection((host, int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def push_image(home: Path, address: str) -> str:
    """An image of Debian's busybox, made by umoci and pushed by skopeo; returns its reference."""
    layout = home / "layout"
    (home / "rootfs.tar").write_bytes(busybox_tar())
    subprocess.run(["umoci", "init", "--layout", layout], check=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:1"], check=True)
    subprocess.run(["umoci", "raw", "add-layer", "--image", f"{layout}:1", home / "rootfs.tar"], check=True)
    subprocess.run(["umoci", "config", "--image", f"{layout}:1", "--config.env", "PATH=/bin"], check=True)
    reference = f"{address}/debian/busybox:1"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{reference}"], check=True
    )
    return reference


def pull(channel: grpc.Channel, reference: str) -> None:
    """Pulls and shows how each layer fares."""
    answer = images_pb2_grpc.ImageServiceStub(channel).PullImage(images_pb2.PullImageRequest(reference=reference))
    watch = operations_pb2.WatchOperationRequest(id=answer.operation.id)
    last = answer.operation
    for update in operations_pb2_grpc.OperationServiceStub(channel).WatchOperation(watch):
        if update.WhichOneof("update") == "operation":
            last = update.operation
            for layer in last.pull_progress.layers:
                phase = operation_pb2.LayerProgress.Phase.Name(layer.phase).removeprefix("PHASE_").lower()
                print(f"  {layer.digest[7:19]} {phase} {layer.transferred_bytes}/{layer.size_bytes}")
    if last.state != operation_pb2.Operation.STATE_SUCCEEDED:
        raise SystemExit(f"pull failed: {last.failure.reason}: {last.failure.message}")


def run(channel: grpc.Channel, reference: str, script: str, resources: resources_pb2.Resources) -> dict[str, object]:
    """Runs `sh -c script` with limits and prints its output; returns how it ended."""
    spec = container_spec_pb2.ContainerSpec(
        image=reference, args=["/bin/sh", "-c", script], auto_remove=True, resources=resources
    )
    for event in containers_pb2_grpc.ContainerServiceStub(channel).RunContainer(
        containers_pb2.RunContainerRequest(spec=spec)
    ):
        kind = event.WhichOneof("event")
        if kind in {"stdout", "stderr"}:
            sys.stdout.write("  | " + getattr(event, kind).data.decode())
        elif kind == "exited":
            exited = event.exited
            return {"exit_code": exited.exit_code, "signal": exited.signal, "oom_killed": exited.oom_killed}
    raise SystemExit("the stream ended before the container did")


def main() -> int:
    """The example; 0 if both limits held."""
    home = Path(tempfile.mkdtemp(prefix="fluyt-example-"))
    try:
        with real_registry(home) as address, running_daemon() as channel:
            reference = push_image(home, address)
            print(f"pull {reference}")
            pull(channel, reference)
            print(f"memory limit {MEMORY_BYTES} bytes:")
            memory = run(channel, reference, _SCRIPT, resources_pb2.Resources(memory_limit_bytes=MEMORY_BYTES))
            print(f"  ended: {json.dumps(memory)}")
            print(f"limit of {CPUS} processors, spinning {SPIN_SECONDS} s:")
            cpu = run(channel, reference, _SPIN, resources_pb2.Resources(nano_cpus=int(CPUS * 1e9)))
            print(f"  ended: {json.dumps(cpu)}  (100 ticks are one second of one processor)")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
