"""Names of containers, answered inside their network namespaces. One thread of the core serves all of them."""

from collections.abc import Sequence
from typing import Final, final

from .network import Namespace

ADDRESS: Final[str]
"""Where a container asks for names, at port 53: an address of its own loopback device."""

@final
class Resolver:
    """Who has which name on which network, and who is answered. Shared between threads; ids are any text."""

    def __new__(cls) -> Resolver:
        """Serves nobody; the thread begins with the first."""
    def put(self, network: str, network_name: str, holder: str, names: Sequence[str], addresses: Sequence[str]) -> None:
        """On that network the holder has these names (any case) and addresses, whatever it had; its addresses have the
        first name. Names that begin or end otherwise than DNS has it are never asked for. Raises FIELD_INVALID
        (`address`). Never blocks."""
    def remove(self, network: str, holder: str) -> None:
        """The holder has no names there. Idempotent. Never blocks."""
    def set_client(self, client: str, networks: Sequence[str], servers: Sequence[str]) -> None:
        """What the client may ask from now on: names of these networks, the first that knows one; all else of the
        servers in turn, nobody if there are none. Servers are addresses, asked at port 53 from the daemon's namespace,
        three at most. Raises FIELD_INVALID (`server`). Never blocks."""
    def serve(self, client: str, namespace: Namespace) -> None:
        """What processes in the namespace send to ADDRESS is answered; port 53 stays free for their own servers. The
        namespace has sockets for names (see `ReadySupervisor.namespace`), which are taken; what served the client before
        does no longer. Raises KERNEL_FEATURE_MISSING, IO_FAILED. Blocking (well below a millisecond)."""
    def stop(self, client: str) -> None:
        """The client is not answered any more, and its sockets are closed soon. Idempotent. Never blocks."""
