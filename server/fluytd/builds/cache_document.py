"""A cache as a registry keeps it: a manifest whose config lists records and whose layers are theirs. Pure.

What comes from a registry is checked as any manifest is: duplicate keys, digests, sizes, counts.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fluytd.builds.cache import MAX_CACHE_RECORDS
from fluytd.builds.model import CachedLayer, CacheRecord
from fluytd.ids import Digest
from fluytd.images.documents import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Fields, check_size, read_json, refuse_manifest
from fluytd.images.manifests import LAYER_TYPES, OCI_MANIFEST, Descriptor

CONFIG_TYPE: Final = "application/vnd.fluyt.buildcache.config.v1+json"
_VERSION: Final = 1
_KEY_DIGITS: Final = 64
_MAX_DESCRIPTION_CHARS: Final = 200


def config(records: Sequence[CacheRecord]) -> bytes:
    """The config of a cache: the same records give the same bytes."""
    return json.dumps(
        {"version": _VERSION, "records": [_entry(one) for one in sorted(records, key=lambda one: one.key)]},
        separators=(",", ":"),
    ).encode()


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


def layers_of(records: Sequence[CacheRecord]) -> list[Descriptor]:
    """The layers of these records, each once."""
    found = {one.layer.descriptor.digest: one.layer.descriptor for one in records if one.layer is not None}
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
    check_size(len(document.items("layers")), "MAX_CACHE_RECORDS", MAX_CACHE_RECORDS, subject)
    layers = [_descriptor(entry) for entry in document.objects("layers")]
    for layer in layers:
        if layer.media_type not in LAYER_TYPES:
            raise refuse(f"layer {layer.digest} is {layer.media_type[:128] or 'of no type'}")
    return found, {layer.digest: layer for layer in layers}


def _descriptor(entry: Fields) -> Descriptor:
    return Descriptor(entry.text("mediaType"), entry.digest("digest"), entry.number("size"))


def parse_config(data: bytes, layers: Mapping[Digest, Descriptor], subject: str) -> dict[str, CacheRecord]:
    """The records of a cache by key; chain and layer id are not theirs to say and empty.

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
        if len(key) != _KEY_DIGITS or not set(key) <= set("0123456789abcdef"):
            raise refuse("a record has no key")
        layer = None
        if entry.has("layer"):
            descriptor = layers.get(entry.digest("layer"))
            if descriptor is None:
                raise refuse("a record has a layer that the manifest does not list")
            layer = CachedLayer(descriptor, entry.digest("diff_id"), Digest(""), "", 0)
        time = entry.number("create_time_unix_nanos")
        found[key] = CacheRecord(key, entry.text("description")[:_MAX_DESCRIPTION_CHARS], layer, time, time)
    return found
