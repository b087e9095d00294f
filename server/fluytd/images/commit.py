"""Making an image of a container's changes: its image's layers, one more above them, and a config of both.

The layers of the base image are named again and never stored again. It knows no container, only its tree.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.content.ports import Blobs
from fluytd.errors import BlobNotFound, Cancelled, ImageNotFound, LayerNotFound, LimitExceeded
from fluytd.events.model import ImageCommitted
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest, ImageReference
from fluytd.images import config, write_manifest
from fluytd.images.assemble import Assembler, possible_layer_ids
from fluytd.images.catalogue import Addition, Catalogue
from fluytd.images.imports import run_config
from fluytd.images.manifests import MAX_LAYERS, OCI_MANIFEST, Descriptor, oci_layer_type
from fluytd.images.model import Image, ImageLayer
from fluytd.images.ports import Counters, Layer, Stack, StoredLayer
from fluytd.operations.ports import CancelToken

#: A layer that was there may go with its image while it is looked at; the changes are read once more then.
MAX_ATTEMPTS: Final = 2
#: The uncompressed tar without an entry: a layer that changes nothing, which the history tells and nobody stores.
EMPTY_DIFF_ID: Final = Digest.of(bytes(1024))
#: Fields of Docker's own in a config that tell of the container in which it was made.
ABOUT_THE_MAKING: Final = ("id", "parent", "container", "container_config", "docker_version", "throwaway")


@dataclass(frozen=True, slots=True)
class Tree:
    """A writable layer above stored ones."""

    #: What errors call it.
    subject: str
    upper_dir: str
    #: Lowest first.
    layer_ids: tuple[str, ...]
    #: Absolute paths inside on which something is mounted.
    mount_points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """What a committed image is to be."""

    base_image_id: str
    reference: ImageReference | None
    #: Below `config`, in Docker's names, over what the base image says; a value of None takes the base's away.
    run: Mapping[str, object]
    #: `NAME=value` over the base image's; a bare `NAME` takes the base's away.
    env: Sequence[str]
    #: Over the base image's.
    labels: Mapping[str, str]
    #: Dockerfile instructions over both.
    changes: Sequence[str]
    comment: str
    author: str
    container_id: str
    container_name: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A new image."""

    image: Image
    #: Bytes of the files of its new layer; 0 if nothing was changed.
    layer_size_bytes: int


class Changes(Protocol):
    """The core's pass over a container's changes."""

    def new_counters(self) -> Counters:
        """See `images.ports.Ingester`."""

    async def store_changes(self, tree: Tree, counters: Counters, cancel: CancelToken) -> StoredLayer:
        """The changes are a blob and an unpacked layer, staged or visible.

        Raises FILE_UNREPRESENTABLE, LIMIT_EXCEEDED, LAYER_NOT_FOUND, STORAGE_FULL, IO_FAILED, CANCELLED.
        """

    async def finish_layer(self, stack: Stack, cancel: CancelToken) -> Layer:
        """See `images.ports.Ingester`."""


#: A block in which the tree holds still.
Hold = Callable[[], AbstractAsyncContextManager[None]]


