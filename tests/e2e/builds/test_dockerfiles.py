"""Dockerfiles of common kinds: each is built, run, and taken by other tools."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt import images
from tests.e2e.builds.samples import SAMPLES, Sample
from tests.e2e.builds.steps import Built, build, config, context
from tests.e2e.builds.test_judges import run
from tests.support.engine import Engine
from tests.support.podman import Podman, podman

#: What Docker's configs have and the OCI's, which skopeo tells of, do not.
DOCKERS = {"Healthcheck", "OnBuild", "Shell"}


@pytest.fixture(scope="module")
def judge() -> Iterator[Podman]:
    """A podman for all samples."""
    with podman() as running:
        yield running


def built_of(engine: Engine, folder: Path, sample: Sample) -> Built:
    """The image of a sample, and of its parent before it."""
    context(folder, sample.files)
    if sample.parent:
        build(engine, folder, sample.parent, reference="real/parent:1")
    return build(engine, folder, sample.dockerfile, build_args=sample.build_args, secrets=sample.secrets)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_it_is_built_and_runs(engine: Engine, tmp_path: Path, sample: Sample) -> None:
    built = built_of(engine, tmp_path, sample)
    out, err, ended = engine.run(built.reference)
    assert (out.decode(), err, ended.exit_code) == (sample.prints, b"", 0)


@pytest.mark.needs("skopeo", "umoci")
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_others_read_its_config_and_unpack_it(engine: Engine, tmp_path: Path, sample: Sample) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    built = built_of(engine, folder, sample)
    images.save(engine.channel, [built.reference], tmp_path / "image.tar")
    run("skopeo", "copy", f"oci-archive:{tmp_path}/image.tar", f"oci:{tmp_path}/layout:1")
    told = json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/layout:1"))
    ours = config(engine, built)["config"].items()
    assert told["config"] == {name: value for name, value in ours if value and name not in DOCKERS}
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    assert any((tmp_path / "bundle" / "rootfs").iterdir())


@pytest.mark.needs("podman", "runc")
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_podman_runs_it_alike(engine: Engine, judge: Podman, tmp_path: Path, sample: Sample) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    built = built_of(engine, folder, sample)
    images.save(engine.channel, [built.reference], tmp_path / "image.tar")
    loaded = judge.load(tmp_path / "image.tar")
    assert judge("run", "--rm", "--network", "none", loaded).decode() == sample.prints
    judge("rmi", "--force", loaded)
