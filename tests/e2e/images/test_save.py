"""Saving images as one archive: what stands in it, what other tools make of it, and that it comes back the same."""

import hashlib
import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import platform_pb2
from tests.e2e.images.steps import get, listed, load, pull, refused, small_image, small_layer, stored
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry
from tests.support.wait import until_now

MAX_CHUNK_BYTES = 256 * 1024


def save(engine: Engine, *names: str, platforms: tuple[str, ...] = ()) -> bytes:
    """A whole archive, as its end says it is."""
    *parts, last = engine.images.SaveImages(request(*names, platforms=platforms))
    assert all(0 < len(part.chunk) <= MAX_CHUNK_BYTES for part in parts)
    archive = b"".join(part.chunk for part in parts)
    assert last.WhichOneof("part") == "complete"
    assert (last.complete.size_bytes, last.complete.digest) == (len(archive), images.digest_of(archive))
    return archive


def request(*names: str, platforms: tuple[str, ...] = ()) -> images_pb2.SaveImagesRequest:
    wanted = []
    for text in platforms:
        os_name, architecture, variant = (*text.split("/"), "")[:3]
        wanted.append(platform_pb2.Platform(os=os_name, architecture=architecture, variant=variant))
    return images_pb2.SaveImagesRequest(images=names, platforms=wanted)


