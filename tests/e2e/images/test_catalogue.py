"""Images that are here: lists, filters, pages, sizes, history, names, and what a deletion takes."""

import grpc
import pytest

from fluyt.v1 import containers_pb2, images_pb2
from fluyt.v1.types import container_spec_pb2, platform_pb2
from tests.e2e.images.steps import get, listed, load, pull, refused, small_image, small_layer, stored
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry


def load_as(engine: Engine, name: str, image: Image) -> str:
    load(engine, image_files.oci_archive({name: image}))
    return image.config_digest


def tag(engine: Engine, image: str, reference: str, **request: object) -> images_pb2.Image:
    answer: images_pb2.TagImageResponse = engine.images.TagImage(
        images_pb2.TagImageRequest(image=image, reference=reference, **request)  # type: ignore[arg-type]
    )
    return answer.image


def untag(engine: Engine, reference: str, **request: object) -> images_pb2.Image:
    answer: images_pb2.UntagImageResponse = engine.images.UntagImage(
        images_pb2.UntagImageRequest(reference=reference, **request)  # type: ignore[arg-type]
    )
    return answer.image


def delete(engine: Engine, image: str, **request: object) -> images_pb2.DeleteImageResponse:
    answer: images_pb2.DeleteImageResponse = engine.images.DeleteImage(
        images_pb2.DeleteImageRequest(image=image, **request)  # type: ignore[arg-type]
    )
    return answer


def ids(engine: Engine, **conditions: object) -> set[str]:
    return {image.id for image in listed(engine, filter=images_pb2.ImageFilter(**conditions))}  # type: ignore[arg-type]


def test_sizes_are_those_of_unpacked_layers_each_once(engine: Engine) -> None:
    shared = images.layer(tarball.file("s", b"s" * 1000))
    own = images.layer(tarball.file("a", b"a" * 10), tarball.file("b", b"b" * 20), tarball.hardlink("c", "a"))
    first, second = images.image([shared, own]), images.image([shared], cmd=["x"])
    load_as(engine, "first:1", first)
    assert get(engine, "first:1").image.shared_size_bytes == 0
    load_as(engine, "second:1", second)
    found = get(engine, "first:1")
    assert (found.image.size_bytes, found.image.shared_size_bytes) == (1030, 1000)
    assert [layer.size_bytes for layer in found.layers] == [1000, 30]
    assert [layer.is_shared for layer in found.layers] == [True, False]
    blobs = [first.manifest, first.config, shared.blob, own.blob]
    assert found.image.content_size_bytes == sum(len(data) for data in blobs)
    assert found.layers[1].chain_id == images.digest_of(f"{shared.diff_id} {own.diff_id}".encode())
    delete(engine, "second:1")
    assert get(engine, "first:1").image.shared_size_bytes == 0


def test_history_tells_which_step_made_which_layer(engine: Engine) -> None:
    layers = [small_layer(), small_layer("g")]
    steps = [
        {"created": images.CREATED, "created_by": "ADD a", "author": "me"},
        {"created_by": "ENV b", "empty_layer": True, "comment": "no layer"},
        {"created": "0001-01-01T00:00:00Z", "created_by": "ADD c"},
    ]
    load_as(engine, "app:1", images.image(layers, extra={"history": steps}))
    history = get(engine, "app:1").history
    assert [step.created_by for step in history] == ["ADD a", "ENV b", "ADD c"]
    assert [step.is_empty_layer for step in history] == [False, True, False]
    assert [step.diff_id for step in history] == [layers[0].diff_id, "", layers[1].diff_id]
    assert history[0].build_time.ToJsonString() == images.CREATED
    assert not history[2].HasField("build_time")


