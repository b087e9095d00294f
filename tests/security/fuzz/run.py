"""`python -m tests.security.fuzz.run SECONDS [SEED]`: damages the kept inputs for so long, each target in turn.

A seed stands for one round of inputs; the seed of what fails is printed with the input, which belongs into
tests/data/fuzz/<target> once it is mended.
"""

import random
import sys
import time
from contextlib import ExitStack

from fluytd.errors import EngineError, Unexpected
from tests.security.fuzz.mutations import damaged
from tests.security.fuzz.targets import TARGETS, Target, corpus, layers

#: Inputs of one seed.
ROUND = 200
#: No input may take longer; a loaded machine gets ten times what a quiet one needs.
SECONDS_AN_INPUT = 5.0


def check(read: Target, data: bytes) -> str:
    """The reason of the refusal, "" for what was taken; fails for all else."""
    began = time.monotonic()
    reason = ""
    try:
        read(data)
    except EngineError as error:
        if isinstance(error, Unexpected):
            raise
        reason = error.reason
    took = time.monotonic() - began
    assert took < SECONDS_AN_INPUT, (took, data[:200])
    return reason


def round_of(name: str, read: Target, seed: int, count: int = ROUND) -> set[str]:
    """Reasons met by `count` inputs of this seed."""
    number = random.Random(f"{name} {seed}")  # noqa: S311 - to be the same everywhere
    kept = corpus("layer" if name.startswith("layer") else name)
    reasons = set()
    for _ in range(count):
        data = damaged(kept, number)
        try:
            reasons.add(check(read, data))
        except Exception:
            print(f"target {name}, seed {seed}: {data!r}", file=sys.stderr)
            raise
    return reasons


def main() -> int:
    """All targets until the time is over."""
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    until = time.monotonic() + seconds
    count = 0
    with ExitStack() as stack:
        targets = dict(TARGETS)
        for kind in ("directory", "erofs"):
            targets[f"layer {kind}"] = stack.enter_context(layers(kind))
        while time.monotonic() < until:
            for name, read in targets.items():
                round_of(name, read, seed)
                count += ROUND
            seed += 1
    print(f"{count} inputs, up to seed {seed - 1}, nothing found")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
