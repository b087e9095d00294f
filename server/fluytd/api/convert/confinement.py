"""Limits, privileges, namespaces and devices of a spec <-> messages. It checks only what a message cannot say."""

from typing import Final

from fluyt.v1.types import container_spec_pb2, resources_pb2, security_pb2
from fluytd.api.convert.values import choice
from fluytd.containers.spec import (
    DeviceSpec,
    HugetlbSpec,
    IoDeviceSpec,
    NamespaceMode,
    NamespaceSpec,
    NamespacesSpec,
    ResourcesSpec,
    SecuritySpec,
    UsersMode,
    UsersSpec,
)
from fluytd.errors import FieldInvalid

_OPTIONAL_LIMITS: Final = (
    "memory_limit_bytes",
    "memory_swap_limit_bytes",
    "memory_reservation_bytes",
    "cpu_quota_micros",
    "cpu_period_micros",
    "cpu_shares",
    "nano_cpus",
    "pids_limit",
    "cpu_burst_micros",
    "cpu_real_time_period_micros",
    "cpu_real_time_runtime_micros",
    "memory_swappiness",
    "oom_kill_disabled",
    "io_weight",
)
_IO_FIELDS: Final = (
    "path",
    "read_bytes_per_second",
    "write_bytes_per_second",
    "read_ops_per_second",
    "write_ops_per_second",
    "weight",
)
_NAMESPACES: Final = ("pid", "ipc", "uts", "cgroup")
_MODE: Final = security_pb2.NamespaceSpec
_MODES: Final = {
    _MODE.MODE_UNSPECIFIED: NamespaceMode.PRIVATE,
    _MODE.MODE_PRIVATE: NamespaceMode.PRIVATE,
    _MODE.MODE_HOST: NamespaceMode.HOST,
    _MODE.MODE_CONTAINER: NamespaceMode.CONTAINER,
    _MODE.MODE_SHAREABLE: NamespaceMode.SHAREABLE,
    _MODE.MODE_NONE: NamespaceMode.NONE,
}
_USERS_MODE: Final = security_pb2.UserNamespaceSpec
_USERS_MODES: Final = {
    _USERS_MODE.MODE_UNSPECIFIED: UsersMode.DEFAULT,
    _USERS_MODE.MODE_AUTO: UsersMode.AUTO,
    _USERS_MODE.MODE_HOST: UsersMode.HOST,
}


def from_resources(message: resources_pb2.Resources) -> ResourcesSpec:
    """The limits that are given."""
    limits = {name: getattr(message, name) for name in _OPTIONAL_LIMITS if message.HasField(name)}
    return ResourcesSpec(
        cpuset_cpus=message.cpuset_cpus,
        cpuset_mems=message.cpuset_mems,
        io_devices=tuple(
            IoDeviceSpec(**{name: getattr(device, name) for name in _IO_FIELDS}) for device in message.io_device_limits
        ),
        hugetlb=tuple(HugetlbSpec(bound.page_size, bound.limit_bytes) for bound in message.hugetlb_limits),
        **limits,
    )


def to_resources(limits: ResourcesSpec) -> resources_pb2.Resources:
    """The message of the limits that are given."""
    message = resources_pb2.Resources(cpuset_cpus=limits.cpuset_cpus, cpuset_mems=limits.cpuset_mems)
    for name in _OPTIONAL_LIMITS:
        value = getattr(limits, name)
        if value is not None:
            setattr(message, name, value)
    for device in limits.io_devices:
        message.io_device_limits.add(**{name: getattr(device, name) for name in _IO_FIELDS})
    for bound in limits.hugetlb:
        message.hugetlb_limits.add(page_size=bound.page_size, limit_bytes=bound.limit_bytes)
    return message


