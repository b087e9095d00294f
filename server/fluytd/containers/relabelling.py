"""What of the host is given an SELinux label before a container starts, and the giving. It makes up no labels.

The record of the start stands before: it names the labels and what is to have them. A daemon that dies on the way
leaves a tree of which a part has its new label; the next start gives it to the rest, as a tree's root has it last.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.containers import selinux
from fluytd.containers.model import Container, Labels, MountedVolume
from fluytd.containers.selinux import SelinuxHost
from fluytd.containers.spec import Relabel, mount_field
from fluytd.containers.start_facts import StartPaths
from fluytd.containers.volume_mounts import bind_source
from fluytd.errors import FieldInvalid

#: Directories that the host itself lives by: with a container's label on them much of it would no longer work, and
#: containers could write there. What is below them may be labelled, but not where programs, settings or devices are.
_NEVER: Final = frozenset(
    {"/", "/afs", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var"}  # noqa: S108
    | {f"/usr/{name}" for name in ("local", "share")}
    | {f"/var/{name}" for name in ("cache", "lib", "log", "mail", "run", "spool", "tmp")}
)
_NEVER_BELOW: Final = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys"),
    *(f"/usr/{name}" for name in ("bin", "lib", "lib32", "lib64", "libexec", "libx32", "sbin")),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree, or a file, and the label that all of it is to have."""

    path: str
    label: str
    #: It has the label if its root has.
    is_ours: bool
    #: The caller named it, by its path, in this field; empty: nobody did.
    given_in: str = ""


def trees(container: Container, paths: StartPaths, labels: Labels | None, host: SelinuxHost) -> Iterator[Tree]:
    """All that is labelled for a start with these labels. Pure."""
    shared, private = selinux.shared_label(labels, host), selinux.private_label(labels, host)
    by_choice = {Relabel.SHARED: shared, Relabel.PRIVATE: private, Relabel.OWN: shared}
    if labels is not None:
        # What is copied into a container that does not run is made there by the engine, and has its label from it.
        yield Tree(paths.upper_dir, private, is_ours=True)
        # Shared, since who has the container's network has these files too.
        yield from (Tree(path, shared, is_ours=True) for path in (paths.hosts, paths.hostname, paths.resolv_conf))
    for bind in container.resolved.binds or container.spec.binds:
        if bind.relabel is not Relabel.NONE:
            is_ours = bind.relabel is Relabel.OWN
            given_in = "" if is_ours else f"{mount_field(bind.position)}.bind.relabel"
            yield Tree(bind.source, by_choice[bind.relabel], is_ours, given_in)
    for volume in container.resolved.volumes:
        is_kept = _is_kept(volume)
        relabel = Relabel.OWN if volume.relabel is Relabel.NONE and is_kept and labels is not None else volume.relabel
        source = (
            f"{paths.volumes_dir}/{volume.volume_id}/_data" if is_kept else bind_source(volume, paths.volume_sources)
        )
        # What is mounted of a server or a device is no place of this host's.
        if relabel is not Relabel.NONE and source is not None:
            given_in = "" if is_kept else f"{mount_field(volume.position)}.volume.relabel"
            yield Tree(source, by_choice[relabel], relabel is Relabel.OWN, given_in)


def _is_kept(volume: MountedVolume) -> bool:
    return volume.driver == "local" and not set(volume.driver_options) - {"size"}


def check(path: str, field: str) -> str:
    """The place, links followed. Raises FIELD_INVALID (`field`) for one that the host itself needs as it is.
    Blocking."""
    real = os.path.realpath(path)
    if real in _NEVER or any(real == one or real.startswith(f"{one}/") for one in _NEVER_BELOW) or _is_home(real):
        rule = f"is not done to {real}, which the host needs as it is; name a directory that is for containers"
        raise FieldInvalid(field=field, rule=rule)
    return real


def _is_home(path: str) -> bool:
    """A user's whole directory, `/home/somebody`."""
    return Path(path).parent == Path("/home")


class Relabelling:
    """Gives labels before starts."""

    def __init__(self, relabel: Callable[[str, str, bool], int], host: SelinuxHost | None) -> None:
        """`relabel`: see `_core.host`. `host`: None where there is no SELinux; nothing is done then."""
        self._relabel = relabel
        self._host = host

    def before(self, container: Container, paths: StartPaths, kernel_release: str) -> None:
        """All that the container mounts of the host has the label it asks for. Raises FIELD_INVALID, IO_FAILED (ENOENT;
        EINVAL for a label that the policy does not have). Blocking: as long as looking at every file."""
        if self._host is None:
            return
        labels = selinux.applied(container, self._host, kernel_release)
        wanted = trees(container, paths, labels, self._host)
        # The core follows no link on the way to a caller's place: what is labelled is what was checked.
        found = [replace(tree, path=check(tree.path, tree.given_in)) if tree.given_in else tree for tree in wanted]
        for tree in found:
            failpoints.hit("container.start.relabel")
            self._relabel(tree.path, tree.label, tree.is_ours)
