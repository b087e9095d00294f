"""ARG scopes, predefined arguments, stages and their bases, named contexts, triggers."""

import pytest

from fluytd.builds.dockerfile.origins import (
    BindMount,
    BuildContext,
    CacheMount,
    Image,
    NamedContext,
    Scratch,
    StageOutput,
)
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.resolve import missing_bases, resolve
from fluytd.builds.dockerfile.steps import CopyStep, Request, RunStep
from fluytd.errors import BuildTargetNotFound, EngineError
from fluytd.images.platforms import Platform
from tests.support.dockerfiles import AMD64, as_docker, base_image, build, final, refusal, stage, steps

ARM = Platform("linux", "arm", "v7")


def env(text: str, **build_args: str) -> list[str]:
    """The environment without PATH."""
    return [entry for entry in final(text, **build_args).env if not entry.startswith("PATH=")]


@pytest.mark.parametrize(
    ("text", "build_args", "expected"),
    [
        ("ARG A=1\nFROM scratch\nENV B=$A", {"A": "2"}, ["B="]),
        ("ARG A\nFROM scratch\nARG A\nENV B=$A", {"A": "2"}, ["B=2"]),
        ("ARG A\nFROM scratch\nARG A\nENV B=[$A]", {}, ["B=[]"]),
        ("ARG A=1\nARG A=2$A\nFROM scratch\nARG A\nENV B=$A", {}, ["B=21"]),
        ("FROM scratch\nARG A=1\nARG A\nENV B=$A", {}, ["B=1"]),
        ("FROM scratch\nENV A=e\nARG A=a\nENV B=$A", {}, ["A=e", "B=a"]),
        ("FROM scratch\nARG A=a\nENV A=e\nENV B=$A", {}, ["A=e", "B=e"]),
        ("FROM scratch\nARG A=a\nENV A=e\nENV B=$A", {"A": "c"}, ["A=e", "B=e"]),
        ("FROM scratch\nARG A=${B:-x}\nENV C=$A", {"B": "y"}, ["C=x"]),
        ("FROM scratch AS s\nARG A=1\nFROM s\nENV B=[$A]", {}, ["B=[1]"]),
        ("FROM scratch AS s\nARG A=1\nFROM scratch\nENV B=[$A]", {}, ["B=[]"]),
        ("FROM scratch\nENV B=$TARGETARCH\nARG TARGETARCH\nENV C=$TARGETARCH", {}, ["B=", "C=amd64"]),
        ("FROM scratch\nARG TARGETPLATFORM BUILDOS\nENV C=$TARGETPLATFORM,$BUILDOS", {}, ["C=linux/amd64,linux"]),
        ("FROM scratch\nARG TARGETOS=x\nENV C=$TARGETOS", {}, ["C=x"]),
        ("FROM scratch\nARG TARGETOS\nENV C=$TARGETOS", {"TARGETOS": "plan9"}, ["C=plan9"]),
        ("FROM scratch AS end\nARG TARGETSTAGE\nENV C=$TARGETSTAGE", {}, ["C=end"]),
        ("FROM scratch\nENV C=[$HTTP_PROXY]", {"HTTP_PROXY": "p"}, ["C=[]"]),
        ("FROM scratch\nARG HTTP_PROXY\nENV C=[$HTTP_PROXY]", {"HTTP_PROXY": "p"}, ["C=[p]"]),
        ("FROM scratch\nENV 'A B'=1", {}, ["A B=1"]),
        ("FROM scratch\nENV A=1 A=2", {}, ["A=2"]),
        ("FROM scratch\nENV K=x $K=y\nENV $K=z", {}, None),
        ("FROM scratch\nENV K=x\nENV $K=z L=$K", {}, ["K=x", "x=z", "L=x"]),
    ],
)  # fmt: skip
def test_arguments_hold_where_docker_says(text: str, build_args: dict[str, str], expected: list[str] | None) -> None:
    if expected is None:
        assert "makes the name ''" in refusal(text, **build_args).message
    else:
        assert env(text, **build_args) == expected


