"""Images <-> messages. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from google.protobuf import duration_pb2

from fluyt.v1 import images_pb2
from fluyt.v1.types import descriptor_pb2, health_check_pb2, platform_pb2
from fluytd.api.convert.values import to_timestamp
from fluytd.errors import FieldInvalid
from fluytd.images.config import HealthCheck
from fluytd.images.lookup import Found
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Deletion, Image
from fluytd.images.platforms import Platform, host_platform
from fluytd.images.save import Sent

#: Longest duration and most retries that are told of an image that says more; the messages hold no more.
#: Source: google/protobuf/duration.proto.
MAX_DURATION_NANOS = 315_576_000_000 * 1_000_000_000
MAX_HEALTH_RETRIES = 2**32 - 1
#: Longest part of a platform that a caller may name.
MAX_PLATFORM_PART_CHARS = 64


def to_descriptor(descriptor: Descriptor) -> descriptor_pb2.Descriptor:
    """The message of a descriptor."""
    return descriptor_pb2.Descriptor(
        media_type=descriptor.media_type, digest=descriptor.digest, size_bytes=descriptor.size_bytes
    )


def to_platform(platform: Platform) -> platform_pb2.Platform:
    """The message of a platform."""
    return platform_pb2.Platform(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        os_version=platform.os_version,
    )


def from_platform(message: platform_pb2.Platform, field: str) -> Platform:
    """The platform asked for; parts left out are the host's, a variant only with its own architecture.

    Raises FIELD_INVALID.
    """
    here = host_platform()
    for part in (message.os, message.architecture, message.variant, message.os_version):
        if len(part) > MAX_PLATFORM_PART_CHARS or "/" in part:
            rule = f"has a part with a slash or longer than MAX_PLATFORM_PART_CHARS ({MAX_PLATFORM_PART_CHARS})"
            raise FieldInvalid(field=field, rule=rule)
    wanted = Platform.normalised(
        message.os or here.os, message.architecture or here.architecture, message.variant, message.os_version
    )
    if not message.variant and wanted.architecture == here.architecture:
        return replace(wanted, variant=here.variant)
    return wanted


def from_platforms(messages: Iterable[platform_pb2.Platform], field: str) -> list[Platform]:
    """As `from_platform`, each with its place in `field`."""
    return [from_platform(message, f"{field}[{index}]") for index, message in enumerate(messages)]


def given_platform(
    request: images_pb2.GetImageRequest | images_pb2.TagImageRequest | images_pb2.DeleteImageRequest,
) -> Platform | None:
    """The platform that a request names; None if it names none. Raises FIELD_INVALID."""
    return from_platform(request.platform, "platform") if request.HasField("platform") else None


def to_found(found: Found) -> images_pb2.ResolveImageResponse:
    """What a registry has under a reference."""
    return images_pb2.ResolveImageResponse(
        reference=str(found.reference),
        target=to_descriptor(found.target),
        manifest=to_descriptor(found.manifest) if found.manifest is not None else None,
        platforms=[to_platform(platform) for platform in found.platforms],
        layers_size_bytes=found.layers_size_bytes,
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
        health_check=to_health_check(config.health_check) if config.health_check is not None else None,
    )


def to_health_check(check: HealthCheck) -> health_check_pb2.HealthCheck:
    """The message of an image's health check; a shell form is told as the command that it stands for.

    Source: Docker image spec v1.2, Healthcheck: NONE, CMD and its arguments, CMD-SHELL and its text.
    """
    form, *words = check.test or ("",)
    message = health_check_pb2.HealthCheck(
        disabled=form == "NONE",
        args=["/bin/sh", "-c", *words] if form == "CMD-SHELL" else words,
        retries=min(check.retries, MAX_HEALTH_RETRIES),
    )
    for name in ("interval", "timeout", "start_period", "start_interval"):
        nanos: int = getattr(check, f"{name}_nanos")
        if nanos:
            whole, rest = divmod(min(nanos, MAX_DURATION_NANOS), 1_000_000_000)
            getattr(message, name).CopyFrom(duration_pb2.Duration(seconds=whole, nanos=rest))
    return message


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


def to_saved(part: bytes | Sent) -> images_pb2.SaveImagesResponse:
    """A part of an archive, or its end."""
    if isinstance(part, bytes):
        return images_pb2.SaveImagesResponse(chunk=part)
    complete = images_pb2.SaveComplete(size_bytes=part.size_bytes, digest=part.digest)
    return images_pb2.SaveImagesResponse(complete=complete)
