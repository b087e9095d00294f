"""An image that is pushed by the build that makes it."""

import json
import subprocess
from pathlib import Path

import pytest

from fluyt import builds
from tests.e2e.builds.steps import build, context, refused, shell
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

pytestmark = pytest.mark.needs("docker-registry", "skopeo")


def test_every_reference_is_pushed_and_the_steps_stay_told(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"c/f": "pushed\n"})
    with RealRegistry(tmp_path / "registry") as registry:
        names = [f"{registry.address}/team/app:{tag}" for tag in ("1", "2")]
        steps: list[str] = []
        result = builds.build(
            engine.channel,
            folder / "c",
            dockerfile_text=b"FROM busybox:1\nCOPY f /f\n",
            references=names,
            push=True,
            on_progress=lambda operation: steps.extend(step.instruction for step in operation.build_progress.steps),
        )
        assert list(result.references) == names
        assert "COPY f /f" in steps
        for name in names:
            told = subprocess.run(
                ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], check=True, capture_output=True
            )
            assert json.loads(told.stdout)["Digest"] == result.manifest_digest


def test_a_push_that_fails_leaves_the_image_here(engine: Engine, tmp_path: Path) -> None:
    folder, name = context(tmp_path, {"f": "kept\n"}), "127.0.0.1:1/team/app:1"
    failure = refused(engine, folder, "FROM busybox:1\nCOPY f /f\n", reference=name, push=True)
    assert failure.reason == "REGISTRY_UNREACHABLE"
    assert shell(engine, build(engine, folder, "FROM busybox:1\nCOPY f /f\n", reference=name), "cat /f") == "kept\n"
    assert engine.run(name, "cat", "/f")[0] == b"kept\n"
