"""Which sources of mounts lie on file systems that may not answer; that they are looked at in time is in
tests/e2e/volumes/test_unanswering_files.py."""

from pathlib import Path

import pytest

from fluytd.containers.mount_sources import kind_on_the_way, parsed

TABLE = rb"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid shared:3 - proc proc rw
24 22 0:22 / /sys/fs/fuse/connections rw - fusectl fusectl rw
30 22 0:50 / /srv/some\040files rw,relatime shared:7 master:2 - fuse.sshfs host:/ rw,user_id=0
31 22 0:51 / /srv/share rw - nfs4 10.0.0.1:/ rw,vers=4.2
32 22 0:52 / /srv/disk rw unbindable - fuseblk /dev/vdb rw
33 22 0:53 / /srv/tricky - rw - tmpfs nfs rw
34 22 0:54 / /srv/box rw - cifs //10.0.0.1/box rw
"""


def test_file_systems_of_servers_and_programs_are_found_in_the_mount_table() -> None:
    assert parsed(TABLE) == {
        "/srv/some files": "fuse.sshfs",
        "/srv/share": "nfs4",
        "/srv/disk": "fuseblk",
        "/srv/box": "cifs",
    }
    assert parsed(b"") == {}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Links that lead into `share` and past it, and some that lead nowhere."""
    (tmp_path / "share").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "in").symlink_to("share/a")
    (tmp_path / "here" / "up").symlink_to("../in")
    (tmp_path / "absolute").symlink_to(tmp_path / "share")
    (tmp_path / "past").symlink_to("share/../here")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nothing/at/all")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("share", "nfs4"),
        ("share/a/b", "nfs4"),
        ("./share//", "nfs4"),
        ("here/../share", "nfs4"),
        ("in", "nfs4"),
        ("here/up/x", "nfs4"),
        ("absolute", "nfs4"),
        # The kernel asks the file system on its way there.
        ("past", "nfs4"),
        ("here", None),
        ("shared", None),
        ("loop", None),
        ("gone", None),
        ("nothing", None),
    ],
)
def test_a_source_is_found_to_lie_there_by_any_way_and_nothing_of_it_is_touched(
    tree: Path, path: str, kind: str | None
) -> None:
    assert kind_on_the_way(f"{tree}/{path}", {str(tree / "share"): "nfs4"}) == kind


def test_where_the_root_itself_is_such_a_file_system_everything_is() -> None:
    assert kind_on_the_way("/etc", {"/": "9p"}) == "9p"
