"""content/index.json: what makes the blob store an OCI image layout that any tool reads. It writes nothing.

Source: OCI image-spec image-layout.md and annotations.md; containerd's annotation for a reference in full.
"""

import json
from collections.abc import Iterable

from fluytd.images.manifests import OCI_INDEX
from fluytd.images.model import Image

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"


def render(images: Iterable[tuple[Image, tuple[str, ...]]]) -> bytes:
    """The file for these images with their references in full; one entry a reference, one for an image without any."""
    entries: list[dict[str, object]] = []
    for image, references in images:
        platform = {"os": image.platform.os, "architecture": image.platform.architecture}
        if image.platform.variant:
            platform["variant"] = image.platform.variant
        entry: dict[str, object] = {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest,
            "size": image.manifest.size_bytes,
            "platform": platform,
        }
        named = [entry | {"annotations": {_REF_NAME: name, _CONTAINERD_NAME: name}} for name in references]
        entries += named or [entry]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
