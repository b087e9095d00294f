"""What is stacked to be a container's root, and what is mounted in it. Pure."""

from typing import Final

from fluytd.containers import process_spec as core
from fluytd.containers.model import Container
from fluytd.containers.spec import BindSpec, NamespaceMode, TmpfsSpec
from fluytd.containers.start_facts import StartPaths
from fluytd.containers.volume_mounts import volume_mount

#: Where a container's init stands inside; the supervisor's program knows its task by the last name.
INIT_PATH: Final = "/dev/fluyt-init"
#: Where POSIX shared memory is, inside and on the host. Source: shm_overview(7).
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - it is no place for files of our own
#: Layers below a writable one. Source: Linux fs/overlayfs/params.h, OVL_MAX_STACK.
MAX_LOWER_DIRS: Final = 500


def stacked_dirs(paths: StartPaths) -> list[str]:
    """What a start stacks below the writable layer, top-most first: one more than the image has, up to the limit."""
    # Without these a start would make them in the writable layer, which costs it more than all other files it makes.
    targets = [paths.mount_targets_dir] if paths.mount_targets_dir and len(paths.lower_dirs) < MAX_LOWER_DIRS else []
    return [*paths.lower_dirs, *targets]


def mounts(container: Container, paths: StartPaths, init_path: str) -> list[core.Mount]:
    """The mounts below the root, parents before what is below them, else in the order asked (case M01).

    The init, if there is to be one, stands in /dev, which is no part of the writable layer.

    /etc/hosts, /etc/hostname and /etc/resolv.conf are the engine's unless the caller mounts something there.
    Raises FIELD_INVALID for options of a volume that its driver does not take.
    """
    spec, resolved = container.spec, container.resolved
    # Records of before there were volumes have their binds in the spec alone.
    chosen = {mount.target: _bind(mount) for mount in resolved.binds or spec.binds}
    chosen |= {mount.target: _tmpfs(mount) for mount in spec.tmpfs}
    chosen |= {mount.target: volume_mount(mount, paths.volumes_dir, paths.volume_sources) for mount in resolved.volumes}
    for image in resolved.images:
        lower_dirs = list(paths.image_dirs.get(image.target, ()))
        chosen[image.target] = core.Mount(
            "image", "", image.target, is_read_only=True, sub_path=image.sub_path, lower_dirs=lower_dirs
        )
    own = {"/etc/hosts": paths.hosts, "/etc/hostname": paths.hostname, "/etc/resolv.conf": paths.resolv_conf}
    # As read-only as the root that they seem to be part of. Source: moby `container.NetworkMounts`.
    is_read_only = spec.read_only_root
    files = [
        core.Mount("bind", source, target, is_read_only=is_read_only)
        for target, source in own.items()
        if target not in chosen
    ]
    if spec.namespaces.ipc.mode is NamespaceMode.HOST and SHARED_MEMORY not in chosen:
        files.append(core.Mount("bind", SHARED_MEMORY, SHARED_MEMORY, no_exec=True, no_suid=True, no_dev=True))
    if spec.init:
        files.append(core.Mount("bind", init_path, INIT_PATH, is_read_only=True))
    return sorted([*files, *chosen.values()], key=lambda mount: mount.destination.rstrip("/").count("/"))


def mount_points(container: Container, paths: StartPaths) -> tuple[str, ...]:
    """Every place inside on which a start mounts something, the kernel's file systems included."""
    # Only destinations are told, so that the path of the init does not matter.
    devices = (device.container_path or device.host_path for device in container.spec.devices)
    own = ("/dev", "/proc", "/sys")
    outside = (path for path in devices if not path.startswith("/dev/"))
    return (*own, *outside, *(mount.destination for mount in mounts(container, paths, "")))


def _bind(mount: BindSpec) -> core.Mount:
    return core.Mount(
        "bind",
        mount.source,
        mount.target,
        is_read_only=mount.read_only,
        propagation=mount.propagation.value.removeprefix("r"),
        is_recursive=not mount.non_recursive,
        is_read_only_below=mount.recursive_read_only,
    )


def _tmpfs(mount: TmpfsSpec) -> core.Mount:
    options = [f"mode={mount.mode:o}"]
    if mount.size_bytes:
        options.append(f"size={mount.size_bytes}")
    if mount.max_inodes:
        options.append(f"nr_inodes={mount.max_inodes}")
    options += [f"{name}={value}" for name, value in (("uid", mount.uid), ("gid", mount.gid)) if value]
    return core.Mount(
        "tmpfs",
        "",
        mount.target,
        is_read_only=mount.read_only,
        data=",".join(options),
        no_exec=not mount.exec,
        no_suid=not mount.suid,
        no_dev=not mount.dev,
    )
