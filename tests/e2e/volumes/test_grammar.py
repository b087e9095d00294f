"""Values of `-v`, `--mount` and `--tmpfs` that the command line takes and the engine refuses, as Docker's do, and some
that both take, as they come out inside.

What the command line itself refuses stands in the tables of clients/cli/src/mount_flags_tests.rs.
Source: moby `volume/mounts/linux_parser.go`, docker/cli `opts/mount.go`.
"""

from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.volumes.steps import names
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("command-line")
#: Says `Read-only` where nobody can write.
WRITE = "touch /t/x 2>&1 | grep -o Read-only"
MEMORY = 'volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=1m,uid=7"'


@pytest.fixture
def fluyt(engine: Engine) -> Program:
    """The program, which asks the engine of the module."""
    return Program(engine.root / "run" / "fluytd.sock")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        # Docker: invalid specification: destination can't be '/'.
        (["-v", "name:/"], "must not be the root"),
        (["-v", "/tmp:/"], "must not be the root"),
        (["-v", "/"], "must not be the root"),
        (["-v", "name://"], "must not be the root"),
        (["--mount", "type=bind,src=/tmp,dst=/"], "must not be the root"),
        (["--mount", "type=tmpfs,dst=/"], "must not be the root"),
        (["--tmpfs", "/"], "must not be the root"),
        # Docker: mount path must be absolute.
        (["--mount", "type=bind,src=/tmp,dst=tmp"], "must be an absolute path"),
        (["--mount", "type=volume,src=nn,dst=./tmp"], "must be an absolute path"),
        (["--mount", "type=tmpfs,dst=tmp"], "must be an absolute path"),
        (["--tmpfs", "tmp"], "must be an absolute path"),
        (["--mount", "type=bind,src=tmp/x,dst=/tmp"], "must be an absolute path"),
        # Docker: the name is too short, or has characters that are none of a name.
        (["-v", "x:/t"], "must have 2 to 128 characters"),
        (["-v", "na*me:/t"], "must have 2 to 128 characters"),
        (["--volume=-name:/t"], "must have 2 to 128 characters"),
        (["-v", "naïve:/t"], "must have 2 to 128 characters"),
        (["--mount", "type=volume,src=na me,dst=/t"], "must have 2 to 128 characters"),
        # Docker: Duplicate mount point.
        (["-v", "one:/t", "-v", "two:/t"], "/t is given twice"),
        (["-v", "/t", "-v", "/t/"], "/t is given twice"),
        (["-v", "one:/t", "--tmpfs", "/t"], "/t is given twice"),
        (["-v", "one:/t", "--mount", "type=bind,src=/tmp,dst=/t/."], "/t is given twice"),
        # Docker: bind source path does not exist.
        (["--mount", "type=bind,src={host}/absent,dst=/t"], "does not exist on the engine's host"),
        (["--mount", "type=bind,src={host}/file/below,dst=/t"], "does not exist on the engine's host"),
        # Docker: must be a relative path, and not escape.
        (["--mount", "type=volume,src=nn,dst=/t,volume-subpath=/a"], "must be a relative path"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-subpath=../a"], "must not contain `..`"),
        (["--mount", "type=image,src=busybox:1,dst=/t,image-subpath=../a"], "must not contain `..`"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-subpath=absent"], "No such file or directory"),
        (["--mount", "type=image,src=busybox:1,dst=/t,image-subpath=absent"], "No such file or directory"),
        (["--mount", "type=image,src=absent:1,dst=/t"], "there is no image absent:1"),
        # Docker: the driver is not there; the options of the local one are not whole.
        (["--mount", "type=volume,dst=/t,volume-driver=zfs"], "zfs"),
        (["-v", "nn:/t", "--volume-driver", "zfs"], "zfs"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-opt=type=tmpfs"], "device is needed"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-opt=device=tmpfs"], "type is needed"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-opt=o=size=1m"], "type is needed"),
        (["--mount", "type=volume,src=nn,dst=/t,volume-opt=foo=1"], "no option 'foo'"),
        (["--mount", "type=tmpfs,dst=/t,tmpfs-mode=77777"], "mode"),
        (["--volumes-from", "nobody"], "there is no container nobody"),
    ],
)
def test_what_the_engine_refuses_is_told_and_makes_nothing(
    engine: Engine, fluyt: Program, tmp_path: Path, flags: list[str], told: str
) -> None:
    (tmp_path / "file").write_text("")
    ended = fluyt("run", "--rm", *(flag.format(host=tmp_path) for flag in flags), IMAGE, "true")
    assert (ended.code, told in ended.err) == (125, True), ended
    assert "UNEXPECTED" not in ended.err
    assert fluyt.ok("ps", "-aq") == ""
    # As in Docker a volume that was named well is there, where the refusal came of something else.
    assert set(names(engine)) <= {"nn"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    fluyt("volume", "rm", "-f", "nn")


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["-v", "{host}:/t:ro,rprivate,z"], WRITE, "Read-only"),
        (["-v", "{host}/file:/t/file:ro,cached"], "cat /t/file", "host's"),
        (["-v", "nn:/opt:ro,nocopy"], "ls -A /opt; touch /opt/x 2>&1 | grep -o Read-only", "Read-only"),
        (["-v", "nn:/etc:nocopy,rw"], "test -e /etc/passwd || echo empty", "empty"),
        (["-v", "nn:/t/"], "grep -c ' /t ' /proc/self/mountinfo", "1"),
        (["-v", "/t//u/."], "grep -c ' /t/u ' /proc/self/mountinfo", "1"),
        (["--mount", f"type=volume,dst=/t,{MEMORY}"], "stat -c %u /t; df -k /t | awk 'NR>1 {{print $2}}'", "7\n1024"),
        (["--mount", "type=bind,src={host},dst=/t,bind-recursive=disabled"], "cat /t/file", "host's"),
        (["--mount", "type=bind,src={host},dst=/t,ro,bind-recursive=writable"], WRITE, "Read-only"),
        (
            ["--mount", "type=bind,src={host},dst=/t,ro,bind-recursive=readonly,bind-propagation=rprivate"],
            WRITE,
            "Read-only",
        ),
        (["--mount", "type=image,src=busybox:1,dst=/t"], "ls /t/bin/busybox; " + WRITE, "/t/bin/busybox\nRead-only"),
        (["--mount", "type=tmpfs,dst=/t,ro"], WRITE, "Read-only"),
        (
            ["--tmpfs", "/t:rw,nosuid,nodev,exec,size=65536k,nr_inodes=2k,mode=1770,uid=3,gid=4"],
            "stat -c %u:%g:%a /t; df -k /t | awk 'NR>1 {{print $2}}'; cp /bin/busybox /t/; /t/busybox echo ran",
            "3:4:1770\n65536\nran",
        ),
        (
            ["--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", "/run/lock/x"],
            "grep -c -E ' /run(/lock(/x)?)? ' /proc/self/mountinfo",
            "3",
        ),
    ],
)
def test_what_is_taken_comes_out_as_dockers(
    engine: Engine, fluyt: Program, tmp_path: Path, flags: list[str], script: str, expected: str
) -> None:
    (tmp_path / "file").write_text("host's\n")
    script = script.replace("{{", "{").replace("}}", "}")
    assert fluyt.run(*(flag.format(host=tmp_path) for flag in flags), script=script) == f"{expected}\n"
    assert set(names(engine)) <= {"nn"}
    fluyt("volume", "rm", "-f", "nn")
