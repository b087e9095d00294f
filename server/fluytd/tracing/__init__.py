"""Spans of calls and of the steps that they take. While no tracer is installed nothing is traced and nothing imported.

Whatever is traced is named by the engine itself; attributes hold ids and references, never what a caller keeps secret.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

#: A caller's headers of a call, as they came.
Headers = Mapping[str, str]


class CallSpan(Protocol):
    """The span of a call that is under way."""

    def end(self, code: str, number: int) -> None:
        """The name of its status and the number of it in gRPC. Idempotent."""


class Tracer(Protocol):
    """What a technology makes spans by. Used on the event loop; `carried` is called there."""

    def step(
        self, name: str, attributes: Mapping[str, str | int], *, is_root: bool = False
    ) -> AbstractContextManager[None]:
        """A span below the present one, or the first of a trace; an exception that leaves it is told in it."""

    def call(self, rpc: str, headers: Headers) -> AbstractContextManager[CallSpan]:
        """A span of a call (`/package.Service/Method`), below the one that the caller's headers name."""

    def carried(self, call: Callable[[], T]) -> Callable[[], T]:
        """The call, whose spans stand below the present one on whichever thread it is made."""


class _Installed:
    tracer: Tracer | None = None


_NOTHING: Final = nullcontext()


def install(tracer: Tracer | None) -> None:
    """From now on spans go to this tracer; None: nowhere. One engine a process does so, at its start and its end."""
    _Installed.tracer = tracer


def installed() -> Tracer | None:
    """The tracer, None where nothing is traced."""
    return _Installed.tracer


def step(name: str, *, is_root: bool = False, **attributes: str | int) -> AbstractContextManager[None]:
    """A span around a step, named `noun.verb`; costs next to nothing where nothing is traced.

    `is_root`: no caller is behind it, whatever the task that it runs in began with.
    Not to be held over a `yield`: what it stands in may go on elsewhere.
    """
    tracer = _Installed.tracer
    return _NOTHING if tracer is None else tracer.step(name, attributes, is_root=is_root)


def carried(call: Callable[[], T]) -> Callable[[], T]:
    """The call, to be made on another thread, with the present span above what it does."""
    tracer = _Installed.tracer
    return call if tracer is None else tracer.carried(call)
