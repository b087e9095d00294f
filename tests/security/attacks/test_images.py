"""Images that would have the engine do more than run them: by labels, variables, a working directory, names."""

import contextlib
import gzip
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt import errors
from tests.e2e.builds import steps as builds
from tests.e2e.containers.copy_steps import copy_to, member, tar
from tests.e2e.containers.file_steps import changes
from tests.e2e.containers.steps import IMAGE, INVALID, create, load, refusal, refused, started
from tests.e2e.execs import steps as execs
from tests.security.canary import Canary
from tests.support import image_files, images, tarball
from tests.support.engine import Engine

#: A variable that the daemon of every test has.
OF_THE_HOST = "PYTHONPATH"
#: Programs that other engines looked for to unpack an archive.
UNPACKERS = ("gzip", "gunzip", "unpigz", "igzip", "xz", "unxz", "zstd", "bzip2", "tar")


@pytest.fixture
def device_engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with a CDI device that nobody asks for."""
    (tmp_path / "cdi").mkdir()
    edits = {"env": ["GIVEN=yes"]}
    spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/toy", "devices": [{"name": "a", "containerEdits": edits}]}
    (tmp_path / "cdi" / "toy.json").write_text(json.dumps(spec))
    (tmp_path / "e").mkdir()
    with Engine(tmp_path / "e", options=["--cdi-spec-dirs", str(tmp_path / "cdi")]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def test_labels_of_an_image_are_words_and_nothing_more(device_engine: Engine) -> None:
    """CVE-2026-53488, CVE-2026-53492: what an image said of itself was taken for what the caller asked."""
    labels = {
        "cdi.k8s.io/toy": "vendor.com/toy=a",
        "devices": "vendor.com/toy=a",
        "io.containerd.runc.v2.shim": "/bin/sh",
        "io.podman.annotations.privileged": "TRUE",
        "io.kubernetes.cri-o.Devices": "/dev/kmsg",
        "nerdctl/mounts": '[{"Type":"bind","Source":"/etc","Destination":"/of-the-host"}]',
        "run.oci.hooks.stdout": "/of-the-host",
        "org.opencontainers.image.stopSignal": "KILL",
        "com.docker.security": "seccomp=unconfined",
    }
    image = load(device_engine, labels=labels, env=[images.BUSYBOX_PATH])
    script = 'echo "$GIVEN"; ls -d /of-the-host /dev/kmsg 2>/dev/null; grep -E "CapEff|Seccomp:" /proc/self/status'
    plain = device_engine.run(IMAGE, "sh", "-c", script)[0]
    assert device_engine.run(image, "sh", "-c", script)[0] == plain
    # The device is there for who asks.
    given = device_engine.run(image, "sh", "-c", "echo $GIVEN", cdi_devices=["vendor.com/toy=a"])[0]
    assert given == b"yes\n"
    made = create(device_engine, "true", image=image)
    assert not made.spec.cdi_devices


def test_variables_without_a_value_take_none_of_the_hosts(engine: Engine, tmp_path: Path) -> None:
    """CVE-2026-57231: a variable that an image only names was filled from the engine's environment."""
    environment = Path(f"/proc/{engine.process.pid}/environ").read_text()
    (value,) = re.findall(rf"^{OF_THE_HOST}=(.+)$", environment.replace("\0", "\n"), re.MULTILINE)
    image = load(engine, env=[images.BUSYBOX_PATH, OF_THE_HOST, "*", f"{OF_THE_HOST[:4]}*", "", "="])
    for named in ([], [OF_THE_HOST, "*"]):
        out = engine.run(image, "sh", "-c", "env; cat /proc/1/environ", env=named)[0]
        assert b"HOSTNAME=" in out
        assert OF_THE_HOST.encode() not in out, named
    running = started(engine, "sleep", "1000", image=image)
    assert OF_THE_HOST.encode() not in execs.run(engine, running.id, "env").out
    dockerfile = f"FROM {image}\nARG {OF_THE_HOST}\nRUN env\n"
    output = builds.build(engine, builds.context(tmp_path, {}), dockerfile, no_cache=True).output.decode()
    assert "HOME=" in output
    assert value not in output


def test_a_working_directory_below_a_link_is_made_inside(engine: Engine, canary: Canary, tmp_path: Path) -> None:
    """CVE-2026-55686: it was made, and given to the user, where the link led on the host."""
    for target in (str(canary.path), f"../../../../../../../../..{canary.path}", f"/proc/1/root{canary.path}"):
        for directory in ("/w/made", "/w", "/w/deep/made"):
            image = load(engine, tarball.symlink("w", target), working_dir=directory, user="1000")
            reason = ""
            try:
                out = engine.run(image, "sh", "-c", "cat secret; : > mine; pwd")[0]
            except grpc.RpcError as error:
                reason, out = refusal(error)[1], b""
            assert reason in {"", "PROCESS_START_FAILED"}
            assert not canary.is_in(out), (target, directory)
            assert canary.changes() == [], (target, directory)
        lines = f"FROM {IMAGE}\nRUN ln -s {target} /w\nWORKDIR /w/made\nRUN : > mine; pwd; ls -A\n"
        # A refusal is as good, as long as nothing was made.
        with contextlib.suppress(errors.FluytError):
            assert not canary.is_in(
                builds.build(engine, builds.context(tmp_path / "context", {"f": "x"}), lines).output
            )
        assert canary.changes() == [], target


