"""How a volume is mounted: its directory, or what the options of the driver `local` name. Pure.

The options are those of Docker's driver: `type`, `device`, `o`. What they name is mounted for each start, in the
container alone; see docs/decisions/0010-volumes-that-are-mounts.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.model import MountedVolume
from fluytd.errors import FieldInvalid

#: Options of mount(8) that are flags of the mount.
_FLAGS: Final = frozenset({"noexec", "nosuid", "nodev", "ro"})
#: Their opposites, and what this engine gives anyway.
_NO_FLAGS: Final = frozenset({"rw", "exec", "suid", "dev", "defaults", "async", "auto", "noauto", "user", "nouser"})
_KEYS: Final = frozenset({"type", "device", "o", "size"})
#: File systems of a server whose address stands among the options.
_OF_SERVERS: Final = frozenset({"nfs", "nfs4", "cifs"})
#: Of NFS 4, and of what tells where the services of NFS 3 listen.
_NFS_PORT, _RPCBIND_PORT, _SMB_PORT = 2049, 111, 445
#: The services at these ports, as (program, version). Source: RFC 5531, RFC 1833, RFC 1813, RFC 7530.
_NFS4, _NFS3, _RPCBIND, _MOUNT = (100003, 4), (100003, 3), (100000, 2), (100005, 3)
#: Options by which a mount that the engine makes for itself ends with an error some 30 s after its server has gone; the
#: kernel waits for ever else. Source: nfs(5), "soft", "timeo", "retrans".
_ENDING: Final = ("soft", "timeo=100", "retrans=1")


@dataclass(frozen=True, slots=True)
class Server:
    """The server that options name, as they name it."""

    host: str
    #: Where it listens; 0: not known, or not by TCP.
    port: int
    #: The program of ONC RPC, and its version, that is at the port; None: another protocol is spoken there.
    program: tuple[int, int] | None = None


def server_of(options: Mapping[str, str]) -> Server | None:
    """The server whose file system the options mount; None if there is none, or none is named."""
    kind = options.get("type", "")
    if kind not in _OF_SERVERS:
        return None
    words = _words(options)
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    if not pairs.get("addr"):
        return None
    if "udp" in words or pairs.get("proto", "tcp") in {"udp", "udp6", "rdma"}:
        return Server(pairs["addr"], 0)
    version = pairs.get("vers", pairs.get("nfsvers", ""))
    is_v4 = kind == "nfs4" or version.startswith("4") or any(word.startswith("v4") for word in words)
    if kind == "cifs":
        port, program = pairs.get("port") or str(_SMB_PORT), None
    elif is_v4 or pairs.get("port"):
        port, program = pairs.get("port") or str(_NFS_PORT), _NFS4 if is_v4 else _NFS3
    elif pairs.get("mountport"):
        port, program = pairs["mountport"], _MOUNT
    else:
        port, program = str(_RPCBIND_PORT), _RPCBIND
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        # What is no port the kernel refuses in its own words.
        return Server(pairs["addr"], 0)
    return Server(pairs["addr"], int(port), program)


def with_address(options: Mapping[str, str], address: str) -> dict[str, str]:
    """The options with the address of their server in place of its name: the kernel takes no names."""
    words = [f"addr={address}" if word.startswith("addr=") else word for word in _words(options)]
    return {**options, "o": ",".join(words)}


def ending(options: Mapping[str, str]) -> dict[str, str]:
    """The options for a mount of the engine's own, which must not wait for ever for its server."""
    if options.get("type") not in {"nfs", "nfs4"}:
        return dict(options)
    # The kernel takes the last of several.
    return {**options, "o": ",".join([*(word for word in _words(options) if word != "hard"), *_ENDING])}


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get("o", "").split(",") if word]


def check_local_options(options: Mapping[str, str], at: str) -> None:
    """Raises FIELD_INVALID for options that the driver `local` does not take. Source: moby `volume/local`."""
    unknown = sorted(set(options) - _KEYS)
    if unknown:
        raise FieldInvalid(field=at, rule=f"the driver local has no option {unknown[0]!r}; it has type, device and o")
    if "size" in options:
        raise FieldInvalid(field=at, rule="size bounds a directory, which has no other option")
    if not options:
        return
    if not options.get("type"):
        raise FieldInvalid(field=at, rule="type is needed with device or o, `none` for a bind")
    if not options.get("device"):
        raise FieldInvalid(field=at, rule="device is needed with type or o")
    words = options.get("o", "").split(",")
    if options["type"] == "none" and not {"bind", "rbind"} & set(words):
        raise FieldInvalid(field=at, rule="type none needs `bind` or `rbind` among o")
    if {"bind", "rbind"} & set(words) and not options["device"].startswith("/"):
        raise FieldInvalid(field=at, rule="the device of a bind must be an absolute path")


def bind_source(mount: MountedVolume, sources: Mapping[str, str]) -> str | None:
    """The place of the host outside the data root that is bound into a container; None if there is none. `sources` as
    in `volume_mount`."""
    if mount.driver != "local":
        return sources.get(mount.volume_id)
    return bound_device(mount.driver_options)


def bound_device(options: Mapping[str, str]) -> str | None:
    """The place of the host that the options of a volume bind; None if they say something else."""
    return options.get("device") if {"bind", "rbind"} & {*_words(options)} else None


def volume_mount(mount: MountedVolume, volumes_dir: str, sources: Mapping[str, str]) -> core.Mount:
    """The mount at its target. `sources`: by volume id, what drivers show, or the address of the server of its options.

    Raises FIELD_INVALID as `check_local_options`.
    """
    options = mount.driver_options
    if not options or mount.driver != "local":
        source = sources.get(mount.volume_id, f"{volumes_dir}/{mount.volume_id}/_data")
        return core.Mount("bind", source, mount.target, is_read_only=mount.read_only, sub_path=mount.sub_path)
    check_local_options(options, "driver_options")
    if mount.volume_id in sources:
        options = with_address(options, sources[mount.volume_id])
    words = _words(options)
    found = core.Mount(
        "file_system",
        options["device"],
        mount.target,
        is_read_only=mount.read_only or "ro" in words,
        no_exec="noexec" in words,
        no_suid="nosuid" in words,
        no_dev="nodev" in words,
        sub_path=mount.sub_path,
    )
    if {"bind", "rbind"} & set(words):
        return replace(found, kind="bind", is_recursive="rbind" in words)
    data = [word for word in words if word not in _FLAGS | _NO_FLAGS]
    return replace(found, file_system=options["type"], data=",".join(data))
