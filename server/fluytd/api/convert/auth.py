"""Credentials that travel with a request: out of the message, and out of whatever is kept of it."""

from typing import Any

from fluyt.v1.types import registry_auth_pb2
from fluytd.registries.model import Credentials


def from_auth(message: registry_auth_pb2.RegistryAuth) -> Credentials:
    """Credentials for one request; nobody's for an empty message."""
    return Credentials(message.username, message.password, message.identity_token, message.registry_token)


def without_auth(request: Any) -> Any:
    """The request as it may be remembered: without its credentials, if it has a field for them."""
    if "auth" not in request.DESCRIPTOR.fields_by_name or not request.HasField("auth"):
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("auth")
    return copy
