"""What builds fetch: git repositories, files and archives behind URLs, named contexts."""

import base64
import functools
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from fluyt.v1.builds_pb2 import BuildSource
from tests.e2e.builds.steps import build, context, refused, shell
from tests.support import repositories
from tests.support.engine import Engine
from tests.support.http_server import HttpServer

DOCKERFILE = "FROM busybox:1\nCOPY . /app\n"
#: Of `Last-Modified` of what the server has.
MODIFIED = 1_000_000_000
TOKEN = "s3cret-token"  # noqa: S105 - of this test's own server

pytestmark = pytest.mark.needs("git")


class Files(SimpleHTTPRequestHandler):
    """The folder; below /private only for the token, /moved leads elsewhere."""

    def do_GET(self) -> None:
        wanted = "basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if self.path.startswith("/private/") and self.headers.get("Authorization") != wanted:
            self.send_error(401)
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/plain.txt")
            self.end_headers()
        elif self.path == "/escape":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: a tag, a branch, a folder with a link out of the repository, and a submodule that is a path."""
    folder = tmp_path_factory.mktemp("git") / "work"
    repositories.make(folder, {"Dockerfile": DOCKERFILE, "who": "first\n", ".dockerignore": "hidden\n", "hidden": "x"})
    repositories.git(folder, "tag", "v1")
    repositories.commit(folder, {"who": "second\n", "sub/Dockerfile": DOCKERFILE, "sub/who": "below\n"})
    repositories.commit(folder, {"out": "-> /etc", "up": "-> ../../..", "loop": "-> loop"})
    repositories.git(folder, "branch", "side")
    return folder


@pytest.fixture(scope="module")
def served(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server with that repository, and with some files."""
    root = tmp_path_factory.mktemp("served")
    repositories.bare(root / "work.git", work)
    (root / "private").mkdir()
    repositories.bare(root / "private" / "work.git", work)
    (root / "plain.txt").write_text("plain\n")
    os.utime(root / "plain.txt", (MODIFIED, MODIFIED))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in {"Dockerfile": DOCKERFILE, "who": "archived\n"}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(text), 7, 8
            tar.addfile(entry, io.BytesIO(text.encode()))
    (root / "context").write_bytes(gzip.compress(buffer.getvalue()))
    (root / "lone").write_text("FROM busybox:1\nRUN echo lone > /who\n")
    with HttpServer(functools.partial(Files, directory=str(root))) as server:  # type: ignore[arg-type]
        yield f"http://{server.address}"


@pytest.mark.parametrize(
    ("fragment", "prints"),
    [("", "second\n"), ("#v1", "first\n"), ("#main:sub", "below\n"), ("#refs/heads/side", "second\n")],
)
def test_a_repository_is_a_context_by_ref_and_folder(engine: Engine, work: Path, fragment: str, prints: str) -> None:
    built = build(engine, BuildSource(git_url=f"file://{work}{fragment}"))
    assert shell(engine, built, "cat /app/who; test ! -e /app/.git; test ! -e /app/hidden") == prints


def test_a_repository_comes_by_http_and_by_commit(engine: Engine, work: Path, served: str) -> None:
    commit = repositories.git(work, "rev-parse", "v1")
    for ref in (commit, commit[:10]):
        built = build(engine, BuildSource(git_url=f"{served}/work.git#{ref}"))
        assert shell(engine, built, "cat /app/who") == "first\n"


@pytest.mark.parametrize("folder", ["out", "up", "loop", "absent", "who"])
def test_a_folder_of_a_repository_leads_nowhere_else(engine: Engine, work: Path, folder: str) -> None:
    # `up` leads to the repository's own root at most, as in a chroot.
    source = BuildSource(git_url=f"file://{work}#main:{folder}")
    if folder == "up":
        assert shell(engine, build(engine, source), "cat /app/who") == "second\n"
    else:
        assert refused(engine, source).reason == "BUILD_SOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("#absent", "BUILD_SOURCE_UNAVAILABLE"),
        ("#--upload-pack=touch", "FIELD_INVALID"),
        ("#a..b", "FIELD_INVALID"),
        ("#v1:../../etc", "BUILD_SOURCE_NOT_FOUND"),
        ("?commit=beef", "BUILD_SOURCE_UNAVAILABLE"),
    ],
)
def test_refs_that_are_none_are_refused(engine: Engine, work: Path, url: str, reason: str) -> None:
    assert refused(engine, BuildSource(git_url=f"file://{work}{url}")).reason == reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("git@-oProxyCommand=x:a/b.git", "FIELD_INVALID"),
        ("git@example.com:-a.git", "FIELD_INVALID"),
        ("ssh://git:word@example.com/a.git", "FIELD_INVALID"),
        ("ext::sh -c true", "FIELD_INVALID"),
        ("file:relative", "FIELD_INVALID"),
        ("file://host/a", "FIELD_INVALID"),
        ("file:///absent/repository", "BUILD_SOURCE_UNAVAILABLE"),
        ("http://127.0.0.1:1/a.git", "BUILD_SOURCE_UNAVAILABLE"),
    ],
)
def test_addresses_that_git_must_not_be_given_are_refused(engine: Engine, url: str, reason: str) -> None:
    assert refused(engine, BuildSource(git_url=url)).reason == reason


