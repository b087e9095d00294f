"""Dockerfiles read and resolved in one call, with made-up base images."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from fluytd.builds.dockerfile import config
from fluytd.builds.dockerfile.origins import Base, Image, NamedContext
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.steps import Request, ResolvedBuild, ResolvedStage, Step
from fluytd.errors import EngineError
from fluytd.images.config import ImageConfig
from fluytd.images.platforms import Platform

AMD64 = Platform("linux", "amd64")


def build(
    text: str | bytes,
    request: Request | None = None,
    *,
    target: str = "",
    bases: Mapping[str, ImageConfig] | None = None,
    build_args: Mapping[str, str] | None = None,
) -> ResolvedBuild:
    """The whole build; an image that `bases` (by reference, or a context's name) lacks is as empty as scratch."""
    request = request or Request(AMD64, target=target, build_args=build_args or {})
    plan = make_plan(parse(text.encode() if isinstance(text, str) else text), request)
    known: dict[Base, ImageConfig] = {}
    while missing := missing_bases(plan, known):
        for base in missing:
            known[base] = (bases or {}).get(name_of(base), config.empty(base.platform))
    return resolve(plan, known)


def name_of(base: Image | NamedContext) -> str:
    """By what `bases` finds it."""
    return base.reference if isinstance(base, Image) else base.name


def stage(text: str, **build_args: str) -> ResolvedStage:
    """The stage that becomes the image."""
    found = build(text, build_args=build_args)
    return next(each for each in found.stages if each.index == found.target)


def steps(text: str, **build_args: str) -> tuple[Step, ...]:
    """The steps of that stage."""
    return stage(text, **build_args).steps


def final(text: str, **build_args: str) -> ImageConfig:
    """The config of the image."""
    return stage(text, **build_args).config


def base_image(**fields: object) -> ImageConfig:
    """A base image's config with these fields."""
    return replace(config.empty(AMD64), **fields)  # type: ignore[arg-type]


def refusal(text: str | bytes, *, target: str = "", **build_args: str) -> EngineError:
    """The error of a Dockerfile that cannot be built."""
    with pytest.raises(EngineError) as caught:
        build(text, target=target, build_args=build_args)
    assert caught.value.reason in {"DOCKERFILE_INVALID", "LIMIT_EXCEEDED", "BUILD_TARGET_NOT_FOUND"}, caught.value
    return caught.value


def findings(text: str, **build_args: str) -> list[tuple[str, int]]:
    """(check, line) of each finding, in order."""
    return [(found.rule, found.position.line) for found in build(text, build_args=build_args).warnings]


def as_docker(image: ImageConfig) -> dict[str, object]:
    """The config as Docker's JSON has it, without the default PATH, the root as directory, and what is empty."""
    health = image.health_check
    names = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
    found: dict[str, object] = {
        "Env": [entry for entry in image.env if entry != f"PATH={config.DEFAULT_PATH}"],
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.cmd),
        "User": image.user,
        "WorkingDir": "" if image.working_dir == "/" else image.working_dir,
        "ExposedPorts": {port: {} for port in image.exposed_ports},
        "Volumes": {path: {} for path in image.volumes},
        "Labels": image.labels,
        "Shell": list(image.shell),
        "StopSignal": image.stop_signal,
        "OnBuild": list(image.on_build),
    }
    if health is not None:
        values = (
            health.interval_nanos,
            health.timeout_nanos,
            health.start_period_nanos,
            health.start_interval_nanos,
            health.retries,
        )
        options = {name: value for name, value in zip(names, values, strict=True) if value}
        found["Healthcheck"] = {"Test": list(health.test), **options}
    return {key: value for key, value in found.items() if value}