def test_the_config_is_told_whole(engine: Engine) -> None:
    config = {
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/bash", "-c"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_500_000_000, "Retries": 4},
    }
    image = images.image(
        [small_layer()],
        entrypoint=["/e"],
        cmd=["c"],
        env=["A=b"],
        user="1:2",
        working_dir="/w",
        stop_signal="SIGINT",
        labels={"l": "v"},
        extra_config=config,
        extra={"author": "me"},
    )
    load_as(engine, "app:1", image)
    found = get(engine, "app:1").config
    assert (list(found.entrypoint), list(found.args), list(found.env)) == (["/e"], ["c"], ["A=b"])
    assert (found.user, found.working_dir, found.stop_signal, found.author) == ("1:2", "/w", "SIGINT", "me")
    assert (list(found.exposed_ports), list(found.volumes)) == (["80/tcp"], ["/data"])
    assert (list(found.shell), list(found.on_build)) == (["/bin/bash", "-c"], ["RUN x"])
    assert (dict(found.labels), list(found.health_check.args)) == ({"l": "v"}, ["/bin/sh", "-c", "true"])
    assert (found.health_check.interval.ToMilliseconds(), found.health_check.retries) == (1500, 4)


def test_filters_of_a_list(engine: Engine) -> None:
    old = load_as(engine, "team/old:1", small_image(labels={"tier": "back"}, extra={"created": "2001-01-01T00:00:00Z"}))
    middle = load_as(engine, "team/new:1", small_image(labels={"tier": "front"}))
    new = load_as(engine, "app:2", small_image(extra={"created": "2020-01-01T00:00:00Z"}))
    dangling = load_as(engine, "", small_image())
    assert ids(engine) == {old, middle, new, dangling}
    assert ids(engine, references=["team/*"]) == {old, middle}
    assert ids(engine, references=["*"]) == {new}
    assert ids(engine, references=["docker.io/*/*:1"]) == {old, middle}
    assert ids(engine, references=["app:3", "team/old"]) == {old}
    assert ids(engine, references=["team/[n-o]*"]) == {old, middle}
    assert ids(engine, references=["team/[^n]??"]) == {old}
    assert ids(engine, references=["a??:[0-9]"]) == {new}
    assert ids(engine, references=["team"]) == ids(engine, references=["team/["]) == set()
    assert ids(engine, labels=["tier"]) == {old, middle}
    assert ids(engine, labels=["tier=front"]) == {middle}
    assert ids(engine, labels=["tier", "other"]) == set()
    assert ids(engine, excluded_labels=["tier=front"]) == {old, new, dangling}
    assert ids(engine, excluded_labels=["tier"]) == {new, dangling}
    assert ids(engine, excluded_labels=["tier=front", "tier=back", "other"]) == {new, dangling}
    assert ids(engine, labels=["tier"], excluded_labels=["tier=front"]) == {old}
    assert ids(engine, is_dangling=True) == {dangling}
    assert ids(engine, is_dangling=False) == {old, middle, new}
    assert ids(engine, before_image="team/new:1") == {old}
    assert ids(engine, since_image="team/new:1") == {new}
    created = get(engine, middle).image.create_time
    assert ids(engine, before_time=created) == {old}
    assert refused(lambda: ids(engine, since_image="no/such")).reason == "IMAGE_NOT_FOUND"


def test_pages_tell_each_image_once(engine: Engine) -> None:
    image = small_image()
    archive = {f"n{number}:1": images.image(image.layers, cmd=[str(number)]) for number in range(7)}
    load(engine, image_files.oci_archive(archive))
    seen = [one.id for one in listed(engine, page_size=3)]
    assert (len(seen), set(seen)) == (7, {one.config_digest for one in archive.values()})
    for size, token in ((-1, ""), (3, "nonsense")):
        request = images_pb2.ListImagesRequest(page_size=size, page_token=token)
        assert refused(lambda request=request: engine.images.ListImages(request)).reason == "FIELD_INVALID"  # type: ignore[misc]


def test_a_shortened_id_must_be_unique_and_names_win(engine: Engine) -> None:
    first = load_as(engine, "app:1", small_image())
    assert get(engine, first[7:13]).image.id == first
    digits = first[7:11]
    second = load_as(engine, f"{digits}:latest", small_image())
    assert get(engine, digits).image.id == second
    for text in ("0" * 12, "sha256:" + "0" * 64, "no/such:1", "app:2"):
        found = refused(lambda text=text: get(engine, text))  # type: ignore[misc]
        assert (found.code, found.reason, found.metadata["reference"]) == (
            grpc.StatusCode.NOT_FOUND,
            "IMAGE_NOT_FOUND",
            text,
        )
    assert refused(lambda: get(engine, "")).reason == "FIELD_INVALID"


