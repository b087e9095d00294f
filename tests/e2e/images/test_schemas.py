"""The OCI image specification's own schemas accept every document that the engine writes."""

import io
import json
import tarfile

import fastjsonschema
import pytest

from fluyt.v1 import images_pb2
from tests.e2e.images.steps import blob, get, import_rootfs, load, pull, small_image, small_layer
from tests.support import image_files, images, schemas, tarball
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry


def check_image(engine: Engine, reference: str) -> None:
    """Manifest and config of an image are as the schemas say."""
    image = get(engine, reference).image
    schemas.check("manifest", blob(engine, image.manifest.digest))
    schemas.check("config", blob(engine, image.id))


def check_content(engine: Engine) -> None:
    """The store is an OCI layout, and each index in it is one."""
    content = engine.root / "data" / "content"
    schemas.check("layout", (content / "oci-layout").read_bytes())
    schemas.check("index", (content / "index.json").read_bytes())
    for entry in json.loads((content / "index.json").read_bytes())["manifests"]:
        schemas.check("index" if entry["mediaType"] == images.OCI_INDEX else "manifest", blob(engine, entry["digest"]))


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        ("manifest", {"schemaVersion": 1}),
        ("manifest", {"layers": [{"mediaType": "a/b", "size": 1}]}),
        ("manifest", {"config": {"mediaType": "none", "digest": "sha256:a", "size": 1}}),
        ("index", {"manifests": [{"mediaType": "a/b", "digest": "no digest", "size": 1}]}),
        ("config", {"rootfs": {"type": "layers"}}),
        ("layout", {"imageLayoutVersion": "2"}),
    ],
)
def test_the_judge_refuses_what_is_none(document: schemas.Document, changes: images.Json) -> None:
    image = small_image()
    sound = {
        "manifest": image.manifest,
        "index": images.index([image]).manifest,
        "config": image.config,
        "layout": image_files.OCI_LAYOUT,
    }[document]
    schemas.check(document, sound)
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        schemas.check(document, images.dump(json.loads(sound) | changes))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_an_import_makes(engine: Engine, compression: tarball.Compression) -> None:
    changes = ['CMD ["/f"]', "ENV A=1", "EXPOSE 80/tcp", "LABEL a=b", "USER 1:1", "WORKDIR /w", "VOLUME /v"]
    rootfs = small_layer(compression=compression).blob
    import_rootfs(engine, rootfs, reference="made:1", changes=changes, message="by hand")
    check_image(engine, "made:1")
    check_content(engine)


@pytest.mark.parametrize("form", [image_files.docker_archive, image_files.docker_archive_old])
def test_what_a_load_makes_of_an_archive_without_a_manifest(engine: Engine, form: object) -> None:
    assert callable(form)
    load(engine, form({"old:1": images.image([small_layer(), small_layer("g")])}))
    check_image(engine, "old:1")
    check_content(engine)


def test_the_store_with_images_of_every_kind_and_what_is_saved_of_them(
    engine: Engine, registry: FaultyRegistry
) -> None:
    registry.put("many", "1", images.index([small_image(), small_image(architecture="s390x")]))
    names = [f"{registry.address}/many:1", "docker:1"]
    pull(engine, names[0])
    load(engine, image_files.oci_archive({"docker:1": small_image(docker=True)}))
    check_content(engine)
    parts = list(engine.images.SaveImages(images_pb2.SaveImagesRequest(images=names)))
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.chunk for part in parts))) as tar:
        found = {member.name: tar.extractfile(member) for member in tar.getmembers() if member.isfile()}
        files = {name: file.read() for name, file in found.items() if file is not None}
    schemas.check("layout", files["oci-layout"])
    schemas.check("index", files["index.json"])
    for entry in json.loads(files["index.json"])["manifests"]:
        data = files["blobs/" + entry["digest"].replace(":", "/")]
        schemas.check("index" if entry["mediaType"] == images.OCI_INDEX else "manifest", data)
