"""ContainerSpec messages <-> specs. What this version does not honour is refused by name, never ignored."""

from typing import Final

from fluyt.v1.types import container_spec_pb2, network_pb2, platform_pb2
from fluytd.api.convert.confinement import (
    from_device,
    from_namespaces,
    from_resources,
    from_security,
    to_device,
    to_namespaces,
    to_resources,
    to_security,
)
from fluytd.api.convert.health import from_health_check, to_health_check
from fluytd.api.convert.mounts import add_mounts, from_mounts, from_volumes_from
from fluytd.api.convert.networks import from_attachments, from_ports, to_attachment, to_port_spec
from fluytd.api.convert.values import choice, from_duration, to_duration
from fluytd.containers.spec import (
    ContainerSpec,
    LogDriver,
    LogSpec,
    NetworkMode,
    NetworkSpec,
    PlatformChoice,
    PullPolicy,
    RestartMode,
    RestartPolicy,
    RlimitSpec,
)
from fluytd.containers.terminals import MAX_TERMINAL_SIZE
from fluytd.errors import FieldInvalid

_NETWORK: Final = network_pb2.NetworkSpec
_POLICIES: Final = {
    container_spec_pb2.PULL_POLICY_UNSPECIFIED: PullPolicy.MISSING,
    container_spec_pb2.PULL_POLICY_MISSING: PullPolicy.MISSING,
    container_spec_pb2.PULL_POLICY_ALWAYS: PullPolicy.ALWAYS,
    container_spec_pb2.PULL_POLICY_NEVER: PullPolicy.NEVER,
}
_RESTART: Final = container_spec_pb2.RestartPolicy
_RESTART_MODES: Final = {
    _RESTART.MODE_UNSPECIFIED: RestartMode.NO,
    _RESTART.MODE_NO: RestartMode.NO,
    _RESTART.MODE_ON_FAILURE: RestartMode.ON_FAILURE,
    _RESTART.MODE_ALWAYS: RestartMode.ALWAYS,
    _RESTART.MODE_UNLESS_STOPPED: RestartMode.UNLESS_STOPPED,
}
#: Messages of specs that are kept, the oldest given up first, and the largest of them.
MAX_KEPT_MESSAGES: Final = 2_048
MAX_KEPT_BYTES: Final = 4 * 1024
#: Specs that are found again by what their messages say.
MAX_KEPT_SPECS: Final = 256
_SPECS: Final[dict[bytes, ContainerSpec]] = {}
#: By identity: a spec holds what has no hash, and the one in the value keeps its id from being another's.
_MESSAGES: Final[dict[tuple[int, bool], tuple[ContainerSpec, container_spec_pb2.ContainerSpec]]] = {}


def from_spec(message: container_spec_pb2.ContainerSpec) -> ContainerSpec:
    """The spec; the same object for messages that say the same, so that containers share it and what is made of it.

    Raises FIELD_INVALID, FIELD_NOT_BUILT with the path of the field below `spec`.
    """
    data = message.SerializeToString(deterministic=True)
    spec = _SPECS.get(data)
    if spec is None:
        spec = _from_spec(message)
        if len(data) <= MAX_KEPT_BYTES:
            if len(_SPECS) == MAX_KEPT_SPECS:
                del _SPECS[next(iter(_SPECS))]
            _SPECS[data] = spec
    return spec


