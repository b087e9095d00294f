"""Mounts of specs and of containers <-> messages. What this version does not honour is refused by name."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from fluyt.v1.types import container_spec_pb2, mount_pb2
from fluytd.api.convert.values import choice
from fluytd.containers.model import Container
from fluytd.containers.spec import (
    BindSpec,
    ContainerSpec,
    ImageMountSpec,
    Propagation,
    Relabel,
    TmpfsSpec,
    VolumesFrom,
    VolumeSpec,
    cleaned_target,
)
from fluytd.errors import FieldInvalid, FieldNotBuilt

_BIND: Final = mount_pb2.BindMount
_PROPAGATIONS: Final[dict[Any, Propagation]] = {
    _BIND.PROPAGATION_UNSPECIFIED: Propagation.RPRIVATE,
    **{getattr(_BIND, f"PROPAGATION_{one.name}"): one for one in Propagation},
}
_RELABELS: Final[dict[Any, Relabel]] = {
    mount_pb2.RELABEL_UNSPECIFIED: Relabel.NONE,
    mount_pb2.RELABEL_SHARED: Relabel.SHARED,
    mount_pb2.RELABEL_PRIVATE: Relabel.PRIVATE,
}
_RELABEL_VALUES: Final = {one: value for value, one in _RELABELS.items()}

#: Fields of a tmpfs that have one name in the message and in the spec.
TMPFS_FIELDS: Final = ("size_bytes", "mode", "exec", "suid", "dev", "uid", "gid", "max_inodes")


@dataclass(frozen=True, slots=True)
class Mounts:
    """The mounts of a spec by their kinds, each in the order asked."""

    binds: tuple[BindSpec, ...]
    tmpfs: tuple[TmpfsSpec, ...]
    volumes: tuple[VolumeSpec, ...]
    images: tuple[ImageMountSpec, ...]


def from_mounts(messages: Iterable[mount_pb2.Mount]) -> Mounts:
    """The mounts, targets cleaned. Raises FIELD_INVALID, FIELD_NOT_BUILT with the path of the field below `spec`."""
    binds: list[BindSpec] = []
    tmpfs: list[TmpfsSpec] = []
    volumes: list[VolumeSpec] = []
    images: list[ImageMountSpec] = []
    for index, mount in enumerate(messages):
        path = f"spec.mounts[{index}]"
        match mount.WhichOneof("source"):
            case "bind":
                binds.append(_bind(mount, path))
            case "tmpfs":
                tmpfs.append(_tmpfs(mount))
            case "volume":
                volumes.append(_volume(mount, path))
            case "image":
                if not mount.image.image:
                    raise FieldInvalid(field=f"{path}.image.image", rule="must be given")
                images.append(ImageMountSpec(cleaned_target(mount.target), mount.image.image, mount.image.sub_path))
            case _:
                raise FieldInvalid(field=path, rule="needs a source")
    return Mounts(tuple(binds), tuple(tmpfs), tuple(volumes), tuple(images))


def _bind(mount: mount_pb2.Mount, path: str) -> BindSpec:
    bind = mount.bind
    if bind.no_idmap:
        raise FieldNotBuilt(field=f"{path}.bind.no_idmap")
    if bind.propagation not in _PROPAGATIONS:
        raise FieldInvalid(field=f"{path}.bind.propagation", rule=f"{bind.propagation} is not a value of this enum")
    return BindSpec(
        target=cleaned_target(mount.target),
        source=bind.source,
        read_only=mount.read_only,
        create_source=bind.create_source,
        propagation=_PROPAGATIONS[bind.propagation],
        non_recursive=bind.non_recursive,
        recursive_read_only=bind.recursive_read_only if bind.HasField("recursive_read_only") else True,
        relabel=choice(_RELABELS, bind.relabel, f"{path}.bind.relabel"),
    )


def _tmpfs(mount: mount_pb2.Mount) -> TmpfsSpec:
    wanted = mount.tmpfs
    return TmpfsSpec(
        target=cleaned_target(mount.target),
        read_only=mount.read_only,
        size_bytes=wanted.size_bytes,
        mode=wanted.mode if wanted.HasField("mode") else 0o1777,
        exec=wanted.exec,
        suid=wanted.suid,
        dev=wanted.dev,
        uid=wanted.uid,
        gid=wanted.gid,
        max_inodes=wanted.max_inodes,
    )


def _volume(mount: mount_pb2.Mount, path: str) -> VolumeSpec:
    wanted = mount.volume
    return VolumeSpec(
        target=cleaned_target(mount.target),
        name=wanted.volume,
        read_only=mount.read_only,
        sub_path=wanted.sub_path,
        no_copy=wanted.no_copy,
        driver=wanted.driver,
        driver_options=dict(wanted.driver_options),
        labels=dict(wanted.labels),
        relabel=choice(_RELABELS, wanted.relabel, f"{path}.volume.relabel"),
    )


def from_volumes_from(texts: Iterable[str]) -> tuple[VolumesFrom, ...]:
    """`container`, `container:ro`, `container:rw`. Raises FIELD_INVALID."""
    found = []
    for index, text in enumerate(texts):
        container, separator, mode = text.partition(":")
        if not container or (separator and mode not in {"ro", "rw"}):
            rule = f"{text!r} is not a container, or a container and `:ro` or `:rw`"
            raise FieldInvalid(field=f"spec.volumes_from[{index}]", rule=rule)
        found.append(VolumesFrom(container, mode == "ro" if separator else None))
    return tuple(found)


def add_mounts(message: container_spec_pb2.ContainerSpec, spec: ContainerSpec) -> None:
    """The spec's mounts stand in the message, as they were asked."""
    for bind in spec.binds:
        mount = message.mounts.add(target=bind.target, read_only=bind.read_only)
        mount.bind.source = bind.source
        mount.bind.create_source = bind.create_source
        mount.bind.non_recursive = bind.non_recursive
        if bind.propagation is not Propagation.RPRIVATE:
            mount.bind.propagation = getattr(_BIND, f"PROPAGATION_{bind.propagation.name}")
        mount.bind.relabel = _RELABEL_VALUES[bind.relabel]
        if not bind.recursive_read_only:
            mount.bind.recursive_read_only = False
    for tmpfs in spec.tmpfs:
        values = {name: getattr(tmpfs, name) for name in TMPFS_FIELDS}
        mount = message.mounts.add(target=tmpfs.target, read_only=tmpfs.read_only)
        mount.tmpfs.CopyFrom(mount_pb2.TmpfsMount(**values))
    for volume in spec.volumes:
        mount = message.mounts.add(target=volume.target, read_only=volume.read_only)
        mount.volume.CopyFrom(
            mount_pb2.VolumeMount(
                volume=volume.name,
                sub_path=volume.sub_path,
                no_copy=volume.no_copy,
                driver=volume.driver,
                driver_options=volume.driver_options,
                labels=volume.labels,
                relabel=_RELABEL_VALUES[volume.relabel],
            )
        )
    for image in spec.image_mounts:
        mount = message.mounts.add(target=image.target, read_only=True)
        mount.image.CopyFrom(mount_pb2.ImageMount(image=image.image, sub_path=image.sub_path))
    for source in spec.volumes_from:
        mode = "" if source.read_only is None else ":ro" if source.read_only else ":rw"
        message.volumes_from.append(source.container + mode)


def to_mount_points(container: Container, volumes_dir: str) -> list[mount_pb2.MountPoint]:
    """What is mounted in it, by target."""
    spec, resolved = container.spec, container.resolved
    points = [
        mount_pb2.MountPoint(
            target=one.target,
            type="bind",
            source=one.source,
            read_only=one.read_only,
            propagation=getattr(_BIND, f"PROPAGATION_{one.propagation.name}"),
        )
        for one in resolved.binds or spec.binds
    ]
    points += [mount_pb2.MountPoint(target=one.target, type="tmpfs", read_only=one.read_only) for one in spec.tmpfs]
    points += [
        mount_pb2.MountPoint(
            target=one.target,
            type="volume",
            name=one.name,
            source=one.driver_options.get("device", f"{volumes_dir}/{one.volume_id}/_data" if volumes_dir else ""),
            driver=one.driver,
            read_only=one.read_only,
        )
        for one in resolved.volumes
    ]
    points += [
        mount_pb2.MountPoint(target=one.target, type="image", name=one.image.reference, read_only=True)
        for one in resolved.images
    ]
    return sorted(points, key=lambda point: point.target)
