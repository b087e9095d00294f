"""What a collection of metrics asks of the engine. It knows no transport."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.stats import Sample
from fluytd.metrics.calls import CallFigures
from fluytd.metrics.model import Family, Moment, families

#: Figures that a watcher has just read serve a collection too.
MAX_AGE_SECONDS: Final = 1.0


class MetricsService:
    """Belongs to the event loop."""

    def __init__(
        self,
        moment: Callable[[Sequence[tuple[Container, Sample | None]]], Moment],
        containers: Callable[[], Iterable[Container]],
        sample: Callable[[float], Awaitable[Sequence[Sample]]],
        calls: CallFigures,
    ) -> None:
        """`moment`: adds what is known of the engine; `sample`: figures of all that run, at most so old, in seconds."""
        self._moment = moment
        self._containers = containers
        self._sample = sample
        self._calls = calls

    async def collect(self) -> Sequence[Family]:
        """All metrics of this moment. Raises IO_FAILED if the figures cannot be read."""
        samples = {sample.container_id: sample for sample in await self._sample(MAX_AGE_SECONDS)}
        found = [(container, samples.get(container.id)) for container in self._containers()]
        return [*families(self._moment(found)), *self._calls.families()]
