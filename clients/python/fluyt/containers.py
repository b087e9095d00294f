"""Containers: run, attach, create, start, pause, restart, update, stop, wait, look at, commit, export, delete."""

import queue
from collections.abc import Iterable, Iterator, Sequence

import grpc

from fluyt.errors import iterate, translated
from fluyt.streams import Input, actions
from fluyt.v1 import container_files_pb2, containers_pb2, containers_pb2_grpc
from fluyt.v1.types import (
    archive_pb2,
    attach_pb2,
    container_filter_pb2,
    container_pb2,
    container_spec_pb2,
    network_pb2,
    resources_pb2,
    stats_pb2,
)

Condition = containers_pb2.WaitContainerRequest.Condition
#: Added to the number of the signal that ended a process, as shells do.
_SIGNAL_BASE = 128


def spec(image: str, *args: str) -> container_spec_pb2.ContainerSpec:
    """The least that a container needs: an image, and arguments in place of the image's. Set further fields on it."""
    return container_spec_pb2.ContainerSpec(image=image, args=args)


def run(
    connection: grpc.Channel,
    wanted: container_spec_pb2.ContainerSpec,
    *,
    name: str = "",
    detach: bool = False,
    request_id: str = "",
) -> Iterator[containers_pb2.RunContainerResponse]:
    """Pulls if needed, creates, starts; yields `pull`, `created`, `started`, `stdout`, `stderr`, `exited` as they come.

    Giving the iteration up does not end the container. A process's exit code is data, in `exited`.
    """
    request = containers_pb2.RunContainerRequest(spec=wanted, name=name, detach=detach, request_id=request_id)
    return iterate(containers_pb2_grpc.ContainerServiceStub(connection).RunContainer(request))


def attach(
    connection: grpc.Channel,
    container: str,
    *,
    stdin: Iterable[Input] | None = None,
    include_logs: bool = False,
    cursor: str = "",
    await_start: bool = False,
    detach_keys: str = "",
    size: tuple[int, int] | None = None,
) -> Iterator[containers_pb2.AttachContainerResponse]:
    """Yields `attached`, `stdout`, `stderr` as they come, then `exited` or `detached`.

    A slow reader slows the container. Giving the iteration up leaves the container as it is.

    Args:
        connection: see `fluyt.connect`.
        container: its id, a unique prefix of it, or its name; made and not started, it is waited for.
        stdin: what is said to it, iterated on another thread: input of a container with `open_stdin`, whose end is its
            end, `Resize`, `Signal` and `DETACH` of `fluyt.streams`. None: no input.
        include_logs: first what it has written before.
        cursor: begin right after it (of the last chunk seen).
        await_start: also join one that has ended, for its next run.
        detach_keys: as Docker writes them, `none` for none; empty: ctrl-p,ctrl-q with a terminal, else none.
        size: columns and rows of the caller's terminal.
    """
    over: queue.SimpleQueue[None] = queue.SimpleQueue()
    options = attach_pb2.AttachOptions(
        container=container,
        stdin=stdin is not None,
        stdout=True,
        stderr=True,
        include_logs=include_logs,
        cursor=cursor,
        await_start=await_start,
        detach_keys=detach_keys,
        hold=True,
    )
    if size is not None:
        options.terminal_size.width, options.terminal_size.height = size

    def said() -> Iterator[containers_pb2.AttachContainerRequest]:
        yield containers_pb2.AttachContainerRequest(open=options)
        if stdin is not None:
            for fields in actions(stdin, closes=True):
                yield containers_pb2.AttachContainerRequest(**fields)
        over.get()

    try:
        yield from iterate(containers_pb2_grpc.ContainerServiceStub(connection).AttachContainer(said()))
    finally:
        over.put(None)


def create(
    connection: grpc.Channel, wanted: container_spec_pb2.ContainerSpec, *, name: str = "", request_id: str = ""
) -> container_pb2.Container:
    """A container that has not been started."""
    request = containers_pb2.CreateContainerRequest(spec=wanted, name=name, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).CreateContainer(request).container


def start(connection: grpc.Channel, container: str, *, request_id: str = "") -> container_pb2.Container:
    """Its process has been executed."""
    request = containers_pb2.StartContainerRequest(container=container, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).StartContainer(request).container


