"""Builds: a folder becomes a context, a context and a Dockerfile become an image."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import grpc
from google.protobuf import timestamp_pb2

from fluyt import build_agents, operations
from fluyt.contexts import upload_context
from fluyt.errors import iterate, translated
from fluyt.v1 import builds_pb2, builds_pb2_grpc
from fluyt.v1.types import operation_pb2, platform_pb2, registry_auth_pb2, security_pb2

__all__ = [
    "begin",
    "build",
    "followed",
    "get_build",
    "list_builds",
    "list_cache",
    "prune_cache",
    "prune_history",
    "read_log",
    "upload_context",
]

Progress = Callable[[operation_pb2.Operation], None]


def build(
    connection: grpc.Channel,
    context: Path | str | builds_pb2.BuildSource,
    *,
    dockerfile: str = "",
    dockerfile_text: bytes = b"",
    references: Iterable[str] = (),
    target: str = "",
    build_args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    secrets: Mapping[str, bytes] | None = None,
    agents: Mapping[str, Path] | None = None,
    known_hosts: bytes = b"",
    named_contexts: Mapping[str, builds_pb2.BuildSource] | None = None,
    no_cache: bool = False,
    pull: bool = False,
    push: bool = False,
    output: builds_pb2.BuildOutputSpec | None = None,
    source_date_seconds: int | None = None,
    auths: Mapping[str, registry_auth_pb2.RegistryAuth] | None = None,
    network_mode: str = "",
    entitlements: Iterable[str] = (),
    users: security_pb2.UserNamespaceSpec | None = None,
    platforms: Iterable[platform_pb2.Platform] = (),
    provenance: builds_pb2.ProvenanceSpec | None = None,
    sbom: bool = False,
    annotations: Mapping[str, str] | None = None,
    index_annotations: Mapping[str, str] | None = None,
    manifest_descriptor_annotations: Mapping[str, str] | None = None,
    cache_from: Iterable[str] = (),
    cache_to: str = "",
    cache_sources: Iterable[builds_pb2.BuildCacheSource] = (),
    cache_to_spec: builds_pb2.BuildCacheSpec | None = None,
    request_id: str = "",
    on_progress: Progress | None = None,
    on_output: Callable[[builds_pb2.ReadBuildLogResponse], None] | None = None,
) -> operation_pb2.BuildResult:
    """An image was built of a folder, which is uploaded first, of a context that was (its id as text), or of a source
    that the engine fetches.

    Args:
        dockerfile: path of the Dockerfile within the context; empty: `Dockerfile`.
        dockerfile_text: the Dockerfile itself, in place of one in the context.
        references: names for the image.
        agents: sockets of ssh agents by id, served until the build has ended, for `RUN --mount=type=ssh` and git over
            ssh, which uses `default`; steps can list identities and sign. A private key is no agent: see ssh-agent(1).
        known_hosts: host keys for git over ssh, as lines of known_hosts(5).
        push: the references are pushed once the image is there.
        output: how the image is made and where it goes; None: an image, its layers compressed by gzip.
        source_date_seconds: no time in the image's new layers and config is later, in seconds since 1970; None: as the
            build argument SOURCE_DATE_EPOCH says.
        auths: credentials by registry, for base images and the push.
        named_contexts: what stands in for FROM and --from by its name.
        entitlements: what the Dockerfile may ask for, where the engine permits it: `security.insecure`, `network.host`,
            `device` or `device=vendor.com/class=name`.
        users: whose the users of each RUN are; None: as the engine's setting says.
        platforms: several make an index; none: the host's.
        provenance: given, such an attestation is added, and with `sbom` one of the packages of the image.
        annotations: of the manifest of each platform.
        index_annotations: of the index.
        manifest_descriptor_annotations: of the manifests' descriptors in the index.
        cache_from: references of caches in registries whose results serve where the engine has none.
        cache_to: reference under which the results of this build are written as such a cache.
        cache_sources: further caches, also those that `build_caches.upload` has sent.
        cache_to_spec: what is written to `cache_to`.
        on_progress: gets the operation at each change.
        on_output: gets what the steps write, once the operation has ended unless `on_progress` is None.

    Raises:
        FailedPrecondition: a step failed (BUILD_STEP_FAILED), which `metadata` names.
        FluytError: what else the build failed of.
    """
    spec = builds_pb2.BuildOutputSpec()
    if output is not None:
        spec.CopyFrom(output)
    spec.push |= push
    if isinstance(context, Path):
        context = upload_context(connection, context)
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context) if isinstance(context, str) else context,
        named_contexts=dict(named_contexts or {}),
        dockerfile_path=dockerfile,
        dockerfile=dockerfile_text,
        references=list(references),
        target=target,
        build_args=dict(build_args or {}),
        labels=dict(labels or {}),
        secrets=dict(secrets or {}),
        no_cache=no_cache,
        pull=pull,
        output=spec,
        source_date=None if source_date_seconds is None else timestamp_pb2.Timestamp(seconds=source_date_seconds),
        auths=dict(auths or {}),
        network_mode=network_mode,
        entitlements=list(entitlements),
        user_namespace=users,
        platforms=list(platforms),
        provenance_spec=provenance,
        sbom=sbom,
        annotations=dict(annotations or {}),
        index_annotations=dict(index_annotations or {}),
        manifest_descriptor_annotations=dict(manifest_descriptor_annotations or {}),
        cache_from=list(cache_from),
        cache_to=cache_to,
        cache_sources=list(cache_sources),
        cache_to_spec=cache_to_spec,
        request_id=request_id,
        known_hosts=known_hosts,
    )
    if not agents:
        return followed(connection, begin(connection, request), on_progress=on_progress, on_output=on_output)
    with build_agents.served(connection, agents) as session_id:
        request.agent_session_id = session_id
        return followed(connection, begin(connection, request), on_progress=on_progress, on_output=on_output)


def begin(connection: grpc.Channel, request: builds_pb2.BuildImageRequest) -> operation_pb2.Operation:
    """The operation of a build that has begun."""
    with translated():
        answer: builds_pb2.BuildImageResponse = builds_pb2_grpc.BuildServiceStub(connection).BuildImage(request)
    return answer.operation


def followed(
    connection: grpc.Channel,
    operation: operation_pb2.Operation,
    *,
    on_progress: Progress | None = None,
    on_output: Callable[[builds_pb2.ReadBuildLogResponse], None] | None = None,
) -> operation_pb2.BuildResult:
    """The result of a build, once it has ended; raises its failure."""
    if on_progress is not None:
        for change in operations.watch(connection, operation.id):
            on_progress(change.operation)
    if on_output is not None:
        for piece in read_log(connection, operation.id):
            on_output(piece)
    return operations.wait(connection, operation.id).build_result


def read_log(
    connection: grpc.Channel, operation_id: str, *, position_bytes: int = 0
) -> Iterator[builds_pb2.ReadBuildLogResponse]:
    """What the steps of a build write, until it has ended."""
    request = builds_pb2.ReadBuildLogRequest(operation_id=operation_id, position_bytes=position_bytes)
    return iterate(builds_pb2_grpc.BuildServiceStub(connection).ReadBuildLog(request))


def list_builds(connection: grpc.Channel) -> Iterator[builds_pb2.Build]:
    """Builds that run and the last ones that ended, begun last first, fetched page by page, without their steps."""
    stub = builds_pb2_grpc.BuildServiceStub(connection)
    token = ""
    while True:
        with translated():
            page = stub.ListBuilds(builds_pb2.ListBuildsRequest(page_token=token))
        yield from page.builds
        token = page.next_page_token
        if not token:
            return


def get_build(connection: grpc.Channel, build_id: str) -> builds_pb2.Build:
    """One build with its steps; its output is that of `read_log`."""
    with translated():
        answer: builds_pb2.GetBuildResponse = builds_pb2_grpc.BuildServiceStub(connection).GetBuild(
            builds_pb2.GetBuildRequest(id=build_id)
        )
    return answer.build


def prune_history(
    connection: grpc.Channel, build_ids: Iterable[str] = (), *, all: bool = False, request_id: str = ""
) -> list[str]:
    """These builds, or all that have ended, are forgotten with their output; returns their ids."""
    request = builds_pb2.PruneBuildHistoryRequest(ids=list(build_ids), all=all, request_id=request_id)
    with translated():
        answer = builds_pb2_grpc.BuildServiceStub(connection).PruneBuildHistory(request)
    return list(answer.deleted)


def list_cache(connection: grpc.Channel) -> Iterator[builds_pb2.BuildCacheRecord]:
    """What is kept for later builds, last used first, fetched page by page."""
    stub = builds_pb2_grpc.BuildServiceStub(connection)
    token = ""
    while True:
        with translated():
            page = stub.ListBuildCache(builds_pb2.ListBuildCacheRequest(page_token=token))
        yield from page.records
        token = page.next_page_token
        if not token:
            return


def prune_cache(
    connection: grpc.Channel, *, all: bool = False, keep_bytes: int = 0, dry_run: bool = False, request_id: str = ""
) -> operation_pb2.PruneResult:
    """Records of the cache that no build uses are gone, those unused longest first, until `keep_bytes` are left."""
    request = builds_pb2.PruneBuildCacheRequest(all=all, keep_bytes=keep_bytes, dry_run=dry_run, request_id=request_id)
    with translated():
        operation = builds_pb2_grpc.BuildServiceStub(connection).PruneBuildCache(request).operation
    return operations.wait(connection, operation.id).prune_result