def test_arguments_of_the_target_platform() -> None:
    text = "FROM scratch\nARG TARGETPLATFORM TARGETARCH TARGETVARIANT BUILDARCH\n"
    text += "ENV A=$TARGETPLATFORM,$TARGETARCH,$TARGETVARIANT,$BUILDARCH"
    found = build(text, Request(AMD64, target_platform=ARM))
    assert as_docker(found.stages[0].config)["Env"] == ["A=linux/arm/v7,arm,v7,amd64"]
    assert found.stages[0].config.platform == ARM


@pytest.mark.parametrize(
    ("line", "base"),
    [
        ("FROM scratch", Scratch(AMD64)),
        ("FROM alpine", Image("docker.io/library/alpine:latest", AMD64)),
        ("FROM Base", StageOutput(0)),
        ("FROM $B", StageOutput(0)),
        ("FROM ${R}/a/b:1", Image("reg.io:5000/a/b:1", AMD64)),
        ("FROM 0", Image("docker.io/library/0:latest", AMD64)),
        ("FROM --platform=linux/arm/v7 alpine:3", Image("docker.io/library/alpine:3", ARM)),
        ("FROM --platform=$BUILDPLATFORM a", Image("docker.io/library/a:latest", AMD64)),
        ("FROM --platform=arm64 a", Image("docker.io/library/a:latest", Platform("linux", "arm64"))),
        ("FROM --platform=linux a", Image("docker.io/library/a:latest", AMD64)),
        ("FROM --platform=linux/arm64 scratch", Scratch(AMD64)),
        ("FROM ctx", NamedContext("ctx", AMD64)),
        ("FROM docker.io/library/ctx:latest", NamedContext("ctx", AMD64)),
        ("FROM img:2", NamedContext("img:2::linux/amd64", AMD64)),
        ("FROM --platform=arm64 img:2", NamedContext("img:2", Platform("linux", "arm64"))),
        ("FROM context", Image("docker.io/library/context:latest", AMD64)),
    ],
)
def test_what_from_stands_for(line: str, base: object) -> None:
    text = f"ARG B=base\nARG R=reg.io:5000\nFROM scratch AS base\n{line}\n"
    contexts = frozenset({"ctx", "img:2", "img:2::linux/amd64", "context", "scratch"})
    assert make_plan(parse(text.encode()), Request(AMD64, named_contexts=contexts)).stages[1].base == base


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("FROM $NONE", 1, "the base '$NONE' is empty"),
        ("FROM UPPER", 1, "neither a stage nor an image"),
        ("FROM a:b:c", 1, "neither a stage nor an image"),
        ("FROM --platform=$X scratch", 1, "the platform '$X' is empty"),
        ("FROM --platform=$TARGETPLATFROM scratch", 1, "did you mean TARGETPLATFORM?"),
        ("FROM --platform=a/b/c/d scratch", 1, "is no platform"),
        ("FROM --platform=foo scratch", 1, "is no platform"),
        ("FROM ${A:?say-which}", 1, "A: say-which"),
        ('ARG A="${B:?needs B}"\nFROM scratch', 1, "B: needs B"),
        ("FROM scratch\nCOPY --from=1 a b", 2, "there is no stage 1"),
        ("FROM scratch\nCOPY --from=-1 a b", 2, "there is no stage -1"),
        ("FROM scratch\nCOPY --from=0 a b", 2, "reads from itself"),
        ("FROM scratch AS a\nRUN --mount=from=a,target=/x y", 2, "reads from itself"),
        ("FROM scratch AS a\nCOPY --from=b a b\nFROM scratch AS b\nFROM a", 2, "below the stage that reads it"),
        ("FROM scratch\nCOPY --from=$X a b", 2, "--from takes no variables"),
        ("FROM scratch\nCOPY --from=BAD! a b", 2, "neither a stage nor an image"),
        ("FROM scratch AS build\nFROM scratch\nCOPY --from=Builds! a b", 3, "neither a stage nor an image"),
        ("FROM scratch\nARG A=$(", 2, ""),
    ],
)
def test_references_that_mean_nothing_are_refused_at_their_place(text: str, line: int, said: str) -> None:
    if not said:
        assert build(text).stages
        return
    error = refusal(text)
    assert said in error.message
    assert error.metadata["line"] == str(line)


