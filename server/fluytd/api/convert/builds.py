"""Builds <-> messages."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fluyt.v1 import builds_pb2
from fluyt.v1.types import operation_pb2
from fluytd.api.convert.auth import from_auth
from fluytd.api.convert.confinement import from_resources, from_users
from fluytd.api.convert.images import from_platform
from fluytd.api.convert.operations import to_build_result, to_build_step, to_platform
from fluytd.api.convert.values import from_timestamp, to_failure, to_timestamp
from fluytd.builds.agents import MAX_KNOWN_HOSTS_BYTES, Ask, End
from fluytd.builds.cache_packing import SentCache
from fluytd.builds.entitlements import parse_entitlements
from fluytd.builds.log import LogPiece
from fluytd.builds.model import (
    MAX_ANNOTATIONS,
    MAX_ANNOTATIONS_BYTES,
    MAX_BUILDER_ID_CHARS,
    MAX_CACHE_TAG_CHARS,
    MAX_CACHES,
    MAX_LABELS,
    MAX_NAMED_CONTEXTS,
    MAX_PLATFORMS,
    MAX_PRESENT_DIGESTS,
    MAX_REFERENCES,
    MAX_SECRETS_BYTES,
    USERS_FIELD,
    BuildEntry,
    BuildRequest,
    CacheRecord,
    CacheSource,
    CacheSpec,
    ContextSource,
    GitContext,
    HttpContext,
    ImageSource,
    Packing,
    ProvenanceWish,
    RegistryCache,
    UploadedCache,
    UploadedSource,
)
from fluytd.builds.ports import OfferedEntry
from fluytd.containers.checks import check_extra_hosts, check_resources, check_rlimits
from fluytd.containers.confinement import check_cgroup_parent
from fluytd.containers.spec import RlimitSpec
from fluytd.containers.user_ids import check_users
from fluytd.errors import FieldInvalid, LimitExceeded
from fluytd.ids import Digest, ImageReference
from fluytd.images.platforms import Platform
from fluytd.operations.model import BuildStepState

_NETWORKS: Final = frozenset({"", "default", "none", "host"})
_KINDS: Final = {
    builds_pb2.ContextEntry.KIND_FILE: "file",
    builds_pb2.ContextEntry.KIND_DIRECTORY: "directory",
    builds_pb2.ContextEntry.KIND_SYMLINK: "symlink",
}
_CACHE_ONLY: Final = builds_pb2.BuildOutputSpec.KIND_CACHE_ONLY
_CACHE_MOUNT: Final = builds_pb2.BuildCacheRecord.KIND_CACHE_MOUNT
_DIGEST_BYTES: Final = 32
_Output = builds_pb2.BuildOutputSpec
_GZIP: Final = ("gzip", range(10))
#: Name and levels. Source: gzip(1), zstd(1).
_COMPRESSIONS: Final = {
    _Output.COMPRESSION_UNSPECIFIED: _GZIP,
    _Output.COMPRESSION_GZIP: _GZIP,
    _Output.COMPRESSION_ZSTD: ("zstd", range(1, 23)),
    _Output.COMPRESSION_UNCOMPRESSED: ("uncompressed", range(0)),
}
#: Up to the year 9999, as times of the API.
_EPOCH: Final = re.compile("[0-9]{1,11}", re.ASCII)
_NANOS: Final = 1_000_000_000


def from_request(message: builds_pb2.BuildImageRequest) -> BuildRequest:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED, REFERENCE_INVALID."""
    _check_sizes(message)
    if message.network_mode not in _NETWORKS:
        raise FieldInvalid(field="network_mode", rule="must be default, none or host")
    users = from_users(message.user_namespace, USERS_FIELD)
    check_users(users, USERS_FIELD)
    entitlements = parse_entitlements(message.entitlements)
    resources = from_resources(message.resources)
    check_resources(resources, "resources")
    rlimits = tuple(RlimitSpec(limit.name, limit.soft, limit.hard) for limit in message.rlimits)
    check_rlimits(rlimits, "rlimits")
    check_extra_hosts(message.extra_hosts, "extra_hosts")
    check_cgroup_parent(message.cgroup_parent, "cgroup_parent")
    return BuildRequest(
        context=_source(message.context, "context"),
        named_contexts={
            name: _source(source, f"named_contexts[{name!r}]") for name, source in message.named_contexts.items()
        },
        dockerfile_path=message.dockerfile_path,
        dockerfile=message.dockerfile or None,
        references=tuple(_reference(text, index) for index, text in enumerate(message.references)),
        target=message.target,
        build_args=dict(message.build_args),
        labels=dict(message.labels),
        platforms=_platforms(message),
        no_cache=message.no_cache,
        no_cache_stages=frozenset(message.no_cache_stages),
        pull=message.pull,
        network_mode=message.network_mode or "default",
        users=users,
        entitlements=entitlements.with_host_network() if message.network_mode == "host" else entitlements,
        extra_hosts=tuple(message.extra_hosts),
        resources=resources,
        rlimits=rlimits,
        shm_size_bytes=message.shm_size_bytes,
        cgroup_parent=message.cgroup_parent,
        keeps_image=message.output.kind != _CACHE_ONLY,
        packing=_packing(message.output),
        pushes=message.output.push,
        auths={name: from_auth(auth) for name, auth in message.auths.items()},
        secrets=dict(message.secrets),
        known_hosts=message.known_hosts,
        check_only=message.check_only,
        is_filtered=message.is_filtered,
        ignore_file=message.ignore_file,
        source_date_seconds=_seconds(message),
        provenance=_provenance(message),
        sbom=message.sbom,
        annotations=dict(message.annotations),
        index_annotations=dict(message.index_annotations),
        manifest_descriptor_annotations=dict(message.manifest_descriptor_annotations),
        cache_from=(
            *(RegistryCache(ImageReference.parse(text).with_default_tag()) for text in message.cache_from),
            *(_cache_source(source, index) for index, source in enumerate(message.cache_sources)),
        ),
        cache_to=_cache_to(message.cache_to),
        cache_to_spec=from_cache_spec(message.cache_to_spec),
    )


