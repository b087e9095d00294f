"""Loading archives as tools write them: OCI layouts, docker-archives old and new, compressed, by skopeo and umoci."""

import bz2
import json
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fluyt.v1.types import operation_pb2, platform_pb2
from tests.e2e.images.steps import (
    SUCCEEDED,
    blob,
    get,
    listed,
    load,
    refused,
    small_image,
    small_layer,
    stored,
)
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.images import Image

FORMS: dict[str, Callable[..., bytes]] = {
    "oci": image_files.oci_archive,
    "docker": image_files.docker_archive,
    "docker old": image_files.docker_archive_old,
}


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("form", FORMS)
def test_r17_every_form_gives_the_image_its_id_and_names(
    engine: Engine, form: str, compression: tarball.Compression
) -> None:
    image = images.image([small_layer(), small_layer("g")], cmd=["/f"])
    answer = load(engine, FORMS[form]({"team/app:1": image}, compression=compression))
    assert [one.image_id for one in answer.images] == [image.config_digest]
    assert answer.operation.state == SUCCEEDED
    assert answer.operation.kind == operation_pb2.Operation.KIND_LOAD_IMAGES
    found = get(engine, "team/app:1")
    assert list(found.image.references) == ["docker.io/team/app:1"]
    assert list(found.config.args) == ["/f"]
    assert [layer.diff_id for layer in found.layers] == image.diff_ids
    for layer in found.layers:
        assert images.digest_of(blob(engine, layer.descriptor.digest)) == layer.descriptor.digest


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
@pytest.mark.parametrize("form", FORMS)
def test_r17_every_form_is_taken_in_the_compressions_that_no_layer_has(
    engine: Engine, form: str, compress: Callable[[bytes], bytes]
) -> None:
    image = small_image()
    answer = load(engine, compress(FORMS[form]({"team/app:1": image})))
    assert [one.image_id for one in answer.images] == [image.config_digest]
    assert list(get(engine, "team/app:1").image.references) == ["docker.io/team/app:1"]


def test_r17_a_layer_that_is_a_link_to_another_images_layer(engine: Engine) -> None:
    shared = small_layer()
    first, second = images.image([shared], cmd=["a"]), images.image([shared, small_layer()], cmd=["b"])
    archive = image_files.docker_archive_old({"first:1": first, "second:1": second})
    answer = load(engine, archive)
    assert [one.image_id for one in answer.images] == [first.config_digest, second.config_digest]
    assert get(engine, "first:1").image.shared_size_bytes == get(engine, "first:1").image.size_bytes > 0


def test_r16_an_archive_that_has_a_layer_twice(engine: Engine) -> None:
    layer = small_layer()
    image = images.image([layer, small_layer("g"), layer])
    for form in FORMS.values():
        load(engine, form({"twice:1": image}))
        assert [one.diff_id for one in get(engine, "twice:1").layers] == image.diff_ids


def test_many_layers_are_stored_side_by_side(engine: Engine) -> None:
    image = images.image([small_layer(f"f{number}") for number in range(24)])
    answer = load(engine, image_files.docker_archive({"many:1": image}))
    layers = answer.operation.load_progress.layers
    assert [layer.diff_id for layer in layers] == image.diff_ids
    assert {layer.phase for layer in layers} <= {
        operation_pb2.LayerProgress.PHASE_DONE,
        operation_pb2.LayerProgress.PHASE_PRESENT,
    }
    assert get(engine, "many:1").image.layer_count == 24


def test_the_same_archive_again_changes_nothing(engine: Engine) -> None:
    archive = image_files.docker_archive({"app:1": small_image()})
    first = load(engine, archive)
    before, image = stored(engine), get(engine, "app:1").image
    assert load(engine, archive).images == first.images
    assert stored(engine) == before
    assert get(engine, "app:1").image.create_time == image.create_time