def test_only_what_the_target_needs_is_resolved() -> None:
    text = (
        "FROM scratch AS a\nEXPOSE 99999\nFROM one AS b\nFROM two AS c\nCOPY --from=b x /\n"
        "FROM scratch AS d\nRUN --mount=from=c,target=/m y\nFROM b AS e\nFROM three AS f\n"
    )
    found = build(text, target="d")
    assert [each.index for each in found.stages] == [1, 2, 3]
    assert found.target == 3
    assert found.stages[1].origins == {StageOutput(1)}
    assert build(text, target="E").target == 4
    assert build(text, target="4").target == 4
    with pytest.raises(EngineError, match="above 65535"):
        build(text, Request(AMD64, resolves_every_stage=True))


def test_only_the_images_of_needed_stages_are_asked_for() -> None:
    text = "FROM one\nFROM two AS b\nFROM b\nCOPY --from=three a b\nRUN --mount=from=four,target=/x y\n"
    plan = make_plan(parse(text.encode()), Request(AMD64))
    assert missing_bases(plan, {}) == (Image("docker.io/library/two:latest", AMD64),)
    with pytest.raises(ValueError, match="are missing"):
        resolve(plan, {})


def test_a_target_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(BuildTargetNotFound, match="it has: one, 1"):
        build("FROM scratch AS one\nFROM scratch", target="tow")


def test_of_two_stages_of_one_name_the_later_counts_from_there_on() -> None:
    text = "FROM scratch AS a\nENV X=1\nFROM a AS b\nFROM scratch AS a\nENV X=2\nFROM a"
    assert env(text) == ["X=2"]
    assert env(text + "\nFROM b") == ["X=1"]


def test_copy_finds_stages_numbers_contexts_and_images() -> None:
    text = "FROM scratch AS One\nFROM scratch AS two\nFROM scratch\n"
    text += (
        "".join(f"COPY --from={name} a b\n" for name in ("one", "ONE", "1", "ctx", "scratch", "img:1")) + "COPY a b\n"
    )
    found = build(text, Request(AMD64, named_contexts=frozenset({"ctx"}))).stages[-1].steps
    assert [step.origin for step in found if isinstance(step, CopyStep)] == [
        StageOutput(0),
        StageOutput(0),
        StageOutput(1),
        NamedContext("ctx", AMD64),
        Scratch(AMD64),
        Image("docker.io/library/img:1", AMD64),
        BuildContext(),
    ]


def test_mounts_find_stages_by_name_only() -> None:
    text = "FROM scratch AS one\nFROM scratch\nRUN --mount=from=ONE,target=/a --mount=type=cache,from=0,target=/b x\n"
    (step,) = steps(text)
    assert isinstance(step, RunStep)
    bind, cache = step.mounts
    assert isinstance(bind, BindMount)
    assert isinstance(cache, CacheMount)
    assert (bind.origin, cache.origin) == (StageOutput(0), Image("docker.io/library/0:latest", AMD64))


def test_a_named_context_takes_the_place_of_a_whole_stage() -> None:
    text = "FROM one AS dep\nRUN x\nFROM scratch\nCOPY --from=dep a b\n"
    request = Request(AMD64, named_contexts=frozenset({"dep"}))
    found = build(text, request, bases={"dep": base_image(env=("A=1",), on_build=("RUN never",))})
    assert found.stages[0].base == NamedContext("dep", AMD64)
    assert found.stages[0].steps == ()
    assert found.stages[0].config.env[0] == "A=1"


