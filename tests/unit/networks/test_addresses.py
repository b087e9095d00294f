"""Who gets which address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluytd.errors import AddressesExhausted, AddressInUse, FieldInvalid, SubnetsExhausted
from fluytd.networks.addresses import Addresses
from fluytd.networks.model import Subnet, choose_subnet, mac_of, normalised

SMALL = Subnet("10.0.0.0/29", "10.0.0.1")


def test_every_address_but_the_first_the_last_and_the_gateway_is_given_once() -> None:
    addresses = Addresses(SMALL)
    assert [addresses.take("c") for _ in range(5)] == [f"10.0.0.{number}/29" for number in range(2, 7)]
    with pytest.raises(AddressesExhausted):
        addresses.take("c")
    addresses.give_back("10.0.0.4/29")
    assert addresses.take("c") == "10.0.0.4/29"


def test_an_address_that_came_back_stays_unused_for_long() -> None:
    addresses = Addresses(SMALL)
    first = addresses.take("a")
    addresses.give_back(first)
    assert addresses.take("b") != first


def test_a_wanted_address_is_given_if_it_is_free_and_its_holder_named_if_not() -> None:
    addresses = Addresses(SMALL)
    assert addresses.take("container a", "10.0.0.5") == "10.0.0.5/29"
    with pytest.raises(AddressInUse, match="container a"):
        addresses.take("b", "10.0.0.5")
    with pytest.raises(AddressInUse, match="gateway"):
        addresses.take("b", "10.0.0.1")
    for outside in ("10.0.0.0", "10.0.0.7", "10.0.1.1", "fd00::1"):
        with pytest.raises(FieldInvalid):
            addresses.take("b", outside)
    addresses.give_back("10.0.0.1")
    with pytest.raises(AddressInUse):
        addresses.take("b", "10.0.0.1")


def test_a_range_bounds_what_is_given_and_not_what_is_asked_for() -> None:
    addresses = Addresses(Subnet("10.0.0.0/24", "10.0.0.254", "10.0.0.128/30"))
    assert {addresses.take("c") for _ in range(4)} == {f"10.0.0.{number}/24" for number in range(128, 132)}
    with pytest.raises(AddressesExhausted):
        addresses.take("c")
    assert addresses.take("c", "10.0.0.3") == "10.0.0.3/24"


def test_ipv6_has_more_addresses_than_can_be_walked_through() -> None:
    addresses = Addresses(Subnet("fd00::/64", "fd00::1"))
    assert [addresses.take("c") for _ in range(3)] == ["fd00::2/64", "fd00::3/64", "fd00::4/64"]


@given(st.lists(st.integers(0, 9), max_size=60))
def test_no_address_is_held_twice_whatever_comes_and_goes(steps: list[int]) -> None:
    addresses = Addresses(Subnet("10.0.0.0/28", "10.0.0.1"))
    held: list[str] = []
    for step in steps:
        if step < 6 and len(held) < 13:
            held.append(addresses.take("c"))
        elif held:
            addresses.give_back(held.pop(step % len(held)))
        assert len(set(held)) == len(held)
        assert "10.0.0.1/28" not in held


def test_the_first_free_range_of_the_pools_is_chosen() -> None:
    pools = ["10.0.0.0/30", "10.1.0.0/24"]
    assert choose_subnet(pools, 26, ["10.0.0.0/8"][:0]) == Subnet("10.0.0.0/30", "10.0.0.1")
    assert choose_subnet(pools, 26, ["10.0.0.0/16", "10.1.0.64/26", "fd00::/8"]) == Subnet("10.1.0.0/26", "10.1.0.1")
    with pytest.raises(SubnetsExhausted):
        choose_subnet(pools, 26, ["10.0.0.0/8"])


def test_gateways_are_the_first_addresses_and_ipv4_comes_first() -> None:
    found = normalised([Subnet("fd00:1::/64", ""), Subnet("10.5.0.0/16", "10.5.9.9")])
    assert found == (Subnet("10.5.0.0/16", "10.5.9.9"), Subnet("fd00:1::/64", "fd00:1::1"))


def test_hardware_addresses_are_local_and_as_unique_as_the_address() -> None:
    assert mac_of("10.208.0.2") == "02:46:0a:d0:00:02"
    numbers = [mac_of(str(ipaddress.IPv4Address(number))) for number in range(300)]
    assert len(set(numbers)) == len(numbers)
