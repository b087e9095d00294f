"""What the FROM lines mean for a request: arguments above them, bases, platforms, the target. It needs no image."""

import re
from collections.abc import Mapping
from typing import Final

from fluytd.builds.dockerfile import checks, limits
from fluytd.builds.dockerfile.checks import Inspector, in_order
from fluytd.builds.dockerfile.mistakes import Mistake, blamed_on, perhaps
from fluytd.builds.dockerfile.model import Arg, From, ParsedFile, Stage
from fluytd.builds.dockerfile.origins import Base, Image, NamedContext, Scratch, StageOutput
from fluytd.builds.dockerfile.steps import Plan, PlannedStage, Request
from fluytd.builds.dockerfile.words import Expanded, Style, expand
from fluytd.errors import BuildTargetNotFound, FieldInvalid, ReferenceInvalid
from fluytd.ids import ImageReference
from fluytd.images.platforms import Platform

SCRATCH: Final = "scratch"
#: Names that no named context takes the place of.
_NEVER_CONTEXTS: Final = frozenset({SCRATCH, "context"})
_PLATFORM_PART: Final = re.compile(r"[A-Za-z0-9_.-]+")
#: What stands alone as an operating system; every other single word is an architecture. Source: containerd platforms.
_SYSTEMS: Final = frozenset({"linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "android", "wasip1"})
_ARCHITECTURES: Final = (
    *("amd64", "x86_64", "x86-64", "386", "i386", "i686", "arm64", "aarch64", "arm", "armhf", "armel", "ppc64le"),
    *("ppc64", "riscv64", "s390x", "mips", "mipsle", "mips64", "mips64le", "loong64", "wasm"),
)


def make_plan(parsed: ParsedFile, request: Request) -> Plan:
    """The stages with their bases, the target, and the arguments above the first FROM.

    Raises DOCKERFILE_INVALID, LIMIT_EXCEEDED, FIELD_INVALID (build_args), BUILD_TARGET_NOT_FOUND. CPU-bound, short.
    """
    _check_build_args(request.build_args)
    inspector = Inspector(parsed.directives.checks)
    target_name = request.target or parsed.stages[-1].name
    predefined = predefined_args(request, target_name)
    declared = {argument.key for arg in parsed.arguments for argument in arg.arguments}
    global_args = _meta_args(parsed, predefined, request.build_args)
    _check_defaults(parsed, predefined, inspector)
    planned: list[PlannedStage] = []
    for stage in parsed.stages:
        with blamed_on(stage.origin.source):
            planned.append(_planned(parsed, request, stage, global_args, declared, planned, inspector))
    target = find_target(parsed.stages, request.target)
    warnings = in_order((*parsed.warnings, *inspector.findings))
    return Plan(parsed, request, tuple(planned), target, global_args, warnings)


def predefined_args(request: Request, target_name: str) -> dict[str, str]:
    """BUILDPLATFORM and its like, and TARGETSTAGE; a build argument of such a name wins."""
    build = request.build_platform
    target = request.target_platform or build
    found = {"TARGETSTAGE": target_name or "default"}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}OSVERSION"] = platform.os_version
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    return {key: request.build_args.get(key, value) for key, value in found.items()}


def _check_build_args(build_args: Mapping[str, str]) -> None:
    limits.check("MAX_BUILD_ARGS", len(build_args), "the build arguments")
    for key, value in build_args.items():
        limits.check("MAX_EXPANSION_CHARS", len(value), f"the build argument {key[:80]}")
        if not key or "=" in key or "\0" in key or "\0" in value:
            raise FieldInvalid(field="build_args", rule=f"{key!r} cannot be the name of an argument with this value")


def _meta_args(parsed: ParsedFile, predefined: Mapping[str, str], build_args: Mapping[str, str]) -> dict[str, str]:
    found = dict(predefined)
    for arg in parsed.arguments:
        with blamed_on(arg.source):
            _add_meta_arg(arg, found, build_args, parsed.directives.escape)
    limits.check("MAX_STAGE_ENV_CHARS", sum(map(len, found.values())), "the arguments above the first FROM")
    return found


def _add_meta_arg(arg: Arg, found: dict[str, str], build_args: Mapping[str, str], escape: str) -> None:
    for argument in arg.arguments:
        if argument.key in build_args:
            found[argument.key] = build_args[argument.key]
        elif argument.default is not None:
            found[argument.key] = expand(argument.default, found, Style(escape=escape)).text


def _check_defaults(parsed: ParsedFile, predefined: Mapping[str, str], inspector: Inspector) -> None:
    """Whether FROM would be valid with no build arguments at all."""
    defaults = dict(predefined)
    try:
        for arg in parsed.arguments:
            _add_meta_arg(arg, defaults, {}, parsed.directives.escape)
        names = [expand(stage.origin.base, defaults, Style(escape=parsed.directives.escape)) for stage in parsed.stages]
    except Mistake:
        # The same is wrong with the real arguments, or the defaults are never used.
        return
    for stage, name in zip(parsed.stages, names, strict=True):
        if not name.text or (name.text != SCRATCH and not _is_reference(name.text)):
            message = f"Default value for ARG {stage.origin.base} results in empty or invalid base image name"
            origin = stage.origin
            inspector.report(checks.INVALID_DEFAULT_ARG_IN_FROM, origin.source, message, origin.comments)


def _is_reference(text: str) -> bool:
    try:
        ImageReference.parse(text)
    except ReferenceInvalid:
        return False
    return True


def _planned(
    parsed: ParsedFile,
    request: Request,
    stage: Stage,
    global_args: Mapping[str, str],
    declared: set[str],
    before: list[PlannedStage],
    inspector: Inspector,
) -> PlannedStage:
    origin = stage.origin
    style = Style(escape=parsed.directives.escape)
    known = declared | set(global_args)
    name = expand(origin.base, global_args, style)
    _report_undeclared(name, known, origin, inspector)
    if not name.text:
        raise Mistake(f"the base {origin.base!r} is empty", "give its arguments defaults above the FROM", origin.base)
    wanted: Platform | None = None
    if origin.platform:
        shown = expand(origin.platform, global_args, style)
        _report_undeclared(shown, known, origin, inspector)
        _report_platform(origin, shown, global_args, inspector)
        if not shown.text:
            near = "".join(perhaps(key, global_args) for key in sorted(shown.unmatched))
            fix = "declare the argument above the FROM, or remove --platform"
            raise Mistake(f"the platform {origin.platform!r} is empty{near}", fix, origin.platform)
        wanted = parse_platform(shown.text, origin.platform, request.build_platform)
    base, platform = _base(parsed, request, stage, name.text, wanted, before)
    return PlannedStage(stage.index, stage.shown_name, base, platform)


def _base(
    parsed: ParsedFile,
    request: Request,
    stage: Stage,
    name: str,
    wanted: Platform | None,
    before: list[PlannedStage],
) -> tuple[Base, Platform]:
    target = request.target_platform or request.build_platform
    platform = wanted or target
    context = named_context(request, stage.name, platform) if stage.name else None
    if context is not None:
        # A named context takes the place of the whole stage.
        return context, platform
    # Names are found in any case; of two stages of one name the later one counts.
    for earlier in reversed(before):
        if parsed.stages[earlier.index].name == name.lower():
            return StageOutput(earlier.index), earlier.platform
    if name == SCRATCH:
        return Scratch(target), target
    return named_context(request, name, platform) or image(name, platform), platform


def named_context(request: Request, name: str, platform: Platform) -> NamedContext | None:
    """The context of `--build-context` that a name means, one for the platform first; None if there is none."""
    if name.lower() in _NEVER_CONTEXTS:
        return None
    wanted = _context_key(name)
    for suffix in (f"::{platform}", ""):
        for given in request.named_contexts:
            bare, separator, of_platform = given.partition("::")
            if _context_key(bare) == wanted and f"{separator}{of_platform}" == suffix:
                return NamedContext(given, platform)
    return None


def _context_key(name: str) -> str:
    try:
        return ImageReference.parse(name.lower()).familiar.removesuffix(":latest")
    except ReferenceInvalid:
        return name.lower()


def image(name: str, platform: Platform) -> Image:
    """The image of a reference, tag `latest` where it has none. Raises Mistake."""
    try:
        reference = ImageReference.parse(name)
    except ReferenceInvalid as error:
        raise Mistake(
            f"{name!r} is neither a stage nor an image: {error.metadata['rule']}",
            "write a stage's name, or [host/]path[:tag][@digest] in lower case",
            name,
        ) from None
    return Image(str(reference.with_default_tag()), platform)


def parse_platform(text: str, written: str, local: Platform) -> Platform:
    """`linux/arm64`, `linux/arm/v7`, `arm64`, `linux`. Raises Mistake. Source: containerd platforms.Parse."""
    parts = text.split("/")
    if len(parts) > 3 or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        raise Mistake(f"{text!r} is no platform", "write OS/ARCHITECTURE[/VARIANT], such as linux/arm64", written)
    if len(parts) > 1:
        return Platform.normalised(*parts)
    word = text.lower()
    if word in _SYSTEMS:
        return Platform.normalised(word, local.architecture, local.variant)
    if word in _ARCHITECTURES:
        return Platform.normalised(local.os, word)
    raise Mistake(f"{text!r} is no platform", "write OS/ARCHITECTURE[/VARIANT], such as linux/arm64", written)


def find_target(stages: tuple[Stage, ...], target: str) -> int:
    """The stage of that name (any case) or number; the last one for an empty text. Raises BUILD_TARGET_NOT_FOUND."""
    if not target:
        return len(stages) - 1
    for stage in reversed(stages):
        if stage.name == target.lower():
            return stage.index
    if target.isascii() and target.isdecimal() and len(target) < 5 and int(target) < len(stages):
        return int(target)
    raise BuildTargetNotFound(target=target, stages=[stage.name or str(stage.index) for stage in stages])


def _report_undeclared(word: Expanded, known: set[str], origin: From, inspector: Inspector) -> None:
    for key in sorted(word.unmatched - known):
        message = f"FROM argument '{key}' is not declared{perhaps(key, known)}"
        inspector.report(checks.UNDEFINED_ARG_IN_FROM, origin.source, message, origin.comments)


def _report_platform(origin: From, word: Expanded, global_args: Mapping[str, str], inspector: Inspector) -> None:
    if word.matched == {"TARGETPLATFORM"} and not word.unmatched and word.text == global_args["TARGETPLATFORM"]:
        message = (
            f"Setting platform to predefined {origin.platform} in FROM is redundant as this is the default behavior"
        )
        inspector.report(checks.REDUNDANT_TARGET_PLATFORM, origin.source, message, origin.comments)
    parts = word.text.split("/")
    is_constant = not word.matched and not word.unmatched and all(_PLATFORM_PART.fullmatch(part) for part in parts)
    if is_constant and not any(part in origin.name for part in parts[:2]):
        message = f'FROM --platform flag should not use constant value "{word.text}"'
        inspector.report(checks.FROM_PLATFORM_FLAG_CONST_DISALLOWED, origin.source, message, origin.comments)
