"""Every bound of a Dockerfile is named by its error, and no input takes long."""

import contextlib
import time

import pytest

from fluytd.builds.dockerfile import limits
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.plan import make_plan
from fluytd.builds.dockerfile.steps import Request
from fluytd.errors import DockerfileInvalid, EngineError, LimitExceeded
from tests.support.dockerfiles import AMD64, base_image, build, refusal

BIG = "x" * 60_000


def _doubling(times: int) -> str:
    return "FROM scratch\nENV A=aaaaaaaaaaaaaaaa\n" + "ENV A=$A$A\n" * times


#: limit, Dockerfile.
ROWS: list[tuple[str, str]] = [
    ("MAX_DOCKERFILE_BYTES", "FROM scratch\n" + "# x\n" * 140_000),
    ("MAX_DOCKERFILE_LINE_BYTES", "FROM scratch\nRUN " + "x" * limits.MAX_DOCKERFILE_LINE_BYTES),
    ("MAX_DOCKERFILE_INSTRUCTIONS", "FROM scratch\n" + "USER a\n" * limits.MAX_DOCKERFILE_INSTRUCTIONS),
    ("MAX_DOCKERFILE_STAGES", "FROM scratch\n" * (limits.MAX_DOCKERFILE_STAGES + 1)),
    ("MAX_DOCKERFILE_ARGS", "FROM scratch\nARG " + "A " * (limits.MAX_DOCKERFILE_ARGS + 1)),
    ("MAX_INSTRUCTION_WORDS", "FROM scratch\nLABEL " + "a=b " * (limits.MAX_INSTRUCTION_WORDS + 1)),
    ("MAX_INSTRUCTION_WORDS", "FROM scratch\nCOPY " + "a " * (limits.MAX_INSTRUCTION_WORDS + 1)),
    ("MAX_INSTRUCTION_WORDS", "FROM scratch\nCMD [" + '"a",' * limits.MAX_INSTRUCTION_WORDS + '"b"]'),
    ("MAX_INSTRUCTION_WORDS", "FROM scratch\nRUN " + "--mount=x " * (limits.MAX_INSTRUCTION_WORDS + 1) + "y"),
    ("MAX_INSTRUCTION_HEREDOCS", "FROM scratch\nRUN " + "<<A " * (limits.MAX_INSTRUCTION_HEREDOCS + 1)),
    ("MAX_HEREDOC_BYTES", "FROM scratch\nRUN <<A\n" + "x\n" * (limits.MAX_HEREDOC_BYTES // 2 + 1) + "A\n"),
    ("MAX_EXPANSION_CHARS", _doubling(14)),
    ("MAX_EXPANSION_DEPTH", "FROM scratch\nENV A=" + "${U:-" * 40 + "}" * 40),
    ("MAX_HEREDOC_EXPANSION_CHARS", _doubling(13) + "COPY <<F /x\n" + "$A\n" * 9 + "F\n"),
    ("MAX_STAGE_ENV_CHARS", _doubling(12) + "".join(f"ENV B{index}=$A\n" for index in range(20))),
    ("MAX_BUILD_EXPANSION_CHARS", _doubling(12) + "LABEL " + "a=$A " * 1000),
    ("MAX_BUILD_EXPANSION_CHARS", _doubling(13) + "RUN x\n" * 300),
    ("MAX_EXPOSED_PORTS", "FROM scratch\nEXPOSE 0-65535/tcp 0-65535/udp 0-65535/sctp 1"),
    ("MAX_BUILD_EXPANSION_CHARS", "FROM scratch\n" + "EXPOSE 0-65535\n" * 100),
]


@pytest.mark.parametrize(("limit", "text"), ROWS, ids=[f"{index}-{row[0]}" for index, row in enumerate(ROWS)])
def test_a_bound_is_named_by_its_error_and_met_soon(limit: str, text: str) -> None:
    begin = time.process_time()
    error = refusal(text)
    assert (error.reason, error.metadata["limit"]) == ("LIMIT_EXCEEDED", limit)
    assert int(error.metadata["actual"]) > int(error.metadata["limit_value"]) == getattr(limits, limit)
    assert time.process_time() - begin < 6


def test_every_bound_has_a_test() -> None:
    names = {name for name in vars(limits) if name.startswith("MAX_")}
    assert names == {row[0] for row in ROWS} | {"MAX_BUILD_ARGS", "MAX_TRIGGERS_CHARS"}


@pytest.mark.parametrize(
    ("build_args", "limit"),
    [
        ({f"A{index}": "" for index in range(limits.MAX_BUILD_ARGS + 1)}, "MAX_BUILD_ARGS"),
        ({"A": "x" * (limits.MAX_EXPANSION_CHARS + 1)}, "MAX_EXPANSION_CHARS"),
    ],
)
def test_build_arguments_are_bounded(build_args: dict[str, str], limit: str) -> None:
    with pytest.raises(EngineError) as caught:
        make_plan(parse(b"FROM scratch"), Request(AMD64, build_args=build_args))
    assert caught.value.metadata["limit"] == limit


@pytest.mark.parametrize(
    ("triggers", "limit"),
    [
        (("RUN " + BIG,) * 10, "MAX_TRIGGERS_CHARS"),
        (("RUN x",) * (limits.MAX_DOCKERFILE_INSTRUCTIONS + 1), "MAX_DOCKERFILE_INSTRUCTIONS"),
    ],
)
def test_triggers_of_a_base_are_bounded(triggers: tuple[str, ...], limit: str) -> None:
    with pytest.raises(EngineError) as caught:
        build("FROM p", bases={"docker.io/library/p:latest": base_image(on_build=triggers)})
    assert caught.value.metadata["limit"] == limit


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch\nRUN " + "a \\\n" * 100_000 + "b",
        "FROM scratch\n" + "# c\n" * 120_000 + "RUN b",
        "FROM scratch\nENV A=" + "\\$" * 30_000,
        "FROM scratch\nENV A='" + '" $B' * 10_000 + "'",
        "FROM scratch\nRUN <<E\n" + "$x 'y' \"z\"\n" * 20_000 + "E",
        "FROM scratch\nCOPY <<E /x\n" + "$x 'y' \"z\"\n" * 20_000 + "E",
        "FROM scratch\n" + "ARG A\n" * 1000 + "RUN x\n" * 900,
        "FROM scratch AS a0\n" + "".join(f"FROM a{index} AS a{index + 1}\nUSER x\n" for index in range(250)),
        "FROM scratch\nRUN " + "<" * 60_000,
        "FROM scratch\nRUN " + "${a" * 20_000 + " <<E",
        "FROM scratch\nSHELL [" + "[" * 60_000,
        "FROM scratch\nLABEL a=" + "$B" * 30_000,
    ],
    ids=range(12),
)
def test_long_files_within_the_bounds_are_read_soon(text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(DockerfileInvalid, LimitExceeded):
        build(text)
    assert time.process_time() - begin < 6
