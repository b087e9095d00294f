"""Health checks and health <-> messages. Pure."""

from typing import Any, Final

from fluyt.v1.types import health_check_pb2
from fluytd.api.convert.values import from_duration, timestamp_of, to_duration
from fluytd.containers.health_state import Health, HealthResult, HealthState
from fluytd.containers.spec import HealthAction, HealthCheck
from fluytd.errors import FieldInvalid

_CHECK: Final = health_check_pb2.HealthCheck
_HEALTH: Final = health_check_pb2.Health
_ACTIONS: Final[dict[int, HealthAction]] = {
    _CHECK.ACTION_UNSPECIFIED: HealthAction.NONE,
    _CHECK.ACTION_NONE: HealthAction.NONE,
    _CHECK.ACTION_RESTART: HealthAction.RESTART,
    _CHECK.ACTION_STOP: HealthAction.STOP,
    _CHECK.ACTION_KILL: HealthAction.KILL,
}
_SPANS: Final = ("interval", "timeout", "start_period", "start_interval")


def from_health_check(message: health_check_pb2.HealthCheck, path: str) -> HealthCheck:
    """The check as asked. Raises FIELD_INVALID with the field's path below `path`."""
    if message.action not in _ACTIONS:
        raise FieldInvalid(field=f"{path}.action", rule=f"{message.action} is not a value of this enum")
    spans = {
        f"{name}_millis": from_duration(getattr(message, name), f"{path}.{name}") if message.HasField(name) else 0
        for name in _SPANS
    }
    return HealthCheck(
        is_disabled=message.disabled,
        args=tuple(message.args),
        retries=message.retries,
        action=_ACTIONS[message.action],
        **spans,
    )


def to_health_check(check: HealthCheck) -> health_check_pb2.HealthCheck:
    """The message; what was left out is left out."""
    message = _CHECK(
        disabled=check.is_disabled,
        args=check.args,
        retries=check.retries,
        action=_CHECK.Action.Value(
            f"ACTION_{check.action.name}" if check.action is not HealthAction.NONE else "ACTION_UNSPECIFIED"
        ),
    )
    for name in _SPANS:
        millis: int = getattr(check, f"{name}_millis")
        if millis:
            getattr(message, name).CopyFrom(to_duration(millis))
    return message


def to_health(health: Health) -> health_check_pb2.Health:
    """The message."""
    message = _HEALTH(
        state=_HEALTH.State.Value(f"STATE_{health.state.name}"),
        failing_streak=health.failing_streak,
        results=[_to_result(result) for result in health.results],
    )
    if message.results:
        last = message.results[-1]
        message.check_time.CopyFrom(last.end_time)
        message.last_exit_code, message.last_output = last.exit_code, last.output
    return message


def _to_result(result: HealthResult) -> health_check_pb2.Health.Result:
    return _HEALTH.Result(
        end_time=timestamp_of(result.end_time_unix_nanos),
        exit_code=result.exit_code,
        output=result.output_latin1.encode("latin-1"),
    )


def from_health_states(values: Any) -> frozenset[HealthState | None]:
    """The states of a filter; None stands for no health check. Raises FIELD_INVALID."""
    found: set[HealthState | None] = set()
    for index, value in enumerate(values):
        if value not in _HEALTH.State.values():
            raise FieldInvalid(field=f"filter.health_states[{index}]", rule=f"{value} is not a state")
        name = _HEALTH.State.Name(value).removeprefix("STATE_")
        found.add(None if name == "UNSPECIFIED" else HealthState[name])
    return frozenset(found)
