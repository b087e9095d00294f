"""Rows of `image_uses`: when an image was last used, and whether it is pinned. They go with the image's own row."""

from fluytd.state.db import Transaction


def load_all(txn: Transaction) -> list[tuple[str, int, bool]]:
    """(image id, last use in nanoseconds of the epoch, is pinned) of every row."""
    return [(row[0], row[1], bool(row[2])) for row in txn.all("SELECT * FROM image_uses")]


def save(txn: Transaction, image_id: str, last_use_unix_nanos: int, *, is_pinned: bool) -> None:
    """The row is this; nothing for an image that is gone."""
    txn.execute(
        "INSERT OR REPLACE INTO image_uses SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM images WHERE id = ?)",
        (image_id, last_use_unix_nanos, int(is_pinned), image_id),
    )
