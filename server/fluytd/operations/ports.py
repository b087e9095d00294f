"""What operations need of others."""

from typing import Protocol


class CancelToken(Protocol):
    """A flag that the work looks at; `fluytd._core.CancelToken`, or `FlagToken` where no core call is made."""

    def cancel(self) -> None:
        """Asks the work to end; idempotent."""

    @property
    def is_cancelled(self) -> bool:
        """True once `cancel` was called."""
