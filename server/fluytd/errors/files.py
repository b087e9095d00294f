"""Catalogue entries about files that are copied into and out of containers."""

from fluytd.errors.base import InvalidInput, NotFound, WrongState


class PathNotFound(
    NotFound,
    reason="PATH_NOT_FOUND",
    keys="path",
    text="there is no {path} in the container",
    next_step="Look at the directories of the path; a link is followed inside the container only.",
):
    """A path, or a directory on the way to it, that is not in the container."""


class PathWrongKind(
    WrongState,
    reason="PATH_WRONG_KIND",
    keys="path found wanted",
    text="{path} is {found}, not {wanted}",
    next_step="Name another destination, remove what stands there, or allow it to be replaced.",
):
    """A file where a directory has to be, or the other way round."""


class FileSystemReadOnly(
    WrongState,
    reason="FILE_SYSTEM_READ_ONLY",
    keys="path",
    text="{path} is on a file system that is mounted read-only",
    next_step="Copy into a volume or tmpfs that can be written, or make the container without a read-only root.",
):
    """A destination in a read-only root or on a read-only mount."""


class FileNotCopyable(
    WrongState,
    reason="FILE_NOT_COPYABLE",
    keys="path rule",
    text="{path} cannot be copied: {rule}",
    next_step="Leave it out; what the kernel tells by files is read by a program in the container (exec).",
):
    """A socket, a file of proc or sysfs, an attribute that no tar holds, a directory on which something is mounted."""


class EntryRejected(
    InvalidInput,
    reason="ENTRY_REJECTED",
    keys="entry rule",
    text="entry {entry} of the archive is refused: {rule}",
    next_step="Make the archive anew without the entry; names must stay below the directory they are unpacked into.",
):
    """An entry of a tar that breaks a rule of safety."""


class TarCorrupt(
    InvalidInput,
    reason="TAR_CORRUPT",
    keys="detail",
    text="the archive is not a whole tar: {detail}",
    next_step="Send a tar, plain or compressed with gzip or zstd, with its end marker.",
):
    """A stream that is not a whole, well-formed (compressed) tar."""
