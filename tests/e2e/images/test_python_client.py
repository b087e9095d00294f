"""The Python client's calls for images against a live engine."""

import io
from pathlib import Path

import pytest

from fluyt import engine as engine_client
from fluyt import errors, operations
from fluyt import images as client
from fluyt.v1 import images_pb2
from fluyt.v1.types import platform_pb2
from tests.e2e.images.steps import SUCCEEDED, load, small_image, small_layer
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, RealRegistry, blob_path, stall
from tests.support.wait import until_now


def test_save_and_load_round_trip_by_path_and_by_file(engine: Engine, tmp_path: Path) -> None:
    load(engine, image_files.oci_archive({"a:1": small_image(), "b:1": small_image()}))
    complete = client.save(engine.channel, ["a:1", "b:1"], tmp_path / "both.tar")
    assert complete.size_bytes == (tmp_path / "both.tar").stat().st_size
    memory = io.BytesIO()
    assert client.save(engine.channel, ["a:1", "b:1"], memory).digest == complete.digest
    assert memory.getvalue() == (tmp_path / "both.tar").read_bytes()
    for name in ("a:1", "b:1"):
        client.delete(engine.channel, name)
    assert len(client.load(engine.channel, tmp_path / "both.tar").images) == 2
    assert len(client.get(engine.channel, "a:1").history) >= 1
    with pytest.raises(errors.NotFound):
        client.save(engine.channel, ["absent:1"], tmp_path / "absent.tar")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tar"] == ["both.tar"]


def test_one_platform_of_a_name_is_tagged_looked_at_loaded_and_deleted(engine: Engine, tmp_path: Path) -> None:
    here, other = small_image(), small_image(architecture="s390x")
    wanted = platform_pb2.Platform(os="linux", architecture="s390x")
    both = [platform_pb2.Platform(os="linux", architecture=images.HOST_ARCHITECTURE), wanted]
    archive = tmp_path / "app.tar"
    archive.write_bytes(image_files.oci_archive({"app:1": images.index([here, other])}))
    client.load(engine.channel, archive, platforms=both)
    assert client.get(engine.channel, "app:1").image.id == here.config_digest
    assert client.get(engine.channel, "app:1", platform=wanted).image.id == other.config_digest
    assert client.tag(engine.channel, "app:1", "one:1", platform=wanted).id == other.config_digest
    assert client.tag(engine.channel, "app:1", "both:1").id == here.config_digest
    names = {image.id: sorted(image.references) for image in client.list_all(engine.channel)}
    one, app, all_of_it = (f"docker.io/library/{name}:1" for name in ("one", "app", "both"))
    assert names == {here.config_digest: [app, all_of_it], other.config_digest: [app, all_of_it, one]}
    with pytest.raises(errors.FluytError):
        client.delete(engine.channel, "app:1", platform=wanted)
    assert other.config_digest in client.delete(engine.channel, "app:1", platform=wanted, force=True).deleted
    assert [image.id for image in client.list_all(engine.channel)] == [here.config_digest]


def test_prune_tells_what_would_go_and_spares_what_is_pinned(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"a:1": small_image(), "b:1": small_image()}))
    assert client.pin(engine.channel, "a:1").is_pinned
    told = client.prune(engine.channel, all=True, dry_run=True)
    assert len(list(client.list_all(engine.channel))) == 2
    result = client.prune(engine.channel, all=True)
    assert (list(result.deleted), result.deleted_count) == (list(told.deleted), told.deleted_count)
    assert result.reclaimed_bytes > 0
    [left] = client.list_all(engine.channel)
    assert left.references == ["docker.io/library/a:1"]
    assert not client.pin(engine.channel, "a:1", is_pinned=False).is_pinned
    nothing = client.prune(engine.channel, filter=images_pb2.ImageFilter(labels=["absent"]), all=True)
    assert nothing.deleted_count == 0


def test_disk_usage_and_a_check_of_the_storage(engine: Engine) -> None:
    load(engine, image_files.oci_archive({"a:1": small_image()}))
    usage = engine_client.disk_usage(engine.channel)
    assert usage.layers.count == 1
    assert usage.content.size_bytes > 0
    *_, last = engine_client.check_storage(engine.channel)
    assert last.summary.checked_count > 0
    assert last.summary.damaged_count == 0
    *_, one = engine_client.check_storage(engine.channel, subjects=["a:1"])
    assert one.summary.damaged_count == 0


@pytest.mark.needs("docker-registry")
def test_all_tags_go_to_a_registry_and_come_back(engine: Engine, tmp_path: Path) -> None:
    load(engine, image_files.oci_archive({"app:1": small_image(), "app:2": small_image()}))
    with RealRegistry(tmp_path / "registry") as registry:
        repository = f"{registry.address}/app"
        states: list[int] = []
        pushed = client.push(
            engine.channel, "app", target=repository, all_tags=True, on_progress=lambda one: states.append(one.state)
        )
        assert list(pushed.references) == [f"{repository}:1", f"{repository}:2"]
        assert states[-1] == SUCCEEDED
        pulled = client.pull(engine.channel, repository, all_tags=True)
        assert sorted(pulled.references) == [f"{repository}:1", f"{repository}:2"]
        with pytest.raises(errors.FluytError):
            client.push(engine.channel, "absent:1", target=f"{repository}:3")


def test_a_pull_that_is_cancelled_raises_that(engine: Engine, registry: FaultyRegistry) -> None:
    layer = small_layer(data=b"x" * 5000, compression="none")
    registry.put("slow", "1", images.image([layer]))
    registry.on(blob_path("slow", layer.digest), [stall(1000)])
    begun = client.begin_pull(engine.channel, f"{registry.address}/slow:1")
    until_now(lambda: registry.requests_for(blob_path("slow", layer.digest)), "the layer is asked for")
    operations.cancel(engine.channel, begun.id)
    with pytest.raises(errors.Cancelled):
        operations.wait(engine.channel, begun.id)
