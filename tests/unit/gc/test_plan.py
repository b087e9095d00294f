"""Which images a collection takes: by age, by water marks, by weight; never what is kept; no image for nothing."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fluytd.gc.model import Cause, DiskFacts, ImageFacts, Plan, Settings, plan

NOW = 1_000
EMPTY = DiskFacts(1_000, 1_000)


def facts(name: str, used_ago: int, *, is_kept: bool = False, **sizes: int) -> ImageFacts:
    return ImageFacts(name, sizes or {name: 10}, NOW - used_ago, is_kept)


def run(images: Sequence[ImageFacts], disk: DiskFacts = EMPTY, *, is_begun: bool = False, **settings: Any) -> Plan:
    return plan(images, disk, Settings(**settings), NOW, is_begun=is_begun)


def names(found: Plan) -> list[str]:
    return [image_id for image_id, _ in found.doomed]


def test_nothing_goes_without_a_bound() -> None:
    assert run([facts("a", 999)], DiskFacts(100, 0)) == Plan((), 0, 0)


def test_what_was_unused_for_too_long_goes_whatever_space_there_is() -> None:
    found = run([facts("old", 51), facts("new", 50)], max_age_nanos=50)
    assert found == Plan((("old", Cause.AGE),), 10, 0)


def test_from_the_high_mark_on_the_least_recently_used_go_down_to_the_low_one() -> None:
    images = [facts(name, ago) for name, ago in (("a", 10), ("b", 40), ("c", 30), ("d", 20))]
    marks: dict[str, Any] = {"high_water_percent": 80, "low_water_percent": 78}
    assert names(run(images, DiskFacts(1_000, 201), **marks)) == []
    found = run(images, DiskFacts(1_000, 200), **marks)
    assert found == Plan((("b", Cause.WATER_MARK), ("c", Cause.WATER_MARK)), 20, 0)
    # On its way down it goes on below the high mark, and ends at the low one.
    assert names(run(images, DiskFacts(1_000, 215), is_begun=True, **marks)) == ["b"]
    assert names(run(images, DiskFacts(1_000, 220), is_begun=True, **marks)) == []


def test_above_a_weight_the_least_recently_used_go() -> None:
    images = [facts("a", 10), facts("b", 20), facts("c", 30)]
    assert run(images, max_bytes=30) == Plan((), 0, 0)
    assert run(images, max_bytes=29) == Plan((("c", Cause.MAX_BYTES),), 10, 0)
    assert names(run(images, max_bytes=19)) == ["c", "b"]


def test_age_counts_towards_the_other_bounds() -> None:
    found = run([facts("a", 10), facts("b", 20), facts("c", 90)], max_bytes=20, max_age_nanos=50)
    assert found == Plan((("c", Cause.AGE),), 10, 0)


def test_what_is_kept_or_young_never_goes_and_what_is_missing_is_told() -> None:
    images = [facts("kept", 900, is_kept=True), facts("young", 9), facts("old", 500)]
    found = run(images, DiskFacts(100, 0), high_water_percent=1, max_bytes=1, max_age_nanos=1, min_age_nanos=10)
    assert names(found) == ["old"]
    assert (found.reclaimed_bytes, found.missing_bytes) == (10, 90)


def test_an_image_whose_going_would_free_nothing_is_spared() -> None:
    base, above = facts("base", 90, shared=100), facts("above", 10, is_kept=True, shared=100, own=1)
    free = facts("free", 20, free=50)
    found = run([base, above, free], max_bytes=101)
    assert found == Plan((("free", Cause.MAX_BYTES),), 50, 0)


def test_images_that_share_go_together_where_that_frees_enough() -> None:
    images = [facts("one", 90, shared=100), facts("two", 80, shared=100), facts("three", 10, own=5)]
    found = run(images, max_bytes=5)
    assert (names(found), found.reclaimed_bytes, found.missing_bytes) == (["one", "two"], 100, 0)


def test_a_younger_image_makes_an_older_one_needless() -> None:
    found = run([facts("small", 90, s=10), facts("large", 80, l=100), facts("last", 10, k=1)], max_bytes=11)
    assert names(found) == ["large"]


SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), max_size=4)
IMAGES = st.lists(st.tuples(SIZES, st.integers(0, 100), st.booleans()), max_size=8)


@given(IMAGES, st.integers(0, 200), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_the_promises_hold_for_any_images(
    drawn: list[tuple[dict[str, int], int, bool]], max_bytes: int, min_age: int, max_age: int, available: int
) -> None:
    weights: dict[str, int] = {}
    for sizes, _, _ in drawn:
        for name, size in sizes.items():
            weights.setdefault(name, size)
    images = [
        ImageFacts(f"{number}", {name: weights[name] for name in sizes}, NOW - ago, is_kept)
        for number, (sizes, ago, is_kept) in enumerate(drawn)
    ]
    settings = Settings(True, 90, 50, max_bytes, min_age, max_age)
    found = plan(images, DiskFacts(100, available), settings, NOW)
    by_id = {image.id: image for image in images}
    gone = [by_id[image_id] for image_id in names(found)]
    assert len(set(names(found))) == len(gone)
    for image in gone:
        assert not image.is_kept
        assert NOW - image.last_use_unix_nanos >= min_age
    users = Counter(name for image in images if image not in gone for name in image.sizes)
    freed = {name for image in gone for name in image.sizes if not users[name]}
    assert found.reclaimed_bytes == sum(weights[name] for name in freed)
    assert found.missing_bytes >= 0
    aged = {image.id for image in gone if max_age and NOW - image.last_use_unix_nanos > max_age}
    assert {image_id for image_id, cause in found.doomed if cause is Cause.AGE} == aged