def test_another_form_of_the_same_image_takes_the_place_of_the_first(engine: Engine) -> None:
    image = small_image()
    load(engine, image_files.oci_archive({"app:1": image}))
    assert image.digest[7:] in stored(engine).blobs
    load(engine, image_files.docker_archive_old({"app:1": image}))
    found = get(engine, "app:1")
    assert found.image.id == image.config_digest
    # The manifest and the compressed layer of the first form are needed by nothing and gone.
    needed = {found.image.id, found.image.manifest.digest, *(layer.descriptor.digest for layer in found.layers)}
    assert stored(engine).blobs == {digest[7:] for digest in needed}


def test_an_archive_without_names_is_dangling_or_named_by_the_caller(engine: Engine) -> None:
    image = small_image()
    archive = image_files.oci_archive({"": image})
    load(engine, archive)
    assert list(get(engine, image.config_digest).image.references) == []
    load(engine, archive, reference="given")
    assert list(get(engine, image.config_digest).image.references) == ["docker.io/library/given:latest"]


def test_a_bare_tag_is_put_behind_the_name_that_the_caller_gives(engine: Engine) -> None:
    image = small_image()
    load(engine, image_files.oci_archive({"v1": image}), reference="team/app")
    assert list(get(engine, image.config_digest).image.references) == ["docker.io/team/app:v1"]


def test_a_name_that_moves_leaves_the_old_image_dangling(engine: Engine) -> None:
    old, new = small_image(), small_image()
    load(engine, image_files.docker_archive({"app:1": old}))
    load(engine, image_files.docker_archive({"app:1": new}))
    assert {image.id: len(image.references) for image in listed(engine)} == {old.config_digest: 0, new.config_digest: 1}


def test_several_names_of_one_image(engine: Engine) -> None:
    image = small_image()
    load(engine, image_files.docker_archive({"a:1": image, "b/c:2": image}))
    (found,) = listed(engine)
    assert list(found.references) == ["docker.io/b/c:2", "docker.io/library/a:1"]


def test_an_image_without_layers(engine: Engine) -> None:
    image = images.image([], cmd=["/x"])
    for form in FORMS.values():
        load(engine, form({"scratch:1": image}))
        assert get(engine, "scratch:1").image.id == image.config_digest


def test_a_container_of_an_image_without_layers_fails_for_want_of_its_command(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"scratch:1": images.image([], cmd=["/x"])}))
    found = refused(lambda: engine.run("scratch:1"))
    assert (found.reason, found.metadata["exit_code"]) == ("PROCESS_START_FAILED", "127")


def platforms(*names: str) -> list[platform_pb2.Platform]:
    return [platform_pb2.Platform(os="linux", architecture=name) for name in names]


def test_of_an_index_the_host_platform_is_loaded_and_others_on_request(engine: Engine) -> None:
    here, other = small_image(), small_image(architecture="s390x")
    archive = image_files.oci_archive({"multi:1": images.index([other, here])})
    assert [one.image_id for one in load(engine, archive).images] == [here.config_digest]
    loaded = load(engine, archive, platforms=platforms("s390x")).images
    assert [(one.image_id, list(one.references)) for one in loaded] == [
        (other.config_digest, ["docker.io/library/multi:1"])
    ]


def test_an_index_without_the_host_platform_is_loaded_whole(engine: Engine) -> None:
    others = [small_image(architecture="s390x"), small_image(architecture="riscv64")]
    loaded = load(engine, image_files.oci_archive({"multi:1": images.index(others)})).images
    assert [one.image_id for one in loaded] == [image.config_digest for image in others]


def test_an_archive_that_lacks_the_other_platforms_blobs(engine: Engine) -> None:
    here, other = small_image(), small_image(architecture="s390x")
    whole = image_files.layout_files({"multi:1": images.index([here, other])})
    absent = {*other.blobs, *other.manifests}
    members = [
        tarball.file(name, data)
        for name, data in whole.items()
        if name.replace("blobs/sha256/", "sha256:") not in absent
    ]
    loaded = load(engine, tarball.write_tar(members)).images
    assert [one.image_id for one in loaded] == [here.config_digest]


