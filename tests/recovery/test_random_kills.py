"""The daemon is killed two hundred times at random moments of pulls, pushes, loads, imports, deletions and prunes."""

import os
import random
from pathlib import Path

import pytest

from tests.recovery.crash import CrashedEngine
from tests.recovery.random_kills import Killed
from tests.support.preloaded_fluytd import Preloaded
from tests.support.registry import FaultyRegistry

#: Kills in each kind of layer store.
KILL_COUNT = int(os.environ.get("FLUYT_TEST_KILLS", "100"))

#: Of so many some meet a layer that has come in part. Of a hundred about twenty-five did.
ENOUGH_KILLS = 100


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["directory", pytest.param("erofs", marks=pytest.mark.needs("erofs"))])
def test_a_daemon_killed_at_random_moments_loses_nothing_and_leaves_nothing(
    tmp_path: Path, preloaded: Preloaded, registry: str, kind: str
) -> None:
    seed = int(os.environ.get("FLUYT_TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FLUYT_TEST_SEED={seed}")
    with (
        FaultyRegistry() as source,
        CrashedEngine(tmp_path, preloaded, registry, options=["--layer-store", kind]) as engine,
    ):
        killed = Killed(engine, source, seed)
        for _ in range(KILL_COUNT):
            killed.round()
        killed.finish()
        print(f"calls {dict(killed.calls)}, cut {dict(killed.cut)}, layers resumed {killed.resumed_count}")
        # Kills that met nothing under way would prove nothing; of a few, as somebody may ask for, chance decides.
        assert killed.cut.total() > KILL_COUNT / 4
        assert killed.resumed_count > 0 or KILL_COUNT < ENOUGH_KILLS
