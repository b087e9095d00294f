"""Catalogue entries about requests, operations, events and the engine itself."""

from fluytd.errors.base import (
    Code,
    Conflict,
    EngineError,
    HostUnsupported,
    Internal,
    InvalidInput,
    NotFound,
    Upstream,
    WrongState,
)


class FieldInvalid(
    InvalidInput,
    reason="FIELD_INVALID",
    keys="field rule",
    text="{field}: {rule}",
    next_step="Correct the field and send the request again.",
):
    """A request field or a setting that breaks its rule."""


class VersionMismatch(
    HostUnsupported,
    reason="VERSION_MISMATCH",
    keys="expected actual",
    text="found version {actual}, expected {expected}",
    next_step="Install parts of one version; data written by a newer engine needs that engine.",
):
    """Parts or data of different versions."""


class DataRootInUse(
    WrongState,
    reason="DATA_ROOT_IN_USE",
    keys="path",
    text="another engine uses {path}",
    next_step="Stop that engine, or give this one a data root of its own.",
):
    """Two engines on one data root."""


class OperationNotFound(
    NotFound,
    reason="OPERATION_NOT_FOUND",
    keys="id",
    text="there is no operation {id}",
    next_step="List the operations; ended ones are kept for a bounded number only.",
):
    """An operation that never was, or was forgotten."""


class OperationInProgress(
    Conflict,
    reason="OPERATION_IN_PROGRESS",
    keys="id operation",
    text="{operation} is in progress on {id}",
    next_step="Wait for it to end, then repeat.",
):
    """Two changes to one thing at once."""


class EngineRestarted(
    Conflict,
    reason="ENGINE_RESTARTED",
    keys="id",
    text="the engine was restarted while operation {id} ran",
    next_step="Begin it again; what it fetched and verified is used.",
):
    """Work that a restart of the engine ended."""


class EventsTrimmed(
    EngineError,
    reason="EVENTS_TRIMMED",
    code=Code.OUT_OF_RANGE,
    keys="requested_sequence oldest_sequence",
    text="events before {oldest_sequence} are gone; {requested_sequence} was asked for",
    next_step="List the present state, then watch from the oldest sequence or later.",
):
    """A gap: events that the bounded log no longer has."""


class RequestIdReused(
    InvalidInput,
    reason="REQUEST_ID_REUSED",
    keys="request_id",
    text="request id {request_id} was used for a different request",
    next_step="Use a new id for each new request, and the same one only to repeat a request as it was.",
):
    """One request id for two different requests."""


class VersionConflict(
    Conflict,
    reason="VERSION_CONFLICT",
    keys="id expected actual",
    text="{id} is at version {actual}, the request requires {expected}",
    next_step="Read it again and repeat the change.",
):
    """An update that required another version."""


class PermissionDenied(
    EngineError,
    reason="PERMISSION_DENIED",
    code=Code.PERMISSION_DENIED,
    keys="principal rpc",
    text="{principal!r} may not call {rpc}",
    next_step="Name the principal in the daemon's tcp_administrators or tcp_readers, or call from the unix socket.",
):
    """A client certificate without the permission."""


class NotBuilt(
    EngineError,
    reason="NOT_BUILT",
    code=Code.UNIMPLEMENTED,
    keys="rpc",
    text="{rpc} is declared and not built yet",
    next_step="Use an engine of a later version.",
):
    """An RPC of the API that this version does not serve."""


class FieldNotBuilt(
    EngineError,
    reason="FIELD_NOT_BUILT",
    code=Code.UNIMPLEMENTED,
    keys="field",
    text="{field} is declared and not built yet",
    next_step="Leave the field out, or use an engine of a later version.",
):
    """A field of the API that this version does not honour, refused rather than ignored."""


class EngineStarting(
    Upstream,
    reason="ENGINE_STARTING",
    keys="detail",
    text="the engine is starting: {detail}",
    next_step="Repeat when the health service says SERVING.",
):
    """A request before recovery has ended."""


class EngineStopping(
    Upstream,
    reason="ENGINE_STOPPING",
    keys="detail",
    text="the engine is stopping: {detail}",
    next_step="Repeat when it runs again.",
):
    """A request while the engine drains."""


class Unexpected(
    Internal,
    reason="UNEXPECTED",
    keys="incident_id",
    text="the engine met something unexpected",
    next_step="Look for incident {incident_id} in the engine's log and report it.",
):
    """Anything without an entry of its own; a bug."""
