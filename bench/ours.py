"""This engine in a benchmark: a daemon on roots of its own, and the calls that are timed, by a connected client."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.sweep import swept
from fluyt import execs
from fluyt.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
)
from fluyt.v1.types import container_spec_pb2, network_pb2, operation_pb2

READY_SECONDS = float(os.environ.get("FLUYT_TEST_PATIENCE_SECONDS", "30"))
#: How long a daemon may take to end in order.
END_SECONDS = 60.0
CHUNK_BYTES = 512 * 1024


def cgroup_parent() -> str:
    """The parent of the control groups of this run's containers."""
    return f"fluyt-bench-{os.getpid()}"


def command_line() -> list[str]:
    """The command `fluyt`. Raises RuntimeError if it was not built."""
    program = Path(os.environ.get("CARGO_TARGET_DIR", "target"), "release/fluyt").resolve()
    if not program.exists():
        raise RuntimeError(f"{program} is missing: cargo build --release -p fluyt-cli")
    return [str(program)]


def end_daemon(daemon: "subprocess.Popen[bytes]", *roots: Path) -> None:
    """The daemon has ended; of its containers nothing is left on the host, whatever state they were in.

    `roots`: its data and run roots, or folders that hold both.
    """
    daemon.terminate()
    try:
        daemon.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    for left in swept(cgroup_parent(), *roots):
        print(f"swept: {left}")


def start_daemon(data_root: Path, run_root: Path, log: Path, *options: str) -> "subprocess.Popen[bytes]":
    """A daemon that serves; to be ended by its pid. `options`: further arguments of it."""
    out = log.open("ab")
    # An installed daemon has its modules compiled; one of a checkout would compile them at each start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(data_root.parent / "pycache")}
    daemon = subprocess.Popen(
        [sys.executable, "-m", "fluytd", "--data-root", str(data_root), "--run-root", str(run_root)]
        + ["--cgroup-parent", cgroup_parent(), "--default-network", "none", *options],
        env=environment,
        stdout=out,
        stderr=out,
    )
    deadline = time.monotonic() + READY_SECONDS
    # A channel that is refused would wait a second or more before it tries again, and that would be measured.
    soon = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
    with grpc.insecure_channel(f"unix://{run_root}/fluytd.sock", soon) as channel:
        while time.monotonic() < deadline and daemon.poll() is None:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True
                )
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return daemon
            time.sleep(0.02)
    daemon.kill()
    raise RuntimeError(f"the daemon did not become ready: see {log}")