def refuse_files_of_host(message: builds_pb2.BuildImageRequest) -> None:
    """For who does not call from this host. Raises FIELD_INVALID if a context is a repository of the host."""
    sources = {"context": message.context} | {
        f"named_contexts[{key!r}]": one for key, one in message.named_contexts.items()
    }
    for name, source in sources.items():
        if source.git_url.lower().startswith("file:"):
            rule = "must be no file URL: only callers on the engine's unix socket may name repositories of its host"
            raise FieldInvalid(field=f"{name}.git_url", rule=rule)


def _check_sizes(message: builds_pb2.BuildImageRequest) -> None:
    sizes = {
        "MAX_SECRETS_BYTES": (MAX_SECRETS_BYTES, sum(map(len, message.secrets.values())), "secrets"),
        "MAX_KNOWN_HOSTS_BYTES": (MAX_KNOWN_HOSTS_BYTES, len(message.known_hosts), "known_hosts"),
        "MAX_NAMED_CONTEXTS": (MAX_NAMED_CONTEXTS, len(message.named_contexts), "named_contexts"),
        "MAX_REFERENCES": (MAX_REFERENCES, len(message.references), "references"),
        "MAX_LABELS": (MAX_LABELS, len(message.labels), "labels"),
        "MAX_CACHES": (MAX_CACHES, len(message.cache_from) + len(message.cache_sources), "cache_from"),
        "MAX_PLATFORMS": (MAX_PLATFORMS, len(message.platforms), "platforms"),
    }
    _check_annotations(message.annotations, "annotations")
    _check_annotations(message.index_annotations, "index_annotations")
    _check_annotations(message.manifest_descriptor_annotations, "manifest_descriptor_annotations")
    for limit, (value, actual, field) in sizes.items():
        if actual > value:
            raise LimitExceeded(limit=limit, limit_value=value, actual=actual, subject=field)
    if message.output.push and (not message.references or message.output.kind == _CACHE_ONLY):
        raise FieldInvalid(field="output.push", rule="needs an image with references")
    if message.shm_size_bytes < 0:
        raise FieldInvalid(field="shm_size_bytes", rule="must not be negative")


def _cache_to(text: str) -> ImageReference | None:
    if not text:
        return None
    reference = ImageReference.parse(text).with_default_tag()
    if reference.digest is not None:
        raise FieldInvalid(field="cache_to", rule="must have no digest: the cache's is not known before")
    return reference


def _cache_source(message: builds_pb2.BuildCacheSource, index: int) -> CacheSource:
    field = f"cache_sources[{index}]"
    match message.WhichOneof("source"):
        case "reference":
            if message.manifest_digest:
                raise FieldInvalid(field=f"{field}.manifest_digest", rule="stands beside context_id only")
            return RegistryCache(ImageReference.parse(message.reference).with_default_tag(), message.mounts)
        case "context_id":
            return UploadedCache(message.context_id, Digest.parse(message.manifest_digest), message.mounts)
        case _:
            raise FieldInvalid(field=field, rule="must name a source")


def from_cache_spec(message: builds_pb2.BuildCacheSpec) -> CacheSpec:
    """What a cache is written of."""
    return CacheSpec(message.mode == builds_pb2.BuildCacheSpec.MODE_MIN, message.mounts)


