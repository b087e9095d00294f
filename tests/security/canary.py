"""A directory of the host that no container may read or write."""

import secrets
from pathlib import Path


class Canary:
    """`secret` and `deep/secret` hold a word that stands nowhere else; `f` is empty, as a mount point would be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.word = f"canary-{secrets.token_hex(8)}"
        (path / "deep").mkdir(parents=True)
        for name in ("secret", "deep/secret"):
            (path / name).write_text(self.word)
        (path / "f").touch()
        self._before = self._state()

    def _state(self) -> set[tuple[str, int, int, int, int, str]]:
        found = set()
        for path in (self.path, *self.path.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(self.path))
            content = path.read_text() if path.is_file() else ""
            found.add((name, status.st_mode, status.st_uid, status.st_ino, status.st_mtime_ns, content))
        return found

    def changes(self) -> list[str]:
        """What is not as it was: names, modes, owners, times, contents."""
        return sorted(str(entry) for entry in self._before ^ self._state())

    def is_in(self, data: bytes) -> bool:
        """Whether what stands in its files was read."""
        return self.word.encode() in data