class Committer:
    """Brings images from containers."""

    def __init__(
        self,
        blobs: Blobs,
        changes: Changes,
        assembler: Assembler,
        catalogue: Catalogue,
        collector: Collector,
        clock: Clock,
    ) -> None:
        self._blobs = blobs
        self._changes = changes
        self._assembler = assembler
        self._catalogue = catalogue
        self._collector = collector
        self._clock = clock

    async def commit(
        self, tree: Tree, options: CommitOptions, hold: Hold, cancel: CancelToken, actor: str
    ) -> Committed:
        """The image is here, whole, under its reference. `hold` surrounds the reading of the tree and nothing else.

        Raises IMAGE_NOT_FOUND if the container's image was deleted, FIELD_INVALID (`changes[i]`), LIMIT_EXCEEDED
        (MAX_LAYERS), FILE_UNREPRESENTABLE, STORAGE_FULL, CANCELLED; nothing is left then.
        """
        base = self._base(options)
        run = configured(base, options)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await self._attempt(base, run, tree, options, hold, cancel, actor)
            except (BlobNotFound, LayerNotFound):
                if attempt == MAX_ATTEMPTS or self._catalogue.table.get(base.id) is None:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _base(self, options: CommitOptions) -> Image:
        image = self._catalogue.table.get(Digest(options.base_image_id))
        if image is None:
            raise ImageNotFound(reference=options.base_image_id)
        if len(image.layers) >= MAX_LAYERS:
            raise LimitExceeded(
                limit="MAX_LAYERS", limit_value=MAX_LAYERS, actual=len(image.layers) + 1, subject=image.id
            )
        return image

    async def _attempt(
        self,
        base: Image,
        run: Mapping[str, object],
        tree: Tree,
        options: CommitOptions,
        hold: Hold,
        cancel: CancelToken,
        actor: str,
    ) -> Committed:
        names = () if options.reference is None else (str(options.reference.with_default_tag()),)
        collector = self._collector
        async with collector.unless_added() as published, collector.staging(lambda _: False) as lease:
            await lease.add([*base.blob_digests, *(layer.layer_id for layer in base.layers)])
            if self._catalogue.table.get(base.id) is None:
                raise ImageNotFound(reference=base.id)
            async with hold():
                failpoints.hit("commit.layer.store")
                stored = await self._changes.store_changes(tree, self._changes.new_counters(), cancel)
            await lease.add([stored.digest, stored.diff_id.hex, stored.layer.layer_id])
            layers = tuple(as_oci(layer) for layer in base.layers)
            if stored.diff_id != EMPTY_DIFF_ID:
                layers = (*layers, await self._finish(base, stored, lease, cancel))
            image = await self._stage(base, layers, run, options, lease)
            if cancel.is_cancelled:
                raise Cancelled(subject=f"commit of container {options.container_id}")
            published += [image]
            await self._assembler.publish([image], "commit")
            failpoints.hit("commit.record")
            fact = ImageCommitted(image.id, names[0] if names else "", options.container_id, options.container_name)
            addition = Addition(image=image, names=names, repo_digests=(), fact=fact)
            added = await self._catalogue.add([addition], actor)
        if stored.diff_id == EMPTY_DIFF_ID:
            # A block with nothing in it: at its end what was staged of an empty layer is gone.
            async with self._collector.passing([stored.digest]):
                await self._collector.discard_staged([stored.layer.layer_id])
        elif layers[-1].layer_id != stored.layer.layer_id:
            await self._collector.discard_staged([stored.layer.layer_id])
        await self._collector.sweep_replaced(added.replaced)
        return Committed(image, layers[-1].size_bytes if len(layers) > len(base.layers) else 0)

    async def _finish(self, base: Image, stored: StoredLayer, lease: Lease, cancel: CancelToken) -> ImageLayer:
        """The layer to use over the base's."""
        chain_id = config.chain_ids([*base.config.diff_ids, stored.diff_id])[-1]
        await lease.add([f"chain-{chain_id.hex}"])
        layer = stored.layer
        if layer.depends_on_lower:
            lower = tuple(below.layer_id for below in base.layers)
            layer = await self._changes.finish_layer(Stack(stored.digest, stored.diff_id, chain_id, lower), cancel)
        descriptor = Descriptor(stored.media_type, stored.digest, stored.size_bytes)
        return ImageLayer(descriptor, stored.diff_id, chain_id, layer.layer_id, layer.size_bytes, layer.max_id)

    async def _stage(
        self,
        base: Image,
        layers: tuple[ImageLayer, ...],
        run: Mapping[str, object],
        options: CommitOptions,
        lease: Lease,
    ) -> Image:
        """Config and manifest are staged."""
        now = self._clock.now_unix_nanos()
        data = config_of(base, layers, run, options, now)
        parsed = config.parse(data, len(layers), "the config of the commit")
        config_digest = Digest.of(data)
        await lease.add([config_digest, *possible_layer_ids(parsed)])
        failpoints.hit("commit.config.stage")
        await self._blobs.stage(data, config_digest)
        manifest_data = write_manifest.manifest(config_digest, len(data), [layer.descriptor for layer in layers])
        manifest = Descriptor(OCI_MANIFEST, Digest.of(manifest_data), len(manifest_data))
        await lease.add([manifest.digest])
        failpoints.hit("commit.manifest.stage")
        await self._blobs.stage(manifest_data, manifest.digest)
        return Image(
            id=config_digest,
            manifest=manifest,
            target=manifest,
            config_text=data.decode(),
            config=parsed,
            layers=layers,
            create_time_unix_nanos=now,
        )


