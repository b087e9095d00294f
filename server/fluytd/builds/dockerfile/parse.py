"""Reads a whole Dockerfile into typed instructions. It expands nothing and knows no image."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fluytd.builds.dockerfile import limits
from fluytd.builds.dockerfile.checks import Inspector, in_order
from fluytd.builds.dockerfile.fields import split_command
from fluytd.builds.dockerfile.file_checks import check_instruction, check_stages
from fluytd.builds.dockerfile.instructions import commands, settings, stages, transfers, variables
from fluytd.builds.dockerfile.instructions.entry import Entry
from fluytd.builds.dockerfile.lines import LineReader, LogicalLine, decode
from fluytd.builds.dockerfile.mistakes import Mistake, blamed_on, invalid, perhaps
from fluytd.builds.dockerfile.model import Arg, From, Instruction, ParsedFile, Stage
from fluytd.builds.dockerfile.source import Position, Source

_PARSERS: Final[dict[str, Callable[[Entry], Instruction]]] = {
    "ADD": transfers.parse_add,
    "ARG": variables.parse_arg,
    "CMD": commands.parse_cmd,
    "COPY": transfers.parse_copy,
    "ENTRYPOINT": commands.parse_entrypoint,
    "ENV": variables.parse_env,
    "EXPOSE": settings.parse_expose,
    "FROM": stages.parse_from,
    "HEALTHCHECK": commands.parse_health_check,
    "LABEL": variables.parse_label,
    "MAINTAINER": settings.parse_maintainer,
    "ONBUILD": settings.parse_on_build,
    "RUN": commands.parse_run,
    "SHELL": commands.parse_shell,
    "STOPSIGNAL": settings.parse_stop_signal,
    "USER": settings.parse_user,
    "VOLUME": settings.parse_volume,
    "WORKDIR": settings.parse_workdir,
}


@dataclass(slots=True)
class _Draft:
    """A stage under way."""

    origin: From
    instructions: list[Instruction] = field(default_factory=list)


def parse(text: bytes, file: str = "Dockerfile") -> ParsedFile:
    """The Dockerfile in `text`; `file` is its name in errors.

    Raises DOCKERFILE_INVALID (file, line, column, rule, fix), LIMIT_EXCEEDED. CPU-bound, well below a second.
    """
    reader = LineReader(decode(text, file), file)
    arguments: list[Arg] = []
    drafts: list[_Draft] = []
    lines: list[LogicalLine] = []
    count = argument_count = 0
    for line in reader:
        count += 1
        limits.check("MAX_DOCKERFILE_INSTRUCTIONS", count, f"{file}:{line.source.start.line}")
        instruction = parse_line(line, reader.directives.escape)
        lines.append(line)
        if isinstance(instruction, Arg):
            argument_count += len(instruction.arguments)
            limits.check("MAX_DOCKERFILE_ARGS", argument_count, f"{file}:{line.source.start.line}")
        if isinstance(instruction, From):
            drafts.append(_Draft(instruction))
            limits.check("MAX_DOCKERFILE_STAGES", len(drafts), f"{file}:{line.source.start.line}")
        elif drafts:
            drafts[-1].instructions.append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            name = instruction.keyword.upper()
            where = instruction.source.start
            raise invalid(file, where, f"{name} stands before the first FROM", "only ARG may; put FROM above it")
    _check_not_empty(bool(drafts), count, reader.number, file)
    found = tuple(Stage(index, draft.origin, tuple(draft.instructions)) for index, draft in enumerate(drafts))
    inspector = Inspector(reader.directives.checks)
    for line in lines:
        check_instruction(line, inspector)
    check_stages(found, inspector)
    return ParsedFile(file, reader.directives, tuple(arguments), found, in_order(inspector.findings))


def parse_trigger(text: str, origin: Source) -> Instruction:
    """The instruction of a base image's ONBUILD, at the place of the FROM that brought it.

    Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED. Source: BuildKit initOnBuildTriggers.
    """
    file = f"{origin.file} (ONBUILD of the base image)"
    reader = LineReader(decode(text.encode("utf-8", "replace"), file), file)
    lines = list(reader)
    if len(lines) != 1:
        raise invalid(
            origin.file, origin.start, f"the trigger {text!r} of the base is no single instruction", _BASE_FIX
        )
    source = Source(origin.file, lines[0].source.text, origin.start, origin.end_line)
    line = LogicalLine(source, (), lines[0].heredocs, 0)
    instruction = parse_line(line, reader.directives.escape)
    if isinstance(instruction, From):
        raise invalid(origin.file, origin.start, "FROM cannot be a trigger of the base", _BASE_FIX)
    return instruction


_BASE_FIX: Final = "mend the ONBUILD of the base image, or use another base"


def parse_line(line: LogicalLine, escape: str) -> Instruction:
    """One instruction. Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED."""
    with blamed_on(line.source):
        command = split_command(line.source.text, escape)
        parser = _PARSERS.get(command.name)
        if parser is None:
            raise Mistake(
                f"there is no instruction {command.keyword!r}{perhaps(command.name, _PARSERS)}",
                "the instructions are " + ", ".join(_PARSERS),
                0,
            )
        return parser(Entry(line.source, command, escape, line.comments, line.heredocs))


def _check_not_empty(has_stage: bool, instruction_count: int, line_count: int, file: str) -> None:
    if not has_stage:
        rule = "there is no FROM" if instruction_count else "the file has no instructions"
        raise invalid(file, Position(max(1, line_count), 1), rule, "begin with FROM, such as FROM scratch")
