"""EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL, MAINTAINER and ONBUILD. Source: Docker's Dockerfile reference."""

import re

from fluytd.builds.dockerfile.fields import blank_words, json_words, split_command
from fluytd.builds.dockerfile.instructions.entry import Entry
from fluytd.builds.dockerfile.instructions.variables import parse_pairs
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Expose, Maintainer, OnBuild, StopSignal, User, Volume, Workdir
from fluytd.builds.dockerfile.text import SPACE, strip

_ON_BUILD = re.compile(rf"[{SPACE}]*ONBUILD[{SPACE}]*", re.IGNORECASE)
#: JSON form and pairs must be right when a trigger is written; all else is looked at in the child.
_WITH_PAIRS = frozenset({"ENV", "LABEL"})
_WITH_JSON = frozenset({"ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"})
_NO_TRIGGERS = frozenset({"FROM", "MAINTAINER"})


def parse_expose(entry: Entry) -> Expose:
    """EXPOSE PORT[-PORT][/PROTOCOL]..."""
    ports = blank_words(entry.needed("PORT[/PROTOCOL]"))
    entry.flags()
    return Expose(**entry.common, ports=tuple(sorted(ports)))


def parse_volume(entry: Entry) -> Volume:
    """VOLUME PATH... in either form."""
    words = json_words(entry.needed("PATH"))
    entry.flags()
    paths = tuple(strip(path) for path in (blank_words(entry.rest) if words is None else words))
    if not paths or not all(paths):
        raise Mistake("a path of VOLUME is empty", 'write VOLUME /PATH or VOLUME ["/PATH"]', entry.command.offset)
    return Volume(**entry.common, paths=paths)


def parse_user(entry: Entry) -> User:
    """USER NAME[:GROUP]."""
    entry.flags()
    return User(**entry.common, user=entry.needed("NAME or USER NAME:GROUP"))


def parse_workdir(entry: Entry) -> Workdir:
    """WORKDIR PATH; blanks within belong to the path."""
    entry.flags()
    return Workdir(**entry.common, path=entry.needed("/PATH"))


def parse_stop_signal(entry: Entry) -> StopSignal:
    """STOPSIGNAL NAME or NUMBER."""
    entry.flags()
    return StopSignal(**entry.common, signal=entry.needed("SIGTERM or STOPSIGNAL 15"))


def parse_maintainer(entry: Entry) -> Maintainer:
    """MAINTAINER NAME."""
    entry.flags()
    return Maintainer(**entry.common, name=entry.needed("NAME, or better LABEL org.opencontainers.image.authors=NAME"))


def parse_on_build(entry: Entry) -> OnBuild:
    """ONBUILD INSTRUCTION; what it says is looked at when a child is built."""
    rest = entry.needed("INSTRUCTION")
    entry.flags()
    inner = split_command(rest, entry.escape)
    if inner.name == "ONBUILD":
        raise Mistake(
            "ONBUILD ONBUILD is not allowed", "write the instruction once behind ONBUILD", entry.command.offset
        )
    if inner.name in _NO_TRIGGERS:
        raise Mistake(f"{inner.name} cannot be a trigger", "put it into the child's Dockerfile", entry.command.offset)
    if inner.name in _WITH_JSON:
        json_words(inner.rest)
    elif inner.name in _WITH_PAIRS and inner.rest:
        parse_pairs(inner.name, inner.rest, entry.escape)
    trigger = _ON_BUILD.sub("", entry.source.text, count=1)
    bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in entry.heredocs)
    return OnBuild(**entry.common, trigger=trigger + bodies)
