"""Writing what an image lacks: a manifest for a docker-archive's image, manifest and config for a root file system.

The same input gives the same bytes, so that a repeated load or import finds what the first one stored.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from fluytd.ids import Digest
from fluytd.images.manifests import OCI_CONFIG, OCI_MANIFEST, Descriptor
from fluytd.images.platforms import Platform

_NANOS = 1_000_000_000


def manifest(
    config_digest: Digest,
    config_size_bytes: int,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """An OCI manifest over a config and its layers, lowest first."""
    values: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": config_size_bytes},
        "layers": [_layer(layer) for layer in layers],
    }
    return _dump(values | ({"annotations": dict(sorted(annotations.items()))} if annotations else {}))


def _layer(layer: Descriptor) -> dict[str, object]:
    named: dict[str, object] = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size_bytes}
    named |= {"urls": list(layer.urls)} if layer.urls else {}
    return named | ({"annotations": dict(layer.annotations)} if layer.annotations else {})


def config(
    diff_id: Digest,
    platform: Platform,
    run: Mapping[str, object],
    *,
    comment: str,
    create_time_unix_nanos: int,
) -> bytes:
    """The config of an image of one layer. `run`: what stands below `config`, in Docker's names."""
    created = datetime.fromtimestamp(create_time_unix_nanos // _NANOS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values: dict[str, object] = {"created": created, "architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        values["variant"] = platform.variant
    values |= {
        "config": dict(run),
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "fluyt import", "comment": comment}],
    }
    return _dump(values)


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
