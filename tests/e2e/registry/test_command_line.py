"""`fluyt login`, `logout`, `push` and `pull` with credentials, by the command line's own program."""

import base64
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from tests.support import image_files, images
from tests.support.engine import REPOSITORY, Engine
from tests.support.registry import RealRegistry

PROGRAM = REPOSITORY / "target" / "release" / "fluyt"
SECRET = "hunter2-of-the-cli"  # noqa: S105 - looked for where it must not be

pytestmark = pytest.mark.needs("docker-registry", "command-line")

#: A credential helper that keeps each registry in a file of its own, and how it was called.
HELPER = """#!/bin/sh
echo "$@" >>"$HELPER_ROOT/calls"
case $1 in
    store) cat >"$HELPER_ROOT/stored" ;;
    erase) rm -f "$HELPER_ROOT/stored" ;;
    get) if [ -e "$HELPER_ROOT/stored" ]; then cat "$HELPER_ROOT/stored"
        else echo "credentials not found in native keychain"; exit 1; fi ;;
esac
"""


class Caller:
    """Somebody with a home directory of his own, and the engine that he uses."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home = home
        self.config = home / ".docker" / "config.json"
        self._environment = {
            "HOME": str(home),
            "PATH": f"{home}:{os.environ['PATH']}",
            "HELPER_ROOT": str(home),
            "FLUYT_HOST": f"unix://{engine.root}/run/fluytd.sock",
        }

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments],
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    with RealRegistry(tmp_path / "registry", passwords={"user": SECRET}) as running:
        yield running


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    root = tmp_path / "engine"
    root.mkdir()
    with Engine(root) as running:
        yield running


@pytest.fixture
def fluyt(tmp_path: Path, engine: Engine) -> Caller:
    home = tmp_path / "home"
    home.mkdir()
    return Caller(home, engine)


def test_a_login_serves_push_pull_and_run_until_the_logout(
    fluyt: Caller, engine: Engine, registry: RealRegistry
) -> None:
    name = f"{registry.address}/app:1"
    image = images.busybox_image()
    engine.load(image_files.oci_archive({name: image}))
    refused = fluyt("push", name)
    assert refused.returncode == 1
    assert "denies access" in refused.stderr
    kept = fluyt("login", "-u", "user", "--password-stdin", registry.address, stdin=SECRET + "\n")
    assert kept.returncode == 0, kept.stderr
    assert SECRET not in kept.stdout + kept.stderr
    assert stat.S_IMODE(fluyt.config.stat().st_mode) == 0o600
    coded = base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert json.loads(fluyt.config.read_text()) == {"auths": {registry.address: {"auth": coded}}}
    pushed = fluyt("push", name)
    assert (pushed.returncode, pushed.stdout) == (0, name + "\n"), pushed.stderr
    assert "done" in pushed.stderr
    assert fluyt("push", "-q", name).stdout == image.digest + "\n"
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
    ran = fluyt("run", "--rm", "--network", "none", name, "echo", "ran")
    assert ran.stdout == "ran\n", ran.stderr
    assert fluyt("pull", name).returncode == 0
    assert "removed" in fluyt("logout", registry.address).stdout
    assert "no credentials" in fluyt("logout", registry.address).stdout
    assert fluyt("push", name).returncode == 1


def test_a_password_that_the_registry_refuses_is_not_kept(fluyt: Caller, registry: RealRegistry) -> None:
    login = ("login", "-u", "user", "--password-stdin")
    for more in ((), ("--check", f"{registry.address}/app")):
        refused = fluyt(*login, *more, registry.address, stdin="wrong")
        assert refused.returncode == 1
        assert "denies access" in refused.stderr
        assert not fluyt.config.exists()
    # The image need not be there.
    assert fluyt(*login, "--check", f"{registry.address}/app", registry.address, stdin=SECRET).returncode == 0
    assert fluyt.config.exists()


def test_a_password_is_kept_untried_where_that_is_asked_for(fluyt: Caller, registry: RealRegistry) -> None:
    kept = fluyt("login", "--no-check", "-u", "user", "--password-stdin", registry.address, stdin="wrong")
    assert kept.returncode == 0, kept.stderr
    assert fluyt.config.exists()


def test_repositories_are_searched_and_referrers_listed(fluyt: Caller, registry: RealRegistry, engine: Engine) -> None:
    assert fluyt("login", "-u", "user", "--password-stdin", registry.address, stdin=SECRET).returncode == 0
    name = f"{registry.address}/team/app:1"
    subject = images.busybox_image()
    refers = {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.manifest)}
    signature = images.image([images.layer()], manifest={"subject": refers, "artifactType": "text/x-sbom"})
    engine.load(image_files.oci_archive({name: subject, f"{registry.address}/team/app:s": signature}))
    for reference in (name, f"{registry.address}/team/app:s"):
        assert fluyt("push", "-q", reference).returncode == 0
    found = fluyt("search", f"{registry.address}/APP")
    assert f"{registry.address}/team/app" in found.stdout, found.stderr
    as_json = fluyt("search", "--limit", "1", "--format", "json", f"{registry.address}/app")
    assert json.loads(as_json.stdout)["reference"] == f"{registry.address}/team/app", as_json.stderr
    listed = fluyt("referrers", name)
    assert signature.digest in listed.stdout, listed.stderr
    assert "text/x-sbom" in listed.stdout
    assert fluyt("referrers", "--artifact-type", "none", "--format", "json", name).stdout == ""


def test_a_helper_keeps_the_secret_and_is_asked_for_it(fluyt: Caller, engine: Engine, registry: RealRegistry) -> None:
    helper = fluyt.home / "docker-credential-tests"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    fluyt.config.parent.mkdir()
    fluyt.config.write_text(json.dumps({"credHelpers": {registry.address: "tests"}}))
    kept = fluyt("login", "-u", "user", "--password-stdin", registry.address, stdin=SECRET)
    assert "docker-credential-tests" in kept.stdout, kept.stderr
    assert json.loads((fluyt.home / "stored").read_text()) == {
        "ServerURL": registry.address,
        "Username": "user",
        "Secret": SECRET,
    }
    assert SECRET not in fluyt.config.read_text() + (fluyt.home / "calls").read_text()
    name = f"{registry.address}/app:1"
    engine.load(image_files.oci_archive({name: images.busybox_image()}))
    assert fluyt("push", name).returncode == 0
    run = ("run", "--rm", "--network", "none", name, "echo", "ran")
    asked = (fluyt.home / "calls").read_text().count("get")
    assert fluyt(*run).stdout == "ran\n"
    assert (fluyt.home / "calls").read_text().count("get") == asked, "a present image needs no helper"
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
    ran = fluyt(*run)
    assert ran.stdout == "ran\n", ran.stderr
    assert fluyt("logout", registry.address).returncode == 0
    assert not (fluyt.home / "stored").exists()
    assert fluyt("push", name).returncode == 1
    helper.write_text("#!/bin/sh\necho locked; exit 1\n")
    locked = fluyt("push", name)
    assert "docker-credential-tests failed: locked" in locked.stderr


def test_a_login_without_a_name_or_a_password_is_refused(fluyt: Caller) -> None:
    for arguments, stdin in [
        (("login", "--password-stdin"), SECRET),
        (("login", "-u", "user", "--password-stdin"), ""),
        (("login", "-u", "a:b", "--password-stdin"), SECRET),
        (("login", "-u", "user"), ""),
        (("login", "-u", "user", "--password-stdin", "not a host"), SECRET),
        (("login", "-u", "user", "--password-stdin"), "x" * (64 * 1024 + 1)),
    ]:
        refused = fluyt(*arguments, stdin=stdin)
        assert refused.returncode == 1, arguments
        assert refused.stderr.startswith("fluyt: "), arguments
    assert not fluyt.config.exists()


def test_all_tags_are_pushed_to_another_repository(fluyt: Caller, engine: Engine, tmp_path: Path) -> None:
    engine.load(image_files.oci_archive({"app:1": images.busybox_image(), "app:2": images.busybox_image()}))
    with RealRegistry(tmp_path / "open") as registry:
        pushed = fluyt("push", "--all-tags", "app", f"{registry.address}/app")
        assert pushed.stdout.split() == [f"{registry.address}/app:1", f"{registry.address}/app:2"], pushed.stderr
