"""Dockerfiles made at random: config, history, findings and errors as BuildKit's own front end gives them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fluytd.builds.dockerfile import config
from fluytd.builds.dockerfile.origins import Base
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.steps import Request, ResolvedBuild
from fluytd.errors import EngineError
from fluytd.images.config import ImageConfig
from tests.support.dockerfiles import AMD64, as_docker, base_image

ANSWERS = [
    json.loads(line)
    for line in (Path(__file__).parents[3] / "data" / "dockerfiles" / "buildkit.jsonl").read_text().splitlines()
]
BASE = base_image(cmd=("basecmd",))
#: BuildKit blames the last line of the instruction, Fluyt the empty one.
OTHER_LINE = "NoEmptyContinuation"


def resolved(text: str, build_args: Mapping[str, str]) -> ResolvedBuild:
    """The build, on one base image for all names."""
    plan = make_plan(parse(text.encode()), Request(AMD64, target_platform=AMD64, build_args=build_args))
    bases: dict[Base, ImageConfig] = {}
    while missing := missing_bases(plan, bases):
        bases.update(dict.fromkeys(missing, BASE))
    return resolve(plan, bases)


def test_there_are_answers_of_both_kinds() -> None:
    assert len(ANSWERS) == 250
    assert sum("error" in answer for answer in ANSWERS) == 100


@pytest.mark.parametrize("answer", [each for each in ANSWERS if "error" in each])
def test_what_buildkit_refuses_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        resolved(answer["text"], answer["args"])
    assert caught.value.reason == "DOCKERFILE_INVALID"


@pytest.mark.parametrize("answer", [each for each in ANSWERS if "error" not in each])
def test_what_buildkit_makes_is_made(answer: dict[str, Any]) -> None:
    found = resolved(answer["text"], answer["args"])
    image = next(stage.config for stage in found.stages if stage.index == found.target)
    assert as_docker(image) == answer["config"]
    assert [[entry.created_by, not entry.is_empty_layer] for entry in image.history] == answer["history"]
    findings = sorted([each.rule, each.position.line] for each in found.warnings if each.rule != OTHER_LINE)
    assert findings == answer["findings"]
    assert config.HISTORY_COMMENT in {entry.comment for entry in image.history} or not image.history
