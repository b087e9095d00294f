"""Which image of an index serves a platform."""

import pytest

from fluytd.images.platforms import Platform, best


def platform(text: str) -> Platform:
    return Platform.normalised(*text.split("/"))


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64", ["windows/amd64", "linux/amd64"], 1),
    ],
)
def test_r11_the_nearest_variant_that_the_host_can_run_is_chosen(
    wanted: str, offered: list[str], chosen: int | None
) -> None:
    assert best(platform(wanted), [platform(one) for one in offered]) == chosen


def test_r12_an_attestation_is_never_chosen() -> None:
    assert best(platform("linux/amd64"), [platform("unknown/unknown"), None, platform("linux/amd64")]) == 2
    assert best(platform("unknown/unknown"), [platform("unknown/unknown")]) is None
