"""Named places at which a test can kill the daemon, and the catalogue of all their names.

`FLUYT_FAILPOINT=name` or `name:N` arms one: the process that comes by it (for the N-th time) kills itself with SIGKILL.
The Rust core reads the same variable. Unarmed, a failpoint costs one comparison.
"""

import os
import signal

#: The environment variable that arms a failpoint.
VARIABLE = "FLUYT_FAILPOINT"

#: Every failpoint of the Python side: name -> where it stands. Each is named for the side effect that comes next.
CATALOGUE: dict[str, str] = {}


def _parse(value: str) -> tuple[str, int]:
    name, _, count = value.rpartition(":")
    return (name, int(count)) if name and count.isdecimal() else (value, 1)


_name, _remaining = _parse(os.environ.get(VARIABLE, ""))


def hit(name: str) -> None:
    """Kills this process if `name` is armed and its count is reached; otherwise does nothing."""
    global _remaining  # noqa: PLW0603 - the count belongs to the process, as the variable does
    if name != _name:
        return
    _remaining -= 1
    if _remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
