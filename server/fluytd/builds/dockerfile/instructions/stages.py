"""FROM. Source: Docker's Dockerfile reference, FROM; BuildKit parseFrom."""

import re

from fluytd.builds.dockerfile.fields import blank_words
from fluytd.builds.dockerfile.instructions.entry import Entry, description
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import From

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")


def parse_from(entry: Entry) -> From:
    """FROM [--platform=P] BASE [AS NAME]."""
    words = blank_words(entry.needed("IMAGE or FROM IMAGE AS NAME"))
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if _STAGE_NAME.fullmatch(name) is None:
            raise Mistake(
                f"{words[2]!r} cannot name a stage",
                "begin with a letter and use letters, digits, '-', '_' and '.' only",
                words[2],
            )
    elif len(words) != 1:
        raise Mistake(
            f"FROM has {len(words)} arguments",
            "write FROM IMAGE or FROM IMAGE AS NAME, comments on lines of their own",
            0,
        )
    flags = entry.flags(platform="text")
    return From(
        **entry.common,
        base=words[0],
        name=name,
        platform=flags.text("platform"),
        description=description(entry.comments, name),
    )
