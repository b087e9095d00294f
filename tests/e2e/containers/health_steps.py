"""What the tests of health checks do again and again, by gRPC alone."""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from fluyt.v1 import events_pb2
from fluyt.v1.types import container_pb2, health_check_pb2
from tests.e2e.containers.steps import delete, get, started
from tests.e2e.execs import steps as execs
from tests.support.engine import Engine
from tests.support.wait import until_now

Check = health_check_pb2.HealthCheck
Health = health_check_pb2.Health
HEALTHY, UNHEALTHY, STARTING = Health.STATE_HEALTHY, Health.STATE_UNHEALTHY, Health.STATE_STARTING
RUNNING = container_pb2.Container.STATE_RUNNING
#: A first process that reaps what it inherits and ends when it is asked to.
STAY = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def millis(number: int) -> Duration:
    """A span."""
    return Duration(seconds=number // 1000, nanos=number % 1000 * 1_000_000)


def check(script: str, *, timeout: int = 20_000, start_period: int = 0, **fields: Any) -> Check:
    """A check every 50 ms by a shell; spans in milliseconds."""
    args = ["sh", "-c", script]
    return Check(args=args, interval=millis(50), timeout=millis(timeout), start_period=millis(start_period), **fields)


def checked(engine: Engine, health_check: Check | None, script: str = STAY, **spec: Any) -> container_pb2.Container:
    """A running container with this check."""
    return started(engine, "sh", "-c", script, health_check=health_check, **spec)


def health(engine: Engine, name: str) -> Health:
    """Its health now."""
    return get(engine, name).health


def until_state(engine: Engine, name: str, state: "Health.State.ValueType") -> Health:
    """Its health once it has this state."""
    until_now(lambda: health(engine, name).state == state, Health.State.Name(state))
    return health(engine, name)


def until_asked_again(engine: Engine, name: str) -> Health:
    """Its health once a check has ended that began after this call."""
    for _ in range(2):
        before = health(engine, name).check_time
        until_now(lambda before=before: health(engine, name).check_time != before, "a check ends")  # type: ignore[misc]
    return health(engine, name)


def inside(engine: Engine, name: str, script: str) -> str:
    """What a shell in the container writes."""
    return execs.run(engine, name, "sh", "-c", script).out.decode()


def results_of(engine: Engine, name: str) -> list[int]:
    """The ends of the last checks, in nanoseconds."""
    return [result.end_time.ToNanoseconds() for result in health(engine, name).results]


def until_others_are_asked(engine: Engine, count: int = 3) -> None:
    """A container beside those of the test, with the same check, was asked so often meanwhile."""
    other = checked(engine, check("true"))
    for _ in range(count):
        until_asked_again(engine, other.id)
    delete(engine, other.id, force=True)


def events_of(engine: Engine, name: str, count: int) -> list[tuple["Health.State.ValueType", int]]:
    """The first changes of its health that events tell, with their times in nanoseconds."""
    wanted = events_pb2.EventFilter(facts=["container_health_changed"], subjects=[name])
    request = events_pb2.WatchEventsRequest(from_sequence=1, filter=wanted)
    found: list[tuple[Health.State.ValueType, int]] = []
    for message in engine.events.WatchEvents(request, timeout=30):
        if message.WhichOneof("message") == "event":
            found.append((message.event.container_health_changed.state, message.event.time.ToNanoseconds()))
        if len(found) == count:
            break
    return found
