"""The engine on real parts: images from a registry and archives, containers of them, a killed daemon."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, images_pb2
from fluyt.v1.types import container_pb2, operation_pb2, resources_pb2
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, RealRegistry, body, manifest_path


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path) as running:
        running.load(image_files.oci_archive({"busybox:1": images.busybox_image()}))
        yield running


def test_a_container_gives_its_output_and_exit_code(engine: Engine) -> None:
    out, err, ended = engine.run("busybox:1", "sh", "-c", "echo a; echo b >&2; exit 7")
    assert (out, err, ended.exit_code) == (b"a\n", b"b\n", 7)
    assert engine.left_on_host() == []


def test_s01_the_last_piece_without_newline_is_kept(engine: Engine) -> None:
    out, _, _ = engine.run("busybox:1", "sh", "-c", "echo hello; printf world")
    assert out == b"hello\nworld"


def test_t03_a_signal_is_told_as_such(engine: Engine) -> None:
    _, _, ended = engine.run("busybox:1", "sh", "-c", "kill -KILL $$; sleep 9")
    # Process 1 is deaf to signals of its own namespace; the shell goes on to sleep unless it is killed from outside.
    assert ended.WhichOneof("exit") in {"exit_code", "signal"}


def test_t08_root_has_the_default_capabilities_and_nothing_inheritable(engine: Engine) -> None:
    out, _, _ = engine.run("busybox:1", "cat", "/proc/self/status")
    caps = dict(line.split(":\t") for line in out.decode().splitlines() if line.startswith("Cap"))
    assert (caps["CapInh"], caps["CapAmb"]) == ("0" * 16, "0" * 16)
    assert caps["CapEff"] == "00000000a80425fb"


def test_t16_a_container_over_its_memory_limit_is_told_to_be_out_of_memory(engine: Engine) -> None:
    limit = resources_pb2.Resources(memory_limit_bytes=32 << 20)
    _, _, ended = engine.run("busybox:1", "sh", "-c", 'x=$(head -c 200m /dev/zero | tr "\\0" a)', resources=limit)
    assert ended.oom_killed


def test_z04_process_one_has_no_descriptor_of_the_host(engine: Engine) -> None:
    out, _, _ = engine.run("busybox:1", "sh", "-c", "ls /proc/1/fd")
    assert set(out.split()) <= {b"0", b"1", b"2", b"3"}  # 3 is the shell's own while it lists


def test_l06_a_name_is_free_once_the_deletion_answered(engine: Engine) -> None:
    for _ in range(5):
        engine.start_container("busybox:1", "again", "sleep", "100")
        with pytest.raises(grpc.RpcError) as refused:
            engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="again"))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="again", force=True))
    assert engine.left_on_host() == []


def test_a_daemon_killed_while_containers_run_adopts_them_with_their_output_whole(engine: Engine) -> None:
    script = "i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.05; done; exec sleep 100"
    stays = engine.start_container("busybox:1", "stays", "sh", "-c", script)
    engine.start_container("busybox:1", "ends", "sh", "-c", "sleep 0.5; exit 5")
    engine.kill()
    subprocess.run(["sleep", "2"], check=True)
    engine.start()
    got = engine.containers.GetContainer(containers_pb2.GetContainerRequest(container="stays")).container
    assert (got.state, got.host_pid) == (container_pb2.Container.STATE_RUNNING, stays.host_pid)
    assert engine.logs("stays") == b"".join(b"%d\n" % number for number in range(30))
    ended = engine.containers.GetContainer(containers_pb2.GetContainerRequest(container="ends")).container
    assert (ended.state, ended.exit_code) == (container_pb2.Container.STATE_EXITED, 5)
    for name in ("stays", "ends"):
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=name, force=True))
    assert engine.left_on_host() == []


@pytest.mark.parametrize("failpoint", ["container.start.record", "container.start.executed", "container.start.running"])
def test_a_daemon_killed_in_a_start_leaves_nothing_without_an_owner(engine: Engine, failpoint: str) -> None:
    engine.kill()
    engine.start(FLUYT_FAILPOINT=failpoint)
    with pytest.raises(grpc.RpcError):
        engine.start_container("busybox:1", "dies", "sleep", "100")
    engine.process.wait(30)
    engine.channel.close()
    engine.start()
    listed = engine.containers.ListContainers(containers_pb2.ListContainersRequest()).containers
    for container in listed:
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))
    assert engine.left_on_host() == []


@pytest.mark.needs("docker-registry", "skopeo")
def test_an_image_of_a_real_registry_runs_and_skopeo_reads_the_content(engine: Engine, tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "registry") as registry:
        image_files.push(registry.address, "team/busybox", "1", images.busybox_image(compression="zstd"))
        reference = f"{registry.address}/team/busybox:1"
        assert engine.pull(reference).state == operation_pb2.Operation.STATE_SUCCEEDED
    assert engine.run(reference, "echo", "hi")[0] == b"hi\n"
    if shutil.which("skopeo"):
        layout = f"oci:{engine.root}/data/content:{reference}"
        inspected = subprocess.run(["skopeo", "inspect", layout], capture_output=True, text=True, check=False)
        assert inspected.returncode == 0, inspected.stderr
        assert json.loads(inspected.stdout)["Layers"]


def test_r03_a_registry_that_lies_about_a_manifest_stores_nothing(engine: Engine) -> None:
    image, other = images.busybox_image(), images.image([images.busybox_layer(), images.busybox_layer("zstd")])
    with FaultyRegistry() as registry:
        digest = registry.put("a", "1", image)
        registry.always(manifest_path("a", digest), body(other.manifests[other.digest][1]))
        ended = engine.pull(f"{registry.address}/a@{digest}")
    assert (ended.state, ended.failure.reason) == (operation_pb2.Operation.STATE_FAILED, "DIGEST_MISMATCH")
    assert len(engine.images.ListImages(images_pb2.ListImagesRequest()).images) == 1


def test_r17_docker_archives_old_and_new_and_compressed_are_loaded(engine: Engine) -> None:
    image = images.busybox_image(compression="none")
    for name, archive in {
        "old:1": image_files.docker_archive_old({"old:1": image}),
        "gz:1": image_files.docker_archive_old({"gz:1": image}, compression="gzip"),
    }.items():
        loaded = engine.load(archive).images
        assert [list(one.references) for one in loaded] == [[f"docker.io/library/{name}"]]
        assert engine.run(name, "echo", "ok")[0] == b"ok\n"


def test_l07_a_refused_deletion_of_an_image_changes_nothing(engine: Engine) -> None:
    engine.start_container("busybox:1", "uses", "sleep", "100")
    before = engine.images.ListImages(images_pb2.ListImagesRequest())
    with pytest.raises(grpc.RpcError) as refused:
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="busybox:1"))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    after = engine.images.ListImages(images_pb2.ListImagesRequest())
    assert [image.id for image in after.images] == [image.id for image in before.images]
    engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container="uses", force=True))
    answer = engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="busybox:1"))
    assert answer.reclaimed_bytes > 0
    assert list(Path(engine.root, "data", "content", "blobs", "sha256").iterdir()) == []


def test_a_truncated_archive_leaves_nothing_behind(engine: Engine) -> None:
    archive = image_files.oci_archive({"cut:1": images.busybox_image(compression="zstd")})
    with pytest.raises(grpc.RpcError):
        engine.load(archive[: len(archive) // 2])
    assert len(engine.images.ListImages(images_pb2.ListImagesRequest()).images) == 1
