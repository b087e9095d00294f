"""Exec sessions <-> messages. Pure."""

from typing import Final

from fluyt.v1 import execs_pb2
from fluyt.v1.types import output_pb2
from fluytd.api.convert.values import from_size, timestamp_of, to_failure
from fluytd.containers.process_ports import ExecOutput
from fluytd.containers.terminals import DEFAULT_SIZE, parse_detach_keys
from fluytd.errors import FieldInvalid
from fluytd.execs.model import DisconnectPolicy, ExecSession, ExecSpec

_POLICIES: Final[dict[int, DisconnectPolicy]] = {
    execs_pb2.ExecSpec.DISCONNECT_POLICY_KEEP: DisconnectPolicy.KEEP,
    execs_pb2.ExecSpec.DISCONNECT_POLICY_SIGNAL: DisconnectPolicy.SIGNAL,
    execs_pb2.ExecSpec.DISCONNECT_POLICY_KILL: DisconnectPolicy.KILL,
}


def from_spec(message: execs_pb2.ExecSpec) -> ExecSpec:
    """The spec. Raises FIELD_INVALID, LIMIT_EXCEEDED."""
    parse_detach_keys(message.detach_keys, "start.spec.detach_keys", has_terminal=message.tty)
    unspecified = DisconnectPolicy.KEEP if message.detach else DisconnectPolicy.SIGNAL
    policies: dict[int, DisconnectPolicy] = {execs_pb2.ExecSpec.DISCONNECT_POLICY_UNSPECIFIED: unspecified, **_POLICIES}
    if message.disconnect_policy not in policies:
        raise FieldInvalid(field="start.spec.disconnect_policy", rule="must be a value of its enum")
    size = DEFAULT_SIZE
    if message.HasField("terminal_size"):
        size = from_size(message.terminal_size, "start.spec.terminal_size")
    return ExecSpec(
        args=tuple(message.args),
        env=tuple(message.env),
        user=message.user,
        additional_groups=tuple(message.additional_groups),
        working_dir=message.working_dir,
        tty=message.tty,
        terminal_size=size,
        open_stdin=message.open_stdin,
        privileged=message.privileged,
        add_capabilities=tuple(name.upper().removeprefix("CAP_") for name in message.add_capabilities),
        policy=policies[message.disconnect_policy],
        detach=message.detach,
        detach_keys=message.detach_keys,
    )


def to_session(session: ExecSession) -> execs_pb2.ExecSession:
    """The message."""
    spec = session.spec
    message = execs_pb2.ExecSession(
        id=session.id,
        container_id=session.container_id,
        version=session.version,
        spec=execs_pb2.ExecSpec(
            args=spec.args,
            env=spec.env,
            user=spec.user,
            additional_groups=spec.additional_groups,
            working_dir=spec.working_dir,
            tty=spec.tty,
            open_stdin=spec.open_stdin,
            privileged=spec.privileged,
            add_capabilities=spec.add_capabilities,
            disconnect_policy=execs_pb2.ExecSpec.DisconnectPolicy.Value(f"DISCONNECT_POLICY_{spec.policy.name}"),
            detach=spec.detach,
            detach_keys=spec.detach_keys,
        ),
        state=execs_pb2.ExecSession.State.Value(f"STATE_{session.state.name}"),
        host_pid=session.host_pid,
        create_time=timestamp_of(session.create_time_unix_nanos),
        failure=to_failure(session.failure),
        output_bytes=session.output_bytes,
    )
    if spec.tty:
        message.spec.terminal_size.width, message.spec.terminal_size.height = spec.terminal_size
    if session.start_time_unix_nanos is not None:
        message.start_time.CopyFrom(timestamp_of(session.start_time_unix_nanos))
    if session.exit_time_unix_nanos is not None:
        message.exit_time.CopyFrom(timestamp_of(session.exit_time_unix_nanos))
    if session.exit is not None and session.exit.signal is not None:
        message.signal = session.exit.signal
    elif session.exit is not None and session.exit.exit_code is not None:
        message.exit_code = session.exit.exit_code
    return message


def to_chunk(chunk: ExecOutput, skipped: int) -> output_pb2.OutputChunk:
    """A chunk without its first `skipped` bytes, which the caller has."""
    return output_pb2.OutputChunk(data=chunk.data[skipped:], time=timestamp_of(chunk.time_unix_nanos))
