"""Several platforms in one build: an index of their images; RUN only for what this host runs."""

import json
from pathlib import Path

import pytest

from fluyt.v1 import builds_pb2, images_pb2
from fluyt.v1.types import platform_pb2
from fluytd.builds.probe import can_run
from fluytd.images.platforms import Platform, host_platform
from tests.e2e.builds.steps import build, context, refused
from tests.e2e.builds.test_attestations import document
from tests.e2e.builds.test_judges import run
from tests.support.engine import Engine
from tests.support.registry import RealRegistry

PLATFORMS = [platform_pb2.Platform(os="linux", architecture=name) for name in ("amd64", "arm64")]
#: No emulator of this is ever registered.
STRANGE = [platform_pb2.Platform(os="linux", architecture=name) for name in ("amd64", "sparc64")]
CROSS = """
    FROM --platform=$BUILDPLATFORM busybox:1 AS build
    ARG TARGETARCH
    RUN echo made for $TARGETARCH > /made
    FROM scratch
    COPY --from=build /made /made
    COPY f /f
    LABEL for=all
    """


def test_platforms_make_an_index(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"f": "the same\n"})
    built = build(engine, folder, CROSS, platforms=PLATFORMS, reference="several:1")
    index = document(engine, built.result.manifest_digest)
    told = [entry["platform"]["architecture"] for entry in index["manifests"]]
    assert told == ["amd64", "arm64"]
    found = [document(engine, entry["digest"]) for entry in index["manifests"]]
    configs = [document(engine, manifest["config"]["digest"]) for manifest in found]
    assert [config["architecture"] for config in configs] == told
    # Whatever this processor has beyond it.
    assert [config.get("variant", "") for config in configs] == ["", ""]
    assert [config["config"]["Labels"] for config in configs] == [{"for": "all"}] * 2
    ours, theirs = ([layer["digest"] for layer in manifest["layers"]] for manifest in found)
    assert ours[0] != theirs[0]
    assert ours[1] == theirs[1]
    numbers = [step.number for step in built.steps]
    assert numbers == list(range(1, len(numbers) + 1))
    stages = {step.stage for step in built.steps}
    assert stages == {"linux/amd64 build", "linux/amd64 stage-1", "linux/arm64 build", "linux/arm64 stage-1"}
    again = build(engine, folder, CROSS, platforms=PLATFORMS, reference="several:1")
    assert again.result.manifest_digest == built.result.manifest_digest
    answer = engine.images.GetImage(
        images_pb2.GetImageRequest(image="several:1", platform=platform_pb2.Platform(os="linux", architecture="arm64"))
    )
    assert answer.image.id == found[1]["config"]["digest"]


@pytest.mark.needs("docker-registry", "skopeo")
def test_an_index_of_platforms_is_pushed_whole(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "the same\n"})
    with RealRegistry(tmp_path / "registry") as registry:
        reference = f"{registry.address}/several:1"
        build(
            engine,
            folder,
            CROSS,
            platforms=PLATFORMS,
            reference=reference,
            push=True,
            provenance=builds_pb2.ProvenanceSpec(),
        )
        raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
        architectures = [entry["platform"]["architecture"] for entry in raw["manifests"]]
        assert architectures == ["amd64", "arm64", "unknown", "unknown"]
        told = run("skopeo", "inspect", "--override-arch=arm64", "--tls-verify=false", f"docker://{reference}")
        assert json.loads(told)["Architecture"] == "arm64"


def test_run_for_a_platform_that_nobody_runs_is_refused(engine: Engine, tmp_path: Path) -> None:
    failure = refused(engine, tmp_path, 'FROM scratch\nCOPY . /\nRUN ["/x"]\n', platforms=STRANGE)
    assert failure.reason == "BUILD_STEP_FAILED"
    told = {key: failure.metadata[key] for key in ("stage", "cause", "line")}
    # The own platform's step may fail first: there is no /x.
    assert told["cause"] in {"BUILD_PLATFORM_NOT_RUN", "PROCESS_START_FAILED"}
    failure = refused(engine, tmp_path, 'FROM scratch\nCOPY . /\nRUN ["/x"]\n', platforms=STRANGE[1:])
    told = {key: failure.metadata[key] for key in ("cause", "line")}
    assert told == {"cause": "BUILD_PLATFORM_NOT_RUN", "line": "3"}
    assert "linux/sparc64" in str(failure)


def test_emulators_count_where_the_kernel_keeps_them_open(tmp_path: Path) -> None:
    here, arm = Platform.normalised("linux", "amd64", "v3"), Platform.normalised("linux", "arm64")
    assert can_run(here, Platform.normalised("linux", "amd64"), tmp_path)
    assert can_run(here, Platform.normalised("linux", "386"), tmp_path)
    assert not can_run(here, arm, tmp_path)
    emulator = tmp_path / "qemu-aarch64"
    for text, runs in (
        ("enabled\ninterpreter /usr/bin/qemu\nflags: POCF\n", True),
        ("enabled\ninterpreter /usr/bin/qemu\nflags: POC\n", False),
        ("disabled\ninterpreter /usr/bin/qemu\nflags: F\n", False),
    ):
        emulator.write_text(text)
        assert can_run(here, arm, tmp_path) is runs
    assert can_run(host_platform(), host_platform())