def _from_spec(message: container_spec_pb2.ContainerSpec) -> ContainerSpec:
    if not message.image:
        raise FieldInvalid(field="spec.image", rule="must be given")
    mounts = from_mounts(message.mounts)
    return ContainerSpec(
        image=message.image,
        platform=_platform(message.platform) if message.HasField("platform") else None,
        pull_policy=choice(_POLICIES, message.pull_policy, "spec.pull_policy"),
        entrypoint=tuple(message.entrypoint.values) if message.HasField("entrypoint") else None,
        args=tuple(message.args),
        env=tuple(message.env),
        user=message.user,
        additional_groups=tuple(message.additional_groups),
        working_dir=message.working_dir,
        hostname=message.hostname,
        domainname=message.domainname,
        labels=dict(message.labels),
        annotations=dict(message.annotations),
        tty=message.tty,
        storage_size_bytes=message.storage_size_bytes,
        tty_width=_terminal_side(message.tty_width, "spec.tty_width"),
        tty_height=_terminal_side(message.tty_height, "spec.tty_height"),
        open_stdin=message.open_stdin,
        stdin_once=message.stdin_once,
        stop_signal=message.stop_signal,
        stop_timeout_millis=(
            from_duration(message.stop_timeout, "spec.stop_timeout") if message.HasField("stop_timeout") else None
        ),
        auto_remove=message.auto_remove,
        init=message.init,
        health_check=(
            from_health_check(message.health_check, "spec.health_check") if message.HasField("health_check") else None
        ),
        restart_policy=from_restart_policy(message.restart_policy, "spec.restart_policy"),
        read_only_root=message.read_only_root,
        resources=from_resources(message.resources),
        rlimits=tuple(RlimitSpec(limit.name, limit.soft, limit.hard) for limit in message.rlimits),
        oom_score_adj=message.oom_score_adj if message.HasField("oom_score_adj") else None,
        shm_size_bytes=message.shm_size_bytes,
        security=from_security(message.security),
        namespaces=from_namespaces(message.namespaces),
        devices=tuple(from_device(device) for device in message.devices),
        device_cgroup_rules=tuple(message.device_cgroup_rules),
        cdi_devices=tuple(message.cdi_devices),
        cgroup_parent=message.cgroup_parent,
        network=_network(message.network),
        binds=mounts.binds,
        tmpfs=mounts.tmpfs,
        volumes=mounts.volumes,
        image_mounts=mounts.images,
        volumes_from=from_volumes_from(message.volumes_from),
        sysctls=dict(message.sysctls),
        log=_log(message.log),
    )


def _terminal_side(value: int, field: str) -> int:
    if value > MAX_TERMINAL_SIZE:
        raise FieldInvalid(field=field, rule=f"must be at most {MAX_TERMINAL_SIZE}")
    return value


def _platform(message: platform_pb2.Platform) -> PlatformChoice:
    return PlatformChoice(message.os, message.architecture, message.variant)


def from_restart_policy(message: container_spec_pb2.RestartPolicy, path: str) -> RestartPolicy:
    """The policy. Raises FIELD_INVALID with the field's path below `path`."""
    return RestartPolicy(choice(_RESTART_MODES, message.mode, f"{path}.mode"), message.max_retry_count)


#: What only a container on networks, or with the host's, can have.
_OF_NETWORKS: Final = ("attachments", "published_ports", "publish_all_ports")


def _network(message: network_pb2.NetworkSpec) -> NetworkSpec:
    modes = {
        _NETWORK.MODE_UNSPECIFIED: NetworkMode.BRIDGE,
        _NETWORK.MODE_BRIDGE: NetworkMode.BRIDGE,
        _NETWORK.MODE_NONE: NetworkMode.NONE,
        _NETWORK.MODE_HOST: NetworkMode.HOST,
        _NETWORK.MODE_CONTAINER: NetworkMode.CONTAINER,
    }
    mode = choice(modes, message.mode, "spec.network.mode")
    for name in () if mode in {NetworkMode.BRIDGE, NetworkMode.HOST} else _OF_NETWORKS:
        if getattr(message, name):
            raise FieldInvalid(field=f"spec.network.{name}", rule="needs a network of the container's own")
    if mode is NetworkMode.HOST and message.attachments:
        raise FieldInvalid(field="spec.network.attachments", rule="cannot be had with the host's network")
    return NetworkSpec(
        mode=mode,
        attachments=from_attachments(message.attachments),
        # With the host's network every port is the host's already, as Docker has it.
        published_ports=from_ports(message.published_ports),
        publish_all_ports=message.publish_all_ports,
        is_default=message.mode == _NETWORK.MODE_UNSPECIFIED,
        container=message.container,
        dns_servers=tuple(message.dns_servers),
        dns_search=tuple(message.dns_search),
        dns_options=tuple(message.dns_options),
        extra_hosts=tuple(message.extra_hosts),
        exposed_ports=tuple(message.exposed_ports),
    )


_LOG_DRIVERS: Final = {
    container_spec_pb2.LogSpec.DRIVER_UNSPECIFIED: None,
    container_spec_pb2.LogSpec.DRIVER_FILE: LogDriver.FILE,
    container_spec_pb2.LogSpec.DRIVER_JOURNALD: LogDriver.JOURNALD,
    container_spec_pb2.LogSpec.DRIVER_NONE: LogDriver.NONE,
}


def _log(message: container_spec_pb2.LogSpec) -> LogSpec:
    if message.driver not in _LOG_DRIVERS:
        raise FieldInvalid(field="spec.log.driver", rule="must be one that is known")
    return LogSpec(
        message.segment_size_bytes,
        message.segment_count,
        _LOG_DRIVERS[message.driver],
        tuple(message.detail_labels),
        tuple(message.detail_env),
    )


