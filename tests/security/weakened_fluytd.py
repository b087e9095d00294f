"""The daemon of a build whose fences can be left out: those of the core by themselves, those of Python here.

Executed by tests alone, with `FLUYT_WEAKENED` naming the fence.
"""

import os
import types
from contextlib import ExitStack
from typing import Any
from unittest import mock

from fluytd import __main__ as daemon
from fluytd.builds import mounts
from fluytd.containers import checks


def _as_it_is(data: bytes) -> object:
    return types.SimpleNamespace(hexdigest=data.decode)


#: The module, the name in it, and what stands there without the fence.
OPEN: dict[str, tuple[Any, str, object]] = {
    "cache-ids": (mounts, "hashlib", types.SimpleNamespace(sha256=_as_it_is)),
    "kernel-parameters": (checks, "_check_sysctls", lambda spec: None),
}


def main() -> int:
    """Serves as the daemon does, without the fence."""
    with ExitStack() as stack:
        if (fence := os.environ["FLUYT_WEAKENED"]) in OPEN:
            stack.enter_context(mock.patch.object(*OPEN[fence]))
        return daemon.main()


if __name__ == "__main__":
    raise SystemExit(main())
