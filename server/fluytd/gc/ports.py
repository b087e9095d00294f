"""What the collector asks of those who own things."""

from typing import Protocol


class Needs(Protocol):
    """What is needed at this moment. Answers from memory, at once."""

    def needs_blob(self, digest: str) -> bool:
        """True if an image has the blob."""

    def needs_layer(self, layer_id: str) -> bool:
        """True if an image or a container stands on the layer."""
