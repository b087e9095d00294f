"""What the steps of a build depend on: stages that wait for others, parts of cache keys, places in errors."""

from dataclasses import replace

import pytest

from fluytd.builds import graph
from fluytd.builds.dockerfile import config
from fluytd.builds.dockerfile.origins import Base, BuildContext, PathSource, SecretMount
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.steps import CopyStep, Request, ResolvedBuild, RunStep
from fluytd.errors import BuildCommandFailed
from fluytd.images.config import ImageConfig
from fluytd.images.platforms import Platform

PLATFORM = Platform("linux", "amd64")


def resolved(text: str, **request: object) -> ResolvedBuild:
    """The build of a Dockerfile whose images are all empty."""
    plan = make_plan(parse(text.encode()), Request(build_platform=PLATFORM, **request))  # type: ignore[arg-type]
    bases: dict[Base, ImageConfig] = {base: config.empty(PLATFORM) for base in missing_bases(plan, {})}
    return resolve(plan, bases)


def test_a_stage_waits_for_its_base_and_for_what_it_reads() -> None:
    build = resolved(
        "FROM a AS one\nFROM a AS two\nFROM one AS three\nCOPY --from=two /x /x\n"
        "RUN --mount=type=bind,from=one,target=/m true\n"
    )
    assert [graph.depends_on(stage) for stage in build.stages] == [frozenset(), frozenset(), frozenset({0, 1})]


def test_steps_are_numbered_over_all_stages_with_their_lines() -> None:
    build = resolved("FROM a AS one\nRUN true\n\nFROM one\nWORKDIR /w\n")
    places = [place for stage in graph.places(build) for place in stage]
    assert [(place.number, place.title.split()[0]) for place in places] == [
        (1, "FROM"),
        (2, "RUN"),
        (3, "FROM"),
        (4, "WORKDIR"),
    ]
    assert [place.line for place in places if not place.title.startswith("FROM")] == [2, 5]


def _run(text: str) -> RunStep:
    (step,) = (step for step in resolved(text).stages[-1].steps if isinstance(step, RunStep))
    return step


def test_every_part_of_a_run_counts_and_proxies_do_not() -> None:
    step = _run("FROM a\nENV A=1\nRUN --mount=type=secret,id=s true\n")
    parts = graph.run_parts(step, "sha256:1", [""])
    for other in (
        replace(step, argv=("x",)),
        replace(step, env=("A=2",)),
        replace(step, user="u"),
        replace(step, working_dir="/w"),
        replace(step, network="none"),
        replace(step, mounts=(SecretMount("other", "/run/secrets/s"),)),
    ):
        assert graph.run_parts(other, "sha256:1", [""]) != parts
    assert graph.run_parts(step, "sha256:2", [""]) != parts
    assert graph.run_parts(replace(step, proxy_env=("http_proxy=x",)), "sha256:1", [""]) == parts


def test_words_cannot_be_shifted_between_lists() -> None:
    step = _run("FROM a\nRUN true\n")
    one = graph.run_parts(replace(step, argv=("a", "b"), env=("c",)), "", [])
    other = graph.run_parts(replace(step, argv=("a",), env=("b", "c")), "", [])
    assert one != other


def test_a_linked_copy_stands_on_nothing() -> None:
    (step,) = (one for one in resolved("FROM a\nCOPY --link f /f\n").stages[0].steps if isinstance(one, CopyStep))
    assert step.origin == BuildContext()
    assert isinstance(step.sources[0], PathSource)
    assert graph.copy_parts(step, "sha256:1", ["d"]) == graph.copy_parts(step, "sha256:2", ["d"])
    plain = replace(step, is_linked=False)
    assert graph.copy_parts(plain, "sha256:1", ["d"]) != graph.copy_parts(plain, "sha256:2", ["d"])
    assert graph.copy_parts(step, "", ["d"]) != graph.copy_parts(step, "", ["e"])


def test_a_failure_names_step_file_line_and_exit_code() -> None:
    place = graph.StepPlace(3, 0, "app", "RUN make", 7)
    failure = graph.failed(place, BuildCommandFailed(exit_code=2), "Dockerfile", 2).failure
    assert (failure.metadata["step"], failure.metadata["line"], failure.metadata["exit_code"]) == ("3", "7", "2")
    assert failure.message.startswith("Dockerfile:7: step 3 of app failed: RUN make")


@pytest.mark.parametrize(("path", "pattern"), [("/a b", "/a b"), ("/*?[x]\\", "/\\*\\?\\[x]\\\\")])
def test_a_path_is_written_as_the_pattern_that_means_it(path: str, pattern: str) -> None:
    assert graph.literal(path) == pattern