def skopeo(*arguments: str, cwd: Path) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, cwd=cwd).stdout


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_by_skopeo(engine: Engine, tmp_path: Path, kind: str) -> None:
    image = images.image([small_layer(), small_layer("g")], labels={"a": "b"})
    image_files.write_layout(tmp_path / "layout", {"v1": image})
    target = f"{kind}:out.tar:docker.io/team/app:2"
    skopeo("copy", "-q", "oci:layout:v1", target, cwd=tmp_path)
    (loaded,) = load(engine, (tmp_path / "out.tar").read_bytes()).images
    assert list(loaded.references) == ["docker.io/team/app:2"]
    assert dict(get(engine, loaded.image_id).config.labels) == {"a": "b"}
    assert [layer.diff_id for layer in get(engine, loaded.image_id).layers] == image.diff_ids


@pytest.mark.needs("skopeo")
def test_an_archive_of_two_images_by_skopeo(engine: Engine, tmp_path: Path) -> None:
    both = {"v1": small_image(), "v2": small_image()}
    image_files.write_layout(tmp_path / "layout", both)
    for tag in both:
        skopeo("copy", "-q", f"oci:layout:{tag}", f"oci:out:{tag}", cwd=tmp_path)
    subprocess.run(["tar", "-C", tmp_path / "out", "-cf", tmp_path / "out.tar", "."], check=True)
    load(engine, (tmp_path / "out.tar").read_bytes(), reference="team/app")
    assert {name for image in listed(engine) for name in image.references} == {
        "docker.io/team/app:v1",
        "docker.io/team/app:v2",
    }


@pytest.mark.needs("umoci")
def test_a_layout_by_umoci(engine: Engine, tmp_path: Path) -> None:
    def umoci(*arguments: str) -> None:
        subprocess.run(["umoci", *arguments], check=True, capture_output=True, cwd=tmp_path)

    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:v1")
    subprocess.run(["tar", "-C", tmp_path / "layout", "-cf", tmp_path / "empty.tar", "."], check=True)
    (empty,) = load(engine, (tmp_path / "empty.tar").read_bytes(), reference="made/by-umoci").images
    assert get(engine, empty.image_id).image.layer_count == 0
    umoci("unpack", "--image", "layout:v1", "bundle")
    (tmp_path / "bundle/rootfs/hello").write_text("world")
    umoci("repack", "--image", "layout:v1", "bundle")
    umoci("config", "--image", "layout:v1", "--config.cmd", "/hello", "--config.user", "7:8")
    subprocess.run(["tar", "-C", tmp_path / "layout", "-czf", tmp_path / "out.tar.gz", "."], check=True)
    (loaded,) = load(engine, (tmp_path / "out.tar.gz").read_bytes(), reference="made/by-umoci").images
    found = get(engine, "made/by-umoci:v1")
    assert (found.image.id, list(found.config.args), found.config.user) == (loaded.image_id, ["/hello"], "7:8")
    assert found.image.layer_count == 1


@pytest.mark.needs("skopeo")
def test_skopeo_reads_what_was_loaded_from_the_store(engine: Engine, tmp_path: Path) -> None:
    image = images.image([small_layer()], cmd=["/f"])
    load(engine, image_files.docker_archive_old({"app:1": image}))
    layout = f"oci:{engine.root}/data/content:docker.io/library/app:1"
    assert skopeo("inspect", "--raw", "--config", layout, cwd=tmp_path) == image.config
    skopeo("copy", "-q", layout, "docker-archive:copy.tar:app:1", cwd=tmp_path)
    listing = subprocess.run(
        ["tar", "-xOf", tmp_path / "copy.tar", "manifest.json"], check=True, capture_output=True
    ).stdout
    assert json.loads(listing)[0]["Config"] == image.config_digest[7:] + ".json"


def image_of(engine: Engine, image: Image) -> None:
    load(engine, image_files.oci_archive({"app:1": image}))


def test_a_loaded_image_runs(engine: Engine) -> None:
    image_of(engine, images.busybox_image(small_layer("hello", b"world")))
    assert engine.run("app:1", "cat", "/hello")[0] == b"world"
