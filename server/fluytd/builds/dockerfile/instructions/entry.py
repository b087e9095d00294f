"""What every instruction's parser is given, and what several of them ask."""

from dataclasses import dataclass
from typing import TypedDict

from fluytd.builds.dockerfile.fields import Command, json_words
from fluytd.builds.dockerfile.flags import Flags, Kind, read
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import CommandLine, Heredoc
from fluytd.builds.dockerfile.source import Source


class Common(TypedDict):
    """The fields that every instruction has."""

    source: Source
    keyword: str
    comments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One logical line, taken apart."""

    source: Source
    command: Command
    escape: str
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def common(self) -> Common:
        """For the constructor of the instruction."""
        return {"source": self.source, "keyword": self.command.keyword, "comments": self.comments}

    @property
    def rest(self) -> str:
        """All after the flags, without blanks at both ends."""
        return self.command.rest

    @property
    def name(self) -> str:
        """The keyword in upper case, for messages."""
        return self.command.name

    def flags(self, **kinds: Kind) -> Flags:
        """The flags, of which there are these; `_` stands for `-`, and is dropped at the end. Raises Mistake."""
        return read(
            self.command.flags, {name.rstrip("_").replace("_", "-"): kind for name, kind in kinds.items()}, self.name
        )

    def needed(self, what: str) -> str:
        """The rest. Raises Mistake where it is empty."""
        if not self.rest:
            raise Mistake(f"{self.name} has no argument", f"write {self.name} {what}", 0)
        return self.rest

    def command_line(self) -> CommandLine:
        """The rest as a command in either form. Raises Mistake."""
        words = json_words(self.rest)
        if words is not None:
            return CommandLine(words, is_shell=False)
        return CommandLine((self.rest,) if self.rest else (), is_shell=True, heredocs=self.heredocs)


def description(comments: tuple[str, ...], name: str) -> str:
    """What a comment line above says of a name: the text after it. Empty for none."""
    if not name:
        return ""
    return next((text.removeprefix(f"{name} ") for text in comments if text.startswith(f"{name} ")), "")
