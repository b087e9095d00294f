"""Parser directives: `# syntax=`, `# escape=`, `# check=` at the top of a file, and the options of checks.

Source: BuildKit frontend/dockerfile/parser/directives.go and frontend/dockerfile/linter.
"""

import re
from dataclasses import replace

from fluytd.builds.dockerfile.mistakes import Mistake, perhaps
from fluytd.builds.dockerfile.source import Checks, Directives
from fluytd.builds.dockerfile.text import SPACE, parse_bool, strip, strip_left

_DIRECTIVE = re.compile(rf"([a-zA-Z][a-zA-Z0-9]*)[{SPACE}]*=[{SPACE}]*(.+?)[{SPACE}]*", re.DOTALL)
_NAMES = frozenset({"syntax", "escape", "check"})
_ESCAPES = ("\\", "`")
#: What the built-in front end answers to; a mirror may stand before it.
_SYNTAX = re.compile(r"(?:[^@]+/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")
_OPTIONS = ("skip", "experimental", "error")


def parse_directive(comment: str) -> tuple[str, str] | None:
    """Name in lower case and value of a comment's text that is written as a directive; None if it is not one."""
    found = _DIRECTIVE.fullmatch(strip_left(comment))
    if found is None or found[1].lower() not in _NAMES:
        return None
    return found[1].lower(), found[2]


class DirectiveReader:
    """Takes the lines of a file from the top; the first that is no directive ends them."""

    def __init__(self) -> None:
        self.directives = Directives()
        self._seen: set[str] = set()
        #: Nothing that follows is a directive.
        self.is_done = False

    def read(self, line: str) -> bool:
        """Whether the line is a directive, which then holds. Raises Mistake."""
        found = None if self.is_done or not line.startswith("#") else parse_directive(line[1:])
        if found is None:
            self.is_done = True
            return False
        name, value = found
        if name in self._seen:
            raise Mistake(f"the directive {name} stands twice", "keep one of them")
        self._seen.add(name)
        if name == "escape":
            if value not in _ESCAPES:
                raise Mistake(
                    f"the escape character {value!r} is neither \\ nor `", "write # escape=\\ or # escape=`", value
                )
            self.directives = replace(self.directives, escape=value)
        elif name == "syntax":
            _check_syntax(value)
            self.directives = replace(self.directives, syntax=value)
        else:
            self.directives = replace(self.directives, check=value, checks=parse_checks(value))
        return True


def _check_syntax(value: str) -> None:
    image = value.split(" ", 1)[0]
    if _SYNTAX.fullmatch(image) is None:
        raise Mistake(
            f"the front end {image!r} is not built in",
            "name docker/dockerfile, whose language this is, or remove the syntax directive",
            image,
        )


def parse_checks(text: str) -> Checks:
    """The meaning of `skip=A,B;experimental=all;error=true`. Raises Mistake."""
    checks = Checks()
    if not strip(text):
        return checks
    for part in strip(text).split(";", 2):
        option, separator, value = part.partition("=")
        option, value = strip(option), strip(value)
        if not separator or option not in _OPTIONS:
            raise Mistake(
                f"check has no option {option!r}{perhaps(option, _OPTIONS)}",
                "write skip=RULE,RULE, experimental=all or error=true",
                part,
            )
        # A reason may stand behind a rule, after a blank.
        rules = frozenset(rule.split(None, 1)[0] for rule in value.split(",") if strip(rule))
        value = value.split(None, 1)[0] if value else ""
        if option == "skip":
            checks = replace(checks, skips_all=True) if value == "all" else replace(checks, skipped=rules)
        elif option == "experimental":
            is_all = value == "all"
            checks = replace(checks, runs_all_experimental=True) if is_all else replace(checks, experimental=rules)
        elif (is_error := parse_bool(value)) is not None:
            checks = replace(checks, is_error=is_error)
        else:
            raise Mistake(f"error is true or false, not {value!r}", "write error=true", part)
    return checks


def merged(checks: Checks, comments: tuple[str, ...]) -> Checks:
    """With what a `# check=skip=...` right above an instruction adds for that instruction alone."""
    for comment in comments:
        found = parse_directive(comment)
        if found is None or found[0] != "check":
            continue
        try:
            added = parse_checks(found[1])
        except Mistake:
            return checks
        return replace(
            checks,
            skips_all=checks.skips_all or added.skips_all,
            skipped=checks.skipped | added.skipped,
            runs_all_experimental=checks.runs_all_experimental or added.runs_all_experimental,
            experimental=checks.experimental | added.experimental,
        )
    return checks
