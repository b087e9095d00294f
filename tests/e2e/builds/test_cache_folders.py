"""Caches in folders of the caller's, and cache mounts that travel."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import build_caches, builds, errors
from fluyt.v1 import builds_pb2
from tests.e2e.builds.steps import BASE, CACHED, DONE, Built, build, context, records, shell
from tests.e2e.builds.test_cache_exchange import DOCKERFILE
from tests.e2e.builds.test_judges import run
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

MOUNTS = builds_pb2.BuildCacheSpec(mounts=True)
MIN = builds_pb2.BuildCacheSpec(mode=builds_pb2.BuildCacheSpec.MODE_MIN)
#: Each build adds a line to the cache mount and tells what is in it; a change of `f` runs it again.
MOUNTING = """
    FROM busybox:1
    COPY f /
    RUN --mount=type=cache,target=/c,id=travelled{options} cd /c; cat lines 2>/dev/null; \
        echo line >> lines; chmod 640 lines
    """


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    """A second engine that has built nothing."""
    root = tmp_path / "other"
    root.mkdir()
    with Engine(root) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


def build_id(engine: Engine) -> str:
    """That of the last build."""
    return next(iter(builds.list_builds(engine.channel))).id


def saved(engine: Engine, folder: Path, spec: builds_pb2.BuildCacheSpec | None = None, tag: str = "latest") -> Path:
    """The last build's cache, in a folder."""
    assert build_caches.save(engine.channel, build_id(engine), folder, spec=spec, tag=tag) == []
    return folder


def manifest_of(folder: Path, tag: str = "latest") -> dict[str, object]:
    """The manifest of a cache in a folder, as skopeo reads it."""
    found: dict[str, object] = json.loads(run("skopeo", "inspect", "--raw", f"oci:{folder}:{tag}"))
    return found


def states(built: Built) -> list[int]:
    """Those of its steps after FROM."""
    return [step.state for step in built.steps[1:]]


@pytest.mark.needs("skopeo")
def test_a_folder_brings_all_results_to_another_engine_and_back(engine: Engine, other: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "folder\n"})
    first = build(engine, folder, DOCKERFILE)
    cache = saved(engine, tmp_path / "cache")
    assert len(manifest_of(cache)["layers"]) == 4  # type: ignore[arg-type]
    before = {path: path.stat().st_ino for path in (cache / "blobs" / "sha256").iterdir()}
    saved(engine, cache, tag="again")
    # What was there is not written anew, and the other name stays.
    assert {path: path.stat().st_ino for path in (cache / "blobs" / "sha256").iterdir()} == before
    assert manifest_of(cache) == manifest_of(cache, "again")

    for one in (other, engine):
        builds.prune_cache(one.channel, all=True)
        source = build_caches.upload(one.channel, cache)
        second = build(one, folder, DOCKERFILE, cache_sources=[source])
        assert states(second) == [CACHED] * 5
        assert (second.output, list(second.result.warnings)) == (b"", [])
        assert second.result.image_id == first.result.image_id
        assert shell(one, second, "cat /random") == shell(engine, first, "cat /random")
    assert list((other.root / "data" / "ingest").iterdir()) == []
    assert list((other.root / "data" / "build_scratch").iterdir()) == []
    assert {one.id for one in records(other)} <= {one.id for one in records(engine)}


