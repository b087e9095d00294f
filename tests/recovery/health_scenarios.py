"""How failpoints are reached by checks of a container's health, and what must hold after them."""

from google.protobuf.duration_pb2 import Duration

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_spec_pb2, health_check_pb2
from tests.e2e.execs import steps as execs
from tests.recovery.container_scenarios import NAME, STAY, start, stays_until_stopped, stop
from tests.recovery.crash import CALL_SECONDS, EXITED, IMAGE, CrashedEngine, Scenario, delete, get, wait_for_end
from tests.support.wait import until_now

Check = health_check_pb2.HealthCheck
HEALTHY = health_check_pb2.Health.STATE_HEALTHY
INTERVAL = Duration(nanos=100_000_000)
#: Long enough for a probe that ends by itself on a loaded machine.
TIMEOUT = Duration(seconds=3)
#: Stays until it is killed, or there is a file.
PROBE = ["sh", "-c", "test -f /go || exec sleep 2000"]


def create_with(engine: CrashedEngine, check: Check, script: str) -> None:
    """CreateContainer of one with this check."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", script], health_check=check)
    engine.containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name=NAME), timeout=CALL_SECONDS)


def create_with_slow_check(engine: CrashedEngine) -> None:
    """A probe of it stays until the timeout."""
    create_with(engine, Check(args=PROBE, interval=INTERVAL, timeout=TIMEOUT), STAY)


def create_to_be_killed(engine: CrashedEngine) -> None:
    """It is killed as soon as it was checked."""
    create_with(engine, Check(args=["false"], interval=INTERVAL, retries=1, action=Check.ACTION_KILL), STAY)


def create_to_be_restarted(engine: CrashedEngine) -> None:
    """Its second run is the first that is healthy."""
    # In the start period the script gets ready, however loaded the machine is.
    grace = Duration(seconds=1)
    args = ["test", "-f", "/ok"]
    check = Check(args=args, interval=INTERVAL, retries=1, start_period=grace, action=Check.ACTION_RESTART)
    create_with(engine, check, f"test -f /first && touch /ok; touch /first; {STAY}")


def start_and_be_checked(engine: CrashedEngine) -> None:
    """StartContainer; the daemon checks it."""
    start(engine)
    until_now(lambda: get(engine, NAME).health.HasField("check_time"), "it was checked")


def no_old_probe(engine: CrashedEngine) -> None:
    """The probe that the last daemon began has gone, others have come, and the container knows nothing of it."""
    assert execs.run(engine, NAME, "touch", "/go").exit == ("exit_code", 0)
    until_now(lambda: get(engine, NAME).health.state == HEALTHY, "it is healthy")
    until_now(lambda: b"sleep 2000" not in execs.run(engine, NAME, "ps", "-o", "args").out, "no probe stays")
    stays_until_stopped(engine)


def killed_as_unhealthy(engine: CrashedEngine) -> None:
    """The next daemon finds it unhealthy too."""
    ended = wait_for_end(engine, NAME)
    assert (ended.state, ended.signal, engine.logs(NAME)) == (EXITED, 9, b"ran\n")
    delete(engine, NAME)


def restarted_as_unhealthy(engine: CrashedEngine) -> None:
    """It was restarted once, and is healthy by that."""
    until_now(lambda: get(engine, NAME).health.state == HEALTHY, "it is healthy")
    until_now(lambda: engine.logs(NAME) == b"ran\n" * 2, "it has written its line twice")
    stop(engine)
    delete(engine, NAME)


PROBING = Scenario(start_and_be_checked, no_old_probe, create_with_slow_check)
KILLING_UNHEALTHY = Scenario(start_and_be_checked, killed_as_unhealthy, create_to_be_killed)
RESTARTING_UNHEALTHY = Scenario(start_and_be_checked, restarted_as_unhealthy, create_to_be_restarted)

#: Failpoints that stand elsewhere too, and how a check comes by them.
FURTHER = [
    ("exec.start.process", PROBING),
    ("exec.start.begun", PROBING),
    ("container.kill.signal", KILLING_UNHEALTHY),
    ("container.stop.record", RESTARTING_UNHEALTHY),
    ("container.stop.signal", RESTARTING_UNHEALTHY),
]
