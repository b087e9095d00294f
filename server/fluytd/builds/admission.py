"""Whether a build may do what its Dockerfile asks for beyond the confinement of a step; see `entitlements`.

It is decided before the first step runs, for every step that the target needs, cached or not.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from fluytd.builds import graph
from fluytd.builds.dockerfile.model import Device
from fluytd.builds.dockerfile.steps import ResolvedBuild, ResolvedStage, RunStep, Step
from fluytd.builds.entitlements import DEVICE, HOST_NETWORK, INSECURE
from fluytd.builds.graph import StepPlace
from fluytd.builds.model import BuildRequest
from fluytd.builds.ports import HostDevices
from fluytd.errors import BuildEntitlementForbidden, BuildEntitlementMissing, CdiDeviceUnavailable, LimitExceeded

_log = logging.getLogger(__name__)

#: Devices of one RUN. Source: what a container takes.
MAX_STEP_DEVICES: Final = 64


@dataclass(frozen=True, slots=True)
class _Asking:
    """A step that asks for something."""

    request: BuildRequest
    file: str
    place: StepPlace


@dataclass(frozen=True, slots=True)
class Admission:
    """Decides. Belongs to the event loop."""

    #: Kinds of entitlements that the engine lets callers give.
    permitted: frozenset[str]
    devices: HostDevices

    async def admitted(
        self, build: ResolvedBuild, places: tuple[tuple[StepPlace, ...], ...], request: BuildRequest, file: str
    ) -> ResolvedBuild:
        """The build, each step with the devices that the host has of those it asks for.

        Raises BUILD_ENTITLEMENT_FORBIDDEN, BUILD_ENTITLEMENT_MISSING; BUILD_STEP_FAILED with the cause
        CDI_DEVICE_UNAVAILABLE or LIMIT_EXCEEDED.
        """
        stages: list[ResolvedStage] = []
        for stage, own in zip(build.stages, places, strict=True):
            steps: list[Step] = []
            for step, place in zip(stage.steps, own[1:], strict=True):
                admitted = step
                if isinstance(step, RunStep):
                    admitted = await self._run(step, _Asking(request, file, place))
                steps.append(admitted)
            stages.append(replace(stage, steps=tuple(steps)))
        return replace(build, stages=tuple(stages))

    async def _run(self, step: RunStep, asking: _Asking) -> RunStep:
        given = asking.request.entitlements
        if step.security == "insecure":
            self._check(INSECURE, asking, "RUN --security=insecure", is_given=INSECURE in given.kinds)
        if network_of(step, asking.request) == "host":
            what = "RUN --network=host" if step.network == "host" else "RUN in the host's network"
            self._check(HOST_NETWORK, asking, what, is_given=HOST_NETWORK in given.kinds)
        if not step.devices:
            return step
        return replace(
            step, devices=tuple(Device(name, is_required=True) for name in await self._devices(step, asking))
        )

    def _check(self, kind: str, asking: _Asking, what: str, *, is_given: bool, entitlement: str = "") -> None:
        place = {"file": asking.file, "line": asking.place.line, "instruction": what}
        if kind not in self.permitted:
            raise BuildEntitlementForbidden(**place, entitlement=kind)
        if not is_given:
            raise BuildEntitlementMissing(**place, entitlement=entitlement or kind)

    async def _devices(self, step: RunStep, asking: _Asking) -> list[str]:
        """Whole names of the devices that the step gets; one that is absent and not required is left out."""
        given = asking.request.entitlements
        named = frozenset[str]() if DEVICE in given.kinds else await self._named(given.devices)
        found: dict[str, None] = {}
        for asked in step.devices:
            stand_in = given.devices.get(asked.name, "")
            name = stand_in or asked.name
            devices = await self.devices.find(name)
            if not devices:
                self._absent(asked, name, asking)
            is_given = bool(stand_in) or DEVICE in given.kinds
            for device in devices:
                # What the host's own spec lets every build have passes both gates.
                if not device.is_auto_allowed:
                    is_this_given = is_given or device.name in named
                    what, entitlement = f"RUN --device={asked.name}", f"{DEVICE}={device.name}"
                    self._check(DEVICE, asking, what, is_given=is_this_given, entitlement=entitlement)
                found[device.name] = None
        if len(found) > MAX_STEP_DEVICES:
            error = LimitExceeded(
                limit="MAX_STEP_DEVICES", limit_value=MAX_STEP_DEVICES, actual=len(found), subject="devices of a step"
            )
            raise graph.failed(asking.place, error, asking.file) from error
        return list(found)

    def _absent(self, asked: Device, name: str, asking: _Asking) -> None:
        if asked.is_required:
            error = CdiDeviceUnavailable(device=name, rule=f"no spec in {self.devices.places} has it")
            raise graph.failed(asking.place, error, asking.file) from error
        _log.info("step %s goes without the device %s, which no spec has", asking.place.number, name)

    async def _named(self, given: Mapping[str, str]) -> frozenset[str]:
        """The devices that the caller has given by names of its own: those called so, and those that such a name means
        among others. Each name is looked up once, whatever a step asks for."""
        names = [name for name, stand_in in given.items() if not stand_in]
        meant = [one.name for name in names for one in await self.devices.find(name)]
        return frozenset((*names, *meant))


def network_of(step: RunStep, request: BuildRequest) -> str:
    """`default`, `none` or `host`: the step's own, else that of the build."""
    return step.network if step.network != "default" else request.network_mode


def privileges(
    build: ResolvedBuild, places: tuple[tuple[StepPlace, ...], ...], request: BuildRequest
) -> dict[int, dict[str, object]]:
    """What steps had beyond their confinement, by their number, as provenance tells it."""
    found: dict[int, dict[str, object]] = {}
    for stage, own in zip(build.stages, places, strict=True):
        for step, place in zip(stage.steps, own[1:], strict=True):
            if not isinstance(step, RunStep):
                continue
            told: dict[str, object] = {}
            if step.security == "insecure":
                told["security"] = step.security
            if network_of(step, request) == "host":
                told["network"] = "host"
            if step.devices:
                told["devices"] = [device.name for device in step.devices]
            if told:
                found[place.number] = told
    return found
