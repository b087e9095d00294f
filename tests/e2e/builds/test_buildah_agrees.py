"""Random small Dockerfiles give the same files and config as with buildah."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fluyt import images as saved
from tests.e2e.builds.random_dockerfiles import FILES, dockerfiles, judged, run
from tests.e2e.builds.steps import BASE, build, context
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

#: Dockerfiles that are built by both; FLUYT_TEST_STEPS asks for more.
COUNT = int(os.environ.get("FLUYT_TEST_STEPS", "6"))
#: The suite takes the same ones every time.
SUITE_SEED = 20261126
SETTINGS = settings(
    max_examples=COUNT,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def buildah() -> Iterator[tuple[str, ...]]:
    """The command, with a store of its own that has the base image as localhost/base."""
    root = Path(tempfile.mkdtemp(prefix="bb", dir="/tmp"))
    command = ("buildah", "--root", f"{root}/s", "--runroot", f"{root}/r", "--storage-driver", "vfs")

    def is_removed() -> bool:
        shutil.rmtree(root, ignore_errors=True)
        return not root.exists()

    try:
        (root / "base.tar").write_bytes(image_files.oci_archive({BASE: images.busybox_image()}))
        image_id = run(*command, "pull", "-q", f"oci-archive:{root}/base.tar").split()[-1]
        run(*command, "tag", image_id, "localhost/base:1")
        yield command
    finally:
        until_now(is_removed)


@pytest.mark.needs("buildah", "skopeo", "umoci")
@pytest.mark.timeout(60 + 15 * COUNT)
def test_buildah_makes_the_same_of_random_dockerfiles(engine: Engine, buildah: tuple[str, ...], tmp_path: Path) -> None:
    seed = int(os.environ.get("FLUYT_TEST_SEED", SUITE_SEED))
    print(f"FLUYT_TEST_SEED={seed} FLUYT_TEST_STEPS={COUNT}")
    folder = context(tmp_path / "context", FILES)
    archives = {name: tmp_path / f"{name}.tar" for name in ("ours", "theirs")}

    @hypothesis.seed(seed)
    @SETTINGS
    @given(dockerfiles())
    def agrees(text: str) -> None:
        print(f"---\n{text}")
        build(engine, folder, text.replace("BASE", BASE), reference="random:1")
        saved.save(engine.channel, ["random:1"], archives["ours"])
        file = tmp_path / "Dockerfile"
        file.write_text(text.replace("BASE", "localhost/base:1"))
        flags = ("--isolation", "chroot", "--layers=false", "--pull-never", "-q")
        run(*buildah, "bud", *flags, "-t", "random:1", "-f", file, folder)
        archives["theirs"].unlink(missing_ok=True)
        run(*buildah, "push", "-q", "localhost/random:1", f"oci-archive:{archives['theirs']}")
        ours, theirs = (judged(archive, tmp_path / "judged") for archive in archives.values())
        assert ours == theirs

    agrees()
