"""Containers, filters and streams -> messages, and back. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from fluyt.v1 import containers_pb2
from fluyt.v1.types import attach_pb2, container_filter_pb2, container_pb2, output_pb2, platform_pb2
from fluytd.api.convert.confinement import from_resources
from fluytd.api.convert.container_specs import from_restart_policy, to_spec
from fluytd.api.convert.health import from_health_states, to_health
from fluytd.api.convert.mounts import to_mount_points
from fluytd.api.convert.networks import from_ports, to_endpoint, to_port
from fluytd.api.convert.values import from_duration, from_size, from_timestamp, timestamp_of, to_failure
from fluytd.containers import port_filter
from fluytd.containers.attach import AttachOptions
from fluytd.containers.model import Container, State
from fluytd.containers.port_filter import PortRange
from fluytd.containers.publishing import PortChanges
from fluytd.containers.query import MAX_FILTER_VALUES, ContainerFilter, check_name
from fluytd.containers.signals import parse_signal
from fluytd.containers.spec import ResourcesSpec, RestartPolicy
from fluytd.containers.wait import Condition
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.logs.pieces import joined
from fluytd.logs.ports import LogRecord

_STATE: Final = container_pb2.Container.State
_STATES: Final = {state: _STATE.Value(f"STATE_{state.name}") for state in State}
_WAIT: Final = containers_pb2.WaitContainerRequest
_CONDITIONS: Final = {
    _WAIT.CONDITION_UNSPECIFIED: Condition.NOT_RUNNING,
    _WAIT.CONDITION_NOT_RUNNING: Condition.NOT_RUNNING,
    _WAIT.CONDITION_NEXT_EXIT: Condition.NEXT_EXIT,
    _WAIT.CONDITION_REMOVED: Condition.REMOVED,
}
#: Fields of a filter with any number of values.
_LISTED: Final = (
    "ids",
    "names",
    "labels",
    "states",
    "exit_codes",
    "images",
    "networks",
    "volumes",
    "health_states",
    "published_ports",
    "exposed_ports",
)
#: Most bytes of one chunk of output; far below a message's 1 MiB.
MAX_CHUNK_BYTES: Final = 256 * 1024


#: What is told as `reason` and `message` of a container that its policy starts again in a moment.
RESTARTING: Final = ("RESTARTING", "It has ended, and its restart policy starts it again.")


def to_container(
    container: Container, *, is_brief: bool = False, volumes_dir: str = "", waits_for_restart: bool = False
) -> container_pb2.Container:
    """The message; `is_brief` as lists show it. `volumes_dir`: where volumes are on the host, if that is to be told.
    `waits_for_restart`: its policy starts it again in a moment."""
    reason = RESTARTING if waits_for_restart and not container.reason else (container.reason, container.message)
    image, resolved = container.image, container.resolved
    message = container_pb2.Container(
        id=container.id,
        name=container.name,
        version=container.version,
        spec=to_spec(container.spec, is_brief=is_brief),
        state=_STATES[container.state],
        image_id=image.image_id,
        image_digest=image.manifest_digest,
        platform=platform_pb2.Platform(os=image.os, architecture=image.architecture, variant=image.variant),
        oom_killed=container.oom_killed,
        reason=reason[0],
        message=reason[1],
        failure=to_failure(container.failure),
        host_pid=container.host_pid,
        create_time=timestamp_of(container.create_time_unix_nanos),
        resolved_args=resolved.args,
        resolved_working_dir=resolved.working_dir,
        resolved_user=resolved.user,
        image_size_bytes=image.size_bytes,
        restart_count=container.restart_count,
        volumes=dict.fromkeys(one.name for one in resolved.volumes),
        networks=[to_endpoint(endpoint) for endpoint in container.endpoints],
        published_ports=[to_port(port) for port in container.published_ports],
    )
    if not is_brief:
        message.resolved_env.extend(resolved.env)
        message.mounts.extend(to_mount_points(container, volumes_dir))
    if container.ids is not None:
        message.host_ids.first_id, message.host_ids.count = container.ids.first_id, container.ids.count
    if container.selinux is not None:
        labels = container.selinux
        message.selinux_labels.process, message.selinux_labels.mount = labels.process, labels.mount
    if container.exit is not None and container.exit.signal is not None:
        message.signal = container.exit.signal
    elif container.exit is not None and container.exit.exit_code is not None:
        message.exit_code = container.exit.exit_code
    if container.health is not None:
        message.health.CopyFrom(to_health(container.health))
    if container.start_time_unix_nanos is not None:
        message.start_time.CopyFrom(timestamp_of(container.start_time_unix_nanos))
    if container.exit_time_unix_nanos is not None:
        message.exit_time.CopyFrom(timestamp_of(container.exit_time_unix_nanos))
    for clamp in container.clamps:
        field, _, detail = clamp.partition(": ")
        message.clamps.add(field=field, detail=detail)
    return message


def to_chunks(records: Sequence[LogRecord]) -> list[tuple[str, output_pb2.OutputChunk]]:
    """(stream, chunk) for records in order; neighbours of one stream are joined up to `MAX_CHUNK_BYTES`."""
    return [
        (
            piece.stream,
            output_pb2.OutputChunk(data=piece.data, cursor=piece.cursor, time=timestamp_of(piece.time_unix_nanos)),
        )
        for piece in joined(records, MAX_CHUNK_BYTES)
    ]


def from_filter(message: container_filter_pb2.ContainerFilter, times: dict[str, int]) -> ContainerFilter:
    """The filter. `times`: when the containers named by `before_container` and `since_container` were made."""
    for name in _LISTED:
        count = len(getattr(message, name))
        if count > MAX_FILTER_VALUES:
            raise LimitExceeded(
                limit="MAX_FILTER_VALUES", limit_value=MAX_FILTER_VALUES, actual=count, subject=f"filter.{name}"
            )
    for index, part in enumerate(message.names):
        check_name(part, f"filter.names[{index}]")
    before = times.get("before_container")
    if message.HasField("before_time"):
        asked = from_timestamp(message.before_time, "filter.before_time")
        before = asked if before is None else min(before, asked)
    return ContainerFilter(
        ids=tuple(message.ids),
        names=tuple(message.names),
        labels=tuple(message.labels),
        states=frozenset(_states(message)) if message.states else None,
        exit_codes=frozenset(message.exit_codes),
        images=tuple(message.images),
        before_unix_nanos=before,
        since_unix_nanos=times.get("since_container"),
        networks=frozenset(message.networks),
        volumes=frozenset(message.volumes),
        health_states=from_health_states(message.health_states),
        published_ports=_ports(message, "published_ports"),
        exposed_ports=_ports(message, "exposed_ports"),
        restarting=message.restarting,
    )


def _ports(message: container_filter_pb2.ContainerFilter, name: str) -> tuple[PortRange, ...]:
    texts = enumerate(getattr(message, name))
    return tuple(port_filter.from_text(text, f"filter.{name}[{index}]") for index, text in texts)


def _states(message: container_filter_pb2.ContainerFilter) -> list[State]:
    found = []
    for index, value in enumerate(message.states):
        name = _STATE.Name(value).removeprefix("STATE_") if value in _STATE.values() else ""
        if not name or name == "UNSPECIFIED":
            raise FieldInvalid(field=f"filter.states[{index}]", rule=f"{value} is not a state")
        found.append(State[name])
    return found


def from_condition(value: int) -> Condition:
    """What is waited for. Raises FIELD_INVALID."""
    if value not in _CONDITIONS:
        raise FieldInvalid(field="condition", rule=f"{value} is not a condition")
    return _CONDITIONS[value]  # type: ignore[index]


def from_signal(text: str, field: str) -> int | None:
    """The number of a signal, None if none was given. Raises FIELD_INVALID."""
    if not text:
        return None
    number = parse_signal(text)
    if number is None:
        raise FieldInvalid(field=field, rule=f"{text[:64]!r} is not a signal")
    return number


def from_timeout(request: Any) -> int | None:
    """Milliseconds of the optional field `timeout`, None if it was left out. Raises FIELD_INVALID."""
    return from_duration(request.timeout, "timeout") if request.HasField("timeout") else None


def from_update(
    request: containers_pb2.UpdateContainerRequest,
) -> tuple[ResourcesSpec | None, RestartPolicy | None, PortChanges]:
    """(limits to change, the new policy, ports that come and go), None for what stays. Raises FIELD_INVALID,
    LIMIT_EXCEEDED."""
    names = ("add_published_ports", "remove_published_ports")
    ports = PortChanges(*(from_ports(getattr(request, name), name) for name in names))
    changes = from_resources(request.resources) if request.HasField("resources") else None
    has_policy = request.HasField("restart_policy")
    policy = from_restart_policy(request.restart_policy, "restart_policy") if has_policy else None
    return changes, policy, ports


def from_reference(request: Any, field: str = "container") -> str:
    """The container that a request names. Raises FIELD_INVALID if it names none."""
    reference: str = request.container
    if not reference:
        raise FieldInvalid(field=field, rule="must be given")
    return reference


def from_attach_options(message: attach_pb2.AttachOptions) -> AttachOptions:
    """How a caller joins. Raises FIELD_INVALID."""
    size = from_size(message.terminal_size, "open.terminal_size") if message.HasField("terminal_size") else None
    return AttachOptions(
        stdin=message.stdin,
        stdout=message.stdout,
        stderr=message.stderr,
        include_logs=message.include_logs,
        cursor=message.cursor or None,
        hold=message.hold,
        await_start=message.await_start,
        detach_keys=message.detach_keys,
        terminal_size=size,
    )
