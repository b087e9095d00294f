"""What a cache in a registry may say, and what is refused."""

import json
from typing import Any

import pytest

from fluytd.builds import cache_document
from fluytd.builds.model import CachedLayer, CachedMount, CacheRecord
from fluytd.errors import EngineError
from fluytd.ids import Digest
from fluytd.images.manifests import Descriptor

LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"layer"), 5)
OWN = CachedLayer(LAYER, Digest.of(b"diff"), Digest.of(b"chain"), "id", 7)
RECORDS = [CacheRecord("a" * 64, "RUN a", OWN, 3, 4), CacheRecord("b" * 64, "RUN b", None, 5, 6)]


def test_what_is_written_is_read_back_but_for_what_is_local() -> None:
    config = cache_document.config(RECORDS)
    assert cache_document.config(RECORDS[::-1]) == config
    manifest = cache_document.manifest(config, cache_document.layers_of(RECORDS))
    found, layers = cache_document.parse_manifest(manifest, "a cache")
    assert (found.digest, found.size_bytes) == (Digest.of(config), len(config))
    one, two = cache_document.parse_config(config, layers, "a cache").records.values()
    assert (one.key, one.description, one.create_time_unix_nanos) == ("a" * 64, "RUN a", 3)
    assert one.layer is not None
    assert (one.layer.descriptor, one.layer.diff_id, one.layer.layer_id) == (LAYER, OWN.diff_id, "")
    assert (two.key, two.layer) == ("b" * 64, None)


def test_cache_mounts_are_written_and_read_back() -> None:
    mount = CachedMount("c" * 64, "/root/.cache", LAYER)
    config = cache_document.config(RECORDS, [mount])
    layers = {one.digest: one for one in cache_document.layers_of([], [mount])}
    assert cache_document.parse_config(config, layers, "a cache").mounts == {mount.name: mount}
    assert cache_document.parse_config(cache_document.config(RECORDS), layers, "a cache").mounts == {}


def _without(name: str) -> dict[str, Any]:
    record = json.loads(cache_document.config(RECORDS))["records"][0]
    del record[name]
    return {"version": 1, "records": [record]}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"version": 2, "records": []},
        {"version": 1, "records": [{"key": "A" * 64}]},
        {"version": 1, "records": [{"key": "../../etc"}]},
        {"version": 1, "records": [{"key": "a" * 64, "layer": Digest.of(b"other"), "diff_id": OWN.diff_id}]},
        {"version": 1, "records": [{"key": "a" * 64, "layer": "nothing", "diff_id": OWN.diff_id}]},
        {"version": 1, "records": [{"key": "a" * 64, "create_time_unix_nanos": -1}]},
        {"version": 1, "records": [{"key": "a" * 64, "create_time_unix_nanos": "x"}]},
        {"version": 1, "records": [{"key": f"{number:064x}"} for number in range(10_001)]},
        {"version": 1, "records": [], "mounts": [{"name": "../x", "layer": LAYER.digest}]},
        {"version": 1, "records": [], "mounts": [{"name": "c" * 64, "layer": Digest.of(b"other")}]},
        {"version": 1, "records": [], "mounts": [{"name": "c" * 64}]},
        {"version": 1, "records": [], "mounts": [{"name": "c" * 64, "layer": LAYER.digest}] * 65},
        _without("diff_id"),
        _without("key"),
    ],
)
def test_a_list_of_records_that_is_none_is_refused(document: object) -> None:
    with pytest.raises(EngineError) as caught:
        cache_document.parse_config(json.dumps(document).encode(), {LAYER.digest: LAYER}, "a cache")
    assert caught.value.failure.reason in {"MANIFEST_INVALID", "DIGEST_INVALID", "LIMIT_EXCEEDED"}


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": LAYER.digest, "size": 1}},
        {"config": {"mediaType": cache_document.CONFIG_TYPE, "digest": LAYER.digest, "size": 10**10}},
        {"layers": [{"mediaType": "text/plain", "digest": LAYER.digest, "size": 1}]},
        {"layers": [{"mediaType": LAYER.media_type, "digest": "x", "size": 1}]},
        {"layers": {}},
    ],
)
def test_a_manifest_that_is_no_caches_is_refused(change: dict[str, Any]) -> None:
    document = json.loads(cache_document.manifest(b"{}", [LAYER])) | change
    with pytest.raises(EngineError) as caught:
        cache_document.parse_manifest(json.dumps(document).encode(), "a cache")
    assert caught.value.failure.reason in {"MANIFEST_INVALID", "DIGEST_INVALID", "LIMIT_EXCEEDED"}