def test_no_program_of_a_container_unpacks_what_is_copied_into_it(engine: Engine) -> None:
    """CVE-2026-41567: the daemon looked for a program that unpacks in the container, and executed it as root."""
    script = "#!/bin/busybox sh\necho executed >> /executed\nexec cat\n"
    places = ("bin", "usr/bin", "usr/local/bin")
    trap = [tarball.file(f"{place}/{name}", script, mode=0o755) for place in places for name in UNPACKERS]
    image = load(engine, *trap)
    running = started(engine, "/bin/busybox", "sleep", "1000", image=image)
    # The engine unpacks itself, and says what it cannot.
    copy_to(engine, running.id, "/tmp", gzip.compress(tar(member("copied", b"x"))))
    told = refused(lambda: copy_to(engine, running.id, "/tmp", lzma.compress(tar(member("not", b"x")))))
    assert told[:2] == (INVALID, "TAR_CORRUPT")
    assert changes(engine, running.id) == ["C /tmp", "A /tmp/copied"]


def test_the_cache_knows_from_which_image_and_with_which_settings_a_step_came(engine: Engine, tmp_path: Path) -> None:
    """CVE-2024-24557: steps from scratch, or with another HEALTHCHECK or ONBUILD, were taken for others."""
    context = builds.context(tmp_path, {"f": "x"})
    lines = "FROM scratch\nLABEL who=mine\n"
    mine = builds.build(engine, context, lines)
    # An image that says of itself that it was made so, and has another command and more files.
    forged = images.busybox_image(images.layer(tarball.file("evil", "x")), labels={"who": "mine"}, cmd=["/evil"])
    engine.load(image_files.oci_archive({"forged:1": forged}))
    again = builds.build(engine, context, lines)
    assert again.result.image_id == mine.result.image_id
    first = builds.build(engine, context, "FROM busybox:1\nHEALTHCHECK CMD true\nONBUILD RUN true\nRUN echo a > /a\n")
    second = builds.build(engine, context, "FROM busybox:1\nHEALTHCHECK CMD false\nONBUILD RUN no\nRUN echo a > /a\n")
    settings = [builds.config(engine, built)["config"] for built in (first, second)]
    assert [one["Healthcheck"]["Test"] for one in settings] == [["CMD-SHELL", "true"], ["CMD-SHELL", "false"]]
    assert [one["OnBuild"] for one in settings] == [["RUN true"], ["RUN no"]]


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=bind,source=.,target=/m,bind-propagation=rshared true",
        "RUN --mount=type=bind,source=.,target=/m,bind-propagation=../../../../etc true",
        "RUN --mount=type=cache,target=/m,bind-propagation=shared true",
    ],
)
def test_a_mount_of_a_step_takes_no_propagation(engine: Engine, tmp_path: Path, line: str) -> None:
    """CVE-2024-9407: what stood there was handed to the mount as options of it."""
    failure = builds.refused(engine, builds.context(tmp_path, {}), f"FROM busybox:1\n{line}\n")
    assert failure.reason == "DOCKERFILE_INVALID"
    assert failure.metadata["line"] == "2"


@pytest.mark.parametrize("name", ["evil/frontend:1", "docker.io/evil/dockerfile:1", "docker/dockerfile-evil:1"])
def test_no_front_end_of_an_image_is_executed(engine: Engine, tmp_path: Path, name: str) -> None:
    """CVE-2026-33747, CVE-2024-23650: one that a Dockerfile names spoke to the builder, as it pleased."""
    front_end = images.busybox_image(images.layer(tarball.file("run", "x", mode=0o755)), entrypoint=["/run"])
    engine.load(image_files.oci_archive({name: front_end}))
    context = builds.context(tmp_path, {})
    failure = builds.refused(engine, context, f"# syntax={name}\nFROM busybox:1\n")
    assert (failure.reason, failure.metadata["line"]) == ("DOCKERFILE_INVALID", "1")
    assert "not built in" in str(failure)
    # By an argument it is one that no ARG takes.
    built = builds.build(
        engine, context, "FROM busybox:1\nRUN echo ours\n", build_args={"BUILDKIT_SYNTAX": name}, no_cache=True
    )
    assert built.output == b"ours\n"
