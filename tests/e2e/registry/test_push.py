"""Pushes to the real registry, judged by skopeo and podman, and what the engine tells of them."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import events_pb2, images_pb2, operations_pb2
from fluyt.v1.types import operation_pb2, platform_pb2
from tests.support import image_files, images, tarball, wait
from tests.support.engine import Engine
from tests.support.registry import Fault, FaultyRegistry, RealRegistry, delay, status

pytestmark = pytest.mark.needs("docker-registry")

SUCCEEDED = operation_pb2.Operation.State.STATE_SUCCEEDED
Phase = operation_pb2.LayerProgress.Phase


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with RealRegistry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    root = tmp_path / "engine"
    root.mkdir()
    with Engine(root) as running:
        yield running


def two_layers() -> images.Image:
    """Busybox and a file of noise above it."""
    return images.busybox_image(images.layer(tarball.file("noise", os.urandom(300_000))))


def test_what_was_pushed_is_pulled_with_the_same_digest(engine: Engine, registry: RealRegistry) -> None:
    name = f"{registry.address}/team/app:1"
    image = two_layers()
    engine.load(image_files.oci_archive({name: image}))
    pushed = engine.push(name)
    assert pushed.state == SUCCEEDED, pushed
    assert pushed.push_result.digest == image.digest
    assert list(pushed.push_result.references) == [name]
    assert pushed.push_result.sent_bytes == sum(map(len, image.blobs.values()))
    assert [layer.phase for layer in pushed.push_progress.layers] == [Phase.PHASE_DONE, Phase.PHASE_DONE]
    assert all(layer.transferred_bytes == layer.size_bytes for layer in pushed.push_progress.layers)
    again = engine.push(name)
    assert again.push_result.sent_bytes == 0
    assert {layer.phase for layer in again.push_progress.layers} == {Phase.PHASE_PRESENT}
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
    pulled = engine.pull(name)
    assert pulled.pull_result.manifest_digest == image.digest
    assert engine.run(name, "echo", "ran")[0] == b"ran\n"


@pytest.mark.needs("skopeo", "podman")
def test_r18_skopeo_reads_what_was_pushed_and_podman_unpacks_it(
    engine: Engine, registry: RealRegistry, tmp_path: Path
) -> None:
    name = f"{registry.address}/team/app:1"
    image = two_layers()
    engine.load(image_files.oci_archive({name: image}))
    assert engine.push(name).state == SUCCEEDED
    copied = tmp_path / "copied"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{copied}:app"],
        check=True,
        capture_output=True,
    )
    index = json.loads((copied / "index.json").read_text())
    assert index["manifests"][0]["digest"] == image.digest
    # Podman takes no run root of more than 50 characters.
    root = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))
    try:
        podman = ["podman", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs"]
        subprocess.run([*podman, "pull", "-q", "--tls-verify=false", name], check=True, capture_output=True)
        inspected = subprocess.run([*podman, "image", "inspect", name], check=True, capture_output=True, text=True)
        assert json.loads(inspected.stdout)[0]["Id"] == images.digest_of(image.config).removeprefix("sha256:")
        # Not `podman run`: crun refuses hosts with both versions of cgroups.
        mount = subprocess.run([*podman, "image", "mount", name], check=True, capture_output=True, text=True)
        ran = subprocess.run(["chroot", mount.stdout.strip(), "echo", "ran"], check=True, capture_output=True)
        assert ran.stdout == b"ran\n"
        subprocess.run([*podman, "image", "umount", name], check=True, capture_output=True)
    finally:
        wait.until_now(lambda: is_removed(root))


def is_removed(root: Path) -> bool:
    """True once podman's own cleaning up, which outlives its commands, makes nothing anew."""
    shutil.rmtree(root, ignore_errors=True)
    return not root.exists()


def test_a_blob_of_another_repository_is_mounted(engine: Engine, registry: RealRegistry) -> None:
    first, second = f"{registry.address}/one:1", f"{registry.address}/two:1"
    engine.load(image_files.oci_archive({first: two_layers()}))
    assert engine.push(first).state == SUCCEEDED
    pushed = engine.push(first, second)
    assert pushed.push_result.sent_bytes == 0
    assert {layer.phase for layer in pushed.push_progress.layers} == {Phase.PHASE_MOUNTED}
    assert pushed.subject == second


def test_all_tags_of_a_repository_are_pushed_and_pulled(engine: Engine, registry: RealRegistry) -> None:
    repository = f"{registry.address}/many"
    engine.load(image_files.oci_archive({f"{repository}:1": two_layers(), f"{repository}:2": two_layers()}))
    engine.load(image_files.oci_archive({f"{registry.address}/other:1": two_layers()}))
    pushed = engine.push(repository, all_tags=True)
    assert list(pushed.push_result.references) == [f"{repository}:1", f"{repository}:2"]
    assert pushed.subject == repository
    assert engine.pull(f"{repository}:2").pull_result.was_present
    for tag in ("1", "2"):
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=f"{repository}:{tag}", force=True))
    request = images_pb2.PullImageRequest(reference=repository, all_tags=True)
    pulled = engine.ended(engine.images.PullImage(request).operation)
    assert list(pulled.pull_result.references) == [f"{repository}:1", f"{repository}:2"], pulled
    assert pulled.subject == repository
    assert engine.pull(f"{repository}:1").pull_result.was_present
    with pytest.raises(grpc.RpcError) as refused:
        engine.images.PullImage(images_pb2.PullImageRequest(reference=f"{repository}:1", all_tags=True))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    absent = images_pb2.PullImageRequest(reference=f"{registry.address}/absent", all_tags=True)
    assert engine.ended(engine.images.PullImage(absent).operation).failure.reason == "IMAGE_NOT_FOUND"
    assert engine.pull(f"{registry.address}/other:1").failure.reason == "IMAGE_NOT_FOUND"


