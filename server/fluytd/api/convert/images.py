"""Images <-> messages. Pure."""

from collections.abc import Iterable

from fluyt.v1 import images_pb2
from fluyt.v1.types import descriptor_pb2, platform_pb2
from fluytd.api.convert.values import to_timestamp
from fluytd.errors import FieldInvalid
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Deletion, Image
from fluytd.images.platforms import Platform, host_platform


def to_descriptor(descriptor: Descriptor) -> descriptor_pb2.Descriptor:
    """The message of a descriptor."""
    return descriptor_pb2.Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size_bytes=descriptor.size_bytes
    )


def to_platform(platform: Platform) -> platform_pb2.Platform:
    """The message of a platform."""
    return platform_pb2.Platform(os=platform.os, architecture=platform.architecture, variant=platform.variant)


def from_platform(message: platform_pb2.Platform, field: str) -> Platform:
    """The platform asked for; parts left out are the host's. Raises FIELD_INVALID."""
    here = host_platform()
    for part in (message.os, message.architecture, message.variant):
        if len(part) > 64 or "/" in part:
            raise FieldInvalid(field=field, rule="has a part that is too long or has a slash")
    return Platform.normalised(
        message.os or here.os, message.architecture or here.architecture, message.variant, message.os_version
    )


def to_image(
    image: Image, references: Iterable[str], repo_digests: Iterable[str], shared_size_bytes: int, container_count: int
) -> images_pb2.Image:
    """The message of an image."""
    return images_pb2.Image(
        id=image.id,
        version=image.version,
        references=references,
        repo_digests=repo_digests,
        manifest=to_descriptor(image.manifest),
        target=to_descriptor(image.target),
        platform=to_platform(image.platform),
        build_time=to_timestamp(image.config.build_time_unix_nanos),
        create_time=to_timestamp(image.create_time_unix_nanos),
        size_bytes=image.size_bytes,
        shared_size_bytes=shared_size_bytes,
        content_size_bytes=image.content_size_bytes,
        labels=image.config.labels,
        layer_count=len(image.layers),
        container_count=container_count,
    )


def to_config(image: Image) -> images_pb2.ImageConfig:
    """The message of an image's config."""
    config = image.config
    return images_pb2.ImageConfig(
        entrypoint=config.entrypoint,
        args=config.cmd,
        env=config.env,
        user=config.user,
        working_dir=config.working_dir,
        exposed_ports=config.exposed_ports,
        volumes=config.volumes,
        labels=config.labels,
        stop_signal=config.stop_signal,
        shell=config.shell,
        on_build=config.on_build,
        author=config.author,
    )


def to_layers(image: Image, shared: set[str]) -> list[images_pb2.ImageLayer]:
    """The layers, lowest first; `shared` are the ids of those that another image has too."""
    return [
        images_pb2.ImageLayer(
            descriptor=to_descriptor(layer.descriptor),
            diff_id=layer.diff_id,
            chain_id=layer.chain_id,
            size_bytes=layer.size_bytes,
            is_shared=layer.layer_id in shared,
        )
        for layer in image.layers
    ]


def to_history(image: Image) -> list[images_pb2.ImageHistory]:
    """How it was made, oldest step first."""
    return [
        images_pb2.ImageHistory(
            build_time=to_timestamp(step.build_time_unix_nanos),
            created_by=step.created_by,
            author=step.author,
            comment=step.comment,
            is_empty_layer=step.is_empty_layer,
            size_bytes=layer.size_bytes if layer is not None else 0,
            diff_id=layer.diff_id if layer is not None else "",
        )
        for step, layer in zip(image.config.history, image.history_layers, strict=True)
    ]


def to_deletion(deletion: Deletion) -> images_pb2.DeleteImageResponse:
    """What a deletion took away."""
    return images_pb2.DeleteImageResponse(
        untagged=deletion.untagged, deleted=deletion.deleted, reclaimed_bytes=deletion.reclaimed_bytes
    )
