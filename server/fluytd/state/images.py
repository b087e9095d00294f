"""Rows of `images`, `image_names` and `image_repo_digests` <-> `Image`."""

import json
from dataclasses import dataclass
from typing import Any

from fluytd.errors import DataCorruptOnDisk, EngineError, Failure
from fluytd.ids import Digest
from fluytd.images import config as configs
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Attested, Image, ImageLayer
from fluytd.images.table import Name
from fluytd.state.db import Transaction


def save(txn: Transaction, image: Image) -> None:
    """The row is the image's."""
    record = {
        "manifest": _dump(image.manifest),
        "target": _dump(image.target),
        "ways": [[_dump(index) for index in way] for way in image.ways],
        "attested": [
            {"index": one.index, "manifest": _dump(one.manifest), "blobs": [_dump(blob) for blob in one.blobs]}
            for one in image.attested
        ],
        "config": image.config_text,
        "layers": [
            {
                "descriptor": _dump(layer.descriptor),
                "diff_id": layer.diff_id,
                "chain_id": layer.chain_id,
                "layer_id": layer.layer_id,
                "size_bytes": layer.size_bytes,
                "max_id": layer.max_id,
            }
            for layer in image.layers
        ],
    }
    txn.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET version = excluded.version,"
        " create_time_unix_nanos = excluded.create_time_unix_nanos, record = excluded.record",
        (image.id, image.version, image.create_time_unix_nanos, json.dumps(record, separators=(",", ":"))),
    )


def save_version(txn: Transaction, image_id: str, version: int) -> None:
    """The image's version is this one."""
    txn.execute("UPDATE images SET version = ? WHERE id = ?", (version, image_id))


def delete(txn: Transaction, image_id: str) -> None:
    """The image's row and all its names are gone."""
    txn.execute("DELETE FROM images WHERE id = ?", (image_id,))


def name(txn: Transaction, reference: str, named: Name) -> None:
    """The reference names these images and no others."""
    unname(txn, reference)
    rows = [(reference, image_id, position, named.target) for position, image_id in enumerate(named.image_ids)]
    txn.execute_many("INSERT INTO image_names VALUES (?, ?, ?, ?)", rows)


def unname(txn: Transaction, reference: str) -> None:
    """The reference names nothing."""
    txn.execute("DELETE FROM image_names WHERE reference = ?", (reference,))


def add_repo_digest(txn: Transaction, reference: str, image_id: str) -> None:
    """The image came by this `<repository>@<digest>`."""
    txn.execute("INSERT OR REPLACE INTO image_repo_digests VALUES (?, ?)", (reference, image_id))


def drop_repo_digest(txn: Transaction, reference: str) -> None:
    """No image is known by this `<repository>@<digest>`."""
    txn.execute("DELETE FROM image_repo_digests WHERE reference = ?", (reference,))


@dataclass(frozen=True, slots=True)
class LoadedImages:
    """What the records tell."""

    images: list[Image]
    #: What each reference names.
    names: dict[str, Name]
    #: (reference, image id) of all repository digests.
    repo_digests: list[tuple[str, str]]
    #: Id of each image whose row cannot be read, and why; no name and no repository digest above leads to one.
    unreadable: dict[str, Failure]


def load_all(txn: Transaction) -> LoadedImages:
    """All images. Raises DATA_CORRUPT for a name whose row cannot be read."""
    loaded = LoadedImages([], {}, [], {})
    for image_id, *row in txn.all("SELECT id, version, create_time_unix_nanos, record FROM images"):
        try:
            loaded.images.append(_image(image_id, *row))
        except DataCorruptOnDisk as error:
            loaded.unreadable[image_id] = error.failure
    names = loaded.names
    query = "SELECT reference, image_id, target FROM image_names ORDER BY reference, position"
    for reference, image_id, target in txn.all(query):
        if image_id not in loaded.unreadable:
            before = names[reference].image_ids if reference in names else ()
            names[reference] = Name(_digest(target, f"state.db: name {reference}"), (*before, image_id))
    repo_digests = txn.all("SELECT reference, image_id FROM image_repo_digests")
    loaded.repo_digests.extend((row[0], row[1]) for row in repo_digests if row[1] not in loaded.unreadable)
    return loaded


@dataclass(frozen=True, slots=True)
class LeftOf:
    """What stands in the records beside an image's own text."""

    version: int
    create_time_unix_nanos: int
    #: Targets of its names and then of its repository digests, as written.
    targets: tuple[str, ...]


def left_of(txn: Transaction, image_id: str) -> LeftOf:
    """What is left of an image whose record cannot be read; zeros for numbers that are none."""
    rows = txn.all("SELECT version, create_time_unix_nanos FROM images WHERE id = ?", (image_id,))
    numbers = [value if isinstance(value, int) and value >= 0 else 0 for row in rows for value in row] or [0, 0]
    names = txn.all("SELECT target FROM image_names WHERE image_id = ? ORDER BY reference", (image_id,))
    known = txn.all("SELECT reference FROM image_repo_digests WHERE image_id = ? ORDER BY reference", (image_id,))
    targets = (*(row[0] for row in names), *(row[0].rpartition("@")[2] for row in known))
    return LeftOf(numbers[0], numbers[1], targets)


def _digest(text: str, path: str) -> Digest:
    try:
        return Digest.parse(text)
    except EngineError as error:
        raise DataCorruptOnDisk(path=path, detail=str(error)) from error


def _image(image_id: str, version: int, create_time: int, record: str) -> Image:
    try:
        values: dict[str, Any] = json.loads(record)
        layers = tuple(
            ImageLayer(
                descriptor=_load(layer["descriptor"]),
                diff_id=Digest.parse(layer["diff_id"]),
                chain_id=Digest.parse(layer["chain_id"]),
                layer_id=layer["layer_id"],
                size_bytes=layer["size_bytes"],
                max_id=layer.get("max_id", 0),
            )
            for layer in values["layers"]
        )
        text: str = values["config"]
        return Image(
            id=Digest.parse(image_id),
            manifest=_load(values["manifest"]),
            target=_load(values["target"]),
            config_text=text,
            config=configs.parse(text.encode(), len(layers), image_id),
            layers=layers,
            create_time_unix_nanos=create_time,
            version=version,
            # Records of the first version have none.
            ways=tuple(tuple(map(_load, way)) for way in values.get("ways", ())),
            attested=tuple(
                Attested(Digest.parse(one["index"]), _load(one["manifest"]), tuple(map(_load, one["blobs"])))
                for one in values.get("attested", ())
            ),
        )
    except (KeyError, TypeError, ValueError, EngineError) as error:
        raise DataCorruptOnDisk(path=f"state.db: image {image_id}", detail=str(error)) from error


def _dump(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "media_type": descriptor.media_type,
        "digest": descriptor.digest,
        "size_bytes": descriptor.size_bytes,
        "annotations": dict(descriptor.annotations),
        "urls": list(descriptor.urls),
    }


def _load(values: dict[str, Any]) -> Descriptor:
    return Descriptor(
        media_type=values["media_type"],
        digest=Digest.parse(values["digest"]),
        size_bytes=values["size_bytes"],
        annotations=values["annotations"],
        # Older records have none.
        urls=tuple(values.get("urls", ())),
    )