def test_get_chooses_among_the_platforms_of_one_index(engine: Engine, registry: FaultyRegistry) -> None:
    here, other = small_image(), small_image(architecture="s390x")
    registry.put("multi", "1", images.index([here, other]))
    reference = f"{registry.address}/multi:1"
    s390x = platform_pb2.Platform(os="linux", architecture="s390x")
    pull(engine, reference)
    found = refused(lambda: get(engine, reference, platform=s390x))
    assert (found.reason, found.metadata["platform"]) == ("PLATFORM_UNAVAILABLE", "linux/s390x")
    pull(engine, reference, platform=s390x)
    assert get(engine, reference, platform=s390x).image.id == other.config_digest
    host = platform_pb2.Platform(os="linux", architecture=images.HOST_ARCHITECTURE)
    assert get(engine, reference, platform=host).image.id == here.config_digest


def test_tags_are_given_moved_and_taken(engine: Engine) -> None:
    first, second = load_as(engine, "first:1", small_image()), load_as(engine, "second:1", small_image())
    tagged = tag(engine, first, "team/app")
    assert list(tagged.references) == ["docker.io/library/first:1", "docker.io/team/app:latest"]
    assert tag(engine, first, "team/app").version == tagged.version  # again changes nothing
    assert tagged.version == 2
    moved = tag(engine, "second:1", "team/app:latest")
    assert moved.id == second
    assert list(get(engine, first).image.references) == ["docker.io/library/first:1"]
    left = untag(engine, "first:1")
    assert (left.id, list(left.references)) == (first, [])
    assert refused(lambda: untag(engine, "first:1")).reason == "IMAGE_NOT_FOUND"
    assert get(engine, first).image.id == first


def test_a_tag_that_cannot_be_is_refused(engine: Engine) -> None:
    first = load_as(engine, "app:1", small_image())
    for reference, reason in (
        ("UPPER", "REFERENCE_INVALID"),
        ("", "REFERENCE_INVALID"),
        (f"app@{first}", "FIELD_INVALID"),
        ("0" * 64, "REFERENCE_INVALID"),
    ):
        assert refused(lambda reference=reference: tag(engine, first, reference)).reason == reason  # type: ignore[misc]
    assert refused(lambda: tag(engine, "no/such", "app:2")).reason == "IMAGE_NOT_FOUND"
    found = refused(lambda: tag(engine, first, "app:2", expected_version=9))
    assert (found.code, found.reason) == (grpc.StatusCode.ABORTED, "VERSION_CONFLICT")
    assert found.metadata["actual"] == "1"
    assert list(get(engine, first).image.references) == ["docker.io/library/app:1"]


def test_l07_by_tag_with_two_tags_only_the_tag_goes(engine: Engine) -> None:
    first = load_as(engine, "app:1", small_image())
    tag(engine, first, "app:2")
    before = stored(engine)
    answer = delete(engine, "app:1")
    assert (list(answer.untagged), list(answer.deleted), answer.reclaimed_bytes) == (
        ["docker.io/library/app:1"],
        [],
        0,
    )
    assert stored(engine) == before


def test_l07_by_id_with_two_tags_is_refused_without_force(engine: Engine) -> None:
    first = load_as(engine, "app:1", small_image())
    tag(engine, first, "app:2")
    before = (stored(engine), get(engine, first).image)
    found = refused(lambda: delete(engine, first))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IMAGE_IN_USE")
    assert (stored(engine), get(engine, first).image) == before
    answer = delete(engine, first, force=True)
    assert sorted(answer.untagged) == ["docker.io/library/app:1", "docker.io/library/app:2"]
    assert first in answer.deleted
    assert listed(engine) == []


