"""Copies and archives of volumes whose data is what their options name."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fluyt.v1 import volumes_pb2
from tests.e2e.containers.steps import IMAGE, INVALID, refused
from tests.e2e.volumes.steps import create, delete, export_tar, get, import_tar, names, output, volume
from tests.support.engine import Engine

pytestmark = pytest.mark.needs("root", "busybox")


def clone(engine: Engine, source: str, name: str) -> volumes_pb2.Volume:
    """CloneVolume's answer."""
    return engine.volumes.CloneVolume(volumes_pb2.CloneVolumeRequest(source=source, name=name)).volume  # type: ignore[no-any-return]


def contents(data: bytes) -> dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive if member.isreg()}
        return {name: file.read() for name, file in found.items() if file is not None}


def archive(name: str, content: bytes) -> bytes:
    """A tar with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device with an empty ext4."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner=0:0", str(image)], check=True)
    found = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True)
    yield found.stdout.strip()
    subprocess.run(["losetup", "-d", found.stdout.strip()], check=True)


def mounts_of(text: str) -> list[str]:
    """Mounts of this host that name it."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if text in line]


@pytest.mark.needs("losetup")
def test_a_device_is_copied_and_archived_while_a_container_has_it_and_is_never_mounted_on_the_host(
    engine: Engine, device: str
) -> None:
    create(engine, "disk", driver_options={"type": "ext4", "device": device})
    output(engine, IMAGE, "mkdir /v/d; echo inside > /v/d/f; chown 7:8 /v/d/f", mounts=[volume("/v", "disk")])
    found = contents(export_tar(engine, "disk")[0])
    assert found == {"d/f": b"inside\n"}
    made = clone(engine, "disk", "disk-copy")
    assert (made.driver, dict(made.driver_options)) == ("local", {})
    shown = output(engine, IMAGE, "cat /v/d/f; stat -c %u:%g /v/d/f", mounts=[volume("/v", "disk-copy")])
    assert shown.split() == ["inside", "7:8"]
    assert import_tar(engine, "disk", archive("d/new", b"more\n")).entry_count == 1
    script = "cat /v/d/new; echo changed > /v/d/f"
    assert output(engine, IMAGE, script, mounts=[volume("/v", "disk")]) == "more"
    # The copy is another one.
    assert output(engine, IMAGE, "cat /v/d/f", mounts=[volume("/v", "disk-copy")]) == "inside"
    assert mounts_of(Path(device).name) == []
    for name in ("disk", "disk-copy"):
        delete(engine, name)


def test_a_directory_of_the_host_is_copied_and_archived_as_any_other(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host's\n")
    create(engine, "own", driver_options={"type": "none", "o": "bind", "device": str(tmp_path)})
    assert contents(export_tar(engine, "own")[0]) == {"f": b"host's\n"}
    import_tar(engine, "own", archive("g", b"came\n"))
    assert (tmp_path / "g").read_text() == "came\n"
    clone(engine, "own", "own-copy")
    assert sorted(path.name for path in Path(get(engine, "own-copy").mountpoint).iterdir()) == ["f", "g"]
    for name in ("own", "own-copy"):
        delete(engine, name)
    assert (tmp_path / "f").exists()


def test_what_cannot_be_reached_is_refused_with_its_cause(engine: Engine, tmp_path: Path) -> None:
    create(engine, "memory", driver_options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    for call in (lambda: export_tar(engine, "memory"), lambda: import_tar(engine, "memory", archive("f", b""))):
        code, _, facts = refused(call)
        assert code == INVALID
        assert "memory: each container" in facts["rule"]
    # A copy of memory is as empty as each container finds it.
    assert dict(clone(engine, "memory", "memory-copy").driver_options)["type"] == "tmpfs"
    create(engine, "ro", driver_options={"type": "none", "o": "bind,ro", "device": str(tmp_path)})
    code, _, facts = refused(lambda: import_tar(engine, "ro", archive("f", b"")))
    assert (code, "say ro" in facts["rule"]) == (INVALID, True)
    create(engine, "gone", driver_options={"type": "none", "o": "bind", "device": str(tmp_path / "absent")})
    create(engine, "wrong", driver_options={"type": "nothing", "device": "x"})
    for source, expected in (("gone", str(tmp_path / "absent")), ("wrong", "nothing")):
        _, _, facts = refused(partial(clone, engine, source, "half"))
        assert facts["path"] == expected
        assert "half" not in names(engine)
    for name in ("memory", "memory-copy", "ro", "gone", "wrong"):
        delete(engine, name)
