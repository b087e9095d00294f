"""Flags of instructions: which there are, and their values. Source: BuildKit instructions/bflag.go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fluytd.builds.dockerfile.fields import Flag
from fluytd.builds.dockerfile.mistakes import Mistake, perhaps

Kind = Literal["text", "texts", "bool"]


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that an instruction has."""

    _texts: Mapping[str, list[str]]
    _bools: Mapping[str, bool] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """The value of a flag that stands once."""
        return self._texts[name][0] if name in self._texts else default

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may stand several times."""
        return tuple(self._texts.get(name, ()))

    def bool(self, name: str) -> bool | None:
        """The value of a flag that is true or false; None where it is absent."""
        return self._bools.get(name)


def read(flags: Sequence[Flag], kinds: Mapping[str, Kind], keyword: str) -> Flags:
    """What the flags say. Raises Mistake for an unknown flag, one that stands twice, and a bad value."""
    texts: dict[str, list[str]] = {}
    bools: dict[str, bool] = {}
    for flag in flags:
        name, separator, value = flag.text.removeprefix("--").partition("=")
        kind = kinds.get(name)
        if kind is None:
            known = ", ".join(f"--{each}" for each in sorted(kinds))
            fix = f"{keyword.upper()} takes {known}" if kinds else f"{keyword.upper()} takes no flags"
            rule = f"{keyword.upper()} has no flag --{name}{perhaps(name, kinds, '--')}"
            raise Mistake(rule, fix, flag.offset)
        if kind != "texts" and (name in texts or name in bools):
            raise Mistake(f"the flag --{name} stands twice", "keep one of them", flag.offset)
        if kind == "bool":
            bools[name] = _bool(name, value, bool(separator), flag.offset)
        elif not separator:
            raise Mistake(f"the flag --{name} has no value", f"write --{name}=VALUE", flag.offset)
        else:
            texts.setdefault(name, []).append(value)
    return Flags(texts, bools)


def _bool(name: str, value: str, has_value: bool, offset: int) -> bool:
    word = value.lower() if has_value else "true"
    if word not in {"true", "false"}:
        raise Mistake(f"the flag --{name} is true or false, not {value!r}", f"write --{name} or --{name}=false", offset)
    return word == "true"
