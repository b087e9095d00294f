"""Making an image of a root file system: one layer, and a config of what the caller changes. It reads no registry."""

import copy
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from fluytd import failpoints
from fluytd.clock import Clock
from fluytd.content.ports import Blobs
from fluytd.errors import FieldInvalid, LayerCorrupt
from fluytd.events.model import ImageImported
from fluytd.gc.collect import Collector
from fluytd.ids import Digest, ImageReference
from fluytd.images import config, write_manifest
from fluytd.images.assemble import Assembler, Draft, possible_layer_ids
from fluytd.images.catalogue import Catalogue
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.naming import Addition
from fluytd.images.platforms import Platform
from fluytd.images.ports import FilePart, Ingester
from fluytd.images.progress import LayerTrack
from fluytd.images.spool import Received
from fluytd.images.unwrap import Unwrapper
from fluytd.operations.model import LoadedImage, LoadProgress, LoadResult
from fluytd.operations.service import OperationHandle

#: Instructions of one import, and characters of one of them.
MAX_CHANGES: Final = 100
MAX_CHANGE_LENGTH: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an imported image is to be."""

    reference: ImageReference | None
    platform: Platform
    #: What `run_config` gave.
    run: dict[str, object]
    comment: str


class Importer:
    """Brings images from root file systems."""

    def __init__(
        self,
        blobs: Blobs,
        ingester: Ingester,
        unwrapper: Unwrapper,
        assembler: Assembler,
        catalogue: Catalogue,
        collector: Collector,
        clock: Clock,
    ) -> None:
        self._blobs = blobs
        self._ingester = ingester
        self._unwrapper = unwrapper
        self._assembler = assembler
        self._catalogue = catalogue
        self._collector = collector
        self._clock = clock

    async def import_rootfs(self, archive: Received, options: ImportOptions, handle: OperationHandle) -> LoadResult:
        """The tar in `archive` (borrowed) is the one layer of an image that is here, whole; without its compression
        where that is one that no layer has.

        Raises LAYER_REJECTED, LAYER_CORRUPT, LIMIT_EXCEEDED, STORAGE_FULL, CANCELLED.
        """

        def refuse(rule: str) -> LayerCorrupt:
            return LayerCorrupt(digest=archive.digest, detail=rule)

        plain = await self._unwrapper.unwrap(archive.fd, "import", handle.cancel_token, refuse)
        try:
            return await self._import_layer(archive if plain is None else plain, options, handle)
        finally:
            if plain is not None:
                plain.close()

    async def _import_layer(self, archive: Received, options: ImportOptions, handle: OperationHandle) -> LoadResult:
        part, digest, reference = FilePart(archive.fd, 0, archive.size_bytes), archive.digest, options.reference
        track = LayerTrack(digest, "", part.size_bytes)
        handle.track(lambda: LoadProgress(part.size_bytes, (track.progress,), ()))
        names = () if reference is None else (str(reference.with_default_tag()),)
        async with self._collector.unless_added() as published, self._collector.staging(lambda _: False) as lease:
            counters = self._ingester.new_counters()
            track.board(counters)
            failpoints.hit("import.layer.store")
            await lease.add([digest])
            stored = await self._ingester.store_layer(part, digest, None, counters, handle.cancel_token)
            data = write_manifest.config(
                stored.diff_id,
                options.platform,
                options.run,
                comment=options.comment,
                create_time_unix_nanos=self._clock.now_unix_nanos(),
            )
            parsed = config.parse(data, 1, "the config of the import")
            config_digest = Digest.of(data)
            await lease.add([config_digest, *possible_layer_ids(parsed)])
            # Once more under its lease: a layer that was there may have gone with its image before that.
            stored = await self._ingester.store_layer(part, digest, stored.diff_id, counters, handle.cancel_token)
            failpoints.hit("import.config.stage")
            await self._blobs.stage(data, config_digest)
            layer = Descriptor(stored.media_type, stored.digest, stored.size_bytes)
            manifest_data = write_manifest.manifest(config_digest, len(data), [layer])
            manifest = Descriptor(OCI_MANIFEST, Digest.of(manifest_data), len(manifest_data))
            await lease.add([manifest.digest])
            failpoints.hit("import.manifest.stage")
            await self._blobs.stage(manifest_data, manifest.digest)
            draft = Draft(manifest, manifest, config_digest, data, parsed, ((layer, stored.layer),))
            finished = await self._assembler.finish(draft, handle)
            handle.check()
            published += [finished.image]
            await self._assembler.publish([finished.image], "import")
            failpoints.hit("import.record")
            image = finished.image
            fact = ImageImported(image.id, names[0] if names else "")
            addition = Addition(image=image, names=names, repo_digests=(), fact=fact)
            added = await self._catalogue.add([addition], handle.actor)
        await self._collector.discard_staged(finished.superseded)
        await self._collector.sweep_replaced(added.replaced)
        return LoadResult((LoadedImage(image.id, image.manifest.digest, names),))


def run_config(
    changes: Sequence[str], base: Mapping[str, object] | None = None, field: str = "options.changes"
) -> dict[str, object]:
    """What stands below `config` of an image's config, from Dockerfile instructions, the later over the earlier.

    `base`: what stood there before, without null values; it is not changed. `field`: the request's, for errors.

    Raises FIELD_INVALID for an instruction that is not known, malformed or too long.
    Source: the options of `docker import --change`.
    """
    if len(changes) > MAX_CHANGES:
        raise FieldInvalid(field=field, rule=f"more than MAX_CHANGES ({MAX_CHANGES}) instructions")
    run: dict[str, object] = copy.deepcopy(dict(base or {}))
    for index, change in enumerate(changes):
        name_of_change = f"{field}[{index}]"
        if len(change) > MAX_CHANGE_LENGTH:
            raise FieldInvalid(field=name_of_change, rule=f"longer than MAX_CHANGE_LENGTH ({MAX_CHANGE_LENGTH})")
        name, _, rest = change.strip().partition(" ")
        _apply(run, name.upper(), rest.strip(), name_of_change)
    return run


_TEXTS: Final = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}
_COMMANDS: Final = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint"}
_SETS: Final = {"EXPOSE": "ExposedPorts", "VOLUME": "Volumes"}


def _apply(run: dict[str, object], name: str, rest: str, field: str) -> None:
    if not rest:
        raise FieldInvalid(field=field, rule="must be an instruction with its value")
    if name in _TEXTS:
        run[_TEXTS[name]] = rest
    elif name in _COMMANDS:
        run[_COMMANDS[name]] = _words(rest, field)
    elif name in _SETS:
        kept = cast("dict[str, object]", run.setdefault(_SETS[name], {}))
        kept.update({word: {} for word in (_words(rest, field) if rest.startswith("[") else rest.split())})
    elif name in {"ENV", "LABEL"}:
        pairs = _pairs(rest, field)
        if name == "LABEL":
            cast("dict[str, str]", run.setdefault("Labels", {})).update(pairs)
        else:
            # A variable that is set again keeps its place.
            variables = {one.partition("=")[0]: one for one in cast("list[str]", run.get("Env", []))}
            run["Env"] = list((variables | {key: f"{key}={value}" for key, value in pairs.items()}).values())
    else:
        known = "CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, EXPOSE, VOLUME, STOPSIGNAL"
        raise FieldInvalid(field=field, rule=f"must be one of {known}")


def _words(text: str, field: str) -> list[str]:
    if not text.startswith("["):
        return ["/bin/sh", "-c", text]
    try:
        words = json.loads(text)
    except ValueError as error:
        raise FieldInvalid(field=field, rule="must be a JSON list of texts") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise FieldInvalid(field=field, rule="must be a JSON list of texts")
    return words


def _pairs(text: str, field: str) -> dict[str, str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise FieldInvalid(field=field, rule="has a quote that is not closed") from error
    if words and "=" not in words[0]:
        key, _, value = text.partition(" ")
        return {key: value.strip()}
    if not all("=" in word for word in words):
        raise FieldInvalid(field=field, rule="must be name=value pairs")
    return {key: value for key, _, value in (word.partition("=") for word in words)}