def stop(
    connection: grpc.Channel,
    container: str,
    *,
    timeout_seconds: int | None = None,
    signal: str = "",
    request_id: str = "",
) -> container_pb2.Container:
    """It has ended. `timeout_seconds`: how long before it is killed; None: the container's own; 0: at once."""
    request = containers_pb2.StopContainerRequest(container=container, signal=signal, request_id=request_id)
    if timeout_seconds is not None:
        request.timeout.FromSeconds(timeout_seconds)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).StopContainer(request).container


def kill(
    connection: grpc.Channel, container: str, *, signal: str = "", request_id: str = ""
) -> container_pb2.Container:
    """A signal was sent to it; SIGKILL if none is named."""
    request = containers_pb2.KillContainerRequest(container=container, signal=signal, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).KillContainer(request).container


def restart(
    connection: grpc.Channel,
    container: str,
    *,
    timeout_seconds: int | None = None,
    signal: str = "",
    request_id: str = "",
) -> container_pb2.Container:
    """It was stopped as by `stop` if it ran, and its process has been executed anew."""
    request = containers_pb2.RestartContainerRequest(container=container, signal=signal, request_id=request_id)
    if timeout_seconds is not None:
        request.timeout.FromSeconds(timeout_seconds)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).RestartContainer(request).container


def pause(connection: grpc.Channel, container: str, *, request_id: str = "") -> container_pb2.Container:
    """None of its processes runs until `resume`."""
    request = containers_pb2.PauseContainerRequest(container=container, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).PauseContainer(request).container


def resume(connection: grpc.Channel, container: str, *, request_id: str = "") -> container_pb2.Container:
    """Its processes run again."""
    request = containers_pb2.ResumeContainerRequest(container=container, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).ResumeContainer(request).container


def rename(connection: grpc.Channel, container: str, name: str, *, request_id: str = "") -> container_pb2.Container:
    """It has the new name, and the old one is free."""
    request = containers_pb2.RenameContainerRequest(container=container, name=name, request_id=request_id)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).RenameContainer(request).container


def update(
    connection: grpc.Channel,
    container: str,
    *,
    resources: resources_pb2.Resources | None = None,
    restart_policy: container_spec_pb2.RestartPolicy | None = None,
    add_published_ports: Sequence[network_pb2.PublishedPort] = (),
    remove_published_ports: Sequence[network_pb2.PublishedPort] = (),
    expected_version: int = 0,
    request_id: str = "",
) -> container_pb2.Container:
    """It has these limits and ports, at once if it runs, and this policy; what is absent stays. All changes are made or
    none."""
    request = containers_pb2.UpdateContainerRequest(
        container=container,
        resources=resources,
        restart_policy=restart_policy,
        add_published_ports=add_published_ports,
        remove_published_ports=remove_published_ports,
        expected_version=expected_version,
        request_id=request_id,
    )
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).UpdateContainer(request).container


def watch_stats(
    connection: grpc.Channel, *containers: str, interval_millis: int | None = None, once: bool = False
) -> Iterator[list[stats_pb2.ContainerStats]]:
    """Yields figures of all named containers, or of all that run, round by round; ends when all named have ended, or
    after one round with `once`. `interval_millis`: at least 100; None: a second. Giving the iteration up ends it."""
    request = containers_pb2.WatchStatsRequest(containers=containers, once=once)
    if interval_millis is not None:
        request.interval.FromMilliseconds(interval_millis)
    for message in iterate(containers_pb2_grpc.ContainerServiceStub(connection).WatchStats(request)):
        if message.WhichOneof("event") == "complete":
            return
        yield list(message.round.stats)


def list_processes(connection: grpc.Channel, container: str) -> Iterator[stats_pb2.ProcessInfo]:
    """The processes of a running container by host pid, fetched page by page."""
    stub = containers_pb2_grpc.ContainerServiceStub(connection)
    token = ""
    while True:
        request = containers_pb2.ListProcessesRequest(container=container, page_token=token)
        with translated():
            page = stub.ListProcesses(request)
        yield from page.processes
        token = page.next_page_token
        if not token:
            return


