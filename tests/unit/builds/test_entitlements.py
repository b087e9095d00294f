"""What the caller of a build may give it, as it is written."""

import pytest

from fluytd.builds.entitlements import DEVICE, HOST_NETWORK, INSECURE, KINDS, Entitlements, parse_entitlements
from fluytd.errors import FieldInvalid, LimitExceeded


def test_each_kind_and_devices_by_name_and_alias() -> None:
    texts = ["security.insecure", "network.host", "device=vendor.com/a=1", "device=vendor.com/b=2,alias=vendor.com/c"]
    given = parse_entitlements([*texts, texts[0]])
    assert given.texts == tuple(texts)
    assert given.kinds == {INSECURE, HOST_NETWORK}
    assert given.devices == {"vendor.com/a=1": "", "vendor.com/c": "vendor.com/b=2"}
    assert parse_entitlements(["device"]).kinds == {DEVICE}
    assert parse_entitlements([]) == Entitlements()
    assert parse_entitlements(KINDS).kinds == set(KINDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "insecure",
        "security.insecure=true",
        "network.host ",
        "Device",
        "device=",
        "device=,alias=x",
        "device=a,b",
        "device=a,alias=",
        "device=a,alias=b,alias=c",
        "device=" + "x" * 1_024,
    ],
)
def test_what_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        parse_entitlements(["device", text])
    assert caught.value.field == "entitlements[1]"


def test_more_than_the_bound_are_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        parse_entitlements([f"device=vendor.com/a={number}" for number in range(65)])
    assert caught.value.metadata["limit"] == "MAX_ENTITLEMENTS"


def test_a_build_in_the_hosts_network_is_given_that_once() -> None:
    given = Entitlements().with_host_network()
    assert given.texts == ("network.host",)
    assert given.kinds == {HOST_NETWORK}
    assert parse_entitlements(["network.host"]).with_host_network().texts == ("network.host",)
