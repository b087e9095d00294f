"""Which volumes and images a container has, decided when it is created, and the seeing to them until it has gone."""

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from fluytd.containers import transitions
from fluytd.containers.checks import MAX_MOUNTS, check_path
from fluytd.containers.context import Context
from fluytd.containers.model import Container, MountedImage, MountedVolume
from fluytd.containers.spec import (
    NO_POSITION,
    BindSpec,
    ContainerSpec,
    Relabel,
    VolumesFrom,
    VolumeSpec,
    mount_field,
)
from fluytd.errors import LimitExceeded


def with_mounts(ctx: Context, container: Container, images: Iterable[MountedImage]) -> Container:
    """The container with all that is to be mounted in it: of its spec, of the containers it names, of its image, each
    only where what comes before has nothing. Its volumes are taken, and are made by `provide`. Never blocks.

    Raises as `ports.Volumes.take`, CONTAINER_NOT_FOUND, CONTAINER_AMBIGUOUS; nothing is taken then.
    """
    spec, volumes = container.spec, ctx.volumes
    found_images = tuple(images)
    if volumes is None:
        return transitions.with_mounts(container, (), found_images)
    taken: list[MountedVolume] = []
    binds = list(spec.binds)
    try:
        for wish in spec.volumes:
            taken.append(volumes.take(wish, f"{mount_field(wish.position)}.volume."))
        used = targets(spec)
        for source in spec.volumes_from:
            inherited = _inherited(ctx, source)
            taken += [one for one in inherited[0] if posixpath.normpath(one.target) not in used]
            binds += [one for one in inherited[1] if posixpath.normpath(one.target) not in used]
            used |= {posixpath.normpath(one.target) for part in inherited for one in part}
        for target in image_targets(container.image.volumes):
            if target not in used:
                taken.append(volumes.take(VolumeSpec(target), ""))
        count = len(taken) + len(binds) + len(spec.tmpfs) + len(found_images)
        if count > MAX_MOUNTS:
            raise LimitExceeded(limit="MAX_MOUNTS", limit_value=MAX_MOUNTS, actual=count, subject="mounts")
    except BaseException:
        volumes.forget(taken)
        raise
    container = transitions.with_mounts(container, tuple(taken), found_images)
    return replace(container, resolved=replace(container.resolved, binds=tuple(binds)))


def targets(spec: ContainerSpec) -> set[str]:
    """Where the spec itself mounts something."""
    return {posixpath.normpath(one.target) for one in spec.mounts}


def image_targets(paths: Iterable[str]) -> list[str]:
    """Places for which an image wants volumes, `..` resolved within the root (case Z06), none twice.

    Raises FIELD_INVALID for one that no kernel can take.
    """
    found = dict.fromkeys(posixpath.normpath("/" + path.lstrip("/")) for path in paths)
    found.pop("/", None)
    for path in found:
        check_path(path, "spec.image")
    return list(found)


def _inherited(ctx: Context, source: VolumesFrom) -> tuple[list[MountedVolume], list[BindSpec]]:
    other = ctx.table.find(source.container).container
    volumes, binds = list(other.resolved.volumes), list(other.resolved.binds or other.spec.binds)
    if source.read_only is not None:
        # `rw` gives no more than the other container has.
        volumes = [replace(one, read_only=one.read_only or source.read_only) for one in volumes]
        binds = [replace(one, read_only=one.read_only or source.read_only) for one in binds]
    # What an image has here is not copied into what another container may be working with, nor is it labelled anew.
    return (
        [replace(one, no_copy=True, relabel=Relabel.NONE, position=NO_POSITION) for one in volumes],
        [replace(one, relabel=Relabel.NONE, position=NO_POSITION) for one in binds],
    )


async def provide(ctx: Context, container: Container) -> None:
    """See `ports.Volumes.provide`; nothing is done for a container without volumes."""
    if ctx.volumes is not None and container.resolved.volumes:
        await ctx.volumes.provide(container, lambda: ctx.images.lower_dirs(container.image))


async def release(ctx: Context, container: Container, *, removes_anonymous: bool) -> None:
    """See `ports.Volumes.release`; nothing is done for a container without volumes."""
    if ctx.volumes is not None and container.resolved.volumes:
        await ctx.volumes.release(container, removes_anonymous=removes_anonymous)


async def attach(ctx: Context, container: Container) -> dict[str, str]:
    """See `ports.Volumes.attach`; nothing is done for a container without volumes. What is to be mounted of the host
    answers; raises MOUNT_SOURCE_UNRESPONSIVE besides."""
    sources: dict[str, str] = {}
    if ctx.volumes is not None and container.resolved.volumes:
        sources = await ctx.volumes.attach(container)
    if ctx.sources is not None:
        await ctx.sources.check(container, sources)
    return sources


async def detach(ctx: Context, container: Container) -> None:
    """See `ports.Volumes.detach`; nothing is done for a container without volumes."""
    if ctx.volumes is not None and container.resolved.volumes:
        await ctx.volumes.detach(container)
