"""Which ids a container gets, and what cannot be together."""

from dataclasses import replace

import pytest

from fluytd.containers.model import Container, IdRange, ImageFacts
from fluytd.containers.resolve import resolve
from fluytd.containers.spec import (
    ContainerSpec,
    NamespaceMode,
    NamespaceSpec,
    NamespacesSpec,
    NetworkMode,
    NetworkSpec,
    SecuritySpec,
    UsersMode,
    UsersSpec,
)
from fluytd.containers.user_ids import (
    MAX_UNASKED_IDS,
    NOBODY,
    IdRanges,
    IdSettings,
    check_users,
    chosen,
    inside,
    of_step,
)
from fluytd.errors import FieldInvalid, LimitExceeded

SETTINGS = IdSettings(default=UsersMode.AUTO, first_id=1_000_000, pool_count=40_000, range_count=10_000)
IMAGE = ImageFacts("i:1", "sha256:1", "sha256:2", "linux", "amd64", "", (), 0, cmd=("true",))


def spec_of(mode: UsersMode = UsersMode.DEFAULT, size: int = 0, **fields: NamespaceSpec) -> ContainerSpec:
    return ContainerSpec(image="i:1", namespaces=NamespacesSpec(user=UsersSpec(mode, size), **fields))


def container(ids: IdRange | None) -> Container:
    spec = spec_of()
    return Container("c" * 64, "other", spec, IMAGE, resolve(spec, IMAGE, "c" * 64), 0, ids=ids)


def choose(
    spec: ContainerSpec, *others: Container, settings: IdSettings = SETTINGS, image: ImageFacts = IMAGE
) -> IdRange | None:
    return chosen(spec, image, others, settings, IdRanges(settings))


def test_ranges_do_not_overlap_and_the_one_just_given_up_comes_last() -> None:
    ranges = IdRanges(SETTINGS)
    held = []
    for _ in range(3):
        held.append(ranges.find(10_000))
        ranges.hold(held[-1])
    assert [ids.first_id for ids in held] == [1_000_000, 1_010_000, 1_020_000]
    ranges.release(held[0])
    assert ranges.find(500) == IdRange(1_030_000, 500)
    assert ranges.find(10_001 - 1) == held[0]
    with pytest.raises(LimitExceeded) as refused:
        ranges.find(20_000)
    assert refused.value.metadata["limit"] == "userns_pool_count"


def test_a_range_that_is_shared_is_free_when_the_last_has_gone() -> None:
    ranges = IdRanges(replace(SETTINGS, pool_count=10_000))
    ids = ranges.find(1)
    for _ in range(2):
        ranges.hold(ids)
    ranges.release(ids)
    with pytest.raises(LimitExceeded):
        ranges.find(1)
    ranges.release(ids)
    assert ranges.find(1) == ids


def test_ranges_of_an_earlier_setting_are_in_nobodys_way() -> None:
    ranges = IdRanges(SETTINGS)
    for ids in (IdRange(5, 100), IdRange(2**31, 65_536), IdRange(1_005_000, 10_000), None):
        ranges.hold(ids)
    # The third lies across the first two pieces.
    assert ranges.find(1).first_id == 1_020_000
    for ids in (IdRange(5, 100), IdRange(2**31, 65_536), IdRange(1_005_000, 10_000), None):
        ranges.release(ids)
    assert IdRanges(SETTINGS).find(40_000) == IdRange(1_000_000, 40_000)


def test_the_setting_holds_where_nothing_is_said() -> None:
    assert choose(spec_of()) == IdRange(1_000_000, 10_000)
    assert choose(spec_of(UsersMode.HOST)) is None
    assert choose(spec_of(UsersMode.AUTO, 2_000)) == IdRange(1_000_000, 2_000)
    by_host = replace(SETTINGS, default=UsersMode.HOST)
    assert choose(spec_of(), settings=by_host) is None
    assert choose(spec_of(UsersMode.AUTO), settings=by_host) is not None


def test_a_host_that_cannot_is_told_of_where_it_was_asked() -> None:
    cannot = replace(SETTINGS, obstacle="no such mounts")
    assert choose(spec_of(), settings=cannot) is None
    assert [one.has_own_users for one in (SETTINGS, cannot, replace(SETTINGS, default=UsersMode.HOST))] == [
        True,
        False,
        False,
    ]
    with pytest.raises(FieldInvalid, match="no such mounts"):
        choose(spec_of(UsersMode.AUTO), settings=cannot)


HOST = NamespaceSpec(NamespaceMode.HOST)


@pytest.mark.parametrize(
    "change",
    [
        {"security": SecuritySpec(privileged=True)},
        {"network": NetworkSpec(mode=NetworkMode.HOST)},
        *({"namespaces": NamespacesSpec(**{kind: HOST})} for kind in ("pid", "ipc", "uts", "cgroup")),  # type: ignore[arg-type]
    ],
)
def test_what_needs_the_hosts_users_has_them(change: dict[str, object]) -> None:
    spec = replace(spec_of(), **change)  # type: ignore[arg-type]
    assert choose(spec) is None
    asked = replace(spec, namespaces=replace(spec.namespaces, user=UsersSpec(UsersMode.AUTO)))
    with pytest.raises(FieldInvalid, match=r"spec\.namespaces\.user"):
        choose(asked)


