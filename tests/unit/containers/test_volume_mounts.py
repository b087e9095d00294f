"""What the options of a local volume become; the kernels of test machines have no NFS, so that its words end here."""

import pytest

from fluytd.containers.model import MountedVolume
from fluytd.containers.process_spec import Mount
from fluytd.containers.volume_mounts import volume_mount
from fluytd.errors import FieldInvalid


def mounted(options: dict[str, str], *, read_only: bool = False) -> Mount:
    """The mount of a volume with these options."""
    use = MountedVolume("/data", "id", "share", driver_options=options, read_only=read_only)
    return volume_mount(use, "/volumes", {})


@pytest.mark.parametrize("kind", ["nfs", "nfs4"])
def test_an_export_is_mounted_by_its_type_with_the_options_of_the_file_system_alone(kind: str) -> None:
    words = "addr=10.0.0.1,vers=4.2,nolock,soft,rw,nosuid,nodev,noexec,,rsize=65536"
    found = mounted({"type": kind, "device": ":/export", "o": words})
    assert (found.kind, found.file_system, found.source, found.destination) == (
        "file_system",
        kind,
        ":/export",
        "/data",
    )
    assert found.data == "addr=10.0.0.1,vers=4.2,nolock,soft,rsize=65536"
    assert (found.no_suid, found.no_dev, found.no_exec, found.is_read_only) == (True, True, True, False)


def test_an_export_is_read_only_by_its_option_and_by_the_containers_wish() -> None:
    options = {"type": "nfs", "device": "server:/export", "o": "addr=10.0.0.1"}
    assert not mounted(options).is_read_only
    assert mounted(options, read_only=True).is_read_only
    read_only = mounted({**options, "o": "ro,addr=10.0.0.1"})
    assert (read_only.is_read_only, read_only.data) == (True, "addr=10.0.0.1")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"type": "nfs"}, "device is needed"),
        ({"device": ":/export"}, "type is needed"),
        ({"type": "nfs", "device": ":/export", "addr": "10.0.0.1"}, "no option 'addr'"),
        ({"type": "none", "device": ":/export", "o": "addr=10.0.0.1"}, "bind"),
        ({"type": "nfs", "device": ":/export", "o": "bind"}, "absolute path"),
    ],
)
def test_what_no_export_can_be_is_refused(options: dict[str, str], rule: str) -> None:
    with pytest.raises(FieldInvalid, match=rule):
        mounted(options)
