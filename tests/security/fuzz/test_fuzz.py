"""Damaged inputs are taken or refused by name: a short run with stated seeds. `make fuzz` goes on for longer."""

import pytest

from tests.security.fuzz.run import check, round_of
from tests.security.fuzz.targets import TARGETS, corpus, layers

#: Each stands for inputs that are the same everywhere.
SEEDS = (1, 2)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_documents(name: str) -> None:
    reasons = set()
    for seed in SEEDS:
        reasons |= round_of(name, TARGETS[name], seed)
    # Damage must be met, and must not be all that there is.
    assert reasons > {""}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_is_kept_is_taken_or_refused_by_name(name: str) -> None:
    assert {check(TARGETS[name], data) for data in corpus(name)} & {""}


@pytest.mark.parametrize("kind", ["directory", pytest.param("erofs", marks=pytest.mark.needs("erofs"))])
def test_damaged_layers(kind: str) -> None:
    with layers(kind) as read:
        assert {check(read, data) for data in corpus("layer")} & {""}
        reasons = set()
        for seed in SEEDS:
            reasons |= round_of(f"layer {kind}", read, seed)
    assert {"", "LAYER_CORRUPT"} <= reasons
