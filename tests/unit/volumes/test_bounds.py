"""The option `size` of a volume, as Docker writes it."""

import pytest

from fluytd.errors import FieldInvalid
from fluytd.volumes.model import MAX_INT64, VolumeWish, check_wish, normalised

MIB = 1024**2


def wish(size: str, **fields: object) -> VolumeWish:
    return VolumeWish("vv", driver_options={"size": size}, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "limit_bytes"),
    [
        ("1048576", MIB),
        ("10m", 10 * MIB),
        ("10M", 10 * MIB),
        ("10mb", 10 * MIB),
        ("10MiB", 10 * MIB),
        ("1.5g", 1536 * MIB),
        (" 2 G ", 2048 * MIB),
        ("2097152b", 2 * MIB),
    ],
)
def test_a_size_is_a_bound(size: str, limit_bytes: int) -> None:
    found = normalised(wish(size))
    assert (found.limit_bytes, dict(found.driver_options)) == (limit_bytes, {})
    check_wish(found)
    assert normalised(wish(size, limit_bytes=limit_bytes)) == found


@pytest.mark.parametrize("size", ["", "0", "m", "-1m", "1x", "1e9", "١m", "9" * 19 + "p", "10m\n1", "0x10"])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        normalised(wish(size))
    assert refused.value.metadata["field"] == "driver_options"


def test_a_size_of_something_else_is_left_to_whom_it_belongs() -> None:
    for one in (
        VolumeWish("vv", "other", {"size": "10m"}),
        VolumeWish("vv", "local", {"size": "10m", "type": "tmpfs", "device": "tmpfs"}),
        VolumeWish("vv", "local", {"type": "none", "device": "/d", "o": "bind"}),
    ):
        assert normalised(one) is one


@pytest.mark.parametrize("limit_bytes", [-1, 1, MIB - 1, MAX_INT64 + 1])
def test_a_bound_has_bounds(limit_bytes: int) -> None:
    with pytest.raises(FieldInvalid):
        check_wish(VolumeWish("vv", limit_bytes=limit_bytes))
