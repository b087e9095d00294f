"""Runs the Python tests, and what failed once more, alone: `python -m tests.suite [PROCESSES]`.

Several thousand tests with real processes, kills and clocks run beside each other. One of them that fails only under
that load is told by name at the end, as work to do; it does not stop a change that has nothing to do with it. A test
that fails both times fails the run, and so do more than `MAX_AGAIN` failures, a crash, or a file that does not load.
Source of the practice: podman's suites run with ginkgo's --flake-attempts, moby's with gotestsum --rerun-fails.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

#: So many failures may be moments; more are a fault.
MAX_AGAIN: Final = 3
#: So many of the slowest tests are listed, for whoever has to keep the whole below its 45 minutes.
SLOWEST: Final = 30
#: pytest's exit code where all went as it should but tests failed.
FAILED: Final = 1
ROOT: Final = Path(__file__).resolve().parent.parent
_LAST_FAILED: Final = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"


def to_run_again(exit_code: int, failed: list[str]) -> list[str]:
    """The tests that get a second run, by node id; none where the first run's exit code stands as it is."""
    are_tests = all("::" in one for one in failed)
    return failed if exit_code == FAILED and are_tests and len(failed) <= MAX_AGAIN else []


def main(arguments: list[str]) -> int:
    """Runs the suite in so many processes, and what is due again. Returns the exit code; blocks for minutes."""
    _LAST_FAILED.unlink(missing_ok=True)
    processes = arguments[0] if arguments else "0"
    exit_code = _pytest("-n", processes, "--dist", "loadfile", f"--durations={SLOWEST}", "tests")
    failed = sorted(json.loads(_LAST_FAILED.read_text())) if _LAST_FAILED.exists() else []
    again = to_run_again(exit_code, failed)
    if not again:
        return exit_code
    print(f"\nonce more, alone: {len(again)} that failed", flush=True)
    exit_code = _pytest("-n", "0", *again)
    if exit_code == 0:
        print("\nFAILED ONCE, then passed alone. Each is a fault of the engine or of the test; please report it:")
        print("\n".join(f"    {one}" for one in again), flush=True)
    return exit_code


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
