"""A cache written to a registry by one engine's build and read by another's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import builds
from tests.e2e.builds.steps import BASE, CACHED, DONE, build, context, records, shell
from tests.e2e.builds.test_judges import run
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

DOCKERFILE = """
    FROM busybox:1
    RUN echo first; cat /proc/sys/kernel/random/uuid > /random
    WORKDIR /work
    COPY f /inside/
    RUN rm -r /etc/group && mkdir -p /gone && rm -r /gone
    RUN true
    """

pytestmark = pytest.mark.needs("docker-registry", "skopeo")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry of the test's own."""
    with RealRegistry(tmp_path / "registry") as running:
        yield running.address


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Engine]:
    """A second engine that has built nothing."""
    root = tmp_path / "other"
    root.mkdir()
    with Engine(root) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


def test_another_engine_takes_results_from_a_cache(
    engine: Engine, other: Engine, registry: str, tmp_path: Path
) -> None:
    folder = context(tmp_path / "context", {"f": "copied\n"})
    reference = f"{registry}/cache/app:main"
    content = engine.root / "data" / "content" / "blobs" / "sha256"
    first = build(engine, folder, DOCKERFILE, cache_to=reference)
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
    assert raw["config"]["mediaType"] == "application/vnd.fluyt.buildcache.config.v1+json"
    assert len(raw["layers"]) == 4
    # The list of records was for the registry alone.
    assert not (content / raw["config"]["digest"].removeprefix("sha256:")).exists()

    second = build(other, folder, DOCKERFILE, cache_from=[f"{registry}/cache/nothing:1", reference])
    states = [step.state for step in second.steps]
    assert states == [DONE, *[CACHED] * 5]
    assert second.output == b""
    assert second.result.image_id == first.result.image_id
    (warning,) = second.result.warnings
    assert "cache/nothing:1" in warning
    look = "cat /random /inside/f; ls -d /etc/group /gone 2>/dev/null; true"
    assert shell(other, second, look) == shell(engine, first, look)
    assert list((other.root / "data" / "ingest").iterdir()) == []
    # What came is a record as any other now.
    assert {one.id for one in records(other)} <= {one.id for one in records(engine)}
    third = build(other, folder, DOCKERFILE)
    assert [step.state for step in third.steps][1:] == [CACHED] * 5


def test_a_cache_that_lost_a_layer_or_is_none_costs_time_only(
    engine: Engine, other: Engine, registry: str, tmp_path: Path
) -> None:
    folder = context(tmp_path / "context", {"f": "lost\n"})
    reference = f"{registry}/cache/lost:1"
    build(engine, folder, DOCKERFILE, cache_to=reference)
    raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
    for layer in raw["layers"]:
        digest = layer["digest"].removeprefix("sha256:")
        for path in (tmp_path / "registry").rglob(f"{digest}/data"):
            path.write_bytes(b"damaged")
    rebuilt = build(other, folder, DOCKERFILE, cache_from=[reference])
    assert [step.state for step in rebuilt.steps][1:] == [DONE] * 5
    assert rebuilt.output == b"first\n"
    # An image is no cache.
    build(engine, folder, DOCKERFILE, reference=f"{registry}/image:1", push=True)
    builds.prune_cache(other.channel, all=True)
    plain = build(other, folder, DOCKERFILE, cache_from=[f"{registry}/image:1"])
    assert "no build cache" in plain.result.warnings[0]
    skipping = build(other, folder, DOCKERFILE, cache_from=[reference], no_cache=True)
    assert [step.state for step in skipping.steps][1:] == [DONE] * 5