def from_save_cache(message: builds_pb2.SaveBuildCacheRequest) -> tuple[str, frozenset[Digest]]:
    """Tag and blobs that the caller has. Raises FIELD_INVALID, LIMIT_EXCEEDED, DIGEST_INVALID."""
    count = len(message.present_digests)
    if count > MAX_PRESENT_DIGESTS:
        raise LimitExceeded(
            limit="MAX_PRESENT_DIGESTS", limit_value=MAX_PRESENT_DIGESTS, actual=count, subject="present_digests"
        )
    if len(message.tag) > MAX_CACHE_TAG_CHARS:
        raise FieldInvalid(field="tag", rule=f"must have at most {MAX_CACHE_TAG_CHARS} characters")
    return message.tag or "latest", frozenset(Digest.parse(text) for text in message.present_digests)


def to_saved_cache(part: bytes | SentCache) -> builds_pb2.SaveBuildCacheResponse:
    """A part of a cache that is sent."""
    if isinstance(part, bytes):
        return builds_pb2.SaveBuildCacheResponse(chunk=part)
    return builds_pb2.SaveBuildCacheResponse(
        complete=builds_pb2.SaveBuildCacheComplete(
            size_bytes=part.sent.size_bytes,
            digest=part.sent.digest,
            manifest_digest=part.manifest_digest,
            warnings=part.warnings,
        )
    )


def _check_annotations(annotations: Mapping[str, str], field: str) -> None:
    if "" in annotations:
        raise FieldInvalid(field=field, rule="must have no empty name")
    size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items())
    for limit, value, actual in (
        ("MAX_ANNOTATIONS", MAX_ANNOTATIONS, len(annotations)),
        ("MAX_ANNOTATIONS_BYTES", MAX_ANNOTATIONS_BYTES, size_bytes),
    ):
        if actual > value:
            raise LimitExceeded(limit=limit, limit_value=value, actual=actual, subject=field)


def _provenance(message: builds_pb2.BuildImageRequest) -> ProvenanceWish | None:
    if not message.HasField("provenance_spec"):
        return ProvenanceWish() if message.provenance else None
    spec = message.provenance_spec
    if len(spec.builder_id) > MAX_BUILDER_ID_CHARS:
        raise FieldInvalid(
            field="provenance_spec.builder_id", rule=f"must have at most {MAX_BUILDER_ID_CHARS} characters"
        )
    return ProvenanceWish(
        is_max=spec.mode == builds_pb2.ProvenanceSpec.MODE_MAX,
        is_v1=spec.version == builds_pb2.ProvenanceSpec.VERSION_V1,
        builder_id=spec.builder_id,
    )


def _packing(output: builds_pb2.BuildOutputSpec) -> Packing:
    if output.compression not in _COMPRESSIONS:
        raise FieldInvalid(field="output.compression", rule="must be a known compression")
    compression, levels = _COMPRESSIONS[output.compression]
    level = output.compression_level if output.HasField("compression_level") else None
    if level is not None and level not in levels:
        rule = (
            f"must be from {levels.start} to {levels.stop - 1} for {compression}" if levels else "is not for this one"
        )
        raise FieldInvalid(field="output.compression_level", rule=rule)
    return Packing(compression, level, output.force_compression)


def _seconds(message: builds_pb2.BuildImageRequest) -> int | None:
    if not message.HasField("source_date"):
        text = message.build_args.get("SOURCE_DATE_EPOCH", "")
        if not text:
            return None
        if not _EPOCH.fullmatch(text):
            raise FieldInvalid(field="build_args", rule="SOURCE_DATE_EPOCH must be a number of seconds since 1970")
        return int(text)
    return (from_timestamp(message.source_date, "source_date") or 0) // _NANOS


def _platforms(message: builds_pb2.BuildImageRequest) -> tuple[Platform, ...]:
    """Without a variant an image is for every processor of its architecture, whatever this one has beyond it."""
    found: list[Platform] = []
    for index, one in enumerate(message.platforms):
        wanted = from_platform(one, f"platforms[{index}]")
        found.append(Platform.normalised(wanted.os, wanted.architecture, one.variant, wanted.os_version))
    return tuple(dict.fromkeys(found))


def _reference(text: str, index: int) -> ImageReference:
    reference = ImageReference.parse(text)
    if reference.digest is not None:
        raise FieldInvalid(field=f"references[{index}]", rule="must have no digest: the image's is not known before")
    return reference


def _source(message: builds_pb2.BuildSource, field: str) -> ContextSource:
    match message.WhichOneof("source"):
        case "context_id":
            return UploadedSource(message.context_id)
        case "git_url":
            return GitContext(message.git_url)
        case "image":
            return ImageSource(message.image)
        case "http_url":
            return HttpContext(message.http_url)
        case _:
            raise FieldInvalid(field=field, rule="must name a source")


