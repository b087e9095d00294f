"""What a check of the stores looks at and tells. It does no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fluytd.errors import Failure
from fluytd.ids import Digest
from fluytd.images.model import Image, ImageLayer

#: Subject of the file that makes the blobs an OCI image layout, and of the one beside it that says so.
INDEX_FILE: Final = "content/index.json"
LAYOUT_FILE: Final = "content/oci-layout"


@dataclass(frozen=True, slots=True)
class Subjects:
    """What is looked at: records, files of the layout, blobs and layers, each once, in order."""

    blobs: tuple[Digest, ...]
    layers: tuple[str, ...]
    files: tuple[str, ...] = ()
    #: Ids of images whose records cannot be read.
    records: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Things to be read."""
        return len(self.records) + len(self.files) + len(self.blobs) + len(self.layers)


def subjects_of(images: Iterable[Image], blobs: Iterable[Digest], layers: Iterable[str]) -> Subjects:
    """All of these images, and these blobs and layers."""
    named = list(images)
    all_blobs = [digest for image in named for digest in image.blob_digests]
    all_layers = [layer.layer_id for image in named for layer in image.layers]
    return Subjects(tuple(dict.fromkeys([*all_blobs, *blobs])), tuple(dict.fromkeys([*all_layers, *layers])))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check has come."""

    checked_count: int
    total_count: int
    checked_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is damaged or missing."""

    #: Digest of a blob or id of a layer.
    subject: str
    failure: Failure
    #: Images that need it, by name where they have one.
    references: Sequence[str]
    is_repaired: bool = False
    #: What was done, or why nothing was; empty where no repair was asked for.
    action: str = ""


@dataclass(slots=True)
class Summary:
    """A check's end."""

    checked_count: int = 0
    damaged_count: int = 0
    repaired_count: int = 0
    checked_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading one thing gave."""

    #: Empty for a sound one.
    damage: str = ""
    checked_bytes: int = 0
    #: False if it holds nothing that it could be compared with.
    is_checkable: bool = field(default=True)


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of a repair."""

    is_repaired: bool
    #: One sentence.
    action: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a layer is made of."""

    layer: ImageLayer
    #: Lowest first.
    lower_layer_ids: tuple[str, ...]

    @property
    def layer_id(self) -> str:
        """Where it stands."""
        return self.layer.layer_id


def recipe_of(layer_id: str, images: Iterable[Image]) -> Recipe | None:
    """How the layer is made, as the first image tells that has it; None if no image has it."""
    for image in images:
        for position, layer in enumerate(image.layers):
            if layer.layer_id == layer_id:
                return Recipe(layer, tuple(below.layer_id for below in image.layers[:position]))
    return None
