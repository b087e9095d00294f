"""Where the steps of a build stand. It carries none out."""

from collections.abc import Sequence
from dataclasses import replace

from fluytd.builds.graph import StepPlace
from fluytd.clock import Clock
from fluytd.operations.model import BuildProgress, BuildStep, BuildStepState

_ENDED = frozenset({BuildStepState.DONE, BuildStepState.CACHED, BuildStepState.FAILED, BuildStepState.SKIPPED})


class Steps:
    """All steps of one build. Belongs to the event loop."""

    def __init__(self, places: Sequence[Sequence[StepPlace]], clock: Clock) -> None:
        self._clock = clock
        self._steps = {
            place.number: BuildStep(place.number, place.stage_name, place.title, place.line)
            for stage in places
            for place in stage
        }

    def set(self, place: StepPlace, state: BuildStepState) -> None:
        """The step stands there now."""
        now = self._clock.now_unix_nanos()
        step = self._steps[place.number]
        start = step.start_time_unix_nanos
        if start is None and state is not BuildStepState.SKIPPED:
            start = now
        end = now if state in _ENDED else None
        self._steps[place.number] = replace(step, state=state, start_time_unix_nanos=start, end_time_unix_nanos=end)

    def snapshot(self) -> BuildProgress:
        """All of them as they stand."""
        return BuildProgress(tuple(self._steps.values()))