def to_spec(spec: ContainerSpec, *, is_brief: bool = False) -> container_spec_pb2.ContainerSpec:
    """The message, not to be changed. `is_brief` leaves out environment, limits and mounts, as lists do.

    A spec never changes and is shown many times, so that its message is kept.
    """
    kept = _MESSAGES.get((id(spec), is_brief))
    if kept is not None and kept[0] is spec:
        return kept[1]
    message = _to_spec(spec, is_brief=is_brief)
    if message.ByteSize() <= MAX_KEPT_BYTES:
        if len(_MESSAGES) == MAX_KEPT_MESSAGES:
            del _MESSAGES[next(iter(_MESSAGES))]
        _MESSAGES[id(spec), is_brief] = (spec, message)
    return message


def _to_spec(spec: ContainerSpec, *, is_brief: bool) -> container_spec_pb2.ContainerSpec:
    message = container_spec_pb2.ContainerSpec(
        image=spec.image,
        pull_policy=container_spec_pb2.PullPolicy.Value(f"PULL_POLICY_{spec.pull_policy.name}"),
        args=spec.args,
        user=spec.user,
        additional_groups=spec.additional_groups,
        working_dir=spec.working_dir,
        hostname=spec.hostname,
        domainname=spec.domainname,
        labels=spec.labels,
        annotations=spec.annotations,
        tty=spec.tty,
        storage_size_bytes=spec.storage_size_bytes,
        tty_width=spec.tty_width,
        tty_height=spec.tty_height,
        open_stdin=spec.open_stdin,
        stdin_once=spec.stdin_once,
        stop_signal=spec.stop_signal,
        auto_remove=spec.auto_remove,
        init=spec.init,
        read_only_root=spec.read_only_root,
        oom_score_adj=spec.oom_score_adj,
        shm_size_bytes=spec.shm_size_bytes,
    )
    if spec.platform is not None:
        platform = spec.platform
        message.platform.CopyFrom(
            platform_pb2.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)
        )
    if spec.entrypoint is not None:
        message.entrypoint.SetInParent()
        message.entrypoint.values.extend(spec.entrypoint)
    if spec.stop_timeout_millis is not None:
        message.stop_timeout.CopyFrom(to_duration(spec.stop_timeout_millis))
    if spec.restart_policy.mode is not RestartMode.NO:
        message.restart_policy.mode = _RESTART.Mode.Value(f"MODE_{spec.restart_policy.mode.name}")
        message.restart_policy.max_retry_count = spec.restart_policy.max_retry_count
    if spec.health_check is not None:
        message.health_check.CopyFrom(to_health_check(spec.health_check))
    message.network.CopyFrom(_to_network(spec.network))
    if not is_brief:
        _add_details(message, spec)
    return message


def _to_network(network: NetworkSpec) -> network_pb2.NetworkSpec:
    mode = network.mode.name
    return network_pb2.NetworkSpec(
        mode=network_pb2.NetworkSpec.Mode.Value(f"MODE_{mode}"),
        container=network.container,
        attachments=[to_attachment(one) for one in network.attachments],
        published_ports=[to_port_spec(one) for one in network.published_ports],
        publish_all_ports=network.publish_all_ports,
        dns_servers=network.dns_servers,
        dns_search=network.dns_search,
        dns_options=network.dns_options,
        extra_hosts=network.extra_hosts,
        exposed_ports=network.exposed_ports,
    )


def _add_details(message: container_spec_pb2.ContainerSpec, spec: ContainerSpec) -> None:
    message.env.extend(spec.env)
    message.sysctls.update(spec.sysctls)
    message.resources.CopyFrom(to_resources(spec.resources))
    message.security.CopyFrom(to_security(spec.security))
    message.namespaces.CopyFrom(to_namespaces(spec.namespaces))
    message.devices.extend(to_device(device) for device in spec.devices)
    message.device_cgroup_rules.extend(spec.device_cgroup_rules)
    message.cdi_devices.extend(spec.cdi_devices)
    message.cgroup_parent = spec.cgroup_parent
    for limit in spec.rlimits:
        message.rlimits.add(name=limit.name, soft=limit.soft, hard=limit.hard)
    add_mounts(message, spec)
    message.log.segment_size_bytes = spec.log.segment_size_bytes
    message.log.segment_count = spec.log.segment_count
    message.log.detail_labels.extend(spec.log.detail_labels)
    message.log.detail_env.extend(spec.log.detail_env)
    message.log.driver = next(value for value, driver in _LOG_DRIVERS.items() if driver is spec.log.driver)