def test_triggers_of_an_image_come_first_and_may_bring_stages() -> None:
    text = "FROM one AS tools\nFROM two AS other\nFROM parent AS c\nRUN own\nFROM c\nRUN last\n"
    parent = base_image(on_build=("COPY --from=tools /a /b", "ENV A=1", "RUN <<E\nx\nE"))
    found = build(text, bases={"docker.io/library/parent:latest": parent})
    assert [each.index for each in found.stages] == [0, 2, 3]
    middle, end = found.stages[1:]
    assert [(step.title, step.is_trigger) for step in middle.steps] == [
        ("COPY --from=tools /a /b", True),
        ("ENV A=1", True),
        ("RUN <<E (x)", True),
        ("RUN own", False),
    ]
    assert middle.steps[0].source.start.line == 3
    assert [step.title for step in end.steps] == ["RUN last"]
    assert end.config.on_build == ()
    assert "A=1" in end.config.env


@pytest.mark.parametrize(
    ("trigger", "said"),
    [("FROM x", "FROM cannot be a trigger"), ("RUN a\nRUN b", "no single instruction"), ("", "no single instruction"),
     ("BOGUS x", "no instruction 'BOGUS'"), ("COPY --from=nope! a b", "neither a stage")],
)  # fmt: skip
def test_a_bad_trigger_is_blamed_on_the_from_that_brought_it(trigger: str, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        build("FROM scratch\nFROM parent", bases={"docker.io/library/parent:latest": base_image(on_build=(trigger,))})
    assert said in caught.value.message
    assert caught.value.metadata["line"] == "2"


def test_b08_each_stage_begins_with_its_own_base() -> None:
    text = "FROM scratch AS a\nUSER bob\nWORKDIR /w\nFROM scratch\nENV X=1"
    found = final(text)
    assert (found.user, found.working_dir) == ("", "/")
    base = base_image(user="joe", working_dir="/base", entrypoint=("e",), labels={"a": "b"})
    inherited = build("FROM p AS a\nWORKDIR x\nFROM p", bases={"docker.io/library/p:latest": base}).stages[-1].config
    assert (inherited.user, inherited.working_dir, inherited.labels) == ("joe", "/base", {"a": "b"})


def test_build_arguments_that_nothing_takes_are_told() -> None:
    text = "ARG META\nFROM scratch AS a\nARG IN_OTHER\nFROM scratch\nARG USED\n"
    names = ("META", "IN_OTHER", "USED", "SPARE", "https_proxy", "TARGETOS", "SOURCE_DATE_EPOCH", "BUILDKIT_X")
    assert build(text, build_args=dict.fromkeys(names, "1")).unused_build_args == ("SPARE",)


def test_labels_of_the_request_come_last() -> None:
    found = build("FROM scratch\nLABEL a=1 b=2", Request(AMD64, labels={"b": "3"})).stages[0].config
    assert found.labels == {"a": "1", "b": "3"}


def test_the_image_is_of_the_platform_that_was_asked_for() -> None:
    found = build("FROM --platform=$BUILDPLATFORM a\nFROM b", Request(AMD64, target_platform=ARM))
    assert found.stages[-1].config.platform == ARM
    bases = {"docker.io/library/b:latest": base_image(platform=ARM)}
    assert build("FROM b", bases=bases).stages[-1].config.platform == ARM


def test_scans_of_stages_are_asked_for_by_argument() -> None:
    text = "ARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nFROM scratch AS a\nARG BUILDKIT_SBOM_SCAN_STAGE=x,a\n"
    text += "ENV B=[$BUILDKIT_SBOM_SCAN_STAGE]"
    found = stage(text)
    assert (found.scans_context, found.scans_stage) == (True, True)
    assert "B=[]" in found.config.env


@pytest.mark.parametrize("key", ["", "A=B", "A\0"])
def test_build_arguments_without_a_proper_name_are_refused(key: str) -> None:
    with pytest.raises(EngineError) as caught:
        make_plan(parse(b"FROM scratch"), Request(AMD64, build_args={key: "1"}))
    assert (caught.value.reason, caught.value.field) == ("FIELD_INVALID", "build_args")
