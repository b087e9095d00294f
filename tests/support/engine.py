"""A live engine: a daemon on roots of its own, its API, and what of it is left on the host."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fluyt.v1 import (
    containers_pb2,
    containers_pb2_grpc,
    events_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    networks_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    volumes_pb2_grpc,
)
from fluyt.v1.types import container_pb2, container_spec_pb2, operation_pb2, registry_auth_pb2

REPOSITORY = Path(__file__).resolve().parents[2]
#: How long a daemon may take to serve or to end on a loaded machine; more on an emulated one.
PATIENCE_SECONDS = int(os.environ.get("FLUYT_TEST_PATIENCE_SECONDS", "30"))
#: The fence that the daemon lacks, from a build that can be without it (`make test-weakened`); empty for none.
WEAKENED = os.environ.get("FLUYT_TEST_WEAKENED", "")
CHUNK_BYTES = 256 * 1024
#: A daemon that starts is found as soon as it listens; by default a channel tries again after a second.
RETRY_AT_ONCE = [(f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max")]


class Daemon(Protocol):
    """What is needed of a daemon's process, as `subprocess.Popen` has it."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def kill(self) -> None: ...

    def terminate(self) -> None: ...


class Engine:
    """Starts a daemon; `kill` and `start` again on the same roots test what survives."""

    def __init__(self, root: Path, *, options: Sequence[str] = (), program: Path | None = None) -> None:
        """`options`: further arguments of the daemon. `program`: an installed `fluytd` in place of the checkout's."""
        self.root = root
        self._program = program
        self._options = tuple(options)
        self.cgroup_parent = f"fluyt-test-{os.getpid()}-{root.name}"[:60]
        self.start()

    def start(self, **environment: str) -> None:
        """A daemon serves on the roots."""
        server = str(REPOSITORY / ".build" / "weakened") if WEAKENED else str(REPOSITORY / "server")
        if WEAKENED:
            environment["FLUYT_WEAKENED"] = WEAKENED
        paths = [server, str(REPOSITORY), str(REPOSITORY / "clients" / "python"), os.environ.get("PYTHONPATH", "")]
        self.process = self.execute(
            [
                "--data-root",
                str(self.root / "data"),
                "--run-root",
                str(self.root / "run"),
                "--cgroup-parent",
                self.cgroup_parent,
                # Nothing is made in the host's own network: engines of a namespace of their own say otherwise.
                "--default-network",
                "none",
                *(["--default-userns", os.environ["FLUYT_TEST_USERNS"]] if "FLUYT_TEST_USERNS" in os.environ else []),
                *self._options,
            ],
            os.environ | {"PYTHONPATH": ":".join(filter(None, paths))} | environment,
        )
        self.channel = grpc.insecure_channel(f"unix:{self.root}/run/fluytd.sock", RETRY_AT_ONCE)
        self._wait_until_serving()
        self.containers = containers_pb2_grpc.ContainerServiceStub(self.channel)
        self.images = images_pb2_grpc.ImageServiceStub(self.channel)
        self.logs_api = logs_pb2_grpc.LogServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationServiceStub(self.channel)
        self.events = events_pb2_grpc.EventServiceStub(self.channel)
        self.volumes = volumes_pb2_grpc.VolumeServiceStub(self.channel)
        self.networks = networks_pb2_grpc.NetworkServiceStub(self.channel)

    def execute(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Daemon:
        """A daemon of these arguments runs; what it says is appended to `fluytd.log`."""
        command = [sys.executable, "-m", "tests.security.weakened_fluytd" if WEAKENED else "fluytd"]
        if self._program is not None:
            command = [str(self._program)]
            environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
        with (self.root / "fluytd.log").open("ab") as log:
            return subprocess.Popen([*command, *arguments], env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """The daemon is dead by SIGKILL; containers run on."""
        self.channel.close()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def revive(self) -> bool:
        """A daemon serves, so that the tests after one that failed with none have theirs. Whether there was none."""
        has_ended = self.process.poll() is not None
        if has_ended:
            self.channel.close()
            self.start()
        return has_ended

    def stop(self) -> None:
        """Every container is deleted and the daemon has ended by itself."""
        for container in self.containers.ListContainers(containers_pb2.ListContainersRequest()).containers:
            self.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))
        self.channel.close()
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._remove_cgroup_parents()

    def pull(self, reference: str, auth: registry_auth_pb2.RegistryAuth | None = None) -> operation_pb2.Operation:
        """The pull's operation once it has ended, however it ended."""
        request = images_pb2.PullImageRequest(reference=reference, auth=auth)
        return self.ended(self.images.PullImage(request).operation)

    def push(
        self, reference: str, target: str = "", auth: registry_auth_pb2.RegistryAuth | None = None, **fields: object
    ) -> operation_pb2.Operation:
        """The push's operation once it has ended, however it ended."""
        request = images_pb2.PushImageRequest(reference=reference, target_reference=target, auth=auth, **fields)  # type: ignore[arg-type]
        return self.ended(self.images.PushImage(request).operation)

    def ended(self, operation: operation_pb2.Operation) -> operation_pb2.Operation:
        """The operation once it has ended, however it ended."""
        for update in self.operations.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id)):
            operation = update.operation
        return operation

    def load(self, archive: bytes) -> images_pb2.LoadImagesResponse:
        """What LoadImages answers to the archive."""

        def requests() -> Iterator[images_pb2.LoadImagesRequest]:
            yield images_pb2.LoadImagesRequest(options=images_pb2.LoadImagesOptions())
            for offset in range(0, len(archive), CHUNK_BYTES):
                yield images_pb2.LoadImagesRequest(chunk=archive[offset : offset + CHUNK_BYTES])

        answer: images_pb2.LoadImagesResponse = self.images.LoadImages(requests())
        return answer

    def run(self, image: str, *args: str, **spec: object) -> tuple[bytes, bytes, container_pb2.Container]:
        """(stdout, stderr, the container as it ended) of a run that is removed afterwards."""
        out, err = b"", b""
        ended = container_pb2.Container()
        for event in self.containers.RunContainer(
            containers_pb2.RunContainerRequest(
                spec=container_spec_pb2.ContainerSpec(image=image, args=args, auto_remove=True, **spec)  # type: ignore[arg-type]
            )
        ):
            kind = event.WhichOneof("event")
            if kind == "stdout":
                out += event.stdout.data
            elif kind == "stderr":
                err += event.stderr.data
            elif kind == "exited":
                ended = event.exited
        return out, err, ended

    def start_container(self, image: str, name: str, *args: str) -> container_pb2.Container:
        """A container that is left running."""
        started = container_pb2.Container()
        for event in self.containers.RunContainer(
            containers_pb2.RunContainerRequest(
                spec=container_spec_pb2.ContainerSpec(image=image, args=args), name=name, detach=True
            )
        ):
            if event.WhichOneof("event") == "started":
                started = event.started
        return started

    def logs(self, name: str) -> bytes:
        """All that stands in a container's log."""
        data = b""
        for event in self.logs_api.ReadLogs(logs_pb2.ReadLogsRequest(container=name)):
            if event.WhichOneof("event") == "batch":
                data += b"".join(record.data for record in event.batch.records)
        return data

    def left_on_host(self) -> list[str]:
        """Mounts, cgroups and run directories of containers of this engine.

        What ends while it is looked at, here or in an engine beside this one, is not left.
        """
        found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.root) in line]
        for parent in self._cgroup_parents():
            found += [str(group) for group in _entries(parent) if group.is_dir()]
        return found + [str(path) for path in _entries(self.root / "run" / "containers")]

    def _cgroup_parents(self) -> list[Path]:
        """This engine's parent group in each hierarchy, there or not."""
        # Source: proc_pid_mountinfo(5): the mount point is the fifth field, the type stands right after the dash.
        lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        mounted = [Path(fields[4]) for fields in lines if fields[fields.index("-") + 1] in {"cgroup", "cgroup2"}]
        return [mount / self.cgroup_parent for mount in mounted]

    def _remove_cgroup_parents(self) -> None:
        """Parents without containers are gone; one in use stays, as what a test left there is to be seen."""
        for parent in self._cgroup_parents():
            try:
                parent.rmdir()
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY}:
                    raise

    def _wait_until_serving(self) -> None:
        health = health_pb2_grpc.HealthStub(self.channel)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=1)
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        raise AssertionError((self.root / "fluytd.log").read_text())


def _entries(directory: Path) -> list[Path]:
    """What stands in a directory; nothing if it has gone."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []
