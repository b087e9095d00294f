"""Ignore files of build contexts, with Docker's matching: which paths `.dockerignore` leaves out."""

from collections.abc import Sequence
from typing import final

@final
class Matcher:
    """The patterns of one ignore file, compiled; thread-safe.

    Source: github.com/moby/patternmatcher and its ignorefile package.
    """

    def __new__(cls, data: bytes) -> Matcher:
        """From the file's bytes. Raises IGNORE_FILE_INVALID (line, pattern, rule), LIMIT_EXCEEDED
        (MAX_IGNORE_FILE_BYTES, MAX_IGNORE_PATTERNS, MAX_IGNORE_PATTERN_BYTES). Blocking (some milliseconds)."""
    @staticmethod
    def from_patterns(patterns: Sequence[str]) -> Matcher:
        """From patterns that stand in no file, such as those of COPY --exclude. Raises as the constructor, line 0."""
    @property
    def is_empty(self) -> bool:
        """Nothing is left out."""
    @property
    def has_exceptions(self) -> bool:
        """A pattern begins with `!`. Without one, all below a directory that is left out is left out too."""
    def excluded(self, paths: Sequence[str]) -> list[bool]:
        """Whether each path is left out, in order. Paths are relative to the context, parted by `/`, without `.` and
        `..`. Blocking: below 100 ms for 50,000 paths."""
    def hides_source(self, source: str) -> bool:
        """Whether a COPY of this source would surely find nothing (build check CopyIgnoredFile)."""

def file_names(dockerfile: str) -> list[str]:
    """Where the ignore file of this Dockerfile may stand, the one that wins first (case B22)."""
