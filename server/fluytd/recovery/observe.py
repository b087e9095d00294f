"""Looks at what the host shows of containers. It changes nothing and decides nothing."""

from dataclasses import dataclass, field

from fluytd.containers.ports import Directories
from fluytd.containers.process_ports import Ending, Process, Runtime
from fluytd.errors import EngineError, Failure


@dataclass(frozen=True, slots=True)
class Observed:
    """What stands on the host, by container id."""

    #: Run directories below the run root.
    run_dirs: frozenset[str] = frozenset()
    #: Control groups below the engine's parent, in any hierarchy.
    groups: frozenset[str] = frozenset()
    #: Directories below the data root.
    directories: frozenset[str] = frozenset()
    #: Supervisors that answered.
    supervisors: frozenset[str] = frozenset()
    #: Exit records that were read.
    endings: dict[str, Ending] = field(default_factory=dict)
    #: What could not be looked at, and why.
    failures: dict[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed, and the connections made on the way; whoever takes it owns the processes."""

    observed: Observed
    processes: dict[str, Process]


def observe(runtime: Runtime, directories: Directories) -> Observation:
    """What the host shows in the engine's places.

    One thing that cannot be looked at does not hinder the rest. Raises IO_FAILED if a whole place cannot be listed.
    Blocking (some system calls a container).
    """
    run_dirs = frozenset(runtime.list_run_dirs())
    processes: dict[str, Process] = {}
    endings: dict[str, Ending] = {}
    failures: dict[str, Failure] = {}
    for container_id in run_dirs:
        try:
            process = runtime.adopt(container_id)
            if process is not None:
                processes[container_id] = process
                continue
            ending = runtime.read_ending(container_id)
            if ending is not None:
                endings[container_id] = ending
        except EngineError as error:
            failures[container_id] = error.failure
    observed = Observed(
        run_dirs=run_dirs,
        groups=frozenset(runtime.list_groups()),
        directories=frozenset(directories.list()),
        supervisors=frozenset(processes),
        endings=endings,
        failures=failures,
    )
    return Observation(observed, processes)