def _flip(path: Path) -> None:
    """One bit of a file is another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_or_absent_blob_costs_its_step_only(engine: Engine, other: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "damaged\n"})
    build(engine, folder, DOCKERFILE)
    cache = saved(engine, tmp_path / "cache")
    blobs = cache / "blobs" / "sha256"
    (entry,) = json.loads((cache / "index.json").read_text())["manifests"]
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    layers = [blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    for breaks in (_flip, Path.unlink):
        for layer in layers:
            breaks(layer)
        builds.prune_cache(other.channel, all=True)
        rebuilt = build(other, folder, DOCKERFILE, cache_sources=[build_caches.upload(other.channel, cache)])
        assert (states(rebuilt), rebuilt.output) == ([DONE] * 5, b"first\n")
        # Further steps stand on another layer than those of the cache.
        (warning,) = rebuilt.result.warnings
        assert "cannot be had" in warning
        assert list((other.root / "data" / "build_scratch").iterdir()) == []
    # Written again, the folder is whole again.
    build(engine, folder, DOCKERFILE)
    saved(engine, cache)
    builds.prune_cache(other.channel, all=True)
    healed = build(other, folder, DOCKERFILE, cache_sources=[build_caches.upload(other.channel, cache)])
    assert states(healed) == [CACHED] * 5

    config = blobs / manifest["config"]["digest"].removeprefix("sha256:")
    config.write_bytes(config.read_bytes() + b" ")
    builds.prune_cache(other.channel, all=True)
    without = build(other, folder, DOCKERFILE, cache_sources=[build_caches.upload(other.channel, cache)])
    (warning,) = without.result.warnings
    assert "cache of a folder" in warning
    assert states(without) == [DONE] * 5


def test_the_least_is_what_the_image_consists_of(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "least\n"})
    dockerfile = """
        FROM busybox:1 AS other
        RUN echo other > /other
        FROM busybox:1 AS base
        RUN echo base > /base
        FROM base
        COPY --from=other /other /copied
        """
    build(engine, folder, dockerfile)
    least = saved(engine, tmp_path / "least", MIN)
    most = saved(engine, tmp_path / "most")
    counts = [len(list((one / "blobs" / "sha256").iterdir())) for one in (least, most)]
    # Manifest, config and layers.
    assert counts == [2 + 2, 2 + 3]


@pytest.mark.parametrize("sharing", ["shared", "private", "locked"])
def test_cache_mounts_travel_where_they_are_asked_for(
    engine: Engine, other: Engine, tmp_path: Path, sharing: str
) -> None:
    dockerfile = MOUNTING.format(options=f",sharing={sharing}")
    builds.prune_cache(engine.channel, all=True)
    for number in range(2):
        folder = context(tmp_path / "context", {"f": f"{number}\n"})
        build(engine, folder, dockerfile)
    bare = saved(engine, tmp_path / "bare")
    cache = saved(engine, tmp_path / "cache", MOUNTS)
    (folder / "f").write_text("changed\n")
    for where, mounts, wanted in ((bare, True, b""), (cache, False, b""), (cache, True, b"line\nline\n")):
        builds.prune_cache(other.channel, all=True)
        source = build_caches.upload(other.channel, where, mounts=mounts)
        built = build(other, folder, dockerfile, cache_sources=[source])
        assert (built.output, list(built.result.warnings)) == (wanted, [])
    # One that has something is left as it is.
    (folder / "f").write_text("changed again\n")
    source = build_caches.upload(other.channel, cache, mounts=True)
    assert build(other, folder, dockerfile, cache_sources=[source]).output == b"line\nline\nline\n"


def test_a_mount_travels_on_though_no_step_used_it(engine: Engine, other: Engine, tmp_path: Path) -> None:
    dockerfile = MOUNTING.format(options="")
    builds.prune_cache(engine.channel, all=True)
    folder = context(tmp_path / "context", {"f": "on\n"})
    build(engine, folder, dockerfile)
    cache = saved(engine, tmp_path / "cache", MOUNTS)
    source = build_caches.upload(other.channel, cache, mounts=True)
    assert states(build(other, folder, dockerfile, cache_sources=[source])) == [CACHED] * 2
    (mount,) = (one for one in records(other) if one.kind == builds_pb2.BuildCacheRecord.KIND_CACHE_MOUNT)
    (lines,) = (other.root / "data" / "build_mounts").glob("*-0/lines")
    assert (lines.read_text(), lines.stat().st_mode & 0o7777) == ("line\n", 0o640)
    assert "travelled" in mount.description
    again = saved(other, tmp_path / "again", MOUNTS)
    builds.prune_cache(engine.channel, all=True)
    (folder / "f").write_text("further\n")
    source = build_caches.upload(engine.channel, again, mounts=True)
    assert build(engine, folder, dockerfile, cache_sources=[source]).output == b"line\n"


def test_a_damaged_mount_is_a_warning_and_an_empty_cache(engine: Engine, other: Engine, tmp_path: Path) -> None:
    dockerfile = MOUNTING.format(options="")
    builds.prune_cache(engine.channel, all=True)
    folder = context(tmp_path / "context", {"f": "damage\n"})
    build(engine, folder, dockerfile)
    bare = {path.name for path in (saved(engine, tmp_path / "bare") / "blobs" / "sha256").iterdir()}
    cache = saved(engine, tmp_path / "cache", MOUNTS)
    for path in (cache / "blobs" / "sha256").iterdir():
        if path.name not in bare and not path.read_bytes().startswith(b"{"):
            _flip(path)
    (folder / "f").write_text("another\n")
    source = build_caches.upload(other.channel, cache, mounts=True)
    built = build(other, folder, dockerfile, cache_sources=[source])
    assert built.output == b""
    assert "travelled" in built.result.warnings[0]
    assert "is not filled" in built.result.warnings[0]


@pytest.mark.needs("docker-registry")
def test_cache_mounts_travel_by_a_registry(engine: Engine, other: Engine, tmp_path: Path) -> None:
    dockerfile = MOUNTING.format(options="")
    content = engine.root / "data" / "content" / "blobs" / "sha256"
    builds.prune_cache(engine.channel, all=True)
    folder = context(tmp_path / "context", {"f": "registry\n"})
    with RealRegistry(tmp_path / "registry") as running:
        reference = f"{running.address}/cache/mounts:1"
        build(engine, folder, dockerfile)
        before = set(content.iterdir())
        build(engine, folder, dockerfile, cache_to=reference, cache_to_spec=MOUNTS)
        # Nothing of what was made for the registry is left here, but the image of the second build.
        assert len(set(content.iterdir()) - before) <= 2
        (folder / "f").write_text("from the registry\n")
        source = builds_pb2.BuildCacheSource(reference=reference, mounts=True)
        built = build(other, folder, dockerfile, cache_sources=[source])
        assert (built.output, list(built.result.warnings)) == (b"line\n", [])
    assert list((other.root / "data" / "ingest").iterdir()) == []


def test_what_cannot_be_had_is_told(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound) as caught:
        build_caches.save(engine.channel, "0" * 32, tmp_path / "cache")
    assert caught.value.reason == "BUILD_CACHE_GONE"
    folder = context(tmp_path / "context", {"f": "told\n"})
    source = builds_pb2.BuildCacheSource(context_id="0" * 32, manifest_digest="sha256:" + "0" * 64)
    (warning,) = build(engine, folder, DOCKERFILE, cache_sources=[source]).result.warnings
    assert "cache of a folder" in warning
    for wrong in (
        builds_pb2.BuildCacheSource(),
        builds_pb2.BuildCacheSource(context_id="0" * 32),
        builds_pb2.BuildCacheSource(context_id="0" * 32, manifest_digest="sha256:../../etc"),
        builds_pb2.BuildCacheSource(reference="a", manifest_digest="sha256:" + "0" * 64),
    ):
        with pytest.raises(errors.InvalidInput):
            build(engine, folder, DOCKERFILE, cache_sources=[wrong])


def test_a_mount_that_is_too_large_is_left_out(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "large\n"})
    dockerfile = "FROM busybox:1\nRUN --mount=type=cache,target=/c,id=toolarge truncate -s 1100000000 /c/sparse\n"
    build(engine, folder, dockerfile)
    (warning,) = build_caches.save(engine.channel, build_id(engine), tmp_path / "cache", spec=MOUNTS)
    assert "toolarge" in warning
    assert "MAX_CACHE_MOUNT_BYTES" in warning
    builds.prune_cache(engine.channel, all=True)
