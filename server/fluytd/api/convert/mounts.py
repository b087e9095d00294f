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
    Mounted,
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
                binds.append(_bind(mount, path, index))
            case "tmpfs":
                tmpfs.append(_tmpfs(mount, index))
            case "volume":
                volumes.append(_volume(mount, path, index))
            case "image":
                if not mount.image.image:
                    raise FieldInvalid(field=f"{path}.image.image", rule="must be given")
                image = mount.image
                images.append(ImageMountSpec(cleaned_target(mount.target), image.image, image.sub_path, index))
            case _:
                raise FieldInvalid(field=path, rule="needs a source")
    return Mounts(tuple(binds), tuple(tmpfs), tuple(volumes), tuple(images))


def _bind(mount: mount_pb2.Mount, path: str, position: int) -> BindSpec:
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
        position=position,
    )


def _tmpfs(mount: mount_pb2.Mount, position: int) -> TmpfsSpec:
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
        position=position,
    )


def _volume(mount: mount_pb2.Mount, path: str, position: int) -> VolumeSpec:
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
        position=position,
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
    for mount in spec.mounts:
        _add_mount(message.mounts.add(target=mount.target), mount)
    for source in spec.volumes_from:
        mode = "" if source.read_only is None else ":ro" if source.read_only else ":rw"
        message.volumes_from.append(source.container + mode)


def _add_mount(message: mount_pb2.Mount, mount: Mounted) -> None:
    match mount:
        case BindSpec():
            message.read_only = mount.read_only
            message.bind.source = mount.source
            message.bind.create_source = mount.create_source
            message.bind.non_recursive = mount.non_recursive
            if mount.propagation is not Propagation.RPRIVATE:
                message.bind.propagation = getattr(_BIND, f"PROPAGATION_{mount.propagation.name}")
            message.bind.relabel = _RELABEL_VALUES[mount.relabel]
            if not mount.recursive_read_only:
                message.bind.recursive_read_only = False
        case TmpfsSpec():
            message.read_only = mount.read_only
            message.tmpfs.CopyFrom(mount_pb2.TmpfsMount(**{name: getattr(mount, name) for name in TMPFS_FIELDS}))
        case VolumeSpec():
            message.read_only = mount.read_only
            message.volume.CopyFrom(
                mount_pb2.VolumeMount(
                    volume=mount.name,
                    sub_path=mount.sub_path,
                    no_copy=mount.no_copy,
                    driver=mount.driver,
                    driver_options=mount.driver_options,
                    labels=mount.labels,
                    relabel=_RELABEL_VALUES[mount.relabel],
                )
            )
        case ImageMountSpec():
            message.read_only = True
            message.image.CopyFrom(mount_pb2.ImageMount(image=mount.image, sub_path=mount.sub_path))


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
