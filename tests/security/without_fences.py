"""Runs each attack against an engine that lacks the fence that stops it: the test must fail, or it could never fail.

`make test-weakened` builds such an engine (scripts/weakened.sh) and runs this. First all these tests run against the
same build with every fence in its place, and must pass: what fails afterwards fails by the missing fence.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from tests.security.advisories import ATTACKS
from tests.support.engine import REPOSITORY

#: No fence is called so.
NONE = "none"
BUILT = REPOSITORY / ".build" / "weakened" / "fluytd"


def run(fence: str, tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of pytest with an engine without this fence."""
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "--tb=short", *tests]
    # Users of its own would stop most of them once more: what a fence does by itself is seen with the host's.
    environment = os.environ | {"FLUYT_TEST_WEAKENED": fence, "FLUYT_TEST_USERNS": "host", "COLUMNS": "200"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def reason(output: str) -> str:
    """The first line of the failure."""
    found = re.search(r"^E\s+(.*)$", output, re.MULTILINE)
    return found[1][:160] if found else "no assertion failed"


def main() -> int:
    """0 if each attack succeeds where its fence is missing, and none where it stands."""
    for program in (BUILT / "_core.abi3.so", BUILT / "libexec" / "fluyt-supervisor"):
        assert b"FLUYT_WEAKENED: fences can be left out" in program.read_bytes(), (
            f"{program} has no fence that can be left out"
        )
    weakened = [attack for attack in ATTACKS if attack.fence]
    only = sys.argv[1:]
    if only:
        weakened = [attack for attack in weakened if attack.fence in only]
    code, output = run(NONE, [attack.test for attack in weakened])
    if code != 0:
        print(output)
        return 1
    print(f"{len(weakened)} attacks fail against the build with all its fences")
    in_vain = 0
    for attack in weakened:
        code, output = run(attack.fence, [attack.test])
        # 1: tests were collected and run, and some failed.
        is_seen = code == 1 and re.search(r"^(FAILED|ERROR) ", output, re.MULTILINE) is not None
        in_vain += not is_seen
        told = reason(output) if is_seen else f"NOT SEEN (pytest ended with {code})"
        print(f"without {attack.fence}: {' '.join(attack.names)}: {attack.what}: {told}", flush=True)
        if attack.held:
            first = attack.fence.partition(",")[0]
            code, output = run(first, [attack.held])
            weaker, _ = run(attack.fence, [attack.held])
            is_held = (code, weaker) == (0, 1)
            in_vain += not is_held
            told = "the second fence holds" if is_held else f"NOT HELD (pytest ended with {code}, {weaker})"
            print(f"without {first} alone: {told}", flush=True)
    print(f"{len(weakened) - in_vain} of {len(weakened)} attacks are seen where their fence is missing")
    return 1 if in_vain else 0


if __name__ == "__main__":
    raise SystemExit(main())
