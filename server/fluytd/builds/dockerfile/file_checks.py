"""The build checks that the file alone decides: casing, names, comments. Source: BuildKit validations.go."""

from collections.abc import Sequence

from fluytd.builds.dockerfile import checks
from fluytd.builds.dockerfile.checks import Inspector
from fluytd.builds.dockerfile.lines import LogicalLine
from fluytd.builds.dockerfile.model import Instruction, Stage
from fluytd.builds.dockerfile.source import Position

_RESERVED = frozenset({"context", "scratch"})


def check_instruction(line: LogicalLine, inspector: Inspector) -> None:
    """What one line shows: an empty continuation, MAINTAINER, the casing and the comment of FROM and ARG."""
    words = line.source.text.split()
    name = words[0].upper()
    if line.empty_line:
        where = Position(line.empty_line, 1)
        inspector.report(
            checks.NO_EMPTY_CONTINUATION, line.source, "Empty continuation line", line.comments, position=where
        )
    if name == "MAINTAINER":
        message = "Maintainer instruction is deprecated in favor of using label"
        inspector.report(checks.MAINTAINER_DEPRECATED, line.source, message, line.comments)
    elif name == "FROM":
        _check_from(line, [word for word in words if not word.startswith("--")], inspector)
    elif name == "ARG":
        keys = [word.partition("=")[0] for word in words[1:]]
        _check_description("ARG", keys, line, inspector)


def _check_from(line: LogicalLine, words: list[str], inspector: Inspector) -> None:
    if len(words) != 4:
        return
    keyword, _, joiner, name = words
    if name != name.lower():
        message = f"Stage name '{name}' should be lowercase"
        inspector.report(checks.STAGE_NAME_CASING, line.source, message, line.comments)
    is_consistent = keyword in {keyword.lower(), keyword.upper()}
    expected = joiner.lower() if keyword == keyword.lower() else joiner.upper()
    if is_consistent and joiner != expected:
        message = f"'{joiner}' and '{keyword}' keywords' casing do not match"
        inspector.report(checks.FROM_AS_CASING, line.source, message, line.comments)
    _check_description("FROM", [name.lower()], line, inspector)


def _check_description(instruction: str, names: list[str], line: LogicalLine, inspector: Inspector) -> None:
    if line.comments and names and line.comments[-1].split(" ")[0] not in names:
        shown = names[0] if len(names) == 1 else "<arg_key>"
        message = f"Comment for {instruction} should follow the format: `# {shown} <description>`"
        inspector.report(checks.INVALID_DEFINITION_DESCRIPTION, line.source, message, line.comments)


def check_stages(stages: Sequence[Stage], inspector: Inspector) -> None:
    """What the stages show together: names taken twice or reserved, keywords of another case than most."""
    seen: set[str] = set()
    for stage in stages:
        origin = stage.origin
        if stage.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            inspector.report(checks.RESERVED_STAGE_NAME, origin.source, message, origin.comments)
        if stage.name and stage.name in seen:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            inspector.report(checks.DUPLICATE_STAGE_NAME, origin.source, message, origin.comments)
        seen.add(stage.name)
    _check_casing([each for stage in stages for each in (stage.origin, *stage.instructions)], inspector)


def _check_casing(instructions: Sequence[Instruction], inspector: Inspector) -> None:
    lower = sum(each.keyword == each.keyword.lower() for each in instructions)
    upper = sum(each.keyword == each.keyword.upper() for each in instructions)
    wanted, name = (str.lower, "lowercase") if lower > upper else (str.upper, "uppercase")
    for each in instructions:
        if each.keyword != wanted(each.keyword):
            message = f"Command '{each.keyword}' should match the case of the command majority ({name})"
            inspector.report(checks.CONSISTENT_INSTRUCTION_CASING, each.source, message, each.comments)
