"""A container's record turned into what the core starts. Pure: it reads neither host nor clock."""

from typing import Final

from fluytd.containers import namespaces, selinux
from fluytd.containers import process_spec as core
from fluytd.containers.log_fields import journal_fields, log_bounds
from fluytd.containers.model import Container
from fluytd.containers.privileges import MASKED_PATHS, READ_ONLY_PATHS, apparmor_profile, capabilities, device_rules
from fluytd.containers.resource_limits import limits
from fluytd.containers.root_mounts import INIT_PATH, mounts, stacked_dirs
from fluytd.containers.spec import ContainerSpec, LogDriver
from fluytd.containers.start_facts import HostFacts, StartPaths, StartSettings
from fluytd.containers.terminals import DEFAULT_SIZE

#: Source: moby `daemon/config`, DefaultShmSize.
DEFAULT_SHM_SIZE_BYTES: Final = 64 * 1024 * 1024


def start_spec(
    container: Container, paths: StartPaths, settings: StartSettings, host: HostFacts, *, is_held: bool = False
) -> core.ContainerStart:
    """Everything the core needs to execute this container but for what its devices are on the host. Raises
    FIELD_INVALID as `capabilities`, KERNEL_FEATURE_MISSING as `selinux.applied`."""
    modes = namespaces.modes(container.spec)
    spec, resolved, security = container.spec, container.resolved, container.spec.security
    segment_bytes, segment_count = log_bounds(spec.log, settings)
    labels = selinux.applied(container, host.selinux, host.kernel_release)
    masked = security.masked_paths
    read_only = security.read_only_paths
    return core.ContainerStart(
        container_id=container.id,
        run_dir=paths.run_dir,
        log_dir=paths.log_dir,
        lower_dirs=stacked_dirs(paths),
        upper_dir=paths.upper_dir,
        work_dir=paths.work_dir,
        args=[INIT_PATH, "--", *resolved.args] if spec.init else list(resolved.args),
        env=list(resolved.env),
        cwd=resolved.working_dir,
        user=resolved.user,
        additional_groups=list(spec.additional_groups),
        hostname=resolved.hostname,
        domainname=spec.domainname,
        network_mode=modes["network"],
        pid_mode=modes["pid"],
        ipc_mode=modes["ipc"],
        uts_mode=modes["uts"],
        cgroup_mode=modes["cgroup"],
        shm_mode=modes["shm"],
        devices=[],
        device_rules=device_rules(spec.device_cgroup_rules),
        is_root_read_only=spec.read_only_root,
        is_privileged=security.privileged,
        capabilities=capabilities(security, host),
        seccomp_profile=security.seccomp_profile or ("unconfined" if security.privileged else "default"),
        no_new_privileges=security.no_new_privileges,
        apparmor_profile=apparmor_profile(security, host),
        process_label="" if labels is None else labels.process,
        mount_label="" if labels is None else labels.mount,
        rlimits=[core.Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in spec.rlimits],
        masked_paths=list(masked if masked is not None else () if security.privileged else MASKED_PATHS),
        read_only_paths=list(read_only if read_only is not None else () if security.privileged else READ_ONLY_PATHS),
        sysctls=sorted(spec.sysctls.items()),
        mounts=mounts(container, paths, settings.init_path),
        shm_size_bytes=spec.shm_size_bytes or DEFAULT_SHM_SIZE_BYTES,
        oom_score_adj=spec.oom_score_adj,
        cgroup_parent=spec.cgroup_parent.strip("/") or settings.cgroup_parent,
        cgroup_name=container.id,
        limits=limits(spec.resources),
        open_stdin=spec.open_stdin,
        terminal=terminal_size(spec),
        is_held=is_held,
        log_segment_bytes=segment_bytes,
        log_segment_count=segment_count,
        journal_socket=settings.journal_socket if spec.log.driver is LogDriver.JOURNALD else None,
        journal_fields=journal_fields(container),
        ids=None if container.ids is None else (container.ids.first_id, container.ids.count),
        ids_joined=0 if container.ids is not None and namespaces.others(spec) else None,
    )


def terminal_size(spec: ContainerSpec) -> tuple[int, int] | None:
    """(columns, rows) of the terminal at the first instruction; None without one."""
    if not spec.tty:
        return None
    width, height = DEFAULT_SIZE
    return spec.tty_width or width, spec.tty_height or height
