"""index.json: what makes blobs an OCI image layout that any tool reads. It writes nothing.

Source: OCI image-spec image-layout.md and annotations.md; containerd's annotation for a reference in full.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fluytd.ids import Digest
from fluytd.images.manifests import OCI_INDEX, Descriptor
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.table import Name

_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
#: Digest of the index that a name stands for, on an entry that shows the same images by an index of OCI's own type:
#: containers/image passes over entries of other types.
AS_IT_CAME = "io.fluyt.image.index"

Entry = dict[str, Any]


def render(images: Sequence[Image], names: Mapping[str, Name]) -> bytes:
    """The file for these images and what references in full name of them.

    One entry a reference: the manifest, or the index where it names several images, since readers take a name that
    stands there twice for a mistake. One without a name for each image that no other entry leads to.
    """
    by_id = {str(image.id): image for image in images}
    entries: list[Entry] = []
    led_to: set[str] = set()
    for reference, name in sorted(names.items()):
        named = [by_id[image_id] for image_id in name.image_ids]
        index = next((way[0] for image in named if (way := image.way(name.target)) is not None), None)
        if len(named) > 1 and index is not None:
            entries.append(entry(index, None, reference))
            led_to |= {image.id for image in named if image.way(name.target) is not None}
        else:
            entries.append(entry(named[0].manifest, named[0].platform, reference))
            led_to.add(named[0].id)
    entries += [entry(image.manifest, image.platform, "") for image in images if image.id not in led_to]
    return dump(entries)


def entry(descriptor: Descriptor, platform: Platform | None, name: str, *, as_it_came: Digest | None = None) -> Entry:
    """One entry. `platform`: None for an index; `name`: reference in full, empty for none; `as_it_came`: the index that
    this one was made for."""
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
    if as_it_came is not None:
        made.setdefault("annotations", {})[AS_IT_CAME] = as_it_came
    return made


def dump(entries: Sequence[Entry]) -> bytes:
    """An index of these entries."""
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
