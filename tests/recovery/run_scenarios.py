"""RunContainer of a container that stays: one record tells of its creation and of the start under way."""

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_spec_pb2
from tests.recovery.container_scenarios import NAME, STAY, startable_or_running
from tests.recovery.crash import CALL_SECONDS, IMAGE, CrashedEngine, Scenario, find


def run_to_stay(engine: CrashedEngine) -> None:
    """RunContainer of one that runs until it is told to end."""
    spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["sh", "-c", STAY])
    request = containers_pb2.RunContainerRequest(spec=spec, name=NAME, detach=True)
    list(engine.containers.RunContainer(request, timeout=CALL_SECONDS))


def absent_or_startable_or_running(engine: CrashedEngine) -> None:
    """Its name is free, or it is whole: its directories stand, and it can be started or runs."""
    if find(engine, NAME) is None:
        run_to_stay(engine)
    startable_or_running(engine)


RUNNING = Scenario(run_to_stay, absent_or_startable_or_running)

#: Failpoints that have a scenario elsewhere.
FURTHER = [
    ("container.start.record", RUNNING),
    ("container.create.directories", RUNNING),
    ("container.create.files", RUNNING),
    ("container.record.starting", RUNNING),
    ("container.start.run_dir", RUNNING),
    ("container.start.process", RUNNING),
    ("container.start.executed", RUNNING),
    ("container.start.running", RUNNING),
    ("container.record.running", RUNNING),
]