def as_oci(layer: ImageLayer) -> ImageLayer:
    """The same layer as an OCI manifest names it."""
    descriptor = layer.descriptor
    media_type = oci_layer_type(descriptor.media_type)
    return replace(layer, descriptor=replace(descriptor, media_type=media_type, annotations={}))


def configured(base: Image, options: CommitOptions) -> dict[str, object]:
    """What stands below `config`: the base image's, the container's own over it, the changes over both.

    Source: moby `daemon/commit.go`, merge(): an entrypoint that is changed drops the command that it does not fit.
    """
    document: dict[str, Any] = json.loads(base.config_text)
    below: dict[str, Any] = dict(document.get("config") or {}) | dict(options.run)
    below["Env"] = _merged(below.get("Env") or [], options.env) or None
    below["Labels"] = {**(below.get("Labels") or {}), **options.labels} or None
    run: dict[str, object] = {name: value for name, value in below.items() if value is not None}
    names = {change.strip().partition(" ")[0].upper() for change in options.changes}
    if "ENTRYPOINT" in names and "CMD" not in names:
        run.pop("Cmd", None)
    return run_config(options.changes, run, "changes")


def _merged(base: Sequence[str], own: Sequence[str]) -> list[str]:
    variables = {item.partition("=")[0]: item for item in base}
    for item in own:
        name, separator, _ = item.partition("=")
        if separator:
            variables[name] = item
        else:
            variables.pop(name, None)
    return list(variables.values())


def config_of(
    base: Image, layers: Sequence[ImageLayer], run: Mapping[str, object], options: CommitOptions, now_unix_nanos: int
) -> bytes:
    """The config's bytes: all that the base's says and is still true, and a step of history more."""
    document: dict[str, Any] = json.loads(base.config_text)
    for name in (*ABOUT_THE_MAKING, "author"):
        document.pop(name, None)
    created = _time(now_unix_nanos)
    history = whole_history(document, len(base.layers))
    step: dict[str, object] = {"created": created, "created_by": "fluyt commit"}
    step |= {name: text for name, text in (("author", options.author), ("comment", options.comment)) if text}
    if len(layers) == len(base.layers):
        step["empty_layer"] = True
    document |= {"created": created, "config": dict(run)}
    if options.author:
        document["author"] = options.author
    document["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    document["history"] = [*history, step]
    return json.dumps(document, separators=(",", ":")).encode()


def whole_history(document: Mapping[str, Any], layer_count: int) -> list[dict[str, object]]:
    """The history, with a step for each layer that it does not tell of: each layer must be one step's (case R18)."""
    history = cast("list[dict[str, object]]", document.get("history") or [])
    told = sum(1 for step in history if not step.get("empty_layer"))
    untold: dict[str, object] = {"created_by": "", "comment": "not told by the base image"}
    return [*history, *(untold for _ in range(layer_count - told))]


def _time(unix_nanos: int) -> str:
    seconds, nanos = divmod(unix_nanos, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