def test_a_repository_cannot_bring_programs_or_host_files(engine: Engine, work: Path, tmp_path: Path) -> None:
    """A submodule that is a path of the host, and a hook in the served repository, are none of the build's."""
    folder, secret = tmp_path / "evil", tmp_path / "secret"
    repositories.make(secret, {"key": "private\n"})
    repositories.make(folder, {"Dockerfile": DOCKERFILE})
    repositories.git(folder, "-c", "protocol.file.allow=always", "submodule", "-q", "add", f"file://{secret}", "stolen")
    repositories.git(folder, "commit", "-q", "-m", "submodule")
    failure = refused(engine, BuildSource(git_url=f"file://{folder}"))
    assert failure.reason == "BUILD_SOURCE_UNAVAILABLE"
    built = build(engine, BuildSource(git_url=f"file://{folder}?submodules=false"))
    assert shell(engine, built, "ls -A /app/stolen") == ""


def test_submodules_come_along(engine: Engine, work: Path, served: str, tmp_path: Path) -> None:
    folder = tmp_path / "outer"
    repositories.make(folder, {"Dockerfile": DOCKERFILE})
    repositories.git(folder, "submodule", "-q", "add", f"{served}/work.git", "inner")
    repositories.git(folder, "commit", "-q", "-m", "submodule")
    dockerfile = "FROM busybox:1\nADD --keep-git-dir=true {} /app\n"
    root = tmp_path / "root"
    root.mkdir()
    repositories.bare(root / "outer.git", folder)
    with HttpServer(functools.partial(Files, directory=str(root))) as server:  # type: ignore[arg-type]
        url = f"http://{server.address}/outer.git"
        built = build(engine, context(tmp_path, {}), dockerfile.format(url))
    assert shell(engine, built, "cat /app/inner/who; test -d /app/.git && grep -c outer.git /app/.git/config") == (
        "second\n1\n"
    )


def test_add_takes_a_repository(engine: Engine, work: Path, served: str, tmp_path: Path) -> None:
    folder = context(tmp_path, {})
    commit = repositories.git(work, "rev-parse", "main")
    built = build(
        engine, folder, f"FROM busybox:1\nADD {served}/work.git#v1 /plain\nADD {served}/work.git#main:sub /sub/\n"
    )
    assert shell(engine, built, "cat /plain/who /sub/who; test ! -e /plain/.git; stat -c %u:%g /plain/who") == (
        "first\nbelow\n0:0\n"
    )
    flags = f"--keep-git-dir=true --checksum={commit} --chown=7:8 --exclude=who"
    built = build(engine, folder, f"FROM busybox:1\nADD {flags} {served}/work.git#main /kept\n")
    assert (
        shell(engine, built, "cat /kept/.git/HEAD; stat -c %u:%g /kept/sub; test ! -e /kept/who") == f"{commit}\n7:8\n"
    )
    failure = refused(engine, folder, f"FROM busybox:1\nADD --checksum={commit} {served}/work.git#v1 /x\n")
    assert failure.metadata["cause"] == "BUILD_SOURCE_CHANGED"


def test_a_token_opens_a_repository_and_stands_nowhere(engine: Engine, served: str, tmp_path: Path) -> None:
    folder = context(tmp_path, {})
    dockerfile = f"FROM busybox:1\nADD --keep-git-dir=true {served}/private/work.git#v1 /app\n"
    secrets = {"GIT_AUTH_TOKEN": TOKEN.encode()}
    failure = refused(engine, folder, dockerfile)
    assert failure.metadata["cause"] == "BUILD_SOURCE_UNAVAILABLE"
    built = build(engine, folder, dockerfile, secrets=secrets)
    hidden = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
    assert shell(engine, built, f"cat /app/who; grep -rE '{TOKEN}|{hidden}' /app || true") == "first\n"
    wrong = refused(engine, folder, dockerfile, secrets={"GIT_AUTH_TOKEN": b"wrong-one"}, no_cache=True)
    assert "wrong-one" not in str(wrong)
    assert base64.b64encode(b"x-access-token:wrong-one").decode() not in str(wrong)


