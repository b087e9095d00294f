"""Several platforms under one reference: pulled one beside the other, chosen, saved, loaded, pushed, deleted."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import platform_pb2
from tests.e2e.images.steps import SUCCEEDED, blob, get, listed, load, pull, refused, small_image, small_layer, stored
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, RealRegistry, manifest_path, status

ARCHITECTURES = (images.HOST_ARCHITECTURE, "s390x", "riscv64")


def linux(architecture: str) -> platform_pb2.Platform:
    return platform_pb2.Platform(os="linux", architecture=architecture)


def three() -> dict[str, images.Image]:
    """An image of each architecture, the host's first."""
    return {name: small_image(architecture=name) for name in ARCHITECTURES}


def save(engine: Engine, *names: str) -> bytes:
    *parts, last = engine.images.SaveImages(images_pb2.SaveImagesRequest(images=names))
    assert last.HasField("complete")
    return b"".join(part.chunk for part in parts)


def ids(engine: Engine, name: str) -> dict[str, str]:
    """Architecture -> id, of the images that have the name."""
    return {image.platform.architecture: image.id for image in listed(engine) if name in image.references}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RealRegistry]:
    """A real registry."""
    with RealRegistry(tmp_path) as running:
        yield running


def test_a_second_platform_stands_beside_the_first(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    index = images.index(platforms.values())
    registry.put("many", "1", index)
    name = f"{registry.address}/many:1"
    for architecture in ARCHITECTURES[1:]:
        result = pull(engine, name, platform=linux(architecture))
        assert result.target_digest == index.digest
    assert blob(engine, index.digest) == index.manifest
    # Without the host's platform the one that came first stands for the name; with it, that one does.
    assert get(engine, name).image.platform.architecture == "s390x"
    pull(engine, name)
    assert ids(engine, name) == {key: image.config_digest for key, image in platforms.items()}
    assert get(engine, name).image.id == platforms[images.HOST_ARCHITECTURE].config_digest
    for architecture, image in platforms.items():
        found = get(engine, name, platform=linux(architecture)).image
        assert (found.id, found.target.digest) == (image.config_digest, index.digest)
        by_digest = get(engine, f"{registry.address}/many@{index.digest}", platform=linux(architecture)).image
        assert by_digest.id == image.config_digest


def test_an_index_by_digest_holds_several_platforms(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    index = images.index(platforms.values())
    registry.put("many", "1", index)
    reference = f"{registry.address}/many:1@{index.digest}"
    for architecture in ARCHITECTURES:
        pull(engine, reference, platform=linux(architecture))
    assert len(listed(engine)) == len(ARCHITECTURES)
    assert get(engine, reference).image.id == platforms[images.HOST_ARCHITECTURE].config_digest
    assert blob(engine, index.digest) == index.manifest


def test_nested_indexes_are_kept_on_the_way_and_no_others(engine: Engine, registry: FaultyRegistry) -> None:
    here, other = small_image(), small_image(architecture="s390x")
    inner, unused = images.index([other]), images.index([small_image(architecture="arm")])
    listed_as = [here.descriptor(), inner.descriptor() | {"platform": {"os": "linux", "architecture": "s390x"}}]
    top = images.index([here, inner, unused], descriptors=[*listed_as, unused.descriptor()])
    registry.put("nested", "1", top)
    name = f"{registry.address}/nested:1"
    pull(engine, name, platform=linux("s390x"))
    assert {top.digest[7:], inner.digest[7:]} <= stored(engine).blobs
    assert unused.digest[7:] not in stored(engine).blobs
    pull(engine, name)
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, platform=linux("s390x")))
    assert top.digest[7:] in stored(engine).blobs
    assert inner.digest[7:] not in stored(engine).blobs
    assert set(ids(engine, name)) == {images.HOST_ARCHITECTURE}


def test_indexes_go_with_their_last_image(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    index = images.index(platforms.values())
    registry.put("many", "1", index)
    name = f"{registry.address}/many:1"
    for architecture in ARCHITECTURES:
        pull(engine, name, platform=linux(architecture))
    answer = engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name))
    assert list(answer.untagged) == [name]
    assert index.digest in answer.deleted
    assert not stored(engine).blobs


def test_a_container_runs_from_the_platform_that_is_asked_for(engine: Engine, registry: FaultyRegistry) -> None:
    host = images.busybox_image(small_layer(), cmd=["echo", "host"])
    other = images.busybox_image(small_layer(), cmd=["echo", "other"], architecture="s390x")
    registry.put("run", "1", images.index([other, host]))
    name = f"{registry.address}/run:1"
    pull(engine, name, platform=linux("s390x"))
    pull(engine, name)
    assert engine.run(name)[0] == b"host\n"
    assert engine.run(name, platform=linux("s390x"))[0] == b"other\n"


