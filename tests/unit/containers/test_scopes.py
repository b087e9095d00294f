"""Scopes of containers over a systemd of the test's own."""

from pathlib import Path

import pytest

from fluytd.containers import units
from fluytd.containers.model import Container
from fluytd.containers.process_spec import ResourceLimits
from fluytd.containers.resolve import resolve
from fluytd.containers.scopes import Scopes
from fluytd.containers.spec import ContainerSpec
from fluytd.errors import CgroupLimitRejected, FieldInvalid, SystemdUnitFailed
from tests.support.fakes.containers import IMAGE
from tests.support.fakes.units import FakeUnits

ID, OTHER = "a" * 64, "b" * 64
SCOPE = units.scope_name(ID)


@pytest.fixture
def systemd() -> FakeUnits:
    """It has no unit."""
    return FakeUnits()


@pytest.fixture
def scopes(systemd: FakeUnits) -> Scopes:
    """Those of an engine."""
    return Scopes(systemd, "fluyt.slice", Path("/data"), systemd.made_groups.append)


def container(parent: str) -> Container:
    """One that asks for this parent."""
    spec = ContainerSpec("busybox", cgroup_parent=parent)
    return Container(ID, "x", spec, IMAGE, resolve(spec, IMAGE, ID), 1)


def test_the_supervisor_is_beside_the_container(systemd: FakeUnits, scopes: Scopes) -> None:
    scopes.enter(ID, 77, ResourceLimits(pids_limit=5))
    assert systemd.units[SCOPE]["PIDs"] == ("au", [77])
    assert systemd.units[SCOPE]["Slice"] == ("s", "fluyt.slice")
    assert systemd.groups[SCOPE] == ("/supervisor", 77)
    assert systemd.made_groups == [f"fluyt.slice/{SCOPE}/supervisor"]
    assert scopes.place(ID) == (f"fluyt.slice/{SCOPE}", "payload")
    scopes.leave(ID)
    assert systemd.units == {}


def test_a_slice_that_was_asked_for_is_known_until_it_is_forgotten(systemd: FakeUnits, scopes: Scopes) -> None:
    scopes.learn(container("a-b.slice"))
    scopes.enter(ID, 77, ResourceLimits())
    assert systemd.units[SCOPE]["Slice"] == ("s", "a-b.slice")
    assert scopes.place(ID)[0] == f"a.slice/a-b.slice/{SCOPE}"
    scopes.forget(ID)
    assert scopes.place(ID)[0] == f"fluyt.slice/{SCOPE}"


def test_a_parent_that_only_the_other_driver_takes_means_the_engines_slice(scopes: Scopes) -> None:
    for parent in ("", "a/b", "/a/b.slice"):
        scopes.learn(container(parent))
        assert scopes.place(ID)[0] == f"fluyt.slice/{SCOPE}"
    scopes.check_parent("", "cgroup_parent")
    with pytest.raises(FieldInvalid):
        scopes.check_parent("a/b", "cgroup_parent")


def test_only_scopes_of_this_engine_are_its_own(systemd: FakeUnits, scopes: Scopes) -> None:
    scopes.enter(ID, 77, ResourceLimits())
    Scopes(systemd, "fluyt.slice", Path("/elsewhere"), print).enter(OTHER, 78, ResourceLimits())
    systemd.units["fluyt-strange.scope"] = {"Description": ("s", units.description("strange", "/data"))}
    assert scopes.list() == [ID]


def test_an_update_is_told_before_it_is_written(systemd: FakeUnits, scopes: Scopes) -> None:
    scopes.enter(ID, 77, ResourceLimits(pids_limit=5))
    seen = []

    def write() -> list[str]:
        seen.append(systemd.units[SCOPE]["TasksMax"])
        return ["a clamp"]

    assert scopes.update(ID, ResourceLimits(pids_limit=6), write) == ["a clamp"]
    assert seen == [("t", 6 + units.SUPERVISOR_TASKS)]


def test_systemd_knows_the_old_limits_again_if_the_kernel_refuses(systemd: FakeUnits, scopes: Scopes) -> None:
    scopes.enter(ID, 77, ResourceLimits(pids_limit=5))

    def write() -> list[str]:
        raise CgroupLimitRejected(file="pids.max", value="6", errno=22)

    with pytest.raises(CgroupLimitRejected):
        scopes.update(ID, ResourceLimits(pids_limit=6), write)
    assert systemd.units[SCOPE]["TasksMax"] == ("t", 5 + units.SUPERVISOR_TASKS)


@pytest.mark.parametrize("operation", ["get", "set"])
def test_the_kernel_is_not_told_what_systemd_does_not_take(systemd: FakeUnits, scopes: Scopes, operation: str) -> None:
    scopes.enter(ID, 77, ResourceLimits(pids_limit=5))
    systemd.failing = operation
    written: list[str] = []
    with pytest.raises(SystemdUnitFailed):
        scopes.update(ID, ResourceLimits(pids_limit=6), lambda: written)
    assert systemd.units[SCOPE]["TasksMax"] == ("t", 5 + units.SUPERVISOR_TASKS)


def test_what_systemd_has_no_property_of_is_written_alone(systemd: FakeUnits, scopes: Scopes) -> None:
    systemd.failing = "get"
    assert scopes.update(ID, ResourceLimits(huge_pages=[("2MB", 1)]), lambda: ["told"]) == ["told"]
