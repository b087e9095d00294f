"""Containers are driven at random, and daemon and supervisors killed at random, beside a model of what must hold."""

import os
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.recovery.crash import IMAGE, CrashedEngine
from tests.recovery.life_model import Chronicle
from tests.recovery.lives import Lives
from tests.support import image_files, images
from tests.support.preloaded_fluytd import Preloaded

#: So many things are done at least; `make soak` asks for thousands.
STEP_COUNT = int(os.environ.get("FLUYT_TEST_STEPS", "60"))
#: The suite takes the same way every time, so that it tells of a change; `make soak` looks for new ways.
SUITE_SEED = 20261126
#: Rules between two times that all containers go; of some nothing comes, as there is no container for them.
EXAMPLE_STEPS = 40
#: Examples of one seed. The first of each is the plainest of all, which does next to nothing.
EXAMPLES = 3
#: Far above what a step takes.
STEP_SECONDS = 5
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=EXAMPLE_STEPS,
    # What a step meets hangs on moments: trying does not find a shorter way to the same failure.
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(60 + STEP_SECONDS * STEP_COUNT)
def test_containers_driven_at_random_are_always_as_the_model_says(
    tmp_path: Path, preloaded: Preloaded, registry: str
) -> None:
    seed = int(os.environ.get("FLUYT_TEST_SEED", SUITE_SEED))
    print(f"FLUYT_TEST_SEED={seed} FLUYT_TEST_STEPS={STEP_COUNT}")
    with CrashedEngine(tmp_path, preloaded, registry) as engine:
        engine.load(image_files.oci_archive({IMAGE: images.busybox_image()}))

        class Driven(Lives):
            pass

        Driven.engine, Driven.chronicle, Driven.counts, Driven.failures = engine, Chronicle(), Counter(), []
        try:
            while Driven.counts.total() < STEP_COUNT:
                run_state_machine_as_test(hypothesis.seed(seed)(Driven), settings=SETTINGS)
                seed += 1
        finally:
            # hypothesis tries a failure again and tells how that went: what failed first is of use here.
            print(f"{Driven.counts.total()} done: {dict(Driven.counts)}")
            if Driven.failures:
                raise Driven.failures[0]
