"""EngineError -> google.rpc.Status: the only place that builds one. It logs nothing and decides nothing.

Each status has exactly one ErrorInfo (domain `fluyt`); what to do next travels as a LocalizedMessage; BadRequest,
PreconditionFailure, ResourceInfo and RetryInfo are added where they say something. Source: AIP-193.
"""

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from fluytd.errors import Code, EngineError

#: The `domain` of every ErrorInfo.
DOMAIN: Final = "fluyt"
#: Trailing metadata in which gRPC carries the details. Source: grpc_status/rpc_status.py.
DETAILS_KEY: Final = "grpc-status-details-bin"
#: How long a caller should wait where waiting helps and nothing says how long.
DEFAULT_RETRY_SECONDS: Final = 1

_STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
#: First word of a reason -> resource type, where the two differ.
_RESOURCE_TYPES: Final = {"NAME": "container"}


def build(error: EngineError) -> status_pb2.Status:
    """The status of an error of the catalogue; its message is the error's sentence, without the advice."""
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.next_step:
        text = error.next_step.format_map(error.metadata)
        details.append(error_details_pb2.LocalizedMessage(locale="en", message=text))
    sentence = error.sentence
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.metadata.get("rule", sentence), reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (extra := _extra(error, sentence)) is not None:
        details.append(extra)
    return status_pb2.Status(code=int(error.code), message=sentence, details=[_pack(detail) for detail in details])


def abort_arguments(error: EngineError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """What `ServicerContext.abort` takes: code, message and trailing metadata with the whole status."""
    status = build(error)
    return _STATUS_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),)


def _extra(error: EngineError, sentence: str) -> message.Message | None:
    subject = next(iter(error.metadata.values()), "")
    match error.code:
        case Code.NOT_FOUND | Code.ALREADY_EXISTS:
            word = error.reason.split("_", 1)[0]
            found: message.Message = error_details_pb2.ResourceInfo(
                resource_type=_RESOURCE_TYPES.get(word, word.lower()),
                resource_name=subject,
                owner=error.metadata.get("holder_id", ""),
                description=sentence,
            )
            return found
        case Code.FAILED_PRECONDITION:
            violation = error_details_pb2.PreconditionFailure.Violation(
                type=error.reason, subject=subject, description=sentence
            )
            failed: message.Message = error_details_pb2.PreconditionFailure(violations=[violation])
            return failed
        case Code.UNAVAILABLE | Code.RESOURCE_EXHAUSTED:
            return _retry(error)
        case _:
            return None


def _retry(error: EngineError) -> message.Message | None:
    told = error.metadata.get("retry_after_seconds", "")
    if not told.isdecimal() and error.code is not Code.UNAVAILABLE:
        return None  # a full disk or a reached limit does not mend itself
    delay = duration_pb2.Duration(seconds=int(told) if told.isdecimal() else DEFAULT_RETRY_SECONDS)
    info: message.Message = error_details_pb2.RetryInfo(retry_delay=delay)
    return info


def _pack(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
