"""Catalogue entries about containers, their processes, logs and limits."""

import os

from fluytd.errors.base import AlreadyExists, HostUnsupported, Internal, InvalidInput, NotFound, Upstream, WrongState


class ContainerNotFound(
    NotFound,
    reason="CONTAINER_NOT_FOUND",
    keys="id",
    text="there is no container {id}",
    next_step="List the containers, ended ones included.",
):
    """An id or name that no container has."""


class ContainerAmbiguous(
    InvalidInput,
    reason="CONTAINER_AMBIGUOUS",
    keys="id matches",
    text="{id} stands for several containers: {matches}",
    next_step="Give more digits of the container id, or its name.",
):
    """A shortened id that fits more than one container."""


class NameInUse(
    AlreadyExists,
    reason="NAME_IN_USE",
    keys="name holder_id",
    text="the name {name!r} is held by container {holder_id}",
    next_step="Choose another name, or delete or rename that container.",
):
    """A container name that is taken."""


class ContainerWrongState(
    WrongState,
    reason="CONTAINER_WRONG_STATE",
    keys="id state allowed_states",
    text="container {id} is {state}; this needs {allowed_states}",
    next_step="Bring the container into one of these states first.",
):
    """A request that the container's state does not allow."""


class KernelFeatureMissing(
    HostUnsupported,
    reason="KERNEL_FEATURE_MISSING",
    keys="feature kernel_release",
    text="this host (kernel {kernel_release}) lacks {feature}",
    next_step="Run doctor to see what the host allows; leave the option out, or use a host that has the feature.",
):
    """Something that the kernel or its configuration does not offer."""


class ProjectQuotaUnavailable(
    HostUnsupported,
    reason="PROJECT_QUOTA_UNAVAILABLE",
    keys="path detail",
    text="what is written below {path} cannot be bounded: {detail}",
    next_step="Leave the bound out, or mount the file system of the data root with prjquota: xfs as it is, ext4 after"
    " `tune2fs -O quota,project` while it is unmounted, on a kernel with CONFIG_XFS_QUOTA or CONFIG_QFMT_V2.",
):
    """A bound of a volume or a writable layer on a file system that keeps none."""


class ProcessStartFailed(
    WrongState,
    reason="PROCESS_START_FAILED",
    keys="step errno path exit_code detail",
    text="the container's process could not be started at step {step} on {path} (errno {errno}): {detail}",
    next_step="Exit code 127 is a missing command, 126 one that cannot be executed: check command and directory. With"
    " another one, change what was asked for at this step, or leave it out.",
):
    """A start that failed before or at the execution of the command."""

    def __init__(self, **values: object) -> None:
        if not values.get("detail") and (number := int(str(values.get("errno") or 0))):
            values["detail"] = os.strerror(number)
        super().__init__(**values)


class CdiDeviceUnavailable(
    WrongState,
    reason="CDI_DEVICE_UNAVAILABLE",
    keys="device rule",
    text="the CDI device {device} cannot be given: {rule}",
    next_step="Look at the specs in the directories of the setting cdi_spec_dirs; the vendor's tool makes them anew.",
):
    """A CDI name that no spec of the host has, or whose spec cannot be carried out."""


class UserInvalid(
    InvalidInput,
    reason="USER_INVALID",
    keys="user rule",
    text="user {user!r} cannot be used: {rule}",
    next_step="Name a user and group of the image's /etc/passwd and /etc/group, or give numbers.",
):
    """A user or group that the image does not have, or a malformed one."""


class CgroupLimitRejected(
    HostUnsupported,
    reason="CGROUP_LIMIT_REJECTED",
    keys="file value errno",
    text="the kernel refused {value!r} for {file} (errno {errno})",
    next_step="Ask for a limit that this host can give.",
):
    """A resource limit that the kernel refused."""


class SystemdUnavailable(
    Upstream,
    reason="SYSTEMD_UNAVAILABLE",
    keys="detail",
    text="systemd, which is to make the containers' control groups, cannot be asked: {detail}",
    next_step="See that systemd is the host's first process and that its system bus runs (`systemctl status dbus`), or"
    " set cgroup_driver to cgroupfs.",
):
    """The setting cgroup_driver is systemd, and its bus gives no answer."""


class SystemdUnitFailed(
    Upstream,
    reason="SYSTEMD_UNIT_FAILED",
    keys="unit operation detail",
    text="systemd could not {operation} {unit}: {detail}",
    next_step="Look at `systemctl status` of the unit and at the host's journal, then repeat.",
):
    """What was asked of a container's unit and did not come about."""


class CgroupBusy(
    WrongState,
    reason="CGROUP_BUSY",
    keys="path",
    text="cgroup {path} still holds processes",
    next_step="Wait for them to end, then repeat.",
):
    """A control group that could not be removed in time."""


class ContainerNotEnding(
    Upstream,
    reason="CONTAINER_NOT_ENDING",
    keys="id detail",
    text="container {id} was killed and has not ended: {detail}",
    next_step="Bring back what they wait for, most often the server or program of a mounted file system, or unmount it"
    " with force: the processes end then. A forced removal is completed by itself as soon as they have.",
):
    """A container whose processes wait in the kernel, where no signal reaches them."""


class ProcessNotFound(
    WrongState,
    reason="PROCESS_NOT_FOUND",
    keys="host_pid",
    text="process {host_pid} has ended",
    next_step="Look at the container's exit code.",
):
    """A signal for a process that is gone."""


class ExecNotFound(
    NotFound,
    reason="EXEC_NOT_FOUND",
    keys="id",
    text="there is no exec session {id}",
    next_step="List the exec sessions; ended ones are kept for a bounded number only.",
):
    """A session that never was, or was forgotten."""


class LogNotKept(
    WrongState,
    reason="LOG_NOT_KEPT",
    keys="id driver",
    text="the output of container {id} is not kept: its log driver is {driver}",
    next_step="Attach to the container while it runs, or make it with another log driver.",
):
    """ReadLogs of a container whose log driver keeps nothing."""


class CursorInvalid(
    InvalidInput,
    reason="CURSOR_INVALID",
    keys="cursor",
    text="{cursor!r} is not a cursor of this log",
    next_step="Use a cursor as a reply gave it, or read without one.",
):
    """A log cursor that was not made by this engine for this log."""


class FileUnrepresentable(
    WrongState,
    reason="FILE_UNREPRESENTABLE",
    keys="path rule",
    text="the container's file {path} cannot stand in a layer: {rule}",
    next_step="Remove or rename the file in the container, then repeat.",
):
    """A file of a container that an image layer cannot hold without saying something else."""


class SupervisorLost(
    Internal,
    reason="SUPERVISOR_LOST",
    keys="id detail",
    text="the supervisor of container {id} has gone: {detail}",
    next_step="The container's processes were ended; start it again, and look for what killed the supervisor.",
):
    """A supervisor that ended without leaving an exit record."""