def from_security(message: security_pb2.SecuritySpec) -> SecuritySpec:
    """Privileges and confinement. Raises FIELD_INVALID (`spec.security.seccomp`)."""
    seccomp: str | None = None
    if message.HasField("seccomp"):
        kind = message.seccomp.WhichOneof("profile")
        if kind is None or not getattr(message.seccomp, kind):
            raise FieldInvalid(field="spec.security.seccomp", rule="needs one profile, and true as its value")
        seccomp = message.seccomp.json if kind == "json" else kind
        if kind == "json" and not seccomp.lstrip().startswith("{"):
            raise FieldInvalid(field="spec.security.seccomp.json", rule="must be a JSON object")
    return SecuritySpec(
        privileged=message.privileged,
        add_capabilities=tuple(_capability(name) for name in message.add_capabilities),
        drop_capabilities=tuple(_capability(name) for name in message.drop_capabilities),
        seccomp_profile=seccomp,
        no_new_privileges=message.no_new_privileges,
        masked_paths=tuple(message.masked_paths.paths) if message.HasField("masked_paths") else None,
        read_only_paths=tuple(message.read_only_paths.paths) if message.HasField("read_only_paths") else None,
        apparmor_profile=message.apparmor_profile,
        selinux_label=message.selinux_label,
        selinux_options=tuple(message.selinux_options),
    )


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def to_security(security: SecuritySpec) -> security_pb2.SecuritySpec:
    """The message."""
    message = security_pb2.SecuritySpec(
        privileged=security.privileged,
        add_capabilities=security.add_capabilities,
        drop_capabilities=security.drop_capabilities,
        no_new_privileges=security.no_new_privileges,
        apparmor_profile=security.apparmor_profile,
        selinux_label=security.selinux_label,
        selinux_options=security.selinux_options,
    )
    profile = security.seccomp_profile
    if profile in ("default", "unconfined"):
        setattr(message.seccomp, profile, True)
    elif profile is not None:
        message.seccomp.json = profile
    for name in ("masked_paths", "read_only_paths"):
        paths = getattr(security, name)
        if paths is not None:
            getattr(message, name).SetInParent()
            getattr(message, name).paths.extend(paths)
    return message


def from_users(message: security_pb2.UserNamespaceSpec, field: str) -> UsersSpec:
    """Whose users are asked for. Raises FIELD_INVALID."""
    return UsersSpec(choice(_USERS_MODES, message.mode, f"{field}.mode"), message.size)


def from_namespaces(message: security_pb2.NamespacesSpec) -> NamespacesSpec:
    """The namespaces. Raises FIELD_INVALID (`spec.namespaces...`)."""
    user = message.user
    return NamespacesSpec(
        user=from_users(user, "spec.namespaces.user"),
        **{
            name: NamespaceSpec(
                choice(_MODES, getattr(message, name).mode, f"spec.namespaces.{name}.mode"),
                getattr(message, name).container,
            )
            for name in _NAMESPACES
        },
    )


def to_namespaces(namespaces: NamespacesSpec) -> security_pb2.NamespacesSpec:
    """The message; what is private is left out."""
    message = security_pb2.NamespacesSpec()
    for name in _NAMESPACES:
        asked = getattr(namespaces, name)
        if asked.mode is not NamespaceMode.PRIVATE:
            getattr(message, name).mode = _MODE.Mode.Value(f"MODE_{asked.mode.name}")
            getattr(message, name).container = asked.container
    if namespaces.user.mode is not UsersMode.DEFAULT:
        message.user.mode = _USERS_MODE.Mode.Value(f"MODE_{namespaces.user.mode.name}")
        message.user.size = namespaces.user.size
    return message


def from_device(message: container_spec_pb2.Device) -> DeviceSpec:
    """A device as asked."""
    return DeviceSpec(message.host_path, message.container_path, message.permissions or "rwm")


def to_device(device: DeviceSpec) -> container_spec_pb2.Device:
    """The message."""
    return container_spec_pb2.Device(
        host_path=device.host_path, container_path=device.container_path, permissions=device.permissions
    )
