"""What containers take from an image is made once for all of them, and anew when the image is another."""

import dataclasses
from collections.abc import AsyncGenerator, Sequence

from fluytd.containers.images import PresentImages
from fluytd.containers.spec import PlatformChoice
from fluytd.images.table import ImageTable, Name
from fluytd.operations.model import Operation
from fluytd.registries.model import Credentials
from tests.unit.images.test_catalogue import image

_NAME = "docker.io/library/app:latest"


def _pull(reference: str, platform: PlatformChoice | None, auth: Credentials | None) -> AsyncGenerator[Operation, None]:
    raise AssertionError(reference)


async def _sweep(layers: Sequence[str]) -> object:
    raise AssertionError(layers)


async def test_containers_of_one_image_share_what_they_take_from_it() -> None:
    table, made = ImageTable(), image(1, "base", "own")
    table.put(made)
    table.set_name(_NAME, Name(made.manifest.digest, (made.id,)))
    images = PresentImages(table, lambda layer: f"/layers/{layer}", _pull, _sweep, "/empty")
    found = await images.find("app", None)
    assert await images.find("app", PlatformChoice("linux", "", "")) is found
    assert found.reference == _NAME
    by_id = await images.find(made.id, None)
    assert (by_id.image_id, by_id.reference) == (made.id, "")
    table.put(dataclasses.replace(made, version=2))
    anew = await images.find("app", None)
    assert anew is not found
    assert anew == found
    table.unname(_NAME)
    table.set_name("docker.io/library/other:latest", Name(made.manifest.digest, (made.id,)))
    assert (await images.find("other", None)).reference == "docker.io/library/other:latest"
