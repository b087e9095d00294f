"""Pulling from a registry that lies, breaks off or sends too much: a typed error, and nothing of it becomes visible."""

import gzip
import itertools
import json
import time
from collections.abc import Callable, Mapping

import pytest

from tests.e2e.images.steps import (
    EMPTY_SHA256,
    FAILED,
    SUCCEEDED,
    begin,
    blob,
    ended,
    failed_pull,
    pull,
    pull_mended,
    served,
    small_image,
    small_layer,
    staged,
    stored,
)
from tests.support import images, tarball
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import (
    FaultyRegistry,
    Reply,
    blob_path,
    cut,
    declared_length,
    headers,
    ignore_range,
    manifest_path,
    status,
    wrong_bytes,
)

MIB = 1024 * 1024


@pytest.mark.parametrize("place", ["layer", "config"])
@pytest.mark.parametrize("after", [0, 1, 30])
def test_r06_a_blob_that_breaks_off_is_resumed(
    engine: Engine, registry: FaultyRegistry, place: str, after: int
) -> None:
    image = small_image()
    reference = served(registry, image)
    digest = image.layers[0].digest if place == "layer" else image.config_digest
    registry.on(blob_path("app", digest), [cut(after)])
    pull(engine, reference)
    assert len(registry.requests_for(blob_path("app", digest))) == 2
    assert EMPTY_SHA256 not in stored(engine).blobs
    for name in stored(engine).blobs:
        assert images.digest_of(blob(engine, f"sha256:{name}")) == f"sha256:{name}"


def test_r06_a_blob_that_always_breaks_off_is_an_error(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    reference = served(registry, image)
    registry.always(blob_path("app", image.layers[0].digest), cut(0))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["registry"]) == ("REGISTRY_UNREACHABLE", registry.address)
    assert int(metadata["attempt_count"]) > 1
    pull_mended(engine, registry, image, reference)


def test_r07_a_range_that_is_ignored_starts_the_blob_over(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([small_layer(data=b"r07" * 4000, compression="none")])
    reference = served(registry, image)
    path = blob_path("app", image.layers[0].digest)
    registry.on(path, [cut(6000)], [ignore_range])
    pull(engine, reference)
    first, second = registry.requests_for(path)
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=6000-"
    assert blob(engine, image.layers[0].digest) == image.layers[0].blob


def test_r07_an_answer_of_another_range_is_not_appended(engine: Engine, registry: FaultyRegistry) -> None:
    image = images.image([small_layer(data=b"r07b" * 4000, compression="none")])
    reference = served(registry, image)
    path = blob_path("app", image.layers[0].digest)
    size = len(image.layers[0].blob)
    lie = headers({"Content-Range": f"bytes 0-{size - 6001}/{size}"})
    registry.on(path, [cut(6000)], [lie])
    pull(engine, reference)
    assert blob(engine, image.layers[0].digest) == image.layers[0].blob
    assert len(registry.requests_for(path)) == 3


def date_in(seconds: float, form: str) -> str:
    """A date of HTTP. Source: RFC 9110, section 5.6.7: the form to write, and an old one that is still to be read."""
    return time.strftime(form, time.gmtime(time.time() + seconds))


@pytest.mark.parametrize("place", ["manifest", "layer"])
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    "wait",
    [
        lambda: "2",
        lambda: date_in(3, "%a, %d %b %Y %H:%M:%S GMT"),
        lambda: date_in(3, "%A, %d-%b-%y %H:%M:%S GMT"),
        lambda: date_in(3, "%a %b %d %H:%M:%S %Y"),
    ],
    ids=["seconds", "date", "RFC 850 date", "asctime date"],
)
def test_r08_a_registry_that_asks_to_wait_is_asked_again_when_it_says(
    engine: Engine, registry: FaultyRegistry, place: str, code: int, wait: Callable[[], str]
) -> None:
    image = small_image()
    reference = served(registry, image)
    path = manifest_path("app", "1") if place == "manifest" else blob_path("app", image.layers[0].digest)
    registry.on(path, [lambda _: Reply(code, {"Retry-After": wait()})])
    pull(engine, reference)
    first, second = registry.requests_for(path)
    # A date has whole seconds, so that three of them are two at least.
    assert second.at - first.at >= 2


@pytest.mark.parametrize("place", ["manifest", "layer"])
def test_r08_a_registry_that_always_asks_to_wait_is_asked_few_times(
    engine: Engine, registry: FaultyRegistry, place: str
) -> None:
    image = small_image()
    reference = served(registry, image)
    path = manifest_path("app", "1") if place == "manifest" else blob_path("app", image.layers[0].digest)
    registry.always(path, status(429, {"Retry-After": "0"}))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["registry"]) == ("REGISTRY_RATE_LIMITED", registry.address)
    asked = registry.requests_for(path)
    assert 1 < len(asked) <= 5
    # Without a wait that the registry names they grow by themselves.
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(asked)]
    assert min(gaps) > 0.05
    registry.always(path, status(429, {"Retry-After": "86400"}))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["retry_after_seconds"]) == ("REGISTRY_RATE_LIMITED", "86400")
    assert len(registry.requests_for(path)) == len(asked) + 1
    pull_mended(engine, registry, image, reference)


