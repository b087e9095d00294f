"""Lists of CNI plugins and what Debian's plugins leave on a host, for tests."""

import json
from pathlib import Path
from typing import Any

from tests.support.namespaces import Machine

#: Where Debian's containernetworking-plugins are.
PLUGIN_DIR = Path("/usr/lib/cni")
SUBNET = "10.66.0.0/24"
BRIDGE = "cni-test0"


class Lists:
    """A directory of lists, the test's own plugins, and where host-local notes the addresses that it gave."""

    def __init__(self, root: Path) -> None:
        """They are there, without a list."""
        self.config, self.plugins, self.leases = root / "net.d", root / "plugins", root / "leases"
        for path in (self.config, self.plugins):
            path.mkdir(parents=True)

    @property
    def options(self) -> list[str]:
        """Of a daemon that uses them."""
        return ["--cni-config-dirs", str(self.config), "--cni-plugin-dirs", f"{self.plugins},{PLUGIN_DIR}"]

    def write(self, name: str, *plugins: dict[str, Any], version: str = "0.4.0", **fields: Any) -> None:
        """The list stands."""
        whole = {"cniVersion": version, "name": name, "plugins": [*plugins], **fields}
        (self.config / f"{name}.conflist").write_text(json.dumps(whole))

    def script(self, name: str, text: str) -> None:
        """A plugin of the test's own, in shell; what it is given stands in `$given` beside it."""
        path = self.plugins / name
        path.write_text(f"#!/bin/sh\ngiven=$(cat)\n{text}\n")
        path.chmod(0o755)

    def bridge(self, name: str, **fields: Any) -> dict[str, Any]:
        """The plugin `bridge` with addresses by host-local and what leaves masqueraded."""
        ipam = {
            "type": "host-local",
            "dataDir": str(self.leases),
            "ranges": [[{"subnet": SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        return {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "capabilities": {"ips": True, "mac": True},
            "ipam": ipam,
            **fields,
        }

    def leased(self, name: str) -> set[str]:
        """Addresses that host-local has given and not taken back."""
        directory = self.leases / name
        return {one.name for one in directory.iterdir() if one.name[0].isdigit()} if directory.exists() else set()


PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def left_in(machine: Machine) -> list[str]:
    """Interfaces and rules of plugins that are about a container."""
    links = [name for name in machine.links() if name.startswith("veth")]
    rules = machine.run("iptables-save", "-t", "nat")
    return links + [line for line in rules.splitlines() if "id: " in line or line.startswith((":CNI-DN", ":CNI-0"))]