def test_all_platforms_are_saved_and_loaded_under_their_name(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    index = images.index(platforms.values())
    registry.put("many", "1", index)
    name = f"{registry.address}/many:1"
    for architecture in ARCHITECTURES:
        pull(engine, name, platform=linux(architecture))
    before, archive = stored(engine), save(engine, name)
    for image in listed(engine):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
    load(engine, archive)
    assert stored(engine) == before
    assert ids(engine, name) == {key: image.config_digest for key, image in platforms.items()}
    assert get(engine, name).image.target.digest == index.digest


def test_of_an_archive_with_a_listing_the_platforms_that_are_asked_for_are_loaded(engine: Engine) -> None:
    platforms = three()
    index = images.index(platforms.values())
    load(engine, image_files.oci_archive({"many:1": index}), platforms=[linux(name) for name in ARCHITECTURES])
    archive = save(engine, "many:1")
    for wanted in (("s390x",), ("riscv64", images.HOST_ARCHITECTURE)):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="many:1"))
        answer = load(engine, archive, platforms=[linux(name) for name in wanted])
        assert {image.image_id for image in answer.images} == {platforms[name].config_digest for name in wanted}
        assert set(ids(engine, "docker.io/library/many:1")) == set(wanted)
    found = refused(lambda: load(engine, archive, platforms=[linux("ppc64le")]))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PLATFORM_UNAVAILABLE")


@pytest.mark.needs("docker-registry")
def test_an_index_all_of_whose_platforms_are_here_is_pushed_byte_for_byte(engine: Engine, served: RealRegistry) -> None:
    platforms = three()
    index = images.index(platforms.values())
    image_files.push(served.address, "from", "1", index)
    name, target = f"{served.address}/from:1", f"{served.address}/to:1"
    for architecture in ARCHITECTURES[:2]:
        pull(engine, name, platform=linux(architecture))
    operation = engine.push(name, target)
    assert operation.state == SUCCEEDED, operation.failure
    assert operation.push_result.digest != index.digest
    made = engine.images.ResolveImage(images_pb2.ResolveImageRequest(reference=target))
    assert [one.architecture for one in made.platforms] == sorted(ARCHITECTURES[:2])
    pull(engine, name, platform=linux(ARCHITECTURES[2]))
    operation = engine.push(name, target)
    assert operation.push_result.digest == index.digest
    for architecture, image in platforms.items():
        assert pull(engine, target, platform=linux(architecture)).manifest_digest == image.digest


@pytest.mark.needs("docker-registry")
def test_one_platform_of_an_index_is_pushed_as_its_manifest(engine: Engine, served: RealRegistry) -> None:
    platforms = three()
    image_files.push(served.address, "from", "1", images.index(platforms.values()))
    name = f"{served.address}/from:1"
    pull(engine, name, platform=linux("s390x"))
    assert engine.push(name, f"{served.address}/to:1").push_result.digest == platforms["s390x"].digest


@pytest.mark.needs("skopeo")
def test_skopeo_reads_every_platform_from_the_content_store(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    registry.put("many", "1", images.index(platforms.values()))
    name = f"{registry.address}/many:1"
    for architecture in ARCHITECTURES:
        pull(engine, name, platform=linux(architecture))
        content = engine.root / "data" / "content"
        names = [
            entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
            for entry in json.loads((content / "index.json").read_text())["manifests"]
        ]
        assert names == [name]
        inspect = ["skopeo", "--override-arch", architecture, "inspect", "--config", "--raw", f"oci:{content}:{name}"]
        found = subprocess.run(inspect, check=True, capture_output=True)
        assert found.stdout == platforms[architecture].config


def test_what_an_index_lists_stays_under_a_name_that_moves_to_it(engine: Engine, registry: FaultyRegistry) -> None:
    platforms = three()
    old = images.index(platforms.values())
    registry.put("moving", "1", old)
    name = f"{registry.address}/moving:1"
    for architecture in ("s390x", "riscv64"):
        pull(engine, name, platform=linux(architecture))
    changed = small_image(architecture="s390x")
    new = images.index([changed, platforms["riscv64"]])
    registry.put("moving", "1", new)
    pull(engine, name, platform=linux("s390x"))
    assert ids(engine, name) == {"s390x": changed.config_digest, "riscv64": platforms["riscv64"].config_digest}
    assert get(engine, platforms["s390x"].config_digest).image.references == []


@pytest.mark.parametrize("kind", ["Docker's list", "Docker's list of one", "an index of one", "Docker's manifest"])
def test_what_a_name_stands_for_is_saved_as_it_came(
    engine: Engine, registry: FaultyRegistry, tmp_path: Path, kind: str
) -> None:
    is_docker = "Docker" in kind
    found = [images.image([small_layer()], docker=is_docker)]
    if kind == "Docker's list":
        found.append(images.image([small_layer()], docker=True, architecture="s390x"))
    top = found[0] if kind == "Docker's manifest" else images.index(found, docker=is_docker)
    registry.put("app", "1", top)
    name = f"{registry.address}/app:1"
    for image in found:
        architecture = json.loads(image.config)["architecture"]
        assert pull(engine, name, platform=linux(architecture)).target_digest == top.digest
    archive = save(engine, name)
    (tmp_path / "app.tar").write_bytes(archive)
    with tarfile.open(tmp_path / "app.tar") as opened:
        for digest, (_, data) in top.manifests.items():
            stored_file = opened.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert stored_file is not None
            assert stored_file.read() == data
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
    assert listed(engine) == []
    load(engine, archive, platforms=[linux(json.loads(image.config)["architecture"]) for image in found])
    for reference in ("1", *top.manifests):
        registry.always(manifest_path("again", reference), status(201))
    pushed = engine.push(name, f"{registry.address}/again:1")
    assert pushed.state == SUCCEEDED, pushed.failure
    assert pushed.push_result.digest == top.digest
    # Saved again it is the same archive.
    assert save(engine, name) == archive
