"""What is known of a container's health."""

from dataclasses import dataclass
from enum import StrEnum


class HealthState(StrEnum):
    """Whether a container does what it should."""

    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthResult:
    """What one check found."""

    end_time_unix_nanos: int
    #: -1 where it was broken off or could not be begun.
    exit_code: int
    #: The last of what it wrote, bounded; a character a byte, so that any bytes stand in a record.
    output_latin1: str


@dataclass(frozen=True, slots=True)
class Health:
    """What the checks of a run have found."""

    state: HealthState = HealthState.STARTING
    #: Failures in a row that count.
    failing_streak: int = 0
    #: The last checks, oldest first, bounded.
    results: tuple[HealthResult, ...] = ()

    @property
    def last(self) -> HealthResult | None:
        """The last check, if there was one."""
        return self.results[-1] if self.results else None
