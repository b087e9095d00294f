"""Credentials that travel with a request: out of the message, and out of whatever is kept of it."""

from typing import Any, Final

from fluyt.v1.types import registry_auth_pb2
from fluytd.registries.model import Credentials


def from_auth(message: registry_auth_pb2.RegistryAuth) -> Credentials:
    """Credentials for one request; nobody's for an empty message."""
    return Credentials(message.username, message.password, message.identity_token, message.registry_token)


#: Fields of requests that hold what nobody may read later.
_SECRET_FIELDS: Final = ("auth", "auths", "secrets")


def without_auth(request: Any) -> Any:
    """The request as it may be remembered: without its credentials and secrets, if it has fields for them."""
    names = [name for name in _SECRET_FIELDS if name in request.DESCRIPTOR.fields_by_name]
    if not any(_is_set(request, name) for name in names):
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    for name in names:
        copy.ClearField(name)
    return copy


def _is_set(request: Any, name: str) -> bool:
    return any(field.name == name for field, _ in request.ListFields())
