"""The two gates before what a Dockerfile asks for beyond the confinement of a step."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from fluytd.builds import graph
from fluytd.builds.admission import MAX_STEP_DEVICES, Admission, privileges
from fluytd.builds.dockerfile.model import Device
from fluytd.builds.dockerfile.steps import ResolvedBuild, RunStep
from fluytd.builds.entitlements import KINDS, parse_entitlements
from fluytd.builds.model import BuildRequest, UploadedSource
from fluytd.containers.cdi_registry import FoundDevice
from fluytd.errors import EngineError
from tests.unit.builds.test_graph import resolved

TOY, AUTO = "vendor.com/toy=a", "vendor.com/auto=x"


class Host:
    """A host with these devices, by what finds them."""

    places = "/etc/cdi"

    def __init__(self, devices: Mapping[str, Sequence[str]]) -> None:
        self._devices = devices

    async def find(self, name: str) -> list[FoundDevice]:
        return [FoundDevice(one, one.startswith("vendor.com/auto")) for one in self._devices.get(name, ())]

    async def mount_points(self, names: Sequence[str]) -> tuple[str, ...]:
        raise AssertionError(names)

    async def as_written(self, names: Sequence[str]) -> tuple[str, ...]:
        raise AssertionError(names)


HOST = Host({TOY: [TOY], "vendor.com/toy": [TOY], "vendor.com/toy=*": [TOY, "vendor.com/toy=b"], AUTO: [AUTO]})


def admitted(
    dockerfile: str, given: Sequence[str] = (), *, permitted: Sequence[str] = KINDS, network: str = "default"
) -> ResolvedBuild:
    """What the gates let through."""
    build = resolved(dockerfile)
    entitlements = parse_entitlements(given)
    if network == "host":
        entitlements = entitlements.with_host_network()
    request = BuildRequest(context=UploadedSource("c"), network_mode=network, entitlements=entitlements)
    admission = Admission(frozenset(permitted), HOST)
    return asyncio.run(admission.admitted(build, graph.places(build), request, "Dockerfile"))


def refusal(dockerfile: str, given: Sequence[str] = (), **options: object) -> tuple[str, str, str]:
    """Reason, line and entitlement of what a gate refuses; the cause in the place of the last for a failed step."""
    with pytest.raises(EngineError) as caught:
        admitted(dockerfile, given, **options)  # type: ignore[arg-type]
    told = caught.value.metadata
    return caught.value.reason, told["line"], told.get("entitlement", told.get("cause", ""))


@pytest.mark.parametrize(
    ("flag", "entitlement", "named"),
    [
        ("--security=insecure", "security.insecure", "security.insecure"),
        ("--network=host", "network.host", "network.host"),
        (f"--device={TOY}", "device", f"device={TOY}"),
        ("--device=vendor.com/toy", "device", f"device={TOY}"),
    ],
)
def test_each_gate_refuses_with_line_and_entitlement(flag: str, entitlement: str, named: str) -> None:
    dockerfile = f"FROM a\nRUN true\n\nRUN {flag} true\n"
    assert refusal(dockerfile) == ("BUILD_ENTITLEMENT_MISSING", "4", named)
    others = [kind for kind in KINDS if kind != entitlement]
    assert refusal(dockerfile, others) == ("BUILD_ENTITLEMENT_MISSING", "4", named)
    # Who would only be refused by the next gate is told of that one at once.
    for given in ([], [entitlement]):
        assert refusal(dockerfile, given, permitted=others) == ("BUILD_ENTITLEMENT_FORBIDDEN", "4", entitlement)
    admitted(dockerfile, [entitlement])


def test_only_what_is_needed_is_looked_at() -> None:
    dockerfile = "FROM a AS left\nRUN --security=insecure true\nFROM a\nRUN --security=sandbox --network=none true\n"
    admitted(dockerfile, permitted=())
    admitted("FROM a\nRUN true\n", KINDS, permitted=())


def test_a_build_in_the_hosts_network_passes_its_own_gate_alone() -> None:
    admitted("FROM a\nRUN true\n", network="host")
    admitted("FROM a\nRUN --network=none true\n", network="host", permitted=())
    told = refusal("FROM a\nRUN true\n", network="host", permitted=())
    assert told == ("BUILD_ENTITLEMENT_FORBIDDEN", "2", "network.host")


def devices(build: ResolvedBuild) -> list[str]:
    """The devices of the one RUN."""
    (step,) = (step for step in build.stages[-1].steps if isinstance(step, RunStep))
    assert all(device.is_required for device in step.devices)
    return [device.name for device in step.devices]


@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [
        (f"--device={TOY} --device=name={TOY}", ["device"], [TOY]),
        ("--device=vendor.com/toy=*", ["device"], [TOY, "vendor.com/toy=b"]),
        ("--device=vendor.com/toy=*", ["device=vendor.com/toy=*"], [TOY, "vendor.com/toy=b"]),
        (f"--device={TOY}", ["device=vendor.com/toy"], [TOY]),
        ("--device=vendor.com/other,required", [f"device={TOY},alias=vendor.com/other"], [TOY]),
        # One that is absent and not required is left out, and asks for nothing.
        ("--device=vendor.com/absent=a", [], []),
        (f"--device=vendor.com/absent=a,required=false --device={TOY}", ["device"], [TOY]),
        # What the host's spec lets all builds have needs no entitlement.
        (f"--device={AUTO}", [], [AUTO]),
    ],
)
def test_devices_are_those_that_the_host_has(flags: str, given: list[str], expected: list[str]) -> None:
    assert devices(admitted(f"FROM a\nRUN {flags} true\n", given)) == expected


def test_an_absent_device_that_is_required_and_one_that_is_not_given_are_refused() -> None:
    required = "FROM a\nRUN --device=vendor.com/absent=a,required true\n"
    assert refusal(required, ["device"]) == ("BUILD_STEP_FAILED", "2", "CDI_DEVICE_UNAVAILABLE")
    both = "FROM a\nRUN --device=vendor.com/toy=* true\n"
    told = refusal(both, [f"device={TOY}"])
    assert told == ("BUILD_ENTITLEMENT_MISSING", "2", "device=vendor.com/toy=b")


def test_more_devices_than_a_step_takes_are_refused() -> None:
    many = [f"vendor.com/many={number}" for number in range(MAX_STEP_DEVICES + 1)]
    host = Host({"vendor.com/many=*": many})
    build = resolved("FROM a\nRUN --device=vendor.com/many=* true\n")
    request = BuildRequest(context=UploadedSource("c"), entitlements=parse_entitlements(["device"]))
    with pytest.raises(EngineError) as caught:
        asyncio.run(Admission(frozenset(KINDS), host).admitted(build, graph.places(build), request, "Dockerfile"))
    assert caught.value.metadata["cause"] == "LIMIT_EXCEEDED"
    assert "MAX_STEP_DEVICES" in caught.value.message


def test_what_steps_had_is_told_by_their_numbers() -> None:
    dockerfile = f"FROM a\nRUN true\nRUN --security=insecure --network=host true\nRUN --device={TOY} true\n"
    build = admitted(dockerfile, KINDS)
    request = BuildRequest(context=UploadedSource("c"))
    assert privileges(build, graph.places(build), request) == {
        3: {"security": "insecure", "network": "host"},
        4: {"devices": [TOY]},
    }


def test_devices_and_security_are_part_of_a_key() -> None:
    (step,) = (one for one in resolved("FROM a\nRUN true\n").stages[0].steps if isinstance(one, RunStep))
    plain = graph.run_parts(step, "sha256:1", [])
    insecure = graph.run_parts(replace(step, security="insecure"), "sha256:1", [])
    with_device = graph.run_parts(replace(step, devices=(Device(TOY),)), "sha256:1", [])
    two = graph.run_parts(replace(step, devices=(Device(TOY), Device(AUTO))), "sha256:1", [])
    of_spec = graph.run_parts(replace(step, devices=(Device(TOY),)), "sha256:1", [], ["env A=1"])
    assert len({tuple(parts) for parts in (plain, insecure, with_device, two, of_spec)}) == 5
