"""A policy of SELinux that is just enough to see what labels do: a daemon that may everything, containers that may use
what is labelled for them and is of their level, and a host whose files are not.

Classes and permissions that it does not name are allowed (checkpolicy's `-U allow`). Its user's name tells a machine
that has it from a host with a policy of its own, which no test touches.
"""

import subprocess
from pathlib import Path
from typing import Final

USER: Final = "fluyt_u"
PROCESS: Final = f"{USER}:system_r:container_t"
FILE: Final = f"{USER}:object_r:container_file_t"
LAYERS: Final = f"{USER}:object_r:container_ro_file_t"
#: What checks of a policy that is loaded go by, and where the kernel tells of it.
FILESYSTEM: Final = Path("/sys/fs/selinux")
_CURRENT: Final = Path("/proc/self/attr/current")

_FILES: Final = "ioctl read write create getattr setattr lock relabelfrom relabelto append map unlink link rename open"
_CLASSES: Final = {
    "process": "transition dyntransition fork signal sigkill sigchld ptrace getattr setexec",
    "file": f"{_FILES} execute execute_no_trans entrypoint",
    "dir": f"{_FILES} search add_name remove_name reparent rmdir",
    "lnk_file": _FILES,
}
#: In the kernel's order. Source: security/selinux/include/initial_sid_to_string.h.
_INITIAL: Final = [
    "kernel",
    "security",
    "unlabeled",
    "fs",
    "file",
    "file_labels",
    "init",
    "any_socket",
    "port",
    "netif",
    "netmsg",
    "node",
    "igmp_packet",
    "icmp_socket",
    "tcp_socket",
    "sysctl_modprobe",
    "sysctl",
    "sysctl_fs",
    "sysctl_kernel",
    "sysctl_net",
    "sysctl_net_unix",
    "sysctl_vm",
    "sysctl_dev",
    "kmod",
    "policy",
    "scmp_packet",
    "devnull",
]
_ALL_LEVELS: Final = "s0 - s0:c0.c1023"
_DAEMON: Final = f"{USER}:system_r:unconfined_t:{_ALL_LEVELS}"


def _object(kind: str) -> str:
    return f"{USER}:object_r:{kind}:s0"


def text() -> str:
    """The policy in checkpolicy's language."""
    any_file = "{ file dir lnk_file }"
    lines = [
        *(f"class {name}" for name in _CLASSES),
        *(f"sid {name}" for name in _INITIAL),
        *(f"class {name} {{ {permissions} }}" for name, permissions in _CLASSES.items()),
        # What is made in a directory has the directory's level. Source: refpolicy, policy/mcs.
        f"default_range {any_file} target low;",
        "sensitivity s0;",
        "dominance { s0 }",
        *(f"category c{number};" for number in range(1024)),
        "level s0:c0.c1023;",
        f"mlsconstrain {any_file} {{ read write open getattr setattr }} ( h1 dom h2 );",
        "attribute domain;",
        "attribute files;",
        "type unconfined_t, domain;",
        "type container_t, domain;",
        *(
            f"type {name}, files;"
            for name in ("container_file_t", "container_ro_file_t", "host_file_t", "kernel_file_t")
        ),
        "allow unconfined_t domain:process *;",
        f"allow unconfined_t {{ domain files }}:{any_file} *;",
        "allow container_t self:process *;",
        "allow container_t unconfined_t:process sigchld;",
        f"allow container_t {{ container_file_t self }}:{any_file} *;",
        f"allow container_t kernel_file_t:{any_file} {{ read write getattr setattr open ioctl map }};",
        "allow container_t kernel_file_t:dir search;",
        # A program's memory is that of its layer's file: what of it is changed later is asked of that file.
        "allow container_t container_ro_file_t:file { read getattr map execute };",
        "role system_r;",
        "role system_r types { unconfined_t container_t };",
        f"user {USER} roles {{ system_r }} level s0 range {_ALL_LEVELS};",
        *(f"sid {name} {_DAEMON if name in {'kernel', 'init'} else _object('host_file_t')}" for name in _INITIAL),
        *(f"fs_use_xattr {name} {_object('host_file_t')};" for name in ("overlay", "ext4", "xfs", "erofs")),
        *(f"fs_use_task {name} {_object('host_file_t')};" for name in ("pipefs", "sockfs")),
        *(f"fs_use_trans {name} {_object('host_file_t')};" for name in ("tmpfs", "devpts", "mqueue", "devtmpfs")),
        *(f"genfscon {name} / {_object('kernel_file_t')}" for name in ("proc", "sysfs", "cgroup2", "cgroup")),
        *(f"genfscon {name} / {_object('host_file_t')}" for name in ("9p", "rootfs", "selinuxfs", "securityfs")),
    ]
    return "\n".join(lines) + "\n"


def compiled(directory: Path) -> bytes:
    """The policy as the kernel takes it."""
    source, made = directory / "policy.conf", directory / "policy"
    source.write_text(text())
    command = ["checkpolicy", "-M", "-U", "allow", "-c", "31", "-o", str(made), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return made.read_bytes()


def current() -> str:
    """The label of this process: `kernel` while no policy is loaded; empty where there is no SELinux."""
    try:
        return _CURRENT.read_text().rstrip("\0\n")
    except OSError:
        return ""


def is_ours() -> bool:
    """This machine has SELinux and either no policy yet or this one: it is a machine for tests."""
    return (FILESYSTEM / "load").exists() and (current() == "kernel" or current().startswith(f"{USER}:"))


def load(directory: Path) -> None:
    """The policy is in force."""
    if current() == "kernel":
        (FILESYSTEM / "load").write_bytes(compiled(directory))
    (FILESYSTEM / "enforce").write_text("1")
    assert current().startswith(f"{USER}:"), current()
