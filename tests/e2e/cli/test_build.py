"""`fluyt build` and `fluyt builder` against a live daemon, as a user of Docker types them."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.builds.steps import context
from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.terminal import on_terminal
from tests.support.engine import Engine
from tests.support.wait import until_now

DOCKERFILE = (
    f'FROM {IMAGE}\nARG WHAT=nothing\nCOPY . /all\nRUN echo "$WHAT" > /what; ls -A /all\nCMD ["cat", "/what"]\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a Dockerfile and an ignore file."""
    files: dict[str, str | bytes] = {"Dockerfile": DOCKERFILE, ".dockerignore": "*.log\n", "f": "f", "no.log": ""}
    return context(tmp_path / "folder", files)


@pytest.fixture(autouse=True)
def _clean(fluyt: Program) -> Iterator[None]:
    yield
    fluyt("rmi", "-f", "cli:1", "cli:2")
    fluyt("builder", "prune", "-f", "-a")


def test_a_folder_becomes_an_image_and_files_tell_which(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    files = ("--iidfile", str(tmp_path / "id"), "--metadata-file", str(tmp_path / "metadata"))
    built = fluyt("build", "-t", "cli:1", "-t", "cli:2", "--build-arg", "WHAT=told", *files, str(folder))
    assert built.code == 0, built.err
    image_id = built.out.strip()
    assert (tmp_path / "id").read_text() == image_id
    metadata = json.loads((tmp_path / "metadata").read_text())
    assert metadata["containerimage.config.digest"] == image_id
    assert metadata["image.name"] == "docker.io/library/cli:1,docker.io/library/cli:2"
    assert ".dockerignore\n" in built.err
    assert "no.log" not in built.err
    assert fluyt.ok("run", "--rm", "cli:2") == "told\n"
    again = fluyt("build", "--build-arg", "WHAT=told", str(folder))
    assert "CACHED [0] RUN" in again.err
    assert fluyt.ok("build", "-q", "--build-arg", "WHAT=told", str(folder)).strip() == image_id


def test_a_folder_is_offered_once_and_a_change_is_never_missed(
    fluyt: Program, cli_engine: Engine, folder: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "cache")
    trees = cli_engine.root / "data" / "contexts" / "trees"

    def built() -> tuple[set[str], str]:
        """Names of the contexts that the engine has, and what the image shows."""
        fluyt.ok("build", "-q", "-t", "cli:1", str(folder), XDG_CACHE_HOME=cache)
        return {path.name for path in trees.iterdir()}, fluyt.ok("run", "--rm", "cli:1", "cat", "/all/f")

    time.sleep(3.1)  # so that the files were left alone for long enough to be remembered
    fluyt("builder", "prune", "-f", "-a")
    first = built()
    assert len(first[0]) == 1
    # The same context again: nothing was offered.
    assert built() == first
    memory = next((tmp_path / "cache" / "fluyt" / "contexts").iterdir())
    kept = memory.stat().st_ino
    assert built() == first
    assert memory.stat().st_ino == kept
    # Same size and, set back, the same time of change.
    status = (folder / "f").stat()
    (folder / "f").write_text("g")
    os.utime(folder / "f", ns=(status.st_atime_ns, status.st_mtime_ns))
    contexts, shown = built()
    assert (len(contexts), shown) == (2, "g")
    # The mode alone.
    (folder / "f").chmod(0o600)
    assert len(built()[0]) == 3
    # The engine has lost all contexts, then the memory is damaged.
    fluyt("builder", "prune", "-f", "-a")
    assert (len(built()[0]), built()[1]) == (1, "g")
    memory.write_bytes(memory.read_bytes()[:-1])
    assert built()[1] == "g"


def test_standard_input_is_a_tar_or_a_dockerfile(fluyt: Program, folder: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, ".")
    fluyt.ok("build", "-q", "-t", "cli:1", "-", stdin=buffer.getvalue())
    assert fluyt.ok("run", "--rm", "cli:1", "ls", "-A", "/all").split() == [".dockerignore", "Dockerfile", "f"]
    fluyt.ok("build", "-q", "-t", "cli:2", "-", stdin=f"FROM {IMAGE}\nRUN echo alone > /f\n".encode())
    assert fluyt.ok("run", "--rm", "cli:2", "cat", "/f") == "alone\n"
    other = f"FROM {IMAGE}\nCOPY f /here\n".encode()
    fluyt.ok("build", "-q", "-t", "cli:1", "-f", "-", str(folder), stdin=other)
    assert fluyt.ok("run", "--rm", "cli:1", "cat", "/here") == "f"


def test_progress_comes_as_lines_and_as_json(fluyt: Program, folder: Path) -> None:
    plain = fluyt("build", "--progress", "plain", str(folder)).err
    assert "#4 f\n" in plain
    found = [
        json.loads(line)
        for line in fluyt.ok("build", "--progress", "json", "--no-cache", str(folder)).splitlines()[:-1]
    ]
    assert any(line.get("state") == "STATE_DONE" and line["instruction"].startswith("RUN") for line in found)
    assert any("data" in line for line in found)


def test_progress_is_a_live_tree_on_a_terminal(fluyt: Program, folder: Path) -> None:
    for states in (("0.", "0."), ("CACHED", "CACHED")):
        shown = on_terminal(fluyt, "build", "-t", "cli:1", str(folder))
        assert shown.code == 0, shown.text
        # It is drawn again in place, and what stays is a line for each step with its time or where it came from.
        assert "\x1b[" in shown.text
        lines = [
            line.strip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\r", shown.text).replace("\r", "\n").split("\n")
        ]
        for step, state in zip(("COPY . /all", "RUN echo"), states, strict=True):
            told = [line for line in lines if f"[0] {step}" in line]
            assert f" {state}" in told[-1], shown.text
        # What a step writes stands above the tree: of what is cached, nothing.
        assert (re.search(r"#[0-9] f\s", shown.text) is not None) == (states != ("CACHED", "CACHED")), shown.text


def test_a_failed_step_is_told_with_its_place_and_code(fluyt: Program) -> None:
    failed = fluyt("build", "-", stdin=f"FROM {IMAGE}\n\nRUN echo seen; exit 3\n".encode())
    assert failed.code == 1
    assert "#2 seen\n" in failed.err
    assert "Dockerfile:3: step 2 of 0 failed" in failed.err
    assert "exit code 3" in failed.err


def test_what_a_step_writes_is_shown_as_lines_that_steer_nothing(fluyt: Program) -> None:
    text = r"a\tb\n\033[1;31mred\033[0m\n10%%\r20%%\r\nx\033]0;title\007\n"
    shown = fluyt("build", "--no-cache", "-", stdin=f"FROM {IMAGE}\nRUN printf '{text}'\n".encode())
    assert shown.code == 0, shown.err
    lines = [line.removeprefix("#2 ") for line in shown.err.splitlines() if line.startswith("#2 ")]
    assert lines[1:-1] == ["a\tb", "red", "10%", "20%", "x\N{REPLACEMENT CHARACTER}]0;title\N{REPLACEMENT CHARACTER}"]
    assert "\033" not in shown.err


def test_a_base_that_cannot_be_had_is_told_with_its_line(fluyt: Program) -> None:
    for line, text in ((3, "FROM 127.0.0.1:1/no:1"), (4, f"FROM {IMAGE}\nCOPY --from=127.0.0.1:1/no:1 /f /f")):
        failed = fluyt("build", "-", stdin=f"# escape=\\\n\n{text}\n".encode())
        assert failed.code == 1
        assert f"Dockerfile:{line}: " in failed.err, failed.err
        assert "127.0.0.1:1" in failed.err


def test_progress_is_shown_as_the_variable_says(fluyt: Program) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN echo seen\n".encode()
    assert "#2 [0] RUN echo seen" in fluyt("build", "-", stdin=dockerfile, BUILDKIT_PROGRESS="").err
    assert fluyt("build", "-", stdin=dockerfile, BUILDKIT_PROGRESS="quiet").err == ""
    assert json.loads(fluyt("build", "-", stdin=dockerfile, BUILDKIT_PROGRESS="rawjson").out.splitlines()[0])
    told = fluyt("build", "--progress", "plain", "-", stdin=dockerfile, BUILDKIT_PROGRESS="quiet")
    assert "#2 " in told.err
    wrong = fluyt("build", "-", stdin=dockerfile, BUILDKIT_PROGRESS="loud")
    assert (wrong.code, "BUILDKIT_PROGRESS is `loud`" in wrong.err) == (1, True), wrong


def test_the_groups_of_steps_are_made_where_the_flag_says(fluyt: Program) -> None:
    parent = f"fluyt-test-cli-{os.getpid()}"
    look = f"FROM {IMAGE}\nRUN sleep 60\n".encode()
    command = [str(fluyt.program), "build", "--cgroup-parent", parent, "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=fluyt.environment) as running:
        assert running.stdin is not None
        running.stdin.write(look)
        running.stdin.close()
        mounts = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        parents = [mount / parent for mount in mounts]

        def made() -> list[Path]:
            return [path for group in parents if group.is_dir() for path in group.iterdir() if path.is_dir()]

        until_now(made, "the step's group is there")
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    until_now(lambda: not made(), "it has gone with the step")
    for group in parents:
        if group.is_dir():
            group.rmdir()
    refused = fluyt("build", "--cgroup-parent", "a/../b", "-", stdin=look)
    assert (refused.code != 0, "--cgroup-parent: must be a path" in refused.err) == (True, True), refused.err


def test_secrets_come_from_files_and_variables(fluyt: Program, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file")
    run = "RUN --mount=type=secret,id=a --mount=type=secret,id=b cat /run/secrets/a /run/secrets/b | wc -c > /n"
    flags = ("--secret", f"id=a,src={tmp_path}/token", "--secret", "id=b,env=PATH")
    fluyt.ok("build", "-q", "-t", "cli:1", *flags, "-", stdin=f"FROM {IMAGE}\n{run}\n".encode())
    assert int(fluyt.ok("run", "--rm", "cli:1", "cat", "/n")) > len("from a file")
    refused = fluyt("build", "--secret", "id=a,src=/absent/file", "-", stdin=b"FROM scratch\n")
    assert (refused.code, "/absent/file" in refused.err) == (1, True)


def test_what_a_dockerfile_asks_for_is_allowed_by_a_flag(fluyt: Program) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN --network=host echo allowed\n".encode()
    refused = fluyt("build", "-", stdin=dockerfile)
    assert refused.code == 1
    assert "Dockerfile:2: RUN --network=host needs the entitlement network.host" in refused.err
    assert "--allow network.host" in refused.err
    built = fluyt("build", "--allow", "device=vendor.com/toy=a", "--allow", "network.host", "-", stdin=dockerfile)
    assert (built.code, "allowed" in built.err) == (0, True), built.err
    assert fluyt("build", "--network", "host", "--no-cache", "-", stdin=dockerfile).code == 0
    insecure = dockerfile.replace(b"--network=host", b"--security=insecure")
    refused = fluyt("build", "--allow", "security.insecure", "-", stdin=insecure)
    assert "build_entitlements" in refused.err
    assert "entitlements[0]" in fluyt("build", "--allow", "everything", "-", stdin=dockerfile).err


def test_a_check_tells_warnings_and_builds_nothing(fluyt: Program) -> None:
    clean = fluyt("build", "--check", "-", stdin=f'FROM {IMAGE}\nCMD ["true"]\n'.encode())
    assert (clean.code, clean.err) == (0, "Check complete, no warnings found.\n")
    warned = fluyt("build", "--check", "-", stdin=f"from {IMAGE}\nRUN exit 9\nCMD true\n".encode())
    assert warned.code == 1
    assert "JSONArgsRecommended" in warned.err


def test_a_check_knows_what_the_ignore_file_leaves_out(fluyt: Program, tmp_path: Path) -> None:
    dockerfile = f"FROM {IMAGE}\nCOPY a.log /a\nCOPY b /b\n"
    # The file leaves itself out too, and so does not come with the context.
    folder = context(
        tmp_path, {"Dockerfile": dockerfile, ".dockerignore": "*.log\n.dockerignore\n", "b": "b", "a.log": ""}
    )
    checked = fluyt("build", "--check", str(folder))
    told = 'Dockerfile:2: CopyIgnoredFile: Attempting to Copy file "a.log" that is excluded by .dockerignore'
    assert (checked.code, [line for line in checked.err.splitlines() if "CopyIgnored" in line]) == (
        1,
        [f"warning: {told}"],
    )
    (folder / ".dockerignore").unlink()
    assert fluyt("build", "--call=check", str(folder)).code == 0


def test_flags_of_dockers_builders_are_taken(fluyt: Program) -> None:
    dockerfile = f"FROM {IMAGE}\nRUN sed -n 's/Mems_allowed_list:./nodes /p' /proc/self/status\n".encode()
    flags = ("--rm", "--force-rm=false", "-m", "64m", "--memory-swap", "64m", "--cpuset-mems", "0", "--call", "build")
    built = fluyt("build", "--no-cache", *flags, "-", stdin=dockerfile)
    assert (built.code, "nodes 0\n" in built.err) == (0, True), built.err
    for flag, field in (
        (("-m", "64m", "--memory-swap", "32m"), "resources.memory_swap_limit_bytes"),
        (("--cpuset-mems", "x"), "resources.cpuset_mems"),
        (("--add-host", "nothing"), "extra_hosts[0]"),
    ):
        refused = fluyt("build", *flag, "-", stdin=dockerfile)
        assert (refused.code != 0, field in refused.err) == (True, True), refused.err


def test_what_is_kept_is_listed_and_pruned(fluyt: Program, folder: Path) -> None:
    fluyt.ok("build", "-q", str(folder))
    rows = fluyt.ok("builder", "du").splitlines()
    assert rows[0].split() == ["ID", "STEP", "SIZE", "LAST", "USED", "USES"]
    assert any("COPY . /all" in row for row in rows)
    assert fluyt("builder", "prune", stdin=b"").code == 1
    # The image has the layers: to give up their records frees nothing.
    assert "Total reclaimed: 0B" in fluyt.ok("builder", "prune", "-f")
    assert fluyt.ok("builder", "du").splitlines()[1:] != ["Total: 0B"]
    fluyt.ok("builder", "prune", "-f", "-a")
    assert fluyt.ok("builder", "du").splitlines()[1:] == ["Total: 0B"]


def test_arguments_that_make_no_sense_are_refused(fluyt: Program, tmp_path: Path) -> None:
    for arguments in (("/absent",), (str(tmp_path),), ("--secret", "nonsense", "-"), ("--progress", "fancy", "-")):
        assert fluyt("build", *arguments, stdin=b"FROM scratch\n").code != 0, arguments


def test_the_result_goes_to_a_folder_a_tar_or_an_archive(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    dockerfile = f"FROM {IMAGE} AS make\nRUN echo made > /made\nFROM scratch\nCOPY --from=make /made /d/made\n".encode()
    fluyt.ok("build", "-q", "-o", str(tmp_path / "out"), "-", stdin=dockerfile)
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*"))
    assert (found, (tmp_path / "out" / "d" / "made").read_text()) == (["d", "d/made"], "made\n")
    fluyt.ok("build", "-q", "-o", f"type=tar,dest={tmp_path}/files.tar", "-", stdin=dockerfile)
    with tarfile.open(tmp_path / "files.tar") as tar:
        assert "d/made" in [name.removeprefix("./") for name in tar.getnames()]
    fluyt.ok("build", "-q", "-t", "cli:1", "-o", f"type=oci,dest={tmp_path}/image.tar", str(folder))
    assert "cli:1" in fluyt.ok("load", "-i", f"{tmp_path}/image.tar")
    for wrong in ("type=local", "type=nonsense", "type=image,dest=x"):
        assert fluyt("build", "-o", wrong, "-", stdin=dockerfile).code == 125
    assert fluyt.ok("ps", "-aq") == ""


def test_an_output_says_how_layers_are_compressed_and_what_the_image_is_called(
    fluyt: Program, folder: Path, tmp_path: Path
) -> None:
    zstd = f"type=oci,dest={tmp_path}/zstd.tar,compression=zstd,compression-level=9,force-compression=true"
    fluyt.ok("build", "-t", "cli:1", "-o", zstd, "-o", 'type=image,"name=cli:2,cli:3"', str(folder))
    with tarfile.open(tmp_path / "zstd.tar") as tar:
        manifests = [json.load(tar.extractfile(member)) for member in _manifests(tar)]  # type: ignore[arg-type]
    types = {layer["mediaType"] for manifest in manifests for layer in manifest["layers"]}
    assert types == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    for name in ("cli:1", "cli:2", "cli:3"):
        assert fluyt.ok("run", "--rm", name) == "nothing\n"
    fluyt.ok("rmi", "cli:3")
    for output, told in (
        ("type=image,compression=estargz", "is no compression"),
        ("type=image,compression=zstd,compression-level=23", "output.compression_level"),
    ):
        refused = fluyt("build", "-o", output, str(folder))
        assert (refused.code != 0, told in refused.err) == (True, True), refused


def _manifests(tar: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members that are manifests of images."""
    found = []
    for member in tar.getmembers():
        if member.name.startswith("blobs/sha256/") and member.size < 10_000:
            file = tar.extractfile(member)
            assert file is not None
            with contextlib.suppress(ValueError):
                if "layers" in json.load(file):
                    found.append(member)
    return found


def test_times_come_down_to_the_source_date(fluyt: Program, tmp_path: Path) -> None:
    dockerfile = f"FROM {IMAGE}\nARG SOURCE_DATE_EPOCH\nRUN touch /f; echo told $SOURCE_DATE_EPOCH\n".encode()
    look = ("run", "--rm", "cli:1", "stat", "-c", "%Y", "/f")
    built = fluyt("build", "-t", "cli:1", "-", stdin=dockerfile, SOURCE_DATE_EPOCH="1200000000")
    assert (built.code, "told 1200000000" in built.err) == (0, True), built.err
    assert fluyt.ok(*look) == "1200000000\n"
    arguments = ("--build-arg", "SOURCE_DATE_EPOCH=1100000000")
    fluyt.ok("build", "-t", "cli:1", *arguments, "--rewrite-timestamp", "-", stdin=dockerfile, SOURCE_DATE_EPOCH="5")
    assert fluyt.ok(*look) == "1100000000\n"
    for flags in (("--rewrite-timestamp",), ("-o", "type=image,rewrite-timestamp=true")):
        refused = fluyt("build", *flags, "-", stdin=dockerfile)
        assert (refused.code, "SOURCE_DATE_EPOCH is not set" in refused.err) == (1, True), refused
    refused = fluyt("build", "-", stdin=dockerfile, SOURCE_DATE_EPOCH="soon")
    assert (refused.code, "SOURCE_DATE_EPOCH is `soon`" in refused.err) == (1, True), refused


def test_history_is_listed_read_and_forgotten(fluyt: Program, folder: Path) -> None:
    fluyt.ok("build", "-q", "-t", "cli:1", str(folder))
    failed = fluyt("build", "-", stdin=f"FROM {IMAGE}\nRUN echo told; exit 3\n".encode())
    assert failed.code == 1
    lines = fluyt.ok("builder", "history", "ls", "--format", "json").splitlines()
    last, first = map(json.loads, lines[:2])
    assert (last["state"], first["state"]) == ("STATE_FAILED", "STATE_SUCCEEDED")
    table = fluyt.ok("builder", "history", "ls").splitlines()
    assert table[0].split() == ["ID", "NAME", "STATE", "CACHED", "BEGUN", "TOOK"]
    assert table[2].split()[:3] == [first["id"][:12], "cli:1", "done"]
    assert fluyt.ok("builder", "history", "logs") == "told\n"
    told = json.loads(fluyt.ok("builder", "history", "inspect", first["id"][:10]))
    assert [step["instruction"].split()[0] for step in told["steps"]][:3] == ["FROM", "ARG", "COPY"]
    assert fluyt.ok("builder", "history", "rm", last["id"][:10]).strip() == last["id"]
    assert first["id"] in fluyt.ok("builder", "history", "rm", "--all")
    assert fluyt("builder", "history", "logs").code == 1


def test_attestations_and_annotations_are_asked_for_as_in_docker(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    flags = ("--provenance=mode=max", "--sbom", "--annotation", "index:of=all", "--annotation", "of=one")
    fluyt.ok("build", "-q", "-t", "cli:1", *flags, str(folder))
    fluyt.ok("save", "-o", str(tmp_path / "saved.tar"), "cli:1")
    with tarfile.open(tmp_path / "saved.tar") as tar:

        def read(digest: str) -> dict[str, Any]:
            file = tar.extractfile(f"blobs/sha256/{digest.removeprefix('sha256:')}")
            assert file is not None
            parsed: dict[str, Any] = json.load(file)
            return parsed

        listing = tar.extractfile("index.json")
        assert listing is not None
        index = read(json.load(listing)["manifests"][0]["digest"])
        image, attested = (read(entry["digest"]) for entry in index["manifests"])
    assert (index["annotations"], image["annotations"]) == ({"of": "all"}, {"of": "one"})
    kinds = [layer["annotations"]["in-toto.io/predicate-type"] for layer in attested["layers"]]
    assert kinds == ["https://spdx.dev/Document", "https://slsa.dev/provenance/v0.2"]
    wrong = fluyt("build", "--provenance=mode=most", str(folder))
    assert (wrong.code != 0, "mode=min|max" in wrong.err) == (True, True)
    wrong = fluyt("build", "--cache-to", "type=inline", str(folder))
    assert (wrong.code != 0, "type=registry" in wrong.err) == (True, True)


def test_a_cache_goes_to_a_folder_and_comes_back(fluyt: Program, folder: Path, tmp_path: Path) -> None:
    mounting = f"FROM {IMAGE}\nCOPY f /\nRUN --mount=type=cache,target=/c cat /c/f; cp /f /c/; true\n"
    (folder / "Dockerfile").write_text(mounting)
    cache, options = tmp_path / "cache", ",mounts=true,tag=main"
    to, source = f"type=local,dest={cache}{options}", f"type=local,src={cache}{options}"
    # The first build of all has no cache.
    first = fluyt("build", "--cache-from", source, "--cache-to", to, str(folder))
    assert (first.code, "warning: cache of" in first.err) == (0, True), first.err
    names = {path.name for path in (cache / "blobs" / "sha256").iterdir()}
    fluyt.ok("build", "-q", "--cache-to", to.replace("main", "other"), str(folder))
    index = json.loads((cache / "index.json").read_text())
    assert [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]] == ["main", "other"]
    assert {path.name for path in (cache / "blobs" / "sha256").iterdir()} == names
    fluyt.ok("builder", "prune", "-f", "-a")
    again = fluyt("build", "--cache-from", source, str(folder))
    assert (again.out, again.err.count("CACHED")) == (first.out, 2)
    assert "warning" not in again.err
    fluyt.ok("builder", "prune", "-f", "-a")
    (folder / "f").write_text("changed")
    assert "#3 f\n" in fluyt("build", "--cache-from", source, str(folder)).err
    refused = fluyt("build", "--cache-to", f"type=local,dest={folder}/Dockerfile", str(folder))
    assert refused.code != 0
    ignored = fluyt("build", "--cache-to", f"type=local,dest={folder}/Dockerfile,ignore-error=true", str(folder))
    assert (ignored.code, "warning: " in ignored.err) == (0, True)


@pytest.mark.needs("skopeo")
def test_an_oci_layout_is_a_context(fluyt: Program, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    for number in ("1", "2"):
        text = f"FROM {IMAGE}\nRUN echo {number} > /number\n".encode()
        fluyt.ok(
            "build", "-q", "-t", f"cli:{number}", "--output", f"type=oci,dest={tmp_path}/{number}.tar", "-", stdin=text
        )
        subprocess.run(
            ("skopeo", "copy", "-q", f"oci-archive:{tmp_path}/{number}.tar", f"oci:{layout}:{number}"), check=True
        )
    fluyt.ok("rmi", "-f", "cli:1", "cli:2")
    fluyt.ok("builder", "prune", "-f", "-a")

    def names() -> set[tuple[str, ...]]:
        return {tuple(line.split()[:2]) for line in fluyt.ok("images").splitlines()[1:]}

    before = names()
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    text = b"FROM other AS o\nFROM base\nCOPY --from=o /number /other\nCMD cat /number /other\n"
    contexts = (
        "--build-context",
        f"base=oci-layout://{layout}:2",
        "--build-context",
        f"other=oci-layout://{layout}@{digest}",
    )
    fluyt.ok("build", "-q", "-t", "cli:1", "--pull", *contexts, "-", stdin=text)
    assert fluyt.ok("run", "--rm", "cli:1") == "2\n1\n"
    # It has no name of its own here.
    assert names() - before <= {("cli", "1"), ("<none>", "<none>")}
    wrong = fluyt("build", "--build-context", f"base=oci-layout://{layout}:3", "-", stdin=text)
    assert (wrong.code != 0, "has no entry 3" in wrong.err, "1, 2" in wrong.err) == (True, True, True)
