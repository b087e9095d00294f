"""Bridges, veth pairs and one nftables table, told to the kernel by netlink; and plugins, executed for networks of others."""

from collections.abc import Sequence
from typing import final

from fluytd.networks.kernel_spec import AttachmentSpec, BridgeSpec, Element

@final
class Namespace:
    """A network namespace, with a netlink socket in it. It goes with its last process, file and socket."""

    def route_by(self, spec: AttachmentSpec) -> None:
        """The interface of `spec.name` that is there has the routes of `spec`. Raises IO_FAILED. Blocking."""
    def stand_in(self, name: str, addresses: Sequence[str]) -> None:
        """A link of that name with these addresses (CIDR) is in it, tied to nothing: for a namespace that is made in the
        place of one that has gone. Raises KERNEL_FEATURE_MISSING, FIELD_INVALID, IO_FAILED. Blocking."""
    def path(self) -> str:
        """Where other programs find it, as long as this object lives."""

@final
class PluginEnd:
    """What came of a plugin."""

    @property
    def end(self) -> str:
        """`exited`, `killed`, `timed_out` or `too_long`: it printed more than it may, and was killed."""
    @property
    def code(self) -> int:
        """Its exit code, or the number of the signal that killed it."""
    @property
    def output(self) -> bytes:
        """What it printed; nothing if that was too long."""
    @property
    def errors(self) -> bytes:
        """The beginning of its standard error, at most 4 KiB."""

def run_plugin(
    program: str,
    environment: Sequence[tuple[str, str]],
    input: bytes,
    input_path: str,
    timeout_millis: int,
    max_output_bytes: int,
) -> PluginEnd:
    """Executes the program with this environment and no other, and waits for it. `input_path`: a file that it reads
    `input` from; while it runs, also beyond the death of this process, nobody else executes one with the same file.
    Neither it nor its process group runs on return. Raises IO_FAILED (errno 2: no such program). Blocking."""

@final
class NetworkHost:
    """Links and the table of the namespace that the daemon runs in. Shared between threads."""

    def __new__(cls, table: str) -> NetworkHost:
        """Opens its sockets; nothing is made yet. Raises KERNEL_FEATURE_MISSING, IO_FAILED."""
    def make_bridge(self, spec: BridgeSpec) -> None:
        """It is there, up, with its addresses, and the host forwards between it and its other links. Idempotent. Raises
        KERNEL_FEATURE_MISSING, FIELD_INVALID, IO_FAILED. Blocking (well below a millisecond)."""
    def attach(self, spec: AttachmentSpec, namespace: Namespace) -> None:
        """A veth pair leads from the bridge into the namespace, and its end there is up, with addresses and routes. On
        failure nothing is left. A pair of `make_waiting` is taken. Raises KERNEL_FEATURE_MISSING, IO_FAILED (errno 19: no
        such bridge; 17: a name is taken). Blocking (about a millisecond)."""
    def make_waiting(self, host_name: str, namespace: Namespace) -> None:
        """A veth pair leads into the namespace, both ends down and tied to nothing; the first `attach` there takes it. It
        goes with the namespace. Raises KERNEL_FEATURE_MISSING, IO_FAILED. Blocking (about a millisecond)."""
    def remove_link(self, name: str) -> None:
        """The interface is gone, a veth pair with both ends. Idempotent. Raises IO_FAILED. Blocking (20 ms for a veth)."""
    def list_links(self) -> list[str]:
        """Names of all interfaces, in no order. Raises IO_FAILED. Blocking."""
    def routed_networks(self, except_: Sequence[str], /) -> list[str]:
        """CIDRs that the host has routes to but by these interfaces, no default route, in no order. Raises IO_FAILED.
        Blocking."""
    def set_table(self, elements: Sequence[Element]) -> None:
        """The table stands with exactly these elements, in one transaction; the rules of its chain `operator` are kept.
        Raises KERNEL_FEATURE_MISSING, FIELD_INVALID, IO_FAILED. Blocking."""
    def change_table(self, added: Sequence[Element], removed: Sequence[Element]) -> None:
        """The elements came and went, in one transaction; what is not there to be removed is passed over.
        Connections of UDP ports that are published no longer are forgotten. Raises
        FIELD_INVALID, IO_FAILED (errno 2: no table). Blocking."""
    def has_table(self) -> bool:
        """Whether the table stands, of an earlier daemon perhaps. Raises IO_FAILED. Blocking."""
    def delete_table(self) -> None:
        """It is gone, with the administrator's rules in it. Idempotent. Raises IO_FAILED. Blocking."""