def files(archive: bytes) -> dict[str, bytes]:
    """The archive's files; no name stands in it twice."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        assert len({member.name for member in members}) == len(members)
        assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
        found = {member.name: tar.extractfile(member) for member in members if member.isfile()}
        return {name: file.read() for name, file in found.items() if file is not None}


def empty(engine: Engine) -> None:
    """No image is left."""
    for image in listed(engine):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
    assert not stored(engine).blobs


def known(engine: Engine) -> dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, str], ...]]]:
    """Manifest, references and layers by image id."""
    return {
        image.id: (
            image.manifest.digest,
            tuple(image.references),
            tuple((layer.descriptor.digest, layer.diff_id) for layer in get(engine, image.id).layers),
        )
        for image in listed(engine)
    }


def load_three(engine: Engine) -> dict[str, Image]:
    """Images that share a layer, of every compression and of Docker's and OCI's types."""
    shared = small_layer("shared")
    tagged = {
        "team/app:1": images.image([shared, small_layer("a", compression="zstd")], cmd=["/a"]),
        "team/app:2": images.image([shared, small_layer("b")], cmd=["/b"], docker=True),
        "r.example:5000/other:latest": images.image([shared, small_layer("c", compression="none")], cmd=["/c"]),
    }
    load(engine, image_files.oci_archive(tagged))
    return tagged


def test_r17_what_was_saved_is_loaded_with_the_same_digests_and_names(engine: Engine) -> None:
    tagged = load_three(engine)
    before, stored_before = known(engine), stored(engine)
    archive = save(engine, *tagged)
    empty(engine)
    load(engine, archive)
    assert known(engine) == before
    assert stored(engine) == stored_before


def test_the_archive_is_a_layout_and_a_docker_archive_with_every_blob_once(engine: Engine) -> None:
    tagged = load_three(engine)
    found = files(save(engine, *tagged))
    expected = {digest: data for image in tagged.values() for digest, data in image.blobs.items()}
    expected |= {image.digest: image.manifest for image in tagged.values()}
    # Docker's manifest stands in an index, so that skopeo finds it by name.
    entries = json.loads(found["index.json"])["manifests"]
    docker_image = tagged["team/app:2"]
    index = found["blobs/" + entries[1]["digest"].replace(":", "/")]
    assert json.loads(index)["manifests"] == [docker_image.descriptor()]
    expected[entries[1]["digest"]] = index
    assert {name: data for name, data in found.items() if name.startswith("blobs/")} == {
        "blobs/" + digest.replace(":", "/"): data for digest, data in expected.items()
    }
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    full = ["docker.io/team/app:1", "docker.io/team/app:2", "r.example:5000/other:latest"]
    for key in ("org.opencontainers.image.ref.name", "io.containerd.image.name"):
        assert [entry["annotations"][key] for entry in entries] == full
    oci_images = [image for image in tagged.values() if image is not docker_image]
    assert [entries[0]["digest"], entries[2]["digest"]] == [image.digest for image in oci_images]
    listing = json.loads(found["manifest.json"])
    assert [item["RepoTags"] for item in listing] == [[name] for name in full]
    assert [item["Config"] for item in listing] == [
        "blobs/" + image.config_digest.replace(":", "/") for image in tagged.values()
    ]
    assert [len(item["Layers"]) for item in listing] == [2, 2, 2]


def test_the_same_images_give_the_same_bytes(engine: Engine) -> None:
    tagged = load_three(engine)
    first = save(engine, *tagged)
    assert save(engine, *tagged) == first
    empty(engine)
    load(engine, first)
    assert save(engine, *tagged) == first


def test_several_names_of_one_image_and_one_without_a_name(engine: Engine) -> None:
    one, other = small_image(), small_image()
    load(engine, image_files.oci_archive({"one:1": one, "": other}))
    engine.images.TagImage(images_pb2.TagImageRequest(image="one:1", reference="one:2"))
    found = files(save(engine, "one:1", "one:2", one.config_digest, other.config_digest[7:19], "one:1"))
    names = [
        entry.get("annotations", {}).get(image_files.REF_NAME) for entry in json.loads(found["index.json"])["manifests"]
    ]
    assert names == ["docker.io/library/one:1", "docker.io/library/one:2", None]
    assert [item["RepoTags"] for item in json.loads(found["manifest.json"])] == [names[:2], []]
    # By id alone an image has no name, though it has one here.
    (entry,) = json.loads(files(save(engine, one.config_digest))["index.json"])["manifests"]
    assert "annotations" not in entry


def test_an_image_without_layers_and_one_by_sha512(engine: Engine, registry: FaultyRegistry) -> None:
    layer = small_layer()
    blob_digest, diff_id = (f"sha512:{hashlib.sha512(data).hexdigest()}" for data in (layer.blob, layer.tar))
    strong = images.image(
        [layer],
        config=images.config_json([diff_id]),
        manifest={"layers": [{**layer.descriptor(), "digest": blob_digest}]},
    )
    registry.put("strong", "1", strong)
    registry.put_blob(layer.blob, blob_digest)
    name = f"{registry.address}/strong:1"
    pull(engine, name)
    load(engine, image_files.oci_archive({"none:1": images.image([])}))
    before = known(engine)
    archive = save(engine, name, "none:1")
    assert "blobs/" + blob_digest.replace(":", "/") in files(archive)
    empty(engine)
    load(engine, archive)
    assert known(engine) == before


def test_platforms_of_an_index_are_saved_all_or_those_that_are_asked_for(
    engine: Engine, registry: FaultyRegistry
) -> None:
    by_platform = {
        "linux/amd64": small_image(architecture="amd64"),
        "linux/arm64": small_image(architecture="arm64"),
        "linux/arm/v6": small_image(architecture="arm", variant="v6"),
    }
    registry.put("many", "1", images.index(by_platform.values()))
    name = f"{registry.address}/many:1"
    for text in by_platform:
        os_name, architecture = text.split("/")[:2]
        pull(engine, name, platform=platform_pb2.Platform(os=os_name, architecture=architecture))

    def saved(*wanted: str) -> set[str]:
        found = files(save(engine, name, platforms=wanted))
        digests = {hashlib.sha256(data).hexdigest() for data in found.values()}
        return {text for text, image in by_platform.items() if image.digest[7:] in digests}

    assert saved() == set(by_platform)
    assert saved("linux/arm64") == {"linux/arm64"}
    assert saved("linux/arm/v7", "linux/arm64", "linux/arm/v6") == {"linux/arm64", "linux/arm/v6"}
    error = refused(lambda: list(engine.images.SaveImages(request(name, platforms=("linux/s390x",)))))
    assert error.reason == "PLATFORM_UNAVAILABLE"
    assert error.metadata["available"].count("linux/") == 3
    # One entry that is an index: a name means one thing only.
    archive = save(engine, name)
    (entry,) = json.loads(files(archive)["index.json"])["manifests"]
    assert (entry["mediaType"], entry["annotations"][image_files.REF_NAME]) == (images.OCI_INDEX, name)
    before = known(engine)
    empty(engine)
    load(engine, archive)
    assert known(engine) == before


@pytest.mark.parametrize(
    ("names", "reason"),
    [((), "FIELD_INVALID"), (("absent:1",), "IMAGE_NOT_FOUND"), (("NO such",), "REFERENCE_INVALID")],
)
def test_what_cannot_be_saved_is_told_before_the_first_byte(
    engine: Engine, names: tuple[str, ...], reason: str
) -> None:
    load(engine, image_files.oci_archive({"here:1": small_image()}))
    parts: list[object] = []
    error = refused(lambda: parts.extend(engine.images.SaveImages(request(*([*names, "here:1"] if names else ())))))
    assert error.reason == reason
    assert parts == []


def test_more_images_than_loaders_take_are_refused_by_name_of_the_limit(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"here:1": small_image()}))
    error = refused(lambda: list(engine.images.SaveImages(request(*["here:1"] * 1001))))
    assert (error.reason, error.metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_ARCHIVE_IMAGES")


@pytest.mark.parametrize("damage", ["gone", "other bytes", "shorter", "longer"])
def test_a_damaged_blob_ends_the_archive_without_its_end(engine: Engine, damage: str) -> None:
    layer = small_layer()
    load(engine, image_files.oci_archive({"app:1": images.image([layer])}))
    path = engine.root / "data" / "content" / "blobs" / layer.digest.replace(":", "/")
    whole = path.read_bytes()
    harm = {"other bytes": bytes(len(whole)), "shorter": whole[:-1], "longer": whole + b"x"}
    path.unlink()
    if damage != "gone":
        path.write_bytes(harm[damage])
    parts: list[images_pb2.SaveImagesResponse] = []
    error = refused(lambda: parts.extend(engine.images.SaveImages(request("app:1"))))
    reasons = {"gone": "BLOB_NOT_FOUND", "other bytes": "DIGEST_MISMATCH"}
    assert error.reason == reasons.get(damage, "SIZE_MISMATCH")
    assert not any(part.HasField("complete") for part in parts)


def large_image(mebibytes: int) -> Image:
    return images.image([images.layer(tarball.file("big", os.urandom(mebibytes << 20)), compression="none")])


def open_blobs(engine: Engine) -> list[int]:
    """How far each blob that the daemon has open was read."""
    process = Path("/proc") / str(engine.process.pid)
    found = []
    for entry in (process / "fd").iterdir():
        try:
            if entry.readlink().parent.parent == engine.root / "data" / "content" / "blobs":
                found.append(int((process / "fdinfo" / entry.name).read_text().split()[1]))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def test_nothing_is_read_ahead_of_a_caller_and_a_cancel_leaves_nothing(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"big:1": large_image(48)}))
    before = stored(engine)
    call = engine.images.SaveImages(request("big:1"))
    next(iter(call))
    # The image's small blobs come in any order; what is sent stays within the transport's windows.
    until_now(lambda: bool(open_blobs(engine)))
    positions: list[int] = []

    def is_at_rest() -> bool:
        positions.append(max(open_blobs(engine), default=-1))
        return len(positions) > 40 and len(set(positions[-40:])) == 1

    until_now(is_at_rest)
    assert 0 <= positions[-1] < 32 << 20
    call.cancel()
    until_now(lambda: not open_blobs(engine))
    assert stored(engine) == before


def test_an_image_that_is_deleted_meanwhile_is_sent_whole_and_then_gone(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"big:1": large_image(48)}))
    parts: Iterator[images_pb2.SaveImagesResponse] = iter(engine.images.SaveImages(request("big:1")))
    first = list(itertools.islice(parts, 2))
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="big:1", force=True))
    assert not listed(engine)
    *rest, last = parts
    archive = b"".join(part.chunk for part in [*first, *rest])
    assert last.complete.digest == images.digest_of(archive)
    until_now(lambda: not stored(engine).blobs)
    (loaded,) = load(engine, archive).images
    assert list(loaded.references) == ["docker.io/library/big:1"]


def test_a_caller_that_breaks_off_after_a_deletion_leaves_nothing_either(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"big:1": large_image(48)}))
    call = engine.images.SaveImages(request("big:1"))
    next(iter(call))
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="big:1", force=True))
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    until_now(lambda: not stored(engine).blobs)


def skopeo(*arguments: str, cwd: Path) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, cwd=cwd).stdout


@pytest.mark.needs("skopeo")
def test_skopeo_takes_it_as_oci_archive_and_as_docker_archive(engine: Engine, tmp_path: Path) -> None:
    tagged = load_three(engine)
    (tmp_path / "all.tar").write_bytes(save(engine, *tagged))
    for name, image in tagged.items():
        full = name if "example" in name else f"docker.io/{name}"
        for number, source in enumerate((f"oci-archive:all.tar:{full}", f"docker-archive:all.tar:{full}")):
            assert skopeo("inspect", "--raw", "--config", source, cwd=tmp_path) == image.config
            target = f"copy-{image.config_digest[7:15]}-{number}"
            skopeo("copy", "-q", source, f"dir:{target}", cwd=tmp_path)
            assert (tmp_path / target / image.config_digest[7:]).read_bytes() == image.config


@pytest.mark.needs("skopeo")
def test_skopeo_chooses_a_platform_of_it(engine: Engine, registry: FaultyRegistry, tmp_path: Path) -> None:
    both = {name: small_image(architecture=name) for name in ("amd64", "arm64")}
    registry.put("many", "1", images.index(both.values()))
    name = f"{registry.address}/many:1"
    for architecture in both:
        pull(engine, name, platform=platform_pb2.Platform(os="linux", architecture=architecture))
    (tmp_path / "many.tar").write_bytes(save(engine, name))
    for architecture, image in both.items():
        arguments = ("--override-arch", architecture, "inspect", "--config", "--raw", f"oci-archive:many.tar:{name}")
        assert skopeo(*arguments, cwd=tmp_path) == image.config


@pytest.mark.needs("podman", "root")
def test_podman_loads_every_image_of_it(engine: Engine, tmp_path: Path) -> None:
    tagged = load_three(engine)
    (tmp_path / "all.tar").write_bytes(save(engine, *tagged))
    root = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
    try:
        podman = ["podman", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]
        subprocess.run([*podman, "load", "-q", "-i", tmp_path / "all.tar"], check=True, capture_output=True)
        command = [*podman, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.Id}}"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
        assert {line for line in lines if line} == {
            f"{name if 'example' in name else 'docker.io/' + name} {image.config_digest[7:]}"
            for name, image in tagged.items()
        }
    finally:
        until_now(lambda: _is_removed(root))


def _is_removed(root: Path) -> bool:
    """True once podman's own cleaning up, which outlives its commands, makes nothing anew."""
    shutil.rmtree(root, ignore_errors=True)
    return not root.exists()
