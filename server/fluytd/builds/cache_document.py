"""A cache as registries and folders keep it: a manifest whose config lists records and cache mounts, and whose layers
are theirs. Pure.

What comes from elsewhere is checked as any manifest is: duplicate keys, digests, sizes, counts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fluytd.builds.cache import MAX_CACHE_RECORDS
from fluytd.builds.model import MAX_CACHE_MOUNTS, CachedLayer, CachedMount, CacheRecord
from fluytd.ids import Digest
from fluytd.images.documents import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    Fields,
    Refuse,
    check_size,
    read_json,
    refuse_manifest,
)
from fluytd.images.manifests import LAYER_TYPES, OCI_MANIFEST, Descriptor

CONFIG_TYPE: Final = "application/vnd.fluyt.buildcache.config.v1+json"
_VERSION: Final = 1
_KEY: Final = re.compile("[0-9a-f]{64}")
_MAX_DESCRIPTION_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Contents:
    """What a cache has: results of steps by key, and cache mounts by name."""

    records: Mapping[str, CacheRecord]
    mounts: Mapping[str, CachedMount]


def config(records: Sequence[CacheRecord], mounts: Sequence[CachedMount] = ()) -> bytes:
    """The config of a cache: the same records give the same bytes."""
    document: dict[str, Any] = {
        "version": _VERSION,
        "records": [_entry(one) for one in sorted(records, key=lambda one: one.key)],
    }
    if mounts:
        document["mounts"] = [
            {"name": one.name, "description": one.description, "layer": one.descriptor.digest}
            for one in sorted(mounts, key=lambda one: one.name)
        ]
    return json.dumps(document, separators=(",", ":")).encode()


def _entry(record: CacheRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "key": record.key,
        "description": record.description,
        "create_time_unix_nanos": record.create_time_unix_nanos,
    }
    if record.layer is not None:
        entry |= {"layer": record.layer.descriptor.digest, "diff_id": record.layer.diff_id}
    return entry


def manifest(config_data: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest over a config and these layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": CONFIG_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": Digest.of(config_data), "size": len(config_data)},
            "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size_bytes} for one in layers],
        },
        separators=(",", ":"),
    ).encode()


def layers_of(records: Sequence[CacheRecord], mounts: Sequence[CachedMount] = ()) -> list[Descriptor]:
    """The layers of these, each once."""
    found = {one.layer.descriptor.digest: one.layer.descriptor for one in records if one.layer is not None}
    found |= {one.descriptor.digest: one.descriptor for one in mounts}
    return [found[digest] for digest in sorted(found)]


def parse_manifest(data: bytes, subject: str) -> tuple[Descriptor, dict[Digest, Descriptor]]:
    """The config of a cache, and its layers by digest.

    Raises MANIFEST_INVALID for what is no cache of this engine's, DIGEST_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(data), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, subject)
    refuse = refuse_manifest(subject)
    document = Fields(read_json(data, refuse), "", refuse)
    if not document.has("config"):
        raise refuse("it has no config, so that it is no build cache")
    found = _descriptor(document.object("config"))
    if found.media_type != CONFIG_TYPE:
        raise refuse(f"its config is {found.media_type[:128] or 'of no type'}, so that it is no build cache")
    check_size(found.size_bytes, "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, subject)
    most = MAX_CACHE_RECORDS + MAX_CACHE_MOUNTS
    check_size(len(document.items("layers")), "MAX_CACHE_RECORDS", most, subject)
    layers = [_descriptor(entry) for entry in document.objects("layers")]
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise refuse(f"layer {layer.digest} is {layer.media_type[:128] or 'of no type'}")
    return found, {layer.digest: layer for layer in layers}


def _descriptor(entry: Fields) -> Descriptor:
    return Descriptor(entry.text("mediaType"), entry.digest("digest"), entry.number("size"))


def parse_config(data: bytes, layers: Mapping[Digest, Descriptor], subject: str) -> Contents:
    """What a cache has; chain and layer id are not its to say and empty.

    Raises MANIFEST_INVALID, DIGEST_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(data), "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, subject)
    refuse = refuse_manifest(subject)
    document = Fields(read_json(data, refuse), "", refuse)
    if document.number("version") != _VERSION:
        raise refuse(f"its version must be {_VERSION}")
    check_size(len(document.items("records")), "MAX_CACHE_RECORDS", MAX_CACHE_RECORDS, subject)
    found: dict[str, CacheRecord] = {}
    for entry in document.objects("records"):
        key = entry.text("key")
        if _KEY.fullmatch(key) is None:
            raise refuse("a record has no key")
        layer = None
        if entry.has("layer"):
            descriptor = layers.get(entry.digest("layer"))
            if descriptor is None:
                raise refuse("a record has a layer that the manifest does not list")
            layer = CachedLayer(descriptor, entry.digest("diff_id"), Digest(""), "", 0)
        time = entry.number("create_time_unix_nanos")
        found[key] = CacheRecord(key, entry.text("description")[:_MAX_DESCRIPTION_CHARS], layer, time, time)
    return Contents(found, _mounts(document, layers, refuse, subject))


def _mounts(
    document: Fields, layers: Mapping[Digest, Descriptor], refuse: Refuse, subject: str
) -> dict[str, CachedMount]:
    check_size(len(document.items("mounts")), "MAX_CACHE_MOUNTS", MAX_CACHE_MOUNTS, subject)
    found: dict[str, CachedMount] = {}
    for entry in document.objects("mounts"):
        name, descriptor = entry.text("name"), layers.get(entry.digest("layer"))
        if _KEY.fullmatch(name) is None or descriptor is None:
            raise refuse("a cache mount has no name, or a layer that the manifest does not list")
        found[name] = CachedMount(name, entry.text("description")[:_MAX_DESCRIPTION_CHARS], descriptor)
    return found
