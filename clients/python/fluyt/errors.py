"""Failed calls as exceptions: google.rpc.Status -> a class for its code, with reason, metadata and advice."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

T = TypeVar("T")

#: Trailing metadata that carries the details. Source: grpc_status/rpc_status.py.
_DETAILS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that breaks a rule."""

    #: Path in proto spelling, `spec.resources.memory_limit_bytes`.
    field: str
    rule: str


class FluytError(Exception):
    """A call that failed. Subclasses stand for codes; `reason` names the entry of the engine's catalogue."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        """`message`: one sentence for a person."""
        super().__init__(message)
        self.code = code
        self.message = message
        #: UPPER_SNAKE name, `CONTAINER_NOT_FOUND`; empty if no engine answered.
        self.reason = ""
        #: The named values of this failure.
        self.metadata: dict[str, str] = {}
        #: What to do, one sentence; may be empty.
        self.next_step = ""
        self.field_violations: tuple[FieldViolation, ...] = ()
        #: How long to wait before a retry, in seconds; None if waiting does not help or nothing was said.
        self.retry_after_seconds: float | None = None


class InvalidInput(FluytError):
    """The request can never be accepted."""


class NotFound(FluytError):
    """The named thing is not there."""


class AlreadyExists(FluytError):
    """The name is taken."""


class WrongState(FluytError):
    """The thing or the host is in a state that does not allow the request."""


class Conflict(FluytError):
    """Another request came in between; read again and repeat."""


class ResourceExhausted(FluytError):
    """A disk or a named limit is full."""


class PermissionDenied(FluytError):
    """The caller may not do this."""


class OutOfRange(FluytError):
    """Events or records that are no longer kept were asked for."""


class DataCorrupt(FluytError):
    """Bytes are not what their digest says."""


class NotBuilt(FluytError):
    """This engine does not serve the call."""


class Cancelled(FluytError):
    """The call or operation was cancelled."""


class Unavailable(FluytError):
    """No engine answered, or it is starting or stopping; a retry may succeed."""


class Internal(FluytError):
    """The engine failed; `metadata` may name an incident of its log."""


#: Exception class of each code; `Internal` for the rest.
CLASSES: Final[dict[grpc.StatusCode, type[FluytError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.DATA_LOSS: DataCorrupt,
    grpc.StatusCode.UNIMPLEMENTED: NotBuilt,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def from_rpc_error(error: grpc.RpcError) -> FluytError:
    """The exception for a failed call of a stub; details that are absent or malformed leave their fields empty."""
    code, text = error.code(), error.details() or ""
    translated = CLASSES.get(code, Internal)(code, text)
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            _add_details(translated, status_pb2.Status.FromString(value))
    return translated


def _add_details(error: FluytError, status: status_pb2.Status) -> None:
    for packed in status.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(packed.value)
            error.reason, error.metadata = info.reason, dict(info.metadata)
        elif packed.Is(error_details_pb2.LocalizedMessage.DESCRIPTOR):
            error.next_step = error_details_pb2.LocalizedMessage.FromString(packed.value).message
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            violations = error_details_pb2.BadRequest.FromString(packed.value).field_violations
            error.field_violations = tuple(FieldViolation(one.field, one.description) for one in violations)
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(packed.value).retry_delay
            error.retry_after_seconds = delay.seconds + delay.nanos / 1e9


@contextmanager
def translated() -> Iterator[None]:
    """Within it, a failed call raises a `FluytError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def iterate(responses: Iterable[T]) -> Iterator[T]:
    """The responses of a stream; it is cancelled when the iteration is given up. A failure raises a `FluytError`."""
    try:
        with translated():
            yield from responses
    finally:
        cancel = getattr(responses, "cancel", None)
        if cancel is not None:
            cancel()
