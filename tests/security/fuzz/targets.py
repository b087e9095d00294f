"""What reads bytes from outside, each as a function that must take any bytes or refuse them by name."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fluytd._core import CancelToken
from fluytd._core.content import ContentStore
from fluytd._core.ignore import Matcher
from fluytd._core.ingest import Progress, list_archive, store_layer
from fluytd._core.layer import LayerStore
from fluytd.errors import EngineError, Unexpected
from fluytd.ids import ImageReference
from fluytd.images import config, manifests
from tests.support import dockerfiles

DATA = Path(__file__).resolve().parents[2] / "data" / "fuzz"
#: The layers of the images that configs are read for.
LAYERS = 2

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

Target = Callable[[bytes], object]


def read_reference(data: bytes) -> object:
    """A name of an image, as a request carries it: text."""
    return ImageReference.parse(data.decode(errors="replace"))


def read_config(data: bytes) -> object:
    """An image's config."""
    return config.parse(data, LAYERS, "fuzz")


def read_manifest(data: bytes) -> object:
    """A manifest or an index, by each media type that a registry may tell."""
    refused = None
    for media_type in (OCI_MANIFEST, OCI_INDEX, ""):
        try:
            return manifests.parse(data, media_type, "fuzz")
        except EngineError as error:
            if isinstance(error, Unexpected):
                raise
            refused = error
    assert refused is not None
    raise refused


def read_dockerfile(data: bytes) -> object:
    """A Dockerfile, up to the steps that it asks for."""
    return dockerfiles.build(data)


def read_ignore_file(data: bytes) -> object:
    """An ignore file, and what it excludes."""
    return Matcher(data).excluded(["a", "a/b", "a/b/c.txt", ".git", "node_modules/x"])


@contextmanager
def layers(kind: str) -> Iterator[Target]:
    """Layers into a store of this kind. Nothing is ever written to `outside` beside the store, where links of kept
    layers lead."""
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder, "outside")
        outside.mkdir()
        content, store = ContentStore(folder), LayerStore(folder, kind)

        def read(data: bytes) -> object:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(data)
                file.flush()
                whole = (file.fileno(), 0, len(data), None, None, content, store, Progress(), CancelToken())
                try:
                    return store_layer(*whole)
                finally:
                    assert not list(outside.iterdir()), data
                    for name in store.list_staged():
                        store.delete_staged(name)

        yield read


def read_archive(data: bytes) -> object:
    """The listing of an archive of images."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return list_archive(file.fileno(), 1000)


TARGETS: dict[str, Target] = {
    "reference": read_reference,
    "config": read_config,
    "manifest": read_manifest,
    "dockerfile": read_dockerfile,
    "ignore": read_ignore_file,
    "archive": read_archive,
}


@functools.cache
def corpus(name: str) -> tuple[bytes, ...]:
    """What is kept of a target: good inputs, and what once was found. Each file is one input."""
    return tuple(path.read_bytes() for path in sorted((DATA / name).iterdir()))
