"""Who may call what, deny by default. It exists only where there is a listener besides the unix socket."""

from collections.abc import Collection
from typing import Any, Final

from fluytd.api.interceptors.identity import LOCAL_PRINCIPAL, principal_of
from fluytd.errors import PermissionDenied

#: Methods whose name begins so change nothing.
READ_VERBS: Final = ("Get", "List", "Watch", "Read", "Resolve", "Wait")


class Policy:
    """Two sets of principals: those that may do everything and those that may only read."""

    def __init__(self, administrators: Collection[str], readers: Collection[str]) -> None:
        """Names as `principal_of` tells them; the unix socket's principal is an administrator always."""
        self._administrators = frozenset(administrators) | {LOCAL_PRINCIPAL}
        self._readers = frozenset(readers)

    def check(self, rpc: str, context: Any) -> None:
        """Raises PERMISSION_DENIED unless the caller may call `rpc`."""
        principal = principal_of(context)
        if principal in self._administrators:
            return
        if principal in self._readers and rpc.rpartition("/")[2].startswith(READ_VERBS):
            return
        raise PermissionDenied(principal=principal, rpc=rpc)