def from_entries(entries: Iterable[builds_pb2.ContextEntry]) -> list[OfferedEntry]:
    """Raises FIELD_INVALID for a kind or a digest that is none."""
    found: list[OfferedEntry] = []
    for index, entry in enumerate(entries):
        kind = _KINDS.get(entry.kind)
        if kind is None:
            raise FieldInvalid(field=f"offer.entries[{index}].kind", rule="must be file, directory or symlink")
        digests = entry.chunk_digests
        joined = b"".join(digests)
        # One that has the right length in all is looked at again only where there are several.
        if len(joined) != _DIGEST_BYTES * len(digests) or (
            len(digests) > 1 and any(len(digest) != _DIGEST_BYTES for digest in digests)
        ):
            wrong = next(i for i, digest in enumerate(digests) if len(digest) != _DIGEST_BYTES)
            field = f"offer.entries[{index}].chunk_digests[{wrong}]"
            raise FieldInvalid(field=field, rule=f"must have {_DIGEST_BYTES} bytes")
        if entry.size_bytes < 0:
            raise FieldInvalid(field=f"offer.entries[{index}].size_bytes", rule="must not be negative")
        time = entry.modify_time
        found.append(
            OfferedEntry(
                entry.path,
                kind,
                entry.mode,
                entry.uid,
                entry.gid,
                time.seconds,
                max(0, min(time.nanos, _NANOS - 1)),
                entry.link_target,
                joined,
                entry.size_bytes,
            )
        )
    return found


def to_missing(context_id: str, missing: bytes, most: int) -> builds_pb2.UploadContextResponse:
    """What is missing of a context, the first `most` of it by name."""
    count = len(missing) // _DIGEST_BYTES
    shown = min(count, most)
    return builds_pb2.UploadContextResponse(
        context_id=context_id,
        missing_chunk_digests=[missing[at * _DIGEST_BYTES : (at + 1) * _DIGEST_BYTES] for at in range(shown)],
        missing_count=count,
    )


def to_agent(said: Ask | End) -> builds_pb2.ServeBuildAgentsResponse:
    """What a caller that serves agents is told."""
    if isinstance(said, End):
        return builds_pb2.ServeBuildAgentsResponse(end=builds_pb2.BuildAgentEnd(connection=said.connection))
    ask = builds_pb2.BuildAgentMessage(connection=said.connection, id=said.id, data=said.data)
    return builds_pb2.ServeBuildAgentsResponse(ask=ask)


def to_log(piece: LogPiece) -> builds_pb2.ReadBuildLogResponse:
    """Some output of a step."""
    return builds_pb2.ReadBuildLogResponse(
        step=piece.step,
        is_stderr=piece.stream == "stderr",
        time=to_timestamp(piece.time_unix_nanos),
        data=piece.data,
        position_bytes=piece.end_bytes,
    )


def to_build(entry: BuildEntry, *, has_steps: bool) -> builds_pb2.Build:
    """A build of the history."""
    platforms = (to_platform(text) for text in entry.platforms)
    return builds_pb2.Build(
        id=entry.id,
        state=operation_pb2.Operation.State.Value(f"STATE_{entry.state.value}"),
        create_time=to_timestamp(entry.create_time_unix_nanos),
        end_time=to_timestamp(entry.end_time_unix_nanos),
        references=entry.references,
        dockerfile_path=entry.dockerfile_path,
        target=entry.target,
        platforms=[platform for platform in platforms if platform is not None],
        steps=[to_build_step(step) for step in entry.steps] if has_steps else (),
        step_count=len(entry.steps),
        cached_step_count=sum(step.state is BuildStepState.CACHED for step in entry.steps),
        result=to_build_result(entry.result) if entry.result is not None else None,
        failure=to_failure(entry.failure),
        log_size_bytes=entry.log_size_bytes,
    )


def to_records(records: Sequence[CacheRecord], in_use: Sequence[bool]) -> list[builds_pb2.BuildCacheRecord]:
    """Records of the cache."""
    return [
        builds_pb2.BuildCacheRecord(
            id=record.key,
            kind=_CACHE_MOUNT if record.is_mount else builds_pb2.BuildCacheRecord.KIND_STEP,
            description=record.description,
            size_bytes=record.size_bytes,
            create_time=to_timestamp(record.create_time_unix_nanos),
            use_time=to_timestamp(record.use_time_unix_nanos),
            use_count=record.use_count,
            is_in_use=is_used,
            layer_digest=record.layer.descriptor.digest if record.layer else "",
            diff_id=record.layer.diff_id if record.layer else "",
            chain_id=record.layer.chain_id if record.layer else "",
        )
        for record, is_used in zip(records, in_use, strict=True)
    ]