class NativeClient:
    """A connected client in Rust (`clients/cli/examples/bench_client.rs`): what it needs of a processor is little."""

    def __init__(self, socket: Path, image: str) -> None:
        """Connects. Raises RuntimeError if the program was not built."""
        program = Path(os.environ.get("CARGO_TARGET_DIR", "target"), "release/examples/bench_client").resolve()
        if not program.exists():
            raise RuntimeError(f"{program} is missing: cargo build --release -p fluyt-cli --example bench_client")
        self._process = subprocess.Popen(
            [program, f"unix://{socket}", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _ask(self, order: str) -> float:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the client has no pipes")
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the client ended with {self._process.wait()}")
        return float(answer)

    def run_true(self) -> float:
        """RunContainer of /bin/true until it is exited and removed; the seconds it took."""
        return self._ask("true")

    def start(self, name: str, count: int, callers: int) -> float:
        """Containers `name`-0 to `name`-(count - 1) stay, started by `callers` at once; the seconds it took."""
        return self._ask(f"start {name} {count} {callers}")

    def close(self) -> None:
        """The client has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)


class Ours:
    """Calls of one connected client."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.channel = grpc.insecure_channel(f"unix://{socket}")
        self._containers = containers_pb2_grpc.ContainerServiceStub(self.channel)
        self._images = images_pb2_grpc.ImageServiceStub(self.channel)
        self._operations = operations_pb2_grpc.OperationServiceStub(self.channel)

    def close(self) -> None:
        """The channel is closed."""
        self.channel.close()

    def import_rootfs(self, tar: Path, reference: str) -> None:
        """An image of a root file system is present under the reference."""

        def requests() -> Iterator[images_pb2.ImportImageRequest]:
            yield images_pb2.ImportImageRequest(
                options=images_pb2.ImportImageOptions(reference=reference, changes=["ENV PATH=/bin:/usr/bin"])
            )
            with tar.open("rb") as data:
                while chunk := data.read(CHUNK_BYTES):
                    yield images_pb2.ImportImageRequest(chunk=chunk)

        self._images.ImportImage(requests())

    def _spec(self, reference: str, *args: str, auto_remove: bool) -> container_spec_pb2.ContainerSpec:
        return container_spec_pb2.ContainerSpec(
            image=reference,
            args=args,
            auto_remove=auto_remove,
            network=network_pb2.NetworkSpec(mode=network_pb2.NetworkSpec.MODE_NONE),
        )

    def run_true(self, reference: str) -> float:
        """RunContainer of /bin/true until it is exited and removed; the seconds it took."""
        return self.run(reference, "/bin/true")

    def run(self, reference: str, *args: str) -> float:
        """RunContainer of a command that must end with 0 until it is exited and removed; the seconds it took."""
        spec = self._spec(reference, *args, auto_remove=True)
        begin = time.perf_counter()
        last = ""
        for event in self._containers.RunContainer(containers_pb2.RunContainerRequest(spec=spec)):
            last = event.WhichOneof("event")
        seconds = time.perf_counter() - begin
        if last != "exited" or event.exited.exit_code != 0:
            raise RuntimeError(f"{args} ended with {event}")
        return seconds

    def start_sleep(self, reference: str, name: str) -> float:
        """A container that stays; the seconds until it was started."""
        spec = self._spec(reference, "/bin/sleep", "100000", auto_remove=False)
        begin = time.perf_counter()
        for _ in self._containers.RunContainer(containers_pb2.RunContainerRequest(spec=spec, name=name, detach=True)):
            pass
        return time.perf_counter() - begin

    def remove(self, name: str) -> float:
        """Killed and deleted; the seconds it took."""
        begin = time.perf_counter()
        self._containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))
        return time.perf_counter() - begin

    def exec_true(self, name: str) -> float:
        """Exec of /bin/true in a container that runs, until it is exited; the seconds it took."""
        begin = time.perf_counter()
        ended = execs.run(self.channel, name, ["/bin/true"])
        seconds = time.perf_counter() - begin
        if ended.exit_code != 0:
            raise RuntimeError(f"exec ended with {ended}")
        return seconds

    def get(self, name: str) -> float:
        """One GetContainer; seconds."""
        begin = time.perf_counter()
        self._containers.GetContainer(containers_pb2.GetContainerRequest(container=name))
        return time.perf_counter() - begin

    def list_all(self) -> tuple[float, int]:
        """Every page of ListContainers; seconds, count."""
        begin = time.perf_counter()
        count, token = 0, ""
        while True:
            page = self._containers.ListContainers(
                containers_pb2.ListContainersRequest(page_size=1000, page_token=token)
            )
            count += len(page.containers)
            token = page.next_page_token
            if not token:
                return time.perf_counter() - begin, count

    def delete_image(self, reference: str) -> None:
        """The image is gone, with its layers."""
        self._images.DeleteImage(images_pb2.DeleteImageRequest(image=reference))

    def pull(self, reference: str) -> float:
        """PullImage to its end; the seconds it took. Raises RuntimeError with the operation's failure."""
        begin = time.perf_counter()
        operation = self._images.PullImage(images_pb2.PullImageRequest(reference=reference)).operation
        last = operation
        for update in self._operations.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id)):
            if update.WhichOneof("update") == "operation":
                last = update.operation
        seconds = time.perf_counter() - begin
        if last.state != operation_pb2.Operation.STATE_SUCCEEDED:
            raise RuntimeError(f"{last.failure.reason}: {last.failure.message}")
        return seconds
