"""How far the layers of a pull or a load have come, read from the core's counters when someone looks."""

from dataclasses import dataclass

from fluytd.images.ports import Counters
from fluytd.operations.model import LayerPhase, LayerProgress


@dataclass(slots=True)
class LayerTrack:
    """One layer that is on its way."""

    digest: str
    diff_id: str
    size_bytes: int
    counters: Counters | None = None

    def board(self, counters: Counters) -> None:
        """The layer is under way, counted by these."""
        self.counters = counters

    @property
    def progress(self) -> LayerProgress:
        """Where it stands now."""
        counters = self.counters
        if counters is None:
            return LayerProgress(self.digest, self.diff_id, self.size_bytes, LayerPhase.WAITING, 0, 0)
        phase = LayerPhase[counters.phase.upper()]
        return LayerProgress(
            self.digest, self.diff_id, self.size_bytes, phase, counters.fetched_bytes, counters.extracted_bytes
        )

    @property
    def fetched_bytes(self) -> int:
        """Bytes that had to be fetched for it."""
        counters = self.counters
        return 0 if counters is None or counters.phase == "present" else counters.fetched_bytes
