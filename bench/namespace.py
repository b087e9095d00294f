"""A private mount namespace that shows pure cgroup v1, for peers that refuse the hybrid layout.

Nothing is unmounted and the host's mounts stay as they are: the view is mounted over /sys/fs/cgroup in the
namespace alone, and goes with it.
"""

import sys
from pathlib import Path

_SCRIPT = """
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
for controller in {controllers}; do
    mkdir /sys/fs/cgroup/$controller
    mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
done
for name in {names}; do
    mkdir /sys/fs/cgroup/$name
    mount -t cgroup -o none,name=$name cgroup /sys/fs/cgroup/$name
done
exec "$@"
"""


def v1_controllers() -> list[str]:
    """The v1 controllers mounted on this host, one hierarchy each; empty on a v2 host."""
    found: list[str] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" - ", 1)[1].split()
        if fields[0] == "cgroup":
            options = fields[2].split(",")
            found.append(",".join(option for option in options if option not in {"rw", "ro"} and "=" not in option))
    return [controllers for controllers in found if controllers]


def named_hierarchies() -> list[str]:
    """The v1 hierarchies without a controller that this kernel has: runc's exec wants each that stands in
    /proc/self/cgroup to be mounted."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return [line.split(":")[1].removeprefix("name=") for line in lines if line.split(":")[1].startswith("name=")]


def inside(module: str, arguments: list[str]) -> list[str]:
    """The command that runs `python -m module` with the view above; without v1 hierarchies, the plain command."""
    python = [sys.executable, "-m", module, *arguments]
    controllers = v1_controllers()
    if not controllers:
        return python
    script = _SCRIPT.format(controllers=" ".join(controllers), names=" ".join(named_hierarchies()))
    return ["unshare", "--mount", "--propagation", "private", "bash", "-ec", script, "peers", *python]
