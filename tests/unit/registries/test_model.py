"""Credentials show nothing, and proxies are those of the settings, else of the environment."""

import pytest
from google.protobuf import text_format

from fluyt.v1 import containers_pb2, images_pb2
from fluyt.v1.types.registry_auth_pb2 import RegistryAuth
from fluytd.api.convert.auth import from_auth, without_auth
from fluytd.images.registry import core_credentials
from fluytd.registries.model import Credentials, Proxies, proxies_of


@pytest.mark.parametrize("name", ["password", "identity_token", "registry_token"])
def test_no_secret_is_shown(name: str) -> None:
    credentials = Credentials(**{"username": "user", name: "hunter2"})
    assert not credentials.is_anonymous
    core = core_credentials(credentials)
    assert core is not None
    assert "hunter2" not in f"{credentials} {credentials!r} {core} {core!r}"


def test_nobody_is_nobody() -> None:
    assert from_auth(RegistryAuth()).is_anonymous
    assert core_credentials(Credentials()) is None


def test_a_message_of_credentials_is_read_in_full() -> None:
    values = {"username": "u", "password": "p", "identity_token": "i", "registry_token": "r"}
    assert from_auth(RegistryAuth(**values)) == Credentials(**values)


def from_text(text: str) -> RegistryAuth:
    """A message of credentials."""
    return text_format.Parse(text, RegistryAuth())


@pytest.mark.parametrize("kind", [images_pb2.PullImageRequest, images_pb2.PushImageRequest])
def test_a_request_is_remembered_without_its_credentials(kind: type) -> None:
    auth = from_text("password: 'hunter2'")
    request = kind(reference="a", auth=auth)
    remembered = without_auth(request)
    assert b"hunter2" not in remembered.SerializeToString()
    assert remembered.reference == "a"
    assert request.auth == auth
    assert without_auth(kind(reference="a")) == remembered
    other = containers_pb2.StopContainerRequest(container="c")
    assert without_auth(other) is other


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [
        ({}, Proxies(), Proxies()),
        ({"http_proxy": "a", "HTTP_PROXY": "b"}, Proxies(), Proxies(http="a")),
        ({"HTTP_PROXY": "b", "https_proxy": "c"}, Proxies(), Proxies("b", "c")),
        ({"HTTP_PROXY": "b", "REQUEST_METHOD": "GET"}, Proxies(), Proxies()),
        ({"http_proxy": "a", "REQUEST_METHOD": "GET"}, Proxies(), Proxies(http="a")),
        ({"ALL_PROXY": "a", "HTTPS_PROXY": "c"}, Proxies(), Proxies("a", "c")),
        ({"NO_PROXY": "x", "no_proxy": "y"}, Proxies(), Proxies(excepted="y")),
        ({"http_proxy": "", "HTTP_PROXY": "b"}, Proxies(), Proxies(http="b")),
        ({"http_proxy": "a", "no_proxy": "y"}, Proxies(http="s", excepted="z"), Proxies("s", "", "z")),
    ],
)
def test_the_proxies_that_count(environment: dict[str, str], configured: Proxies, expected: Proxies) -> None:
    assert proxies_of(environment, configured) == expected


def test_a_proxys_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Proxies(http="http://u:hunter2@p", https="http://u:hunter2@p"))
