"""CheckStorage reads what is stored again: sound content, damaged blobs and layers, missing ones, names of them."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import engine_pb2, engine_pb2_grpc, images_pb2
from fluytd._core.layer import LayerStore
from tests.support import image_files, images, tarball
from tests.support.engine import Engine

IMAGE = images.image([images.layer(tarball.file("big", b"x" * 300_000)), images.layer(tarball.file("small", "y"))])
OTHER = images.image([images.layer(tarball.file("other", "z"))])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    store = LayerStore(str(tmp_path), "auto")
    if store.kind != "erofs":
        pytest.skip(f"this kernel keeps no layers that can be checked: {store.choice_detail}")
    with Engine(tmp_path) as running:
        running.load(image_files.oci_archive({"check:1": IMAGE, "other:1": OTHER}))
        yield running


def check(engine: Engine, *subjects: str) -> tuple[list[engine_pb2.StorageFinding], engine_pb2.StorageCheckSummary]:
    """The findings and the summary; the order of the stream is looked at on the way."""
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    events = list(stub.CheckStorage(engine_pb2.CheckStorageRequest(subjects=subjects)))
    progress = [event.progress for event in events if event.WhichOneof("event") == "progress"]
    assert [one.checked_count for one in progress] == list(range(len(progress)))
    assert {one.total_count for one in progress} == {len(progress) - 1}
    assert [event.WhichOneof("event") for event in events].index("summary") == len(events) - 1
    return [event.finding for event in events if event.WhichOneof("event") == "finding"], events[-1].summary


def flip(path: Path, at: int) -> None:
    """One bit of the file is another."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def blob_path(engine: Engine, digest: str) -> Path:
    return engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")


def layer_path(engine: Engine, diff_id: str) -> Path:
    return engine.root / "data" / "layers" / diff_id.partition(":")[2]


def test_sound_content_is_found_sound(engine: Engine) -> None:
    findings, summary = check(engine)
    # Three layers, and as many blobs of them; two configs, two manifests; the two files of the layout.
    assert (findings, summary.checked_count, summary.damaged_count) == ([], 12, 0)
    assert summary.checked_bytes > 0


def test_layers_that_keep_no_archive_count_where_their_blob_can_tell(tmp_path: Path) -> None:
    with Engine(tmp_path, options=("--layer-store", "directory")) as engine:
        engine.load(image_files.oci_archive({"check:1": IMAGE}))
        # Two layers beside their blobs, a config, a manifest, and the two files of the layout.
        assert check(engine)[1].checked_count == 8
        blob_path(engine, IMAGE.layers[0].digest).unlink()
        stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
        *_, progress, last = stub.CheckStorage(engine_pb2.CheckStorageRequest())
        # The layer of the missing blob was passed over: nothing can be said of it.
        assert (progress.progress.total_count, last.summary.checked_count, last.summary.damaged_count) == (8, 7, 1)


def test_a_damaged_blob_is_found_and_says_who_needs_it(engine: Engine) -> None:
    digest = IMAGE.layers[0].digest
    flip(blob_path(engine, digest), 100)
    (finding,), summary = check(engine)
    assert (finding.subject, list(finding.references)) == (digest, ["docker.io/library/check:1"])
    assert (finding.failure.reason, summary.damaged_count, finding.is_repaired) == ("DATA_CORRUPT", 1, False)
    assert digest.partition(":")[2] in finding.failure.message


def test_a_damaged_layer_is_found(engine: Engine) -> None:
    for name in ("data.tar", "index.erofs"):
        path = layer_path(engine, IMAGE.layers[0].diff_id) / name
        flip(path, 1600)
        (finding,), _ = check(engine)
        assert finding.subject == IMAGE.layers[0].diff_id.partition(":")[2]
        assert finding.failure.reason == "DATA_CORRUPT"
        flip(path, 1600)
        assert check(engine)[0] == []


def test_missing_content_that_an_image_needs_is_found(engine: Engine) -> None:
    digest = IMAGE.layers[1].digest
    blob_path(engine, digest).unlink()
    (finding,), summary = check(engine)
    assert (finding.subject, finding.failure.reason, summary.damaged_count) == (digest, "BLOB_NOT_FOUND", 1)


def test_what_is_named_is_checked_alone(engine: Engine) -> None:
    flip(blob_path(engine, IMAGE.layers[0].digest), 100)
    assert check(engine, "other:1")[1].checked_count == 4
    assert check(engine, "other:1")[0] == []
    assert len(check(engine, "check:1")[0]) == 1
    assert check(engine, IMAGE.layers[0].digest)[1].damaged_count == 1
    layer_id = OTHER.layers[0].diff_id.partition(":")[2]
    assert check(engine, layer_id, layer_id)[1].checked_count == 1
    (finding,), _ = check(engine, "sha256:" + "0" * 64)
    assert finding.failure.reason == "BLOB_NOT_FOUND"


@pytest.mark.parametrize(
    ("subjects", "code"),
    [
        (["nothing:1"], grpc.StatusCode.NOT_FOUND),
        (["sha256:../../etc"], grpc.StatusCode.INVALID_ARGUMENT),
        (["x"] * 1001, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
@pytest.mark.parametrize("repair", [False, True])
def test_bad_requests_are_told(engine: Engine, subjects: list[str], repair: bool, code: grpc.StatusCode) -> None:
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    with pytest.raises(grpc.RpcError) as failed:
        list(stub.CheckStorage(engine_pb2.CheckStorageRequest(subjects=subjects, repair=repair)))
    assert failed.value.code() == code


def test_a_check_that_nobody_waits_for_holds_nothing(engine: Engine) -> None:
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    stream = stub.CheckStorage(engine_pb2.CheckStorageRequest())
    next(iter(stream))
    stream.cancel()
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="check:1"))
    assert check(engine)[1].checked_count == 6