def prune(
    connection: grpc.Channel,
    container_filter: container_filter_pb2.ContainerFilter | None = None,
    *,
    dry_run: bool = False,
    request_id: str = "",
) -> containers_pb2.PruneContainersResponse:
    """Those that do not run and fit are gone, or with `dry_run` told."""
    request = containers_pb2.PruneContainersRequest(filter=container_filter, dry_run=dry_run, request_id=request_id)
    with translated():
        response: containers_pb2.PruneContainersResponse = containers_pb2_grpc.ContainerServiceStub(
            connection
        ).PruneContainers(request)
    return response


def wait(
    connection: grpc.Channel, container: str, condition: "Condition.ValueType" = Condition.CONDITION_NOT_RUNNING
) -> container_pb2.Container:
    """The container when the condition came to hold. Blocks as long as that takes."""
    request = containers_pb2.WaitContainerRequest(container=container, condition=condition)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).WaitContainer(request).container


def delete(
    connection: grpc.Channel, container: str, *, force: bool = False, request_id: str = ""
) -> containers_pb2.DeleteContainerResponse:
    """It is gone with all its files. `force`: kill it first if it runs."""
    request = containers_pb2.DeleteContainerRequest(container=container, force=force, request_id=request_id)
    with translated():
        response: containers_pb2.DeleteContainerResponse = containers_pb2_grpc.ContainerServiceStub(
            connection
        ).DeleteContainer(request)
    return response


def changes(connection: grpc.Channel, container: str) -> Iterator[archive_pb2.FileChange]:
    """What differs from its image, a directory before what is in it, fetched page by page."""
    stub = containers_pb2_grpc.ContainerServiceStub(connection)
    token = ""
    while True:
        request = container_files_pb2.ListChangesRequest(container=container, page_token=token)
        with translated():
            page = stub.ListChanges(request)
        yield from page.changes
        token = page.next_page_token
        if not token:
            return


def export(connection: grpc.Channel, container: str) -> Iterator[bytes]:
    """Its whole file tree as tar, in parts. An iteration that ends by itself has given all of it; else it raises."""
    request = container_files_pb2.ExportContainerRequest(container=container)
    for part in iterate(containers_pb2_grpc.ContainerServiceStub(connection).ExportContainer(request)):
        if part.WhichOneof("part") == "chunk":
            yield part.chunk


def commit(
    connection: grpc.Channel,
    container: str,
    reference: str = "",
    *,
    changes: Sequence[str] = (),
    message: str = "",
    author: str = "",
    no_pause: bool = False,
    request_id: str = "",
) -> containers_pb2.CommitContainerResponse:
    """An image of its present file tree.

    `changes`: Dockerfile instructions over its config; `no_pause`: let it run on meanwhile.
    """
    request = containers_pb2.CommitContainerRequest(
        container=container,
        reference=reference,
        changes=changes,
        message=message,
        author=author,
        no_pause=no_pause,
        request_id=request_id,
    )
    with translated():
        response: containers_pb2.CommitContainerResponse = containers_pb2_grpc.ContainerServiceStub(
            connection
        ).CommitContainer(request)
    return response


def get(connection: grpc.Channel, container: str, *, include_size: bool = False) -> container_pb2.Container:
    """All about one container. Raises NotFound."""
    request = containers_pb2.GetContainerRequest(container=container, include_size=include_size)
    with translated():
        return containers_pb2_grpc.ContainerServiceStub(connection).GetContainer(request).container


def list_all(
    connection: grpc.Channel, container_filter: container_filter_pb2.ContainerFilter | None = None
) -> Iterator[container_pb2.Container]:
    """The containers that fit, in every state, newest first, fetched page by page."""
    stub = containers_pb2_grpc.ContainerServiceStub(connection)
    token = ""
    while True:
        request = containers_pb2.ListContainersRequest(page_token=token, filter=container_filter)
        with translated():
            page = stub.ListContainers(request)
        yield from page.containers
        token = page.next_page_token
        if not token:
            return


def shell_exit_code(container: container_pb2.Container) -> int:
    """How it ended as one number: its exit code, or 128 and the number of the signal."""
    if container.HasField("signal"):
        return _SIGNAL_BASE + container.signal
    return container.exit_code