def test_b11_add_fetches_a_file_by_its_url(engine: Engine, served: str, tmp_path: Path) -> None:
    folder = context(tmp_path, {})
    digest = hashlib.sha256(b"plain\n").hexdigest()
    built = build(
        engine,
        folder,
        f"FROM busybox:1\nADD --checksum=sha256:{digest} {served}/plain.txt /d/\nADD {served}/moved /e\n"
        f"ADD --unpack=true {served}/context /u/\nADD {served}/context /c\n",
    )
    told = shell(
        engine, built, "cat /d/plain.txt /e /u/who; stat -c '%a %u:%g %Y' /d/plain.txt; test -f /c && echo file"
    )
    assert told == f"plain\nplain\narchived\n600 0:0 {MODIFIED}\nfile\n"
    for line, cause in {
        f"ADD --checksum=sha256:{'0' * 64} {served}/plain.txt /d/": "BUILD_SOURCE_CHANGED",
        f"ADD {served}/absent /d/": "BUILD_SOURCE_UNAVAILABLE",
        f"ADD {served}/escape /d/": "BUILD_SOURCE_UNAVAILABLE",
    }.items():
        assert refused(engine, folder, f"FROM busybox:1\n{line}\n").metadata["cause"] == cause


def test_an_archive_or_a_dockerfile_behind_a_url_is_a_context(engine: Engine, served: str) -> None:
    for _ in range(2):
        built = build(engine, BuildSource(http_url=f"{served}/context"))
        assert shell(engine, built, "cat /app/who; stat -c %u:%g /app/who") == "archived\n0:0\n"
    lone = build(engine, BuildSource(http_url=f"{served}/lone"))
    assert shell(engine, lone, "cat /who") == "lone\n"


def test_named_contexts_are_repositories_archives_and_images(
    engine: Engine, work: Path, served: str, tmp_path: Path
) -> None:
    contexts = {
        "repo": BuildSource(git_url=f"file://{work}#v1"),
        "tar": BuildSource(http_url=f"{served}/context"),
        "base": BuildSource(image="busybox:1"),
    }
    dockerfile = (
        "FROM base\nCOPY --from=repo who /a\nCOPY --from=tar who /b\nRUN --mount=from=repo,target=/m cp /m/who /c\n"
    )
    built = build(engine, context(tmp_path, {}), dockerfile, named_contexts=contexts)
    assert shell(engine, built, "cat /a /b /c") == "first\narchived\nfirst\n"


def test_what_a_stage_is_from_and_cannot_be_had_is_told_with_its_line(engine: Engine, tmp_path: Path) -> None:
    failure = refused(engine, tmp_path, "# a comment\nFROM busybox:1 AS a\nFROM 127.0.0.1:1/no:1\nCOPY --from=a / /\n")
    told = {key: failure.metadata[key] for key in ("file", "line", "instruction", "cause")}
    assert (failure.reason, told) == (
        "BUILD_BASE_UNAVAILABLE",
        {"file": "Dockerfile", "line": "3", "instruction": "FROM 127.0.0.1:1/no:1", "cause": "REGISTRY_UNREACHABLE"},
    )
    assert failure.metadata["fix"]
    steps = (
        "FROM busybox:1\nRUN true\nRUN --mount=from=127.0.0.1:1/no:1,target=/m true\nCOPY --from=127.0.0.1:1/x /f /f\n"
    )
    failure = refused(engine, tmp_path, steps)
    told = {key: failure.metadata[key] for key in ("step", "line", "cause")}
    assert (failure.reason, told) == ("BUILD_STEP_FAILED", {"step": "3", "line": "3", "cause": "REGISTRY_UNREACHABLE"})


def test_what_is_wrong_with_a_named_context_is_told_of_the_request(engine: Engine, tmp_path: Path) -> None:
    wrong = {"other": BuildSource(git_url="ftp://127.0.0.1/x.git")}
    for text in ("FROM other\n", "FROM busybox:1\nCOPY --from=other / /\n"):
        failure = refused(engine, tmp_path, text, named_contexts=wrong)
        assert (failure.reason, failure.metadata["field"]) == ("FIELD_INVALID", "named_contexts['other'].git_url")
