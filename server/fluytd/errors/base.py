"""The root of every failure the engine tells: reason, code, metadata, message and what to do next.

It knows no transport: `api/status.py` turns an `EngineError` into a google.rpc.Status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from string import Formatter
from typing import ClassVar

#: A value is cut to so many characters before it enters a message or metadata, so that no input can grow a reply.
MAX_VALUE_CHARS = 512


class Code(IntEnum):
    """The gRPC status codes that the engine uses. Source: grpc doc/statuscodes.md."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15


_LEAVES: dict[str, "type[EngineError]"] = {}


class EngineError(Exception):
    """A failure with an entry in the catalogue. Only leaves (classes with a reason) are raised.

    A leaf is built from keyword values only, one for each of its `keys`; message and metadata are made from the same
    values, so that they cannot disagree.
    """

    #: UPPER_SNAKE name of the entry; empty on the root and on the groups.
    reason: ClassVar[str] = ""
    code: ClassVar[Code] = Code.INTERNAL
    #: The metadata keys, in the order in which the catalogue shows them.
    keys: ClassVar[tuple[str, ...]] = ()
    #: The message, with `{key}` for each value that it shows.
    text: ClassVar[str] = ""
    #: What the caller can do, as one sentence.
    next_step: ClassVar[str] = ""

    metadata: dict[str, str]
    #: The request field at fault in proto spelling, where one is (BadRequest); else empty.
    field: str

    def __init_subclass__(
        cls,
        *,
        reason: str = "",
        code: Code | None = None,
        keys: str = "",
        text: str = "",
        next_step: str = "",
    ) -> None:
        super().__init_subclass__()
        if code is not None:
            cls.code = code
        if not reason:
            return
        cls.reason, cls.keys, cls.text, cls.next_step = reason, tuple(keys.split()), text, next_step
        shown = {name for _, name, _, _ in Formatter().parse(text + next_step) if name}
        if reason in _LEAVES or not shown <= set(cls.keys):
            raise TypeError(f"the catalogue entry {reason} is declared twice or shows a value it has no key for")
        _LEAVES[reason] = cls

    def __init__(self, **values: object) -> None:
        if set(values) != set(self.keys):
            raise TypeError(f"{type(self).__name__} takes exactly the keys {', '.join(self.keys)}")
        self.metadata = {key: _bounded(values[key]) for key in self.keys}
        self.field = self.metadata.get("field", "")
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The sentence, then what to do."""
        return f"{self.text}. {self.next_step}".format_map(self.metadata)

    @property
    def sentence(self) -> str:
        """One sentence for people, made of the metadata, without the advice."""
        return self.text.format_map(self.metadata)

    @property
    def failure(self) -> "Failure":
        """The same facts as a value, for records that outlive the exception."""
        return Failure(
            int(self.code), self.reason, self.sentence, self.metadata, self.next_step.format_map(self.metadata)
        )

    def at(self, field: str) -> "EngineError":
        """The same error, blamed on a request field (proto spelling), to be raised in place."""
        self.field = field
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return (from_core, (self.reason, self.metadata))


def _bounded(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple | set | frozenset) else str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure that is reported as data: of an operation that ended, of a container that could not start."""

    #: A google.rpc.Code.
    code: int
    reason: str
    message: str
    metadata: Mapping[str, str]
    next_step: str


class InvalidInput(EngineError, code=Code.INVALID_ARGUMENT):
    """The caller sent something that can never be accepted."""


class NotFound(EngineError, code=Code.NOT_FOUND):
    """The named thing is not there."""


class AlreadyExists(EngineError, code=Code.ALREADY_EXISTS):
    """The name is taken."""


class WrongState(EngineError, code=Code.FAILED_PRECONDITION):
    """The thing is there, in a state that does not allow the request."""


class HostUnsupported(EngineError, code=Code.FAILED_PRECONDITION):
    """This host cannot do it."""


class Conflict(EngineError, code=Code.ABORTED):
    """Another request got in between; reading again and repeating may succeed."""


class ResourceExhausted(EngineError, code=Code.RESOURCE_EXHAUSTED):
    """A bound was reached: of the disk, of a named limit, of a registry's patience."""


class Upstream(EngineError, code=Code.UNAVAILABLE):
    """Another server failed, or this one is not ready; waiting may help."""


class DataCorrupt(EngineError, code=Code.DATA_LOSS):
    """Bytes are not what their digest, size or format says."""


class Internal(EngineError, code=Code.INTERNAL):
    """The engine failed."""


def catalogue() -> dict[str, type[EngineError]]:
    """Every leaf by reason, sorted by reason. Complete once `fluytd.errors` is imported."""
    return dict(sorted(_LEAVES.items()))


def from_core(reason: str, metadata: dict[str, str]) -> EngineError:
    """The error of a catalogue entry, for the Rust core, which knows entries by name only.

    A reason or a set of keys that the catalogue lacks is a bug of the core: it becomes UNEXPECTED, and what the core
    said stays in the exception's notes, which reach the log and never a caller.
    """
    leaf = _LEAVES.get(reason)
    if leaf is not None and set(leaf.keys) == set(metadata):
        return leaf(**metadata)
    error = unexpected()
    error.add_note(f"the core raised {reason} with {metadata!r}, which the catalogue does not have")
    return error


def unexpected() -> EngineError:
    """A new UNEXPECTED error with an incident id of its own; the caller logs the cause under that id."""
    import secrets  # noqa: PLC0415 - only on this rare path

    return _LEAVES["UNEXPECTED"](incident_id=secrets.token_hex(8))