def test_l07_by_digest_only_that_goes_while_there_is_a_name(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    registry.put("app", "1", image)
    tagged, by_digest = f"{registry.address}/app:1", f"{registry.address}/app@{image.digest}"
    pull(engine, tagged)
    before = stored(engine)
    answer = delete(engine, by_digest)
    assert (list(answer.untagged), list(answer.deleted)) == ([by_digest], [])
    assert stored(engine) == before
    assert (list(get(engine, tagged).image.repo_digests), get(engine, tagged).image.version) == ([], 2)
    assert refused(lambda: get(engine, by_digest)).reason == "IMAGE_NOT_FOUND"
    delete(engine, tagged)
    # With the last that names it the image goes, whether that is a tag or not.
    pull(engine, by_digest)
    answer = delete(engine, by_digest)
    assert image.config_digest in answer.deleted
    assert listed(engine) == []


def test_l07_a_shortened_id_that_fits_two_images_takes_neither(engine: Engine) -> None:
    found: dict[str, str] = {}
    for number in range(2_000):
        image = images.image([small_layer(data=b"same")], cmd=[str(number)])
        prefix = image.config_digest[7:11]
        if prefix in found:
            break
        found[prefix] = str(number)
    else:
        raise AssertionError("no two ids begin alike")
    first = images.image(image.layers, cmd=[found[prefix]])
    load(engine, image_files.oci_archive({"one:1": first, "two:1": image}))
    before = stored(engine)
    for force in (False, True):
        assert refused(lambda force=force: delete(engine, prefix, force=force)).reason == "IMAGE_AMBIGUOUS"  # type: ignore[misc]
    assert stored(engine) == before
    digits = next(n for n in range(4, 64) if first.config_digest[7 : 7 + n] != image.config_digest[7 : 7 + n])
    assert first.config_digest in delete(engine, first.config_digest[7 : 7 + digits]).deleted
    assert [one.id for one in listed(engine)] == [image.config_digest]


def test_l07_what_another_image_needs_stays(engine: Engine) -> None:
    shared = small_layer(data=b"x" * 3000)
    first = images.image([shared, small_layer()])
    load_as(engine, "first:1", first)
    second = load_as(engine, "second:1", images.image([shared], cmd=["x"]))
    answer = delete(engine, "first:1")
    assert shared.digest not in answer.deleted
    assert first.layers[1].digest in answer.deleted
    assert answer.reclaimed_bytes < 3000
    assert get(engine, second).image.shared_size_bytes == 0
    assert shared.digest[7:] in stored(engine).blobs


def created(engine: Engine, image: str, name: str) -> None:
    engine.containers.CreateContainer(
        containers_pb2.CreateContainerRequest(
            spec=container_spec_pb2.ContainerSpec(image=image, args=["sleep", "100"]), name=name
        )
    )


@pytest.mark.parametrize("is_running", [True, False])
def test_l07_an_image_in_use_is_refused_and_nothing_changes(engine: Engine, is_running: bool) -> None:
    image = images.busybox_image(small_layer())
    load_as(engine, "busy:1", image)
    if is_running:
        engine.start_container("busy:1", "user", "sleep", "100")
    else:
        created(engine, "busy:1", "user")
    try:
        before = (stored(engine), [one.SerializeToString() for one in listed(engine)])
        for text in ("busy:1", image.config_digest):
            found = refused(lambda text=text: delete(engine, text))  # type: ignore[misc]
            assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "IMAGE_IN_USE")
            assert found.metadata["holder_ids"]
            if is_running:
                assert refused(lambda text=text: delete(engine, text, force=True)).reason == "IMAGE_IN_USE"  # type: ignore[misc]
        assert (stored(engine), [one.SerializeToString() for one in listed(engine)]) == before
        if not is_running:
            # Its layers stay for the container, which goes on to run from them.
            assert image.config_digest in delete(engine, "busy:1", force=True).deleted
            assert len(stored(engine).layers) == 2
    finally:
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="user", force=True))


def test_deletion_takes_every_file(engine: Engine) -> None:
    load_as(engine, "app:1", small_image())
    answer = delete(engine, "app:1")
    assert len(answer.deleted) == 5  # the image; manifest, config and layer as blobs; the unpacked layer
    assert answer.reclaimed_bytes > 0
    assert not stored(engine).blobs
    assert refused(lambda: delete(engine, "app:1")).reason == "IMAGE_NOT_FOUND"