def test_what_cannot_be_pushed_is_refused_before_an_operation_begins(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"127.0.0.1:1/app:1": two_layers()}))
    image_id = engine.images.ListImages(images_pb2.ListImagesRequest()).images[0].id
    before = len(engine.operations.ListOperations(operations_pb2.ListOperationsRequest()).operations)
    for reference, target, all_tags, code in [
        ("absent:1", "", False, grpc.StatusCode.NOT_FOUND),
        (image_id, "", False, grpc.StatusCode.INVALID_ARGUMENT),
        ("127.0.0.1:1/app:1", "a@sha256:" + "0" * 64, False, grpc.StatusCode.INVALID_ARGUMENT),
        ("127.0.0.1:1/app:1", "", True, grpc.StatusCode.INVALID_ARGUMENT),
        ("127.0.0.1:1/app", "127.0.0.1:1/b:1", True, grpc.StatusCode.INVALID_ARGUMENT),
        ("127.0.0.1:1/absent", "", True, grpc.StatusCode.NOT_FOUND),
        ("A B", "", False, grpc.StatusCode.INVALID_ARGUMENT),
    ]:
        request = images_pb2.PushImageRequest(reference=reference, target_reference=target, all_tags=all_tags)
        with pytest.raises(grpc.RpcError) as refused:
            engine.images.PushImage(request)
        assert refused.value.code() == code, (reference, target, refused.value.details())
    assert len(engine.operations.ListOperations(operations_pb2.ListOperationsRequest()).operations) == before


def test_a_registry_that_is_not_there_and_a_platform_that_is_not_here_fail_the_operation(engine: Engine) -> None:
    engine.load(image_files.oci_archive({"127.0.0.1:1/app:1": two_layers()}))
    assert engine.push("127.0.0.1:1/app:1").failure.reason == "REGISTRY_UNREACHABLE"
    other = platform_pb2.Platform(os="linux", architecture="s390x")
    assert engine.push("127.0.0.1:1/app:1", platforms=[other]).failure.reason == "PLATFORM_UNAVAILABLE"


def test_a_push_is_an_event_and_the_image_is_known_by_its_new_digest(engine: Engine, registry: RealRegistry) -> None:
    name = f"{registry.address}/app:1"
    image = two_layers()
    engine.load(image_files.oci_archive({name: image}))
    assert engine.push(name).state == SUCCEEDED
    (shown,) = engine.images.ListImages(images_pb2.ListImagesRequest()).images
    assert list(shown.repo_digests) == [f"{registry.address}/app@{image.digest}"]
    watched = engine.events.WatchEvents(
        events_pb2.WatchEventsRequest(from_sequence=1, filter=events_pb2.EventFilter(facts=["image_pushed"])),
        timeout=20,
    )
    pushed = next(answer.event for answer in watched if answer.HasField("event"))
    assert (pushed.image_pushed.reference, pushed.image_pushed.digest) == (name, image.digest)
    watched.cancel()
    engine.kill()
    engine.start()
    (shown,) = engine.images.ListImages(images_pb2.ListImagesRequest()).images
    assert list(shown.repo_digests) == [f"{registry.address}/app@{image.digest}"]


def test_a_cancelled_push_ends_soon_and_says_so(engine: Engine) -> None:
    with FaultyRegistry() as hanging:
        hanging.always("/v2/app/blobs/uploads/", delay(60))
        name = f"{hanging.address}/app:1"
        engine.load(image_files.oci_archive({name: two_layers()}))
        operation = engine.images.PushImage(images_pb2.PushImageRequest(reference=name)).operation
        wait.until_now(lambda: hanging.requests_for("/v2/app/blobs/uploads/"))
        began = time.monotonic()
        engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=operation.id))
        ended = engine.ended(operation)
        assert ended.state == operation_pb2.Operation.State.STATE_CANCELLED
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (status(403), "REGISTRY_ACCESS_DENIED"),
        (status(429, {"Retry-After": "3600"}), "REGISTRY_RATE_LIMITED"),
        (status(413), "REGISTRY_PROTOCOL"),
        (status(202), "REGISTRY_PROTOCOL"),
        (status(202, {"Location": "http://example.com/up"}), "REGISTRY_PROTOCOL"),
    ],
)
def test_a_registry_that_refuses_an_upload_is_told_by_its_reason(engine: Engine, fault: Fault, reason: str) -> None:
    with FaultyRegistry() as registry:
        registry.always("/v2/app/blobs/uploads/", fault)
        name = f"{registry.address}/app:1"
        engine.load(image_files.oci_archive({name: two_layers()}))
        assert engine.push(name).failure.reason == reason


@pytest.mark.parametrize("point", ["push.blob:2", "push.manifest", "push.record"])
def test_a_daemon_killed_in_a_push_leaves_an_image_that_is_pushed_again(
    point: str, engine: Engine, registry: RealRegistry
) -> None:
    name = f"{registry.address}/app:1"
    image = two_layers()
    engine.load(image_files.oci_archive({name: image}))
    engine.kill()
    engine.start(FLUYT_FAILPOINT=point)
    with pytest.raises(grpc.RpcError):
        engine.push(name)
    engine.process.wait(30)
    engine.channel.close()
    engine.start()
    (operation,) = [
        operation
        for operation in engine.operations.ListOperations(operations_pb2.ListOperationsRequest()).operations
        if operation.kind == operation_pb2.Operation.Kind.KIND_PUSH_IMAGE
    ]
    assert operation.failure.reason == "ENGINE_RESTARTED"
    assert engine.push(name).push_result.digest == image.digest
