"""Turns whatever an RPC's body raises into one well-formed status; the unforeseen is logged under an incident id."""

import logging
from typing import Any, NoReturn

import grpc

from fluytd import errors
from fluytd.api import status

_log = logging.getLogger(__name__)


async def fail(context: "grpc.aio.ServicerContext[Any, Any]", rpc: str, error: Exception) -> NoReturn:
    """Ends the RPC with the status of `error`; always raises. UNEXPECTED leaves its trace in the log only."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, errors.EngineError):
        known = errors.unexpected()
        _log.error("%s failed, incident %s", rpc, known.metadata["incident_id"], exc_info=error)
        error = known
    elif error.reason == "UNEXPECTED":  # the core said something the catalogue does not have; its notes say what
        _log.error("%s failed, incident %s", rpc, error.metadata["incident_id"], exc_info=error)
    code, message, trailing = status.abort_arguments(error)
    await context.abort(code, message, trailing)
    raise AssertionError("abort raises")
