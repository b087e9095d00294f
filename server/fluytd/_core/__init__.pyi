"""The Rust core: what touches bytes and the kernel. One stub file per area; the docstrings of the API stand here.

Every function that can block releases the interpreter first; call it through `fluytd.workers.Workers`, never on
the event loop. Failures raise the `fluytd.errors.EngineError` leaf of the reason named in each docstring.
"""

from typing import final

from . import build as build
from . import cgroup as cgroup
from . import changes as changes
from . import content as content
from . import copies as copies
from . import forward as forward
from . import host as host
from . import ignore as ignore
from . import ingest as ingest
from . import layer as layer
from . import logs as logs
from . import network as network
from . import process as process
from . import registry as registry
from . import resolver as resolver
from . import volume as volume

@final
class BuildInfo:
    """How this extension was built."""

    @property
    def version(self) -> str: ...
    @property
    def profile(self) -> str:
        """`release` or `debug`."""

def build_info() -> BuildInfo:
    """Version and profile of the extension. Never blocks."""

@final
class CancelToken:
    """A flag that long calls look at between pieces of work; thread-safe."""

    def __init__(self) -> None: ...
    def cancel(self) -> None:
        """Every call that was given this token ends soon with CANCELLED; idempotent."""
    @property
    def is_cancelled(self) -> bool: ...
