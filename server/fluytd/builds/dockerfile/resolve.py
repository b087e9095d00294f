"""From a plan and the configs of base images to stages of steps. It decides; it fetches and runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fluytd.builds.dockerfile import checks, config, limits
from fluytd.builds.dockerfile.checks import Inspector, in_order
from fluytd.builds.dockerfile.dispatch import dispatch
from fluytd.builds.dockerfile.mistakes import blamed_on
from fluytd.builds.dockerfile.model import Arg, Instruction, OnBuild, Stage
from fluytd.builds.dockerfile.origins import Base, Image, NamedContext, Scratch, StageOutput
from fluytd.builds.dockerfile.parse import parse_trigger
from fluytd.builds.dockerfile.plan import predefined_args
from fluytd.builds.dockerfile.references import check_own_references, stages_read_by
from fluytd.builds.dockerfile.scope import PROXY_NAMES, Budget, Scope
from fluytd.builds.dockerfile.steps import Plan, PlannedStage, ResolvedBuild, ResolvedStage, Step
from fluytd.builds.dockerfile.text import parse_bool
from fluytd.errors import DockerfileChecksFailed
from fluytd.images.config import ImageConfig

#: Arguments that the engine takes without any ARG.
_ENGINE_ARGS = frozenset({"SOURCE_DATE_EPOCH"})
_ENGINE_PREFIX = "BUILDKIT_"


def missing_bases(plan: Plan, bases: Mapping[Base, ImageConfig]) -> tuple[Image | NamedContext, ...]:
    """The bases whose configs `resolve` still needs, each once, lowest stage first; none when it can be called.

    Each answer that is added to `bases` may bring more: triggers of an image may read other stages. Raises
    DOCKERFILE_INVALID, LIMIT_EXCEEDED.
    """
    _, missing = _reach(plan, bases)
    return missing


def resolve(plan: Plan, bases: Mapping[Base, ImageConfig]) -> ResolvedBuild:
    """Every needed stage with every word expanded. `bases` has all that `missing_bases` asks for.

    Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED, DOCKERFILE_CHECKS_FAILED. CPU-bound, well below a second.
    """
    needed, missing = _reach(plan, bases)
    if missing:
        raise ValueError(f"the configs of {missing} are missing")
    inspector = Inspector(plan.parsed.directives.checks)
    budget = Budget()
    consumed: set[str] = set()
    scopes: dict[int, Scope] = {}
    stages: list[ResolvedStage] = []
    for index in sorted(needed):
        scope = _begin(plan, plan.stages[index], bases, scopes, inspector, budget)
        consumed |= scope.consumed
        steps = _steps(plan, index, needed[index], scope)
        consumed |= scope.consumed
        scopes[index] = scope
        stage = _finished(plan, index, steps, scope)
        stages.append(replace(stage, config=_as_asked(plan, stage.config)) if index == plan.target else stage)
    findings = in_order((*plan.warnings, *inspector.findings))
    if findings and plan.parsed.directives.checks.is_error:
        raise DockerfileChecksFailed(
            file=plan.parsed.file,
            line=findings[0].position.line,
            rules=sorted({finding.rule for finding in findings}),
        )
    return ResolvedBuild(tuple(stages), plan.target, findings, _unused(plan, consumed))


#: The triggers of each needed stage.
_Needed = dict[int, tuple[Instruction, ...]]


def _reach(plan: Plan, bases: Mapping[Base, ImageConfig]) -> tuple[_Needed, tuple[Image | NamedContext, ...]]:
    """The stages that the target needs with their triggers, as far as is known, and the bases not known yet."""
    check_own_references(plan)
    needed: _Needed = {}
    missing: dict[Image | NamedContext, None] = {}
    waiting = list(range(len(plan.stages))) if plan.request.resolves_every_stage else [plan.target]
    while waiting:
        index = waiting.pop()
        if index in needed:
            continue
        planned = plan.stages[index]
        if isinstance(planned.base, Image | NamedContext) and planned.base not in bases:
            missing[planned.base] = None
        triggers = _triggers(plan, planned, bases)
        needed[index] = triggers
        if isinstance(planned.base, StageOutput):
            waiting.append(planned.base.index)
        waiting += stages_read_by(plan, index, (*triggers, *own_instructions(plan, index)))
    order = {plan.stages[index].base: index for index in sorted(needed, reverse=True)}
    return needed, tuple(sorted(missing, key=lambda base: order[base]))


def own_instructions(plan: Plan, index: int) -> tuple[Instruction, ...]:
    """What the stage itself says; nothing where a named context takes its place."""
    stage = plan.parsed.stages[index]
    return () if is_replaced(plan.stages[index], stage) else stage.instructions


def is_replaced(planned: PlannedStage, stage: Stage) -> bool:
    """Whether a named context of the stage's own name takes its place."""
    if not isinstance(planned.base, NamedContext) or not stage.name:
        return False
    return planned.base.name.partition("::")[0].lower() == stage.name


