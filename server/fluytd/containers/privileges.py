"""What the processes of a container may do: capabilities, devices, paths, the AppArmor profile. Pure."""

from collections.abc import Sequence
from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.spec import SecuritySpec
from fluytd.containers.start_facts import HostFacts
from fluytd.errors import FieldInvalid

#: Source: moby `oci/defaults.go`.
MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def apparmor_profile(security: SecuritySpec, host: HostFacts) -> str:
    """The profile that the processes are under; empty for none, as a privileged container has unless it asks for one.

    Source: moby `daemon/apparmor_default.go` and `daemon/oci_linux.go`, withApparmor.
    """
    if security.apparmor_profile:
        return "" if security.apparmor_profile == "unconfined" else security.apparmor_profile
    return "" if security.privileged else host.default_apparmor_profile


def capabilities(security: SecuritySpec, host: HostFacts) -> list[str]:
    """The capabilities of root in the container, sorted. Raises FIELD_INVALID for a name this kernel does not know.

    Source: moby `oci/caps/utils.go`, TweakCapabilities.
    """
    known = set(host.all_capabilities)
    check_capabilities(security.add_capabilities, host, "spec.security.add_capabilities")
    check_capabilities(security.drop_capabilities, host, "spec.security.drop_capabilities")
    added, dropped = set(security.add_capabilities), set(security.drop_capabilities)
    if security.privileged:
        chosen = known
    elif "ALL" in added:
        chosen = known - dropped
    elif "ALL" in dropped:
        chosen = added
    else:
        chosen = (set(host.default_capabilities) & known) - dropped | added
    return sorted(chosen - {"ALL"})


def check_capabilities(names: Sequence[str], host: HostFacts, field: str) -> None:
    """Raises FIELD_INVALID for a name that this kernel does not know, with its place in `field`."""
    for index, name in enumerate(names):
        if name != "ALL" and name not in host.all_capabilities:
            raise FieldInvalid(field=f"{field}[{index}]", rule=f"{name!r} is not a capability of this kernel")


def device_rules(rules: Sequence[str]) -> list[core.DeviceRule]:
    """The rules as the core takes them: one for both kinds of device becomes two."""
    found = []
    for rule in rules:
        kind, numbers, permissions = rule.split(" ")
        major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
        kinds = {"a": (True, False), "b": (True,), "c": (False,)}[kind]
        found += [core.DeviceRule(is_block, major, minor, permissions) for is_block in kinds]
    return found
