"""What the tests of containers do again and again, by gRPC alone."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from fluyt import execs
from fluyt.v1 import containers_pb2, logs_pb2
from fluyt.v1.types import container_pb2, container_spec_pb2, security_pb2
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.tarball import Member

IMAGE = "busybox:1"
_numbers = itertools.count()

#: For what a container with users of its own cannot do: make nodes of devices, write parameters of the host, have files
#: of every id.
HOST_USERS = security_pb2.NamespacesSpec(
    user=security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_HOST)
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT
WRONG_STATE = grpc.StatusCode.FAILED_PRECONDITION
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXISTS = grpc.StatusCode.ALREADY_EXISTS

Refusal = tuple[grpc.StatusCode, str, dict[str, str]]
"""Code, ErrorInfo.reason and ErrorInfo.metadata of a failure."""


def refusal(error: grpc.RpcError) -> Refusal:
    """What a failed call told; fails the test if it carries no ErrorInfo."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return error.code(), info.reason, dict(info.metadata)
    raise AssertionError(f"no ErrorInfo: {error}")


def refused(call: Callable[[], object]) -> Refusal:
    """The failure of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return refusal(caught.value)


def refused_run(engine: Engine, *args: str, image: str = IMAGE, **spec: Any) -> Refusal:
    """The failure of a run that must fail."""
    return refused(lambda: engine.run(image, *args, **spec))


def exit_of(container: container_pb2.Container) -> tuple[str | None, int]:
    """`("exit_code", 7)` or `("signal", 9)`."""
    kind = container.WhichOneof("exit")
    return kind, getattr(container, kind) if kind else 0


def load(engine: Engine, *members: Member, **config: Any) -> str:
    """The reference of a new image: busybox, these members above it, and this config."""
    reference = f"made:{next(_numbers)}"
    upper = [images.layer(*members)] if members else []
    engine.load(image_files.oci_archive({reference: images.busybox_image(*upper, **config)}))
    return reference


def create(engine: Engine, *args: str, image: str = IMAGE, name: str = "", **spec: Any) -> container_pb2.Container:
    """A container that was made and not started."""
    wanted = container_spec_pb2.ContainerSpec(image=image, args=args, **spec)
    answer = engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=wanted, name=name))
    return answer.container  # type: ignore[no-any-return]


def start(engine: Engine, name: str) -> container_pb2.Container:
    """StartContainer's answer."""
    return engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=name)).container  # type: ignore[no-any-return]


def started(engine: Engine, *args: str, **spec: Any) -> container_pb2.Container:
    """A container that was made and started."""
    return start(engine, create(engine, *args, **spec).id)


def wait(engine: Engine, name: str, condition: int = 1, timeout: float = 30) -> container_pb2.Container:
    """WaitContainer's answer; `timeout` in seconds."""
    request = containers_pb2.WaitContainerRequest(container=name, condition=condition)  # type: ignore[arg-type]
    return engine.containers.WaitContainer(request, timeout=timeout).container  # type: ignore[no-any-return]


def get(engine: Engine, name: str) -> container_pb2.Container:
    """GetContainer's answer."""
    return engine.containers.GetContainer(containers_pb2.GetContainerRequest(container=name)).container  # type: ignore[no-any-return]


def touch(engine: Engine, container: str, path: str) -> None:
    """The file is there in the running container, made by a process of it."""
    ended = execs.run(engine.channel, container, ["touch", path])
    assert ended.exit_code == 0, ended


def delete(engine: Engine, name: str, *, force: bool = False) -> None:
    """The container is gone."""
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=force))


def listed(engine: Engine) -> Sequence[container_pb2.Container]:
    """All containers."""
    return engine.containers.ListContainers(containers_pb2.ListContainersRequest()).containers  # type: ignore[no-any-return]


def read_logs(engine: Engine, name: str, **request: Any) -> tuple[list[logs_pb2.LogRecord], logs_pb2.LogEnd]:
    """The records and the end of a log; fails the test on a gap."""
    records: list[logs_pb2.LogRecord] = []
    for event in engine.logs_api.ReadLogs(logs_pb2.ReadLogsRequest(container=name, **request), timeout=50):
        kind = event.WhichOneof("event")
        if kind == "batch":
            records += event.batch.records
        elif kind == "end":
            return records, event.end
        else:
            raise AssertionError(event)
    raise AssertionError("the log ended without `end`")


def text(records: Sequence[logs_pb2.LogRecord]) -> bytes:
    """The bytes of the records."""
    return b"".join(record.data for record in records)


def status_of(output: bytes) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in output.decode().splitlines())}


def group(engine: Engine, controller: str) -> Path:
    """The engine's own group of a controller (`.` for that of v2), below which its containers' are.

    A controller that has no hierarchy of its own stands in that of v2.
    """
    # The daemon was started by this process; where that stands in the tree, the engine's group stands too.
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    if not any(controller in names.split(",") for _, names, _ in lines):
        controller = "."
    for _, names, path in lines:
        if controller in names.split(",") or (controller == "." and not names):
            for parent in (path, "/"):
                found = Path("/sys/fs/cgroup") / controller / parent.strip("/") / engine.cgroup_parent
                if found.is_dir():
                    return found
    raise AssertionError(f"no group {engine.cgroup_parent} of {controller}")


def cgroup_file(engine: Engine, container: str, controller: str, file: str) -> str:
    """The text of a limit's file as the kernel shows it."""
    return (group(engine, controller) / container / file).read_text().strip()
