"""index.json: what makes blobs an OCI image layout that any tool reads. It writes nothing.

Source: OCI image-spec image-layout.md and annotations.md; containerd's annotation for a reference in full.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from fluytd.images.manifests import OCI_INDEX, Descriptor
from fluytd.images.model import Image
from fluytd.images.platforms import Platform

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"

Entry = dict[str, Any]


def render(images: Iterable[tuple[Image, tuple[str, ...]]]) -> bytes:
    """The file for these images with their references in full; one entry a reference, one for an image without any."""
    entries: list[Entry] = []
    for image, references in images:
        entries += [entry(image.manifest, image.platform, name) for name in references or ("",)]
    return dump(entries)


def entry(descriptor: Descriptor, platform: Platform | None, name: str) -> Entry:
    """One entry. `platform`: None for an index; `name`: reference in full, empty for none."""
    made: Entry = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }
    if platform is not None:
        made["platform"] = {"os": platform.os, "architecture": platform.architecture}
        if platform.variant:
            made["platform"]["variant"] = platform.variant
        if platform.os_version:
            made["platform"]["os.version"] = platform.os_version
    if name:
        made["annotations"] = {_REF_NAME: name, _CONTAINERD_NAME: name}
    return made


def dump(entries: Sequence[Entry]) -> bytes:
    """An index of these entries."""
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