def changed_config(image: Image, diff_ids: list[str]) -> Image:
    return images.image(image.layers, config=images.config_json(diff_ids))


@pytest.mark.parametrize("kind", ["one too few", "one too many", "none", "swapped", "compressed digests", "unknown"])
def test_r14_diff_ids_must_be_those_of_the_layers(engine: Engine, registry: FaultyRegistry, kind: str) -> None:
    image = images.image([small_layer(), small_layer("g")])
    right = image.diff_ids
    wrong = {
        "one too few": right[:1],
        "one too many": [*right, right[0]],
        "none": [],
        "swapped": right[::-1],
        "compressed digests": [layer.digest for layer in image.layers],
        "unknown": [right[0], "sha256:" + "0" * 64],
    }[kind]
    lying = changed_config(image, wrong)
    reason, metadata = failed_pull(engine, served(registry, lying))
    if len(wrong) != 2:
        assert (reason, f"{len(wrong)} diff_ids for 2 layers" in metadata["rule"]) == ("MANIFEST_INVALID", True)
    else:
        assert (reason, metadata["expected"] in wrong) == ("DIFF_ID_MISMATCH", True)
        assert metadata["actual"] in right
    pull_mended(engine, registry, image, f"{registry.address}/app:1")


LYING_SIZES: Mapping[str, tuple[int, str]] = {
    "longer than said": (-1, "SIZE_MISMATCH"),
    "much longer than said": (-20, "SIZE_MISMATCH"),
    "shorter than said": (1, "SIZE_MISMATCH"),
}


@pytest.mark.parametrize("kind", LYING_SIZES)
@pytest.mark.parametrize("place", ["layer", "config"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_blob_that_is_not_of_its_size_is_refused(
    engine: Engine, registry: FaultyRegistry, kind: str, place: str, is_chunked: bool
) -> None:
    image = small_image()
    off_by, expected = LYING_SIZES[kind]
    manifest = json.loads(image.manifest)
    target = manifest["layers"][0] if place == "layer" else manifest["config"]
    target["size"] += off_by
    reference = served(registry, image)
    registry.put_manifest("app", "1", images.OCI_MANIFEST, images.dump(manifest))
    if is_chunked:
        registry.always(blob_path("app", target["digest"]), declared_length(-1))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["digest"]) == (expected, target["digest"])
    assert metadata["expected_bytes"] == str(target["size"])
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("place", ["layer", "config"])
def test_a_blob_of_other_bytes_is_refused(engine: Engine, registry: FaultyRegistry, place: str) -> None:
    image = small_image()
    reference = served(registry, image)
    digest = image.layers[0].digest if place == "layer" else image.config_digest
    registry.always(blob_path("app", digest), wrong_bytes(5))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["expected"]) == ("DIGEST_MISMATCH", digest)
    assert digest[7:] not in staged(engine)
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("place", ["layer", "config"])
def test_a_blob_that_the_registry_has_not_is_told(engine: Engine, registry: FaultyRegistry, place: str) -> None:
    image = small_image()
    media_type, data = image.manifests[image.digest]
    registry.put_manifest("app", "1", media_type, data)
    if place == "layer":
        registry.put_blob(image.config)
    missing = image.layers[0].digest if place == "layer" else image.config_digest
    reason, metadata = failed_pull(engine, f"{registry.address}/app:1")
    assert (reason, metadata["digest"]) == ("BLOB_NOT_FOUND", missing)


