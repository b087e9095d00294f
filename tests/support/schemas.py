"""The OCI image specification's own JSON schemas, as judges of what the engine writes. No network is used."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import fastjsonschema

#: Where they are, with where they come from.
DIRECTORY = Path(__file__).resolve().parents[1] / "data" / "oci-schemas"
#: What the references between the schemas are relative to. Source: the `id` of each schema.
BASE = "https://opencontainers.org/schema/"
FILES = {
    "manifest": "image-manifest-schema.json",
    "index": "image-index-schema.json",
    "config": "config-schema.json",
    "layout": "image-layout-schema.json",
}
Document = Literal["manifest", "index", "config", "layout"]


def check(document: Document, data: bytes) -> None:
    """The schema of such a document accepts these bytes. Raises fastjsonschema.JsonSchemaValueException if not."""
    _validator(document)(json.loads(data))


@functools.cache
def _validator(document: Document) -> Callable[[Any], Any]:
    # `ref` resolves against the schema's `id`, whose last part stands for the file.
    compiled: Callable[[Any], Any] = fastjsonschema.compile(_read(FILES[document]), handlers={"https": _by_address})
    return compiled


def _by_address(address: str) -> Any:
    if not address.startswith(BASE):
        raise ValueError(f"{address} is not one of the schemas of the image specification")
    return _read(address.rpartition("/")[2])


def _read(name: str) -> Any:
    # fastjsonschema takes each `$` of a pattern for its end, also within a class of characters.
    return json.loads((DIRECTORY / name).read_text().replace("!#$&", r"!#\\x24&"))
