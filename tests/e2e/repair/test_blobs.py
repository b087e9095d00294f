"""CheckStorage with `repair`: damaged blobs are made again, and it is said how; what cannot be stays."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from tests.e2e.containers import file_steps as files
from tests.e2e.containers.steps import load
from tests.e2e.repair.steps import (
    IMAGE,
    PLAIN,
    TREE,
    UPPER,
    beside,
    blob,
    check,
    empty,
    flip,
    pulled,
    repaired,
    truncate,
)
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, blob_path, body, status


@pytest.mark.parametrize("damage", [lambda path: flip(path, 50), truncate, empty, Path.unlink])
def test_a_damaged_blob_is_fetched_again(
    engine: Engine, registry: FaultyRegistry, damage: Callable[[Path], None]
) -> None:
    reference = pulled(engine, registry)
    digest = IMAGE.layers[0].digest
    before = blob(engine, digest).read_bytes()
    damage(blob(engine, digest))
    (found,), _ = check(engine, digest)
    assert (found.subject, found.is_repaired, found.action) == (digest, False, "")
    (found,) = repaired(engine)
    assert (found.subject, list(found.references)) == (digest, [reference])
    assert f"fetched from {registry.address}/team/app" in found.action
    assert blob(engine, digest).read_bytes() == before


def test_manifest_and_config_are_had_again(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    for digest in (IMAGE.config_digest, IMAGE.digest):
        blob(engine, digest).unlink()
    told = {one.subject: one.action for one in repaired(engine, 2)}
    assert "from the image's record" in told[IMAGE.config_digest]
    # It is what the engine itself would have written.
    assert "from the image's record" in told[IMAGE.digest]


def test_a_manifest_that_others_wrote_is_fetched_again(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([TREE], docker=True)
    pulled(engine, registry, image)
    before = blob(engine, image.digest).read_bytes()
    blob(engine, image.digest).unlink()
    (found,) = repaired(engine)
    assert "fetched from" in found.action
    assert blob(engine, image.digest).read_bytes() == before


def test_an_index_is_fetched_again(engine: Engine, registry: FaultyRegistry) -> None:
    index = images.index([images.image([TREE]), images.image([UPPER], architecture="s390x")])
    registry.put("team/app", "1", index)
    assert engine.pull(f"{registry.address}/team/app:1").failure.reason == ""
    blob(engine, index.digest).unlink()
    (found,) = repaired(engine)
    assert (found.subject, "fetched from" in found.action) == (index.digest, True)


def test_what_no_registry_has_is_told_and_the_image_stays_listed(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"app:1": IMAGE}))
    digest = IMAGE.layers[0].digest
    flip(blob(engine, digest), 50)
    damaged = blob(engine, digest).read_bytes()
    (found,), summary = check(engine, repair=True)
    assert (found.subject, found.is_repaired, summary.repaired_count) == (digest, False, 0)
    assert "no registry is known" in found.action
    assert "pull or load it again" in found.action
    assert blob(engine, digest).read_bytes() == damaged
    assert [image.id for image in engine.images.ListImages(images_pb2.ListImagesRequest()).images] == [
        IMAGE.config_digest
    ]


def test_a_registry_that_has_it_no_more_or_lies_changes_nothing(engine: Engine, registry: FaultyRegistry) -> None:
    pulled(engine, registry)
    digest = IMAGE.layers[0].digest
    flip(blob(engine, digest), 50)
    damaged = blob(engine, digest).read_bytes()
    registry.always(blob_path("team/app", digest), status(404))
    (found,), _ = check(engine, repair=True)
    assert not found.is_repaired
    assert "there is no blob" in found.action
    registry.always(blob_path("team/app", digest), body(damaged))
    (found,), _ = check(engine, repair=True)
    assert not found.is_repaired
    assert "digest" in found.action
    assert blob(engine, digest).read_bytes() == damaged
    assert beside(engine) == []


@pytest.mark.parametrize("engine", ["erofs"], indirect=True)
def test_a_plain_blob_is_copied_from_the_layer_that_keeps_its_archive(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"plain:1": PLAIN}))
    digest = PLAIN.layers[0].digest
    before = blob(engine, digest).read_bytes()
    flip(blob(engine, digest), 5)
    (found,) = repaired(engine)
    assert "copied from the layer" in found.action
    assert blob(engine, digest).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda path: flip(path, 50), Path.unlink])
def test_the_blob_of_a_layer_made_here_is_compressed_again(engine: Engine, damage: Callable[[Path], None]) -> None:
    script = "mkdir /made; head -c 3000000 /dev/urandom > /made/large; ln /made/large /made/again; rm /bin/vi"
    committed = files.commit(engine, files.ended(engine, script, image=load(engine)), "made/here:1")
    digest = files.document(engine, committed.manifest_digest)["layers"][-1]["digest"]
    before = blob(engine, digest).read_bytes()
    damage(blob(engine, digest))
    (found,) = repaired(engine)
    assert (found.subject, "compressed again from its layer" in found.action) == (digest, True)
    assert blob(engine, digest).read_bytes() == before