def layer_cases() -> dict[str, tuple[images.Layer, str]]:
    """Layers whose blobs have their digest and that still cannot be."""
    good = small_layer(data=b"z" * 5000)
    tar = good.tar
    cut_gzip = good.blob[: len(good.blob) // 2]
    return {
        "gzip cut": (images.layer_of_blob(cut_gzip, tar, "gzip"), "LAYER_CORRUPT"),
        "gzip with a wrong checksum": (
            images.layer_of_blob(good.blob[:-8] + b"\0\0\0\0" + good.blob[-4:], tar, "gzip"),
            "LAYER_CORRUPT",
        ),
        "tar cut in a file": (images.layer_of_tar(tar[:1024], "none"), "LAYER_CORRUPT"),
        "no tar": (images.layer_of_tar(b"this is no archive" * 100, "none"), "LAYER_CORRUPT"),
        "header with a wrong checksum": (
            images.layer(tarball.Entry("f", header={"checksum": b"000001\0 "})),
            "LAYER_CORRUPT",
        ),
        "z01 a file above the root": (images.layer(tarball.file("../../escape1", "x")), "LAYER_REJECTED"),
        "z02 whiteout of dot": (images.layer(tarball.file(".wh..")), "LAYER_REJECTED"),
        "z02 whiteout of dot dot": (images.layer(tarball.file("a/.wh...")), "LAYER_REJECTED"),
        "z02 whiteout of nothing": (images.layer(tarball.file(".wh.")), "LAYER_REJECTED"),
        "link to nothing": (images.layer(tarball.hardlink("l", "no/such")), "LAYER_REJECTED"),
    }


@pytest.mark.parametrize("kind", layer_cases())
def test_a_layer_that_cannot_be_unpacked_is_refused(engine: Engine, registry: FaultyRegistry, kind: str) -> None:
    layer, expected = layer_cases()[kind]
    image = images.image([small_layer("lower"), layer])
    reason, metadata = failed_pull(engine, served(registry, image))
    assert (reason, metadata["digest"]) == (expected, layer.digest)
    assert f".staged-{layer.diff_id[7:]}" not in staged(engine)
    assert layer.digest[7:] not in staged(engine)
    other = small_image()
    registry.put("other", "1", other)
    assert pull(engine, f"{registry.address}/other:1").image_id == other.config_digest


def test_z01_links_that_leave_the_root_write_nothing_outside(engine: Engine, registry: FaultyRegistry) -> None:
    canary = engine.root / "canary"
    canary.mkdir(exist_ok=True)
    hostile = [
        [tarball.symlink("e", str(canary)), tarball.file("e/pwn", "x")],
        [tarball.symlink("a", "b"), tarball.symlink("b", str(canary)), tarball.file("a/pwn", "x")],
        [tarball.file("/abs", "x")],
        [tarball.symlink("e", "/etc"), tarball.hardlink("b", "e/hostname")],
        [tarball.symlink("up", "../../../../../.."), tarball.file(f"up{canary}/pwn", "x")],
    ]
    for number, members in enumerate(hostile):
        registry.put("app", str(number), images.image([images.layer(*members)]))
        operation = ended(engine, begin(engine, f"{registry.address}/app:{number}"))
        assert operation.state in {SUCCEEDED, FAILED}
        if operation.state == FAILED:
            assert operation.failure.reason == "LAYER_REJECTED"
    assert list(canary.iterdir()) == []


def zstd_zeros(size_bytes: int) -> bytes:
    """A zstd frame of zeros in blocks of one repeated byte, with a window of 128 KiB.

    Source: RFC 8878, sections 3.1.1.1.2 (window descriptor) and 3.1.1.2.2 (RLE blocks).
    """
    block_bytes = 128 * 1024
    count = size_bytes // block_bytes
    blocks = b"".join(
        (block_bytes << 3 | 1 << 1 | int(n == count - 1)).to_bytes(3, "little") + b"\0" for n in range(count)
    )
    header = (
        (0xFD2FB528).to_bytes(4, "little") + bytes([0b1100_0000, 7 << 3]) + (count * block_bytes).to_bytes(8, "little")
    )
    return header + blocks


def gzip_zeros(size_bytes: int) -> bytes:
    """As many gzip members of zeros one after the other."""
    member = gzip.compress(bytes(64 * MIB), 9, mtime=0)
    return member * (size_bytes // (64 * MIB))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_bomb_meets_a_named_limit(engine: Engine, registry: FaultyRegistry, compression: tarball.Compression) -> None:
    # Zeros behind the end of the tar are read and hashed but not written, so that the test needs no disk.
    tar = tarball.write_tar([tarball.file("f", "x")])
    zeros = {"gzip": gzip_zeros, "zstd": zstd_zeros}[compression](1280 * MIB)
    bomb = images.layer_of_blob(tarball.compress(tar, compression) + zeros, tar, compression)
    reason, metadata = failed_pull(engine, served(registry, images.image([bomb])))
    assert (reason, metadata["subject"]) == ("LIMIT_EXCEEDED", bomb.digest)
    assert (metadata["limit"], metadata["limit_value"]) == ("expansion_ratio", "200")
    assert bomb.digest[7:] not in staged(engine)


def test_a_faulty_layer_does_not_cost_the_good_ones(engine: Engine, registry: FaultyRegistry) -> None:
    good, bad = small_layer("good"), small_layer("bad")
    image = images.image([good, bad])
    reference = served(registry, image)
    registry.on(blob_path("app", bad.digest), [wrong_bytes(3)])
    assert failed_pull(engine, reference)[0] == "DIGEST_MISMATCH"
    pull(engine, reference)
    assert len(registry.requests_for(blob_path("app", good.digest))) <= 2
