"""Names of containers: which ones are allowed, and how one is made up. Randomness is passed in."""

import re
from collections.abc import Container
from random import Random
from typing import Final

#: Longest name; keeps it usable as a host name label's source, a file name and a column of a table.
MAX_NAME_LENGTH: Final = 128

#: Source: moby `daemon/names/names.go`, `[a-zA-Z0-9][a-zA-Z0-9_.-]` and at least one more character.
_ALLOWED: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)

NAME_RULE: Final = f"2 to {MAX_NAME_LENGTH} characters: a letter or digit, then letters, digits, `_`, `.` or `-`"

#: Attempts at a free name of two words before a number is added.
_PLAIN_ATTEMPTS: Final = 8

_ADJECTIVES: Final = [
    "able",
    "agile",
    "amber",
    "apt",
    "bold",
    "brave",
    "bright",
    "brisk",
    "calm",
    "candid",
    "civil",
    "clear",
    "clever",
    "cosy",
    "crisp",
    "deft",
    "eager",
    "early",
    "easy",
    "fair",
    "fine",
    "firm",
    "fleet",
    "fond",
    "frank",
    "free",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "good",
    "grand",
    "hale",
    "happy",
    "hardy",
    "keen",
    "kind",
    "lively",
    "loyal",
    "lucid",
    "merry",
    "mild",
    "modest",
    "neat",
    "nimble",
    "noble",
    "open",
    "patient",
    "plain",
    "polite",
    "prompt",
    "proud",
    "quick",
    "quiet",
    "ready",
    "robust",
    "round",
    "serene",
    "sharp",
    "silver",
    "sincere",
    "smart",
    "snug",
    "sober",
    "solid",
    "sound",
    "spry",
    "stable",
    "steady",
    "still",
    "stout",
    "sturdy",
    "sunny",
    "sure",
    "swift",
    "tidy",
    "trim",
    "true",
    "trusty",
    "upbeat",
    "valiant",
    "vivid",
    "warm",
    "wise",
    "witty",
    "young",
    "zesty",
]
_SHIPS: Final = [
    "barge",
    "bark",
    "barque",
    "bilander",
    "boeier",
    "brig",
    "brigantine",
    "buss",
    "caravel",
    "carrack",
    "catboat",
    "clipper",
    "cog",
    "collier",
    "corvette",
    "cutter",
    "dhow",
    "dogger",
    "dory",
    "dromon",
    "felucca",
    "ferry",
    "frigate",
    "galleon",
    "galley",
    "galliot",
    "gondola",
    "gunter",
    "hoy",
    "hulk",
    "jangada",
    "junk",
    "kayak",
    "ketch",
    "knarr",
    "koff",
    "launch",
    "lateen",
    "lighter",
    "liner",
    "longship",
    "lugger",
    "mistico",
    "nao",
    "packet",
    "pink",
    "pinnace",
    "pram",
    "proa",
    "punt",
    "sampan",
    "schooner",
    "scow",
    "shallop",
    "skiff",
    "sloop",
    "smack",
    "snow",
    "tartane",
    "tender",
    "tjalk",
    "trabaccolo",
    "trawler",
    "tug",
    "umiak",
    "wherry",
    "xebec",
    "yacht",
    "yawl",
]


def is_valid_name(name: str) -> bool:
    """Whether a caller may give a container this name (`NAME_RULE`)."""
    return len(name) <= MAX_NAME_LENGTH and _ALLOWED.fullmatch(name) is not None


def make_name(taken: Container[str], random: Random) -> str:
    """A name such as `brisk_caravel` that is not in `taken`."""
    for _ in range(_PLAIN_ATTEMPTS):
        name = _draw(random)
        if name not in taken:
            return name
    while True:
        name = f"{_draw(random)}_{random.randrange(10_000)}"
        if name not in taken:
            return name


def _draw(random: Random) -> str:
    return f"{random.choice(_ADJECTIVES)}_{random.choice(_SHIPS)}"
