"""How a volume is mounted: its directory, or what the options of the driver `local` name. Pure.

The options are those of Docker's driver: `type`, `device`, `o`. What they name is mounted for each start, in the
container alone; see docs/decisions/0010-volumes-that-are-mounts.md.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.model import MountedVolume
from fluytd.errors import FieldInvalid

#: Options of mount(8) that are flags of the mount.
_FLAGS: Final = frozenset({"noexec", "nosuid", "nodev", "ro"})
#: Their opposites, and what this engine gives anyway.
_NO_FLAGS: Final = frozenset({"rw", "exec", "suid", "dev", "defaults", "async", "auto", "noauto", "user", "nouser"})
_KEYS: Final = frozenset({"type", "device", "o", "size"})


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


def volume_mount(mount: MountedVolume, volumes_dir: str, sources: Mapping[str, str]) -> core.Mount:
    """The mount at its target. `sources`: what drivers show, by volume id.

    Raises FIELD_INVALID as `check_local_options`.
    """
    options = mount.driver_options
    if not options or mount.driver != "local":
        source = sources.get(mount.volume_id, f"{volumes_dir}/{mount.volume_id}/_data")
        return core.Mount("bind", source, mount.target, is_read_only=mount.read_only, sub_path=mount.sub_path)
    check_local_options(options, "driver_options")
    words = [word for word in options.get("o", "").split(",") if word]
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
