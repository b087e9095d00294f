"""Other tools take what is built: skopeo reads it, umoci and podman unpack it."""

import json
import subprocess
from pathlib import Path

import pytest

from fluyt import images
from tests.e2e.builds.steps import build, context
from tests.support.engine import Engine
from tests.support.podman import podman

DOCKERFILE = """
    FROM busybox:1 AS base
    RUN mkdir /gone && touch /gone/f && rm -r /gone && echo judge:x:70:70::/: >> /etc/passwd
    FROM base
    RUN rm /etc/group
    COPY --chown=judge d /d
    WORKDIR /d/deep
    ENV A="b c"
    LABEL by=judges
    CMD ["cat", "/d/f"]
    """


def run(*command: str | Path) -> bytes:
    """What a program prints. Raises AssertionError with what it complains of."""
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.fixture
def archive(engine: Engine, tmp_path: Path) -> Path:
    """A built image as SaveImages writes it."""
    folder = context(tmp_path / "context", {"d/f": "judged\n", "d/link": "-> f"})
    build(engine, folder, DOCKERFILE, reference="judged/built:1")
    target = tmp_path / "image.tar"
    images.save(engine.channel, ["judged/built:1"], target)
    return target


@pytest.mark.needs("skopeo", "umoci")
def test_skopeo_and_umoci_take_it(archive: Path, tmp_path: Path) -> None:
    told = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{archive}"))
    assert (told["config"]["Labels"], told["config"]["WorkingDir"]) == ({"by": "judges"}, "/d/deep")
    steps = [step for step in told["history"] if not step.get("empty_layer")]
    assert len(steps) == len(told["rootfs"]["diff_ids"])
    run("skopeo", "copy", f"oci-archive:{archive}", f"oci:{tmp_path}/layout:1")
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"
    found = (root / "d" / "f").stat()
    assert ((root / "d" / "f").read_text(), found.st_uid, (root / "d" / "link").readlink()) == (
        "judged\n",
        70,
        Path("f"),
    )
    assert (root / "d" / "deep").is_dir()
    assert not (root / "gone").exists()
    assert not (root / "etc" / "group").exists()


@pytest.mark.needs("podman", "runc")
def test_podman_unpacks_and_runs_it(archive: Path) -> None:
    with podman() as judge:
        loaded = judge.load(archive)
        mounted = judge("image", "mount", loaded).decode().strip()
        assert run("chroot", mounted, "cat", "/d/link") == b"judged\n"
        judge("image", "umount", loaded)
        assert judge("run", "--rm", "--network", "none", loaded) == b"judged\n"
