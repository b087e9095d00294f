"""What COPY --from and mounts name: a stage, a named context, an image. Source: BuildKit toCommand, detectRunMount."""

import re
from collections.abc import Iterable, Iterator

from fluytd.builds.dockerfile.mistakes import Mistake, blamed_on, perhaps
from fluytd.builds.dockerfile.model import Copy, Instruction, Run
from fluytd.builds.dockerfile.origins import Origin, Scratch, StageOutput
from fluytd.builds.dockerfile.plan import SCRATCH, image, named_context
from fluytd.builds.dockerfile.steps import Plan
from fluytd.builds.dockerfile.words import Style, expand

_NUMBER = re.compile(r"[+-]?[0-9]+")


def origin_of(plan: Plan, index: int, name: str, *, may_be_number: bool) -> Origin:
    """What a name means in a stage. Raises Mistake for a stage that is not before it."""
    stages = plan.parsed.stages
    if may_be_number and _NUMBER.fullmatch(name):
        number = int(name) if len(name) < 6 else -1
        if not 0 <= number < len(stages):
            raise Mistake(f"there is no stage {name}", f"use a name, or a number from 0 to {index - 1}", name)
        return _earlier(plan, index, number, name)
    for stage in reversed(stages):
        if stage.name == name.lower():
            return _earlier(plan, index, stage.index, name)
    platform = plan.request.target_platform or plan.request.build_platform
    if name.lower() == SCRATCH:
        return Scratch(platform)
    context = named_context(plan.request, name, platform)
    if context is not None:
        return context
    try:
        return image(name, platform)
    except Mistake as mistake:
        near = perhaps(name, [stage.name for stage in stages if stage.name], ignores_case=True)
        raise Mistake(mistake.rule + near, mistake.fix, mistake.at) from None


def _earlier(plan: Plan, index: int, found: int, name: str) -> StageOutput:
    if found == index:
        raise Mistake(f"the stage {name} reads from itself", "read from an earlier stage", name)
    if found > index:
        raise Mistake(f"the stage {name} stands below the stage that reads it", "move it above", name)
    return StageOutput(found)


def copy_origin_name(plan: Plan, instruction: Copy) -> str:
    """What --from names, "" for nothing. Raises Mistake for variables in it."""
    name = instruction.from_
    if name and expand(name, {}, Style(escape=plan.parsed.directives.escape)).text != name:
        raise Mistake(
            "--from takes no variables", "give the image a stage above: FROM ${IMAGE} AS name, then --from=name", name
        )
    return name


def stages_read_by(plan: Plan, index: int, instructions: Iterable[Instruction]) -> list[int]:
    """The stages from which instructions of a stage read files. Raises DOCKERFILE_INVALID."""
    found: list[int] = []
    for instruction in instructions:
        with blamed_on(instruction.source):
            for name, may_be_number in _names(plan, instruction):
                origin = origin_of(plan, index, name, may_be_number=may_be_number)
                if isinstance(origin, StageOutput):
                    found.append(origin.index)
    return found


def check_own_references(plan: Plan) -> None:
    """No stage, needed or not, reads from itself. Raises DOCKERFILE_INVALID."""
    for stage in plan.parsed.stages:
        for instruction in stage.instructions:
            with blamed_on(instruction.source):
                for name, may_be_number in _names(plan, instruction):
                    if (stage.name and name.lower() == stage.name) or (may_be_number and name == str(stage.index)):
                        origin_of(plan, stage.index, name, may_be_number=may_be_number)


def _names(plan: Plan, instruction: Instruction) -> Iterator[tuple[str, bool]]:
    """Each name, and whether it may be a stage's number."""
    if isinstance(instruction, Copy):
        name = copy_origin_name(plan, instruction)
        if name:
            yield name, True
    elif isinstance(instruction, Run):
        for name in instruction.mount_origins:
            if name:
                yield name, False
