"""What the options of a local volume become; that kernels take them for NFS is in tests/e2e/volumes/test_nfs.py."""

import pytest

from fluytd.containers.model import MountedVolume
from fluytd.containers.process_spec import Mount
from fluytd.containers.volume_mounts import Server, ending, server_of, volume_mount, with_address
from fluytd.errors import FieldInvalid

#: Programs of ONC RPC with their versions. Source: RFC 7530, RFC 1813, RFC 1833.
NFS4, NFS3, MOUNT, RPCBIND = (100003, 4), (100003, 3), (100005, 3), (100000, 2)


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


@pytest.mark.parametrize(
    ("kind", "words", "server"),
    [
        ("nfs", "addr=storage,vers=4.2", Server("storage", 2049, NFS4)),
        ("nfs", "addr=storage,nfsvers=4", Server("storage", 2049, NFS4)),
        ("nfs", "v4.1,addr=storage", Server("storage", 2049, NFS4)),
        ("nfs4", "addr=fd00::7", Server("fd00::7", 2049, NFS4)),
        ("nfs4", "addr=10.0.0.1,port=20049", Server("10.0.0.1", 20049, NFS4)),
        # What tells where its services listen, as of NFS 3.
        ("nfs", "addr=10.0.0.1", Server("10.0.0.1", 111, RPCBIND)),
        ("nfs", "addr=10.0.0.1,vers=3,mountport=635", Server("10.0.0.1", 635, MOUNT)),
        ("nfs", "addr=10.0.0.1,vers=3,mountport=635,port=2050", Server("10.0.0.1", 2050, NFS3)),
        ("cifs", "addr=10.0.0.1,username=u", Server("10.0.0.1", 445)),
        # Not by TCP, and what is no port.
        ("nfs", "addr=10.0.0.1,vers=3,proto=udp", Server("10.0.0.1", 0)),
        ("nfs", "addr=10.0.0.1,udp", Server("10.0.0.1", 0)),
        ("nfs4", "addr=10.0.0.1,proto=rdma", Server("10.0.0.1", 0)),
        ("nfs4", "addr=10.0.0.1,port=65536", Server("10.0.0.1", 0)),
        ("nfs4", "addr=10.0.0.1,port=-1", Server("10.0.0.1", 0)),
        ("nfs4", "addr=10.0.0.1,port=\u0661", Server("10.0.0.1", 0)),
        ("nfs", "vers=4", None),
        ("nfs", "addr=,vers=4", None),
        ("tmpfs", "addr=10.0.0.1", None),
        ("none", "bind", None),
    ],
)
def test_the_server_of_an_export_is_told_with_the_port_at_which_it_must_answer(
    kind: str, words: str, server: Server | None
) -> None:
    assert server_of({"type": kind, "device": ":/export", "o": words}) == server


def test_no_options_name_no_server() -> None:
    assert server_of({}) is None


def test_an_address_takes_the_place_of_the_name_and_of_nothing_else() -> None:
    options = {"type": "nfs", "device": "storage:/export", "o": "mountaddr=storage,addr=storage,vers=4"}
    assert with_address(options, "10.0.0.1") == {**options, "o": "mountaddr=storage,addr=10.0.0.1,vers=4"}
    use = MountedVolume("/data", "id", "share", driver_options=options)
    found = volume_mount(use, "/volumes", {"id": "10.0.0.1"})
    assert (found.source, found.data) == ("storage:/export", "mountaddr=storage,addr=10.0.0.1,vers=4")


def test_the_engines_own_mount_of_an_export_ends_and_what_has_no_server_stays_as_it_is() -> None:
    options = {"type": "nfs", "device": ":/", "o": "addr=10.0.0.1,hard,timeo=600"}
    assert ending(options)["o"] == "addr=10.0.0.1,timeo=600,soft,timeo=100,retrans=1"
    disk = {"type": "ext4", "device": "/dev/sda", "o": "hard"}
    assert ending(disk) == disk
    assert ending({}) == {}