def _triggers(plan: Plan, planned: PlannedStage, bases: Mapping[Base, ImageConfig]) -> tuple[Instruction, ...]:
    stage = plan.parsed.stages[planned.index]
    if is_replaced(planned, stage):
        return ()
    if isinstance(planned.base, StageOutput):
        texts: Sequence[str] = [
            each.trigger for each in own_instructions(plan, planned.base.index) if isinstance(each, OnBuild)
        ]
    else:
        texts = bases[planned.base].on_build if planned.base in bases else ()
    limits.check("MAX_DOCKERFILE_INSTRUCTIONS", len(texts), "the triggers of the base image")
    limits.check("MAX_TRIGGERS_CHARS", sum(map(len, texts)), "the triggers of the base image")
    return tuple(parse_trigger(text, stage.origin.source) for text in texts)


def _begin(
    plan: Plan,
    planned: PlannedStage,
    bases: Mapping[Base, ImageConfig],
    scopes: Mapping[int, Scope],
    inspector: Inspector,
    budget: Budget,
) -> Scope:
    """The scope in which the stage's first instruction is read."""
    if isinstance(planned.base, StageOutput):
        scope = scopes[planned.base.index].child(planned.index, planned.name, set())
    else:
        base = config.empty(planned.base.platform) if isinstance(planned.base, Scratch) else bases[planned.base]
        if isinstance(planned.base, Image):
            _check_platform(plan, planned, base, inspector)
        begun = config.begin_stage(base)
        scope = Scope(plan, planned.index, planned.name, planned.platform, inspector, budget, begun, {})
    for entry in scope.config.env:
        key, _, value = entry.partition("=")
        scope.set_variable(key, value)
    return scope


def _check_platform(plan: Plan, planned: PlannedStage, base: ImageConfig, inspector: Inspector) -> None:
    wanted, found = planned.platform, base.platform
    if (wanted.os, wanted.architecture) != (found.os, found.architecture):
        origin = plan.parsed.stages[planned.index].origin
        message = f'Base image {origin.base} was pulled with platform "{found}", expected "{wanted}" for current build'
        inspector.report(checks.INVALID_BASE_IMAGE_PLATFORM, origin.source, message, origin.comments)


def _steps(plan: Plan, index: int, triggers: tuple[Instruction, ...], scope: Scope) -> tuple[Step, ...]:
    steps: list[Step] = []
    for position, instruction in enumerate((*triggers, *own_instructions(plan, index))):
        with blamed_on(instruction.source):
            steps.append(dispatch(scope, instruction, is_trigger=position < len(triggers)))
    return tuple(steps)


def _finished(plan: Plan, index: int, steps: tuple[Step, ...], scope: Scope) -> ResolvedStage:
    planned = plan.stages[index]
    return ResolvedStage(
        index,
        planned.name if len(plan.stages) > 1 else "",
        planned.base,
        planned.platform,
        steps,
        scope.config,
        scans_stage=_is_asked_for(scope, "BUILDKIT_SBOM_SCAN_STAGE"),
        scans_context=_is_asked_for(scope, "BUILDKIT_SBOM_SCAN_CONTEXT"),
    )


def _as_asked(plan: Plan, image: ImageConfig) -> ImageConfig:
    """The final config with the labels and the platform of the request."""
    return replace(
        config.with_labels(image, plan.request.labels), platform=plan.request.target_platform or image.platform
    )


def _is_asked_for(scope: Scope, key: str) -> bool:
    value = scope.arguments.get(key) or scope.plan.global_args.get(key) or ""
    flag = parse_bool(value)
    return scope.stage_name in value.split(",") if flag is None else flag


def _unused(plan: Plan, consumed: set[str]) -> tuple[str, ...]:
    meta = {argument.key for arg in plan.parsed.arguments for argument in arg.arguments}
    stages = {
        argument.key
        for stage in plan.parsed.stages
        for each in stage.instructions
        if isinstance(each, Arg)
        for argument in each.arguments
    }
    known = consumed | meta | stages | set(predefined_args(plan.request, "")) | _ENGINE_ARGS
    return tuple(
        key
        for key in sorted(plan.request.build_args)
        if key not in known and key.upper() not in PROXY_NAMES and not key.startswith(_ENGINE_PREFIX)
    )
