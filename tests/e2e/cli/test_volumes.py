"""`fluyt volume`, and the flags of run and create that mount something."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program


def test_volumes_are_made_listed_renamed_and_removed(fluyt: Program) -> None:
    assert fluyt.ok("volume", "create", "--label", "a=1", "cli-one") == "cli-one\n"
    anonymous = fluyt.ok("volume", "create").strip()
    assert len(anonymous) == 64
    table = fluyt.ok("volume", "ls").splitlines()
    assert table[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert ["local", "cli-one"] in [line.split() for line in table]
    assert fluyt.ok("volume", "ls", "-q", "--filter", "label=a") == "cli-one\n"
    [shown] = fluyt("volume", "ls", "--format", "json", "--filter", "name=cli-").objects
    assert (shown["name"], shown["labels"], shown["is_anonymous"]) == ("cli-one", {"a": "1"}, False)
    assert fluyt.ok("volume", "rename", "cli-one", "cli-two") == ""
    [shown] = fluyt("volume", "inspect", "--format", "json", "cli-two").objects
    assert shown["mountpoint"].endswith("/_data")
    ended = fluyt("volume", "rm", "cli-two", "nobody", anonymous)
    assert (ended.code, ended.out) == (1, f"cli-two\n{anonymous}\n")
    assert "there is no volume nobody" in ended.err
    assert fluyt.ok("volume", "rm", "-f", "nobody") == "nobody\n"
    assert fluyt("volume", "inspect", "nobody").code == 1


def test_a_volume_in_use_is_not_removed_and_rm_v_takes_anonymous_ones(fluyt: Program) -> None:
    fluyt.ok("create", "--name", "holder", "-v", "held:/h", "-v", "/anonymous", IMAGE)
    ended = fluyt("volume", "rm", "held")
    assert ended.code == 1
    assert "in use" in ended.err
    assert len(fluyt.ok("volume", "ls", "-q").split()) == 2
    fluyt.ok("rm", "-v", "holder")
    assert fluyt.ok("volume", "ls", "-q") == "held\n"
    assert "Deleted: held" in fluyt.ok("volume", "prune", "-a", "-f")
    assert fluyt("volume", "prune").code == 125 or fluyt("volume", "prune").code == 1


def test_data_is_cloned_exported_and_imported(fluyt: Program, tmp_path: Path) -> None:
    fluyt.run("-v", "src:/v", script="echo kept > /v/f")
    assert fluyt.ok("volume", "clone", "src", "copy") == "copy\n"
    fluyt.ok("volume", "export", "-o", str(tmp_path / "data.tar"), "src")
    names = subprocess.run(["tar", "tf", tmp_path / "data.tar"], check=True, capture_output=True, text=True).stdout
    assert "f" in [name.removeprefix("./") for name in names.splitlines()]
    assert fluyt.ok("volume", "import", "again", str(tmp_path / "data.tar")) == "again\n"
    assert fluyt.ok("volume", "import", "piped", "-", stdin=(tmp_path / "data.tar").read_bytes()) == "piped\n"
    for name in ("copy", "again", "piped"):
        assert fluyt.run("-v", f"{name}:/v:ro", script="cat /v/f") == "kept\n", name
    assert fluyt("volume", "export", "-o", str(tmp_path / "none.tar"), "nobody").code == 1
    assert not (tmp_path / "none.tar").exists()
    fluyt.ok("volume", "rm", "src", "copy", "again", "piped")


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["-v", "{host}/made/here:/x"], "touch /x/f && echo made", "made"),
        (["-v", "{host}:/x:ro"], "cat /x/file; touch /x/f 2>/dev/null || echo refused", "host's\nrefused"),
        (["--mount", "type=bind,src={host}/file,dst=/deep/file,readonly"], "cat /deep/file", "host's"),
        (["--mount", "type=bind,src={host}/new,dst=/x,bind-create-src"], "echo $(ls -A /x | wc -l)", "0"),
        (["--mount", "dst=/etc,volume-nocopy"], "ls /etc/passwd 2>/dev/null || echo empty", "empty"),
        (["-v", "/etc:nocopy"], "", ""),
        (["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1750"], "stat -c %a /t", "1750"),
        (["--tmpfs", "/t:size=1m,exec,ro"], "grep ' /t ' /proc/self/mountinfo | grep -c noexec", "0"),
        (["--mount", "type=image,src=busybox:1,dst=/i,image-subpath=etc"], "test -f /i/passwd && echo shown", "shown"),
    ],
)
def test_a_flag_mounts_what_it_says(
    fluyt: Program, tmp_path: Path, flags: list[str], script: str, expected: str
) -> None:
    (tmp_path / "file").write_text("host's\n")
    flags = [flag.format(host=tmp_path) for flag in flags]
    if not script:
        ended = fluyt("run", "--rm", *flags, IMAGE, "true")
        assert (ended.code, "no absolute path" in ended.err) == (125, True), ended
        return
    ended = fluyt("run", "--rm", *flags, IMAGE, "sh", "-c", script)
    assert ended.out == f"{expected}\n", ended


def test_an_absent_source_of_a_strict_bind_is_told(fluyt: Program, tmp_path: Path) -> None:
    ended = fluyt("run", "--rm", "--mount", f"type=bind,src={tmp_path}/no,dst=/x", IMAGE, "true")
    assert ended.code == 125
    assert "does not exist on the engine's host" in ended.err
    assert not (tmp_path / "no").exists()


def test_volumes_of_another_container(fluyt: Program) -> None:
    fluyt.ok("create", "--name", "giver", "-v", "given:/g", IMAGE)
    assert fluyt.run("--volumes-from", "giver", script="echo x > /g/f; cat /g/f") == "x\n"
    script = "touch /g/y 2>/dev/null || echo refused"
    assert fluyt.run("--volumes-from", "giver:ro", script=script) == "refused\n"
    assert fluyt.ok("ps", "-aq", "--filter", "volume=given").strip()
    fluyt.ok("rm", "giver")
    fluyt.ok("volume", "rm", "given")
