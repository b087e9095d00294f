"""Catalogue entries about volumes and what is mounted into containers."""

from fluytd.errors.base import AlreadyExists, HostUnsupported, NotFound, Upstream, WrongState


class VolumeNotFound(
    NotFound,
    reason="VOLUME_NOT_FOUND",
    keys="volume",
    text="there is no volume {volume}",
    next_step="List the volumes, or create it.",
):
    """A name that no volume has."""


class VolumeExists(
    AlreadyExists,
    reason="VOLUME_EXISTS",
    keys="volume",
    text="there is another volume {volume}",
    next_step="Choose another name, or delete or rename that volume; or ask for the driver and options that it has.",
):
    """A name that a volume of another kind has."""


class VolumeInUse(
    WrongState,
    reason="VOLUME_IN_USE",
    keys="volume containers",
    text="volume {volume} is in use by containers {containers}",
    next_step="Delete these containers first, ended ones included; to rename it, it is enough to stop them.",
):
    """A volume that a container has."""


class VolumeDriverNotFound(
    HostUnsupported,
    reason="VOLUME_DRIVER_NOT_FOUND",
    keys="driver",
    text="there is no volume driver {driver}",
    next_step="Use the driver local, or name the driver's socket in the configuration.",
):
    """A driver that is not set up."""


class VolumeDriverFailed(
    Upstream,
    reason="VOLUME_DRIVER_FAILED",
    keys="driver operation detail",
    text="the volume driver {driver} failed to {operation}: {detail}",
    next_step="See that the driver runs and look at its log, then repeat.",
):
    """A driver that does not answer, or answers with a failure."""


class VolumeServerUnreachable(
    Upstream,
    reason="VOLUME_SERVER_UNREACHABLE",
    keys="volume server detail",
    text="the server {server} of volume {volume} cannot be reached: {detail}",
    next_step="See that addr among the volume's options names the server and that it answers, then repeat.",
):
    """A server of a network file system whose name has no address, or that does not answer."""


class MountSourceUnresponsive(
    Upstream,
    reason="MOUNT_SOURCE_UNRESPONSIVE",
    keys="path file_system seconds",
    text="{path}, on a file system of type {file_system}, gave no answer within {seconds} s",
    next_step="See that the server or program of that file system runs and answers, then repeat.",
):
    """A file or directory that is to be mounted, or copied out of or into a container, on a file system that does not
    answer."""


class BindSourceNotFound(
    NotFound,
    reason="BIND_SOURCE_NOT_FOUND",
    keys="field path",
    text="{field}: {path} does not exist on the engine's host",
    next_step="Make it first, or ask for it to be made (create_source, or -v on the command line).",
):
    """A file or directory of the host that is to be mounted and is not there."""