def test_who_shares_a_namespace_has_the_same_ids() -> None:
    ids = IdRange(1_020_000, 10_000)
    other, of_host = container(ids), container(None)
    assert choose(spec_of(), other) == ids
    assert choose(spec_of(UsersMode.AUTO), other, other) == ids
    assert choose(spec_of(), of_host) is None
    # The host's users are above all others.
    assert choose(spec_of(UsersMode.HOST), other, of_host) is None
    assert choose(spec_of(pid=HOST), other) is None
    assert choose(replace(spec_of(), security=SecuritySpec(privileged=True)), other) is None
    for spec, others in ((spec_of(), (other, of_host)), (spec_of(UsersMode.AUTO), (of_host,))):
        with pytest.raises(FieldInvalid):
            choose(spec, *others)


def test_an_image_with_files_of_high_ids_gets_as_many_as_it_needs_unasked() -> None:
    settings = replace(SETTINGS, pool_count=4_000_000)
    assert choose(spec_of(), image=replace(IMAGE, max_id=9_999), settings=settings) == IdRange(1_000_000, 10_000)
    assert choose(spec_of(), image=replace(IMAGE, max_id=10_000), settings=settings) == IdRange(1_000_000, 20_000)
    last = replace(IMAGE, max_id=MAX_UNASKED_IDS - 1)
    found = choose(spec_of(), image=last, settings=settings)
    assert found is not None
    assert found.count > last.max_id
    too_high = replace(IMAGE, max_id=MAX_UNASKED_IDS)
    with pytest.raises(FieldInvalid, match=f"i:1 has files of the id {MAX_UNASKED_IDS}, and {MAX_UNASKED_IDS} ids"):
        choose(spec_of(), image=too_high, settings=settings)
    assert choose(spec_of(UsersMode.HOST), image=too_high, settings=settings) is None
    assert choose(spec_of(UsersMode.AUTO, 2**21), image=too_high, settings=settings) == IdRange(1_000_000, 2**21)
    asked = spec_of(UsersMode.AUTO, 2_000)
    assert choose(asked, image=replace(IMAGE, max_id=1_999)) == IdRange(1_000_000, 2_000)
    for spec, others in ((asked, ()), (spec_of(), (container(IdRange(1_020_000, 2_000)),))):
        with pytest.raises(FieldInvalid, match=r"size of 2001 or more, or host: image i:1 has files of the id 2000"):
            choose(spec, *others, image=replace(IMAGE, max_id=2_000))


def step_ids(
    spec: ContainerSpec, *held: IdRange, settings: IdSettings = SETTINGS, image: ImageFacts = IMAGE
) -> IdRange | None:
    ranges = IdRanges(settings)
    for ids in held:
        ranges.hold(ids)
    return of_step(spec, image, settings, ranges, "user_namespace")


def test_a_step_of_a_build_gets_many_ids_and_fewer_where_those_are_not_free() -> None:
    large = replace(SETTINGS, pool_count=2**20 + 10_000)
    assert step_ids(spec_of(), settings=large) == IdRange(1_000_000, MAX_UNASKED_IDS)
    assert step_ids(spec_of(), IdRange(1_010_000, 1), settings=large) == IdRange(1_000_000, 10_000)
    assert step_ids(spec_of()) == IdRange(1_000_000, 10_000)
    assert step_ids(spec_of(), image=replace(IMAGE, max_id=10_000)) == IdRange(1_000_000, 20_000)
    assert step_ids(spec_of(UsersMode.AUTO, 3_000), settings=large) == IdRange(1_000_000, 3_000)
    for spec, image in ((spec_of(), MAX_UNASKED_IDS), (spec_of(UsersMode.AUTO, 3_000), 3_000)):
        with pytest.raises(FieldInvalid, match=rf"user_namespace.* size of {image + 1} or more, or host") as refused:
            step_ids(spec, image=replace(IMAGE, max_id=image), settings=large)
        assert refused.value.metadata["field"] == "user_namespace"
    with pytest.raises(LimitExceeded, match="user_namespace"):
        step_ids(spec_of(), IdRange(1_000_000, 40_000))


def test_a_step_of_a_build_has_the_hosts_users_where_it_must() -> None:
    cannot = replace(SETTINGS, obstacle="no such mounts")
    in_host = replace(spec_of(), network=NetworkSpec(mode=NetworkMode.HOST))
    assert step_ids(spec_of(UsersMode.HOST)) is None
    assert step_ids(spec_of(), settings=cannot) is None
    assert step_ids(spec_of(), settings=replace(SETTINGS, default=UsersMode.HOST)) is None
    assert step_ids(in_host) is None
    asked = replace(in_host, namespaces=NamespacesSpec(user=UsersSpec(UsersMode.AUTO)))
    for spec, settings in ((spec_of(UsersMode.AUTO), cannot), (asked, SETTINGS)):
        with pytest.raises(FieldInvalid, match="user_namespace"):
            step_ids(spec, settings=settings)


def test_users_inside_are_those_of_the_range() -> None:
    ids = IdRange(1_000_000, 100)
    assert [inside(ids, uid) for uid in (1_000_000, 1_000_099, 1_000_100, 0)] == [0, 99, NOBODY, NOBODY]
    assert inside(None, 7) == 7


@pytest.mark.parametrize(
    ("mode", "size"), [(UsersMode.AUTO, 999), (UsersMode.AUTO, 2**32 - 1), (UsersMode.HOST, 5_000)]
)
def test_a_number_of_ids_that_cannot_be_is_refused(mode: UsersMode, size: int) -> None:
    with pytest.raises(FieldInvalid, match=r"spec\.namespaces\.user\.size"):
        check_users(UsersSpec(mode, size))
    check_users(UsersSpec(UsersMode.AUTO, 1_000))
