"""How many calls of each RPC have ended, with which status, after how long. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from fluytd.metrics.model import Family, Kind

#: Upper bounds of the classes of durations that are counted, in seconds.
BOUNDS_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class CallFigures:
    """Bounded by the number of RPCs and of status codes. Belongs to the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._classes: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def ended(self, rpc: str, code: str, seconds: float) -> None:
        """One call more of `rpc` (`/package.Service/Method`) has ended with a status of this name."""
        self._counts[rpc, code] += 1
        self._seconds[rpc] = self._seconds.get(rpc, 0.0) + seconds
        classes = self._classes.setdefault(rpc, [0] * (len(BOUNDS_SECONDS) + 1))
        classes[next((place for place, bound in enumerate(BOUNDS_SECONDS) if seconds <= bound), -1)] += 1

    def families(self) -> Iterator[Family]:
        """What was counted; nothing before the first call has ended."""
        if not self._counts:
            return
        counts = [(key, float(count)) for key, count in self._counts.items()]
        yield Family("fluyt_rpcs_total", Kind.COUNTER, "Calls that have ended.", ("rpc", "code"), counts)
        samples: list[tuple[tuple[str, ...], float]] = []
        for rpc, classes in self._classes.items():
            total = 0
            for bound, count in zip((*BOUNDS_SECONDS, float("inf")), classes, strict=True):
                total += count
                samples.append(((rpc, "+Inf" if bound == float("inf") else str(bound)), total))
            samples.append(((rpc, "sum"), self._seconds[rpc]))
        text = "How long calls took; of streams, how long they stood."
        yield Family("fluyt_rpc_duration_seconds", Kind.HISTOGRAM, text, ("rpc",), samples)
