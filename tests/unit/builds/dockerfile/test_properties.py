"""What holds for any input: only the catalogue's errors, an end, and values that come back as they were written."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluytd.builds.dockerfile import globs
from fluytd.builds.dockerfile.fields import quoted_words
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.words import expand
from fluytd.errors import EngineError
from tests.support.dockerfiles import build, final, stage

REASONS = {"DOCKERFILE_INVALID", "DOCKERFILE_CHECKS_FAILED", "LIMIT_EXCEEDED", "BUILD_TARGET_NOT_FOUND"}
CORPUS = Path(__file__).parents[3] / "data" / "dockerfiles"

_PIECES = st.sampled_from(
    [
        *(
            "FROM scratch",
            "FROM a AS b",
            "RUN",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "CMD",
            "ONBUILD",
            "EXPOSE",
            "USER",
        ),
        *(
            "HEALTHCHECK",
            "WORKDIR",
            "VOLUME",
            "SHELL",
            "# escape=`",
            "# check=error=true",
            "# syntax=docker/dockerfile",
        ),
        *(
            " ",
            "\n",
            "\\\n",
            "`\n",
            "\t",
            "=",
            "$A",
            "${A",
            "}",
            ":-",
            "#",
            "%%",
            "//",
            "'",
            '"',
            "\\",
            "<<E",
            "<<-'E'",
        ),
        *(
            "E",
            "[",
            "]",
            '"a",',
            "--from=",
            "--mount=type=",
            "cache,",
            "target=/x",
            "--chmod=",
            "80/tcp",
            "1-9",
            "a",
            "é",
        ),
    ]
)
DOCKERFILES = st.lists(_PIECES, max_size=30).map("".join) | st.text(max_size=60)
NAMES = st.sampled_from(["A", "B", "C", "LONG_NAME"])
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r"), max_size=30)


def refusal_of(data: bytes) -> EngineError | None:
    """The error of a Dockerfile; None for one that can be built."""
    try:
        found = build(data)
    except EngineError as error:
        return error
    assert found.stages[-1].index == found.target
    return None


@given(DOCKERFILES)
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_build_or_one_of_the_catalogues_errors(text: str) -> None:
    error = refusal_of(("FROM scratch\n" + text if "FROM" not in text else text).encode())
    if error is not None:
        assert error.reason in REASONS
        assert error.reason != "DOCKERFILE_INVALID" or int(error.metadata["line"]) <= text.count("\n") + 2


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_build_or_one_of_the_catalogues_errors(data: bytes) -> None:
    error = refusal_of(b"FROM scratch\nRUN " + data)
    assert error is None or error.reason in REASONS


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.dockerfile")), ids=lambda path: path.stem)
def test_what_once_went_wrong_does_not_again(path: Path) -> None:
    error = refusal_of(path.read_bytes())
    assert error is None or error.reason in REASONS


TRIGGERS = st.sampled_from(
    [
        *(
            "RUN a  b",
            'RUN ["a", "b c"]',
            "RUN --mount=type=cache,target=/c x",
            "RUN <<E\na\n# b \\\nE",
            "RUN <<'E' cat\n$A\nE",
        ),
        *("COPY a b /c/", "COPY --chown=1 <<F /x\n$A 'q'\nF", "COPY --from=tools a /b", "ADD --unpack=false a /b"),
        *("ENV A=1 B=$A", "ENV A b  c", 'LABEL a="$A b"', "ARG A=x B", "WORKDIR w", "USER u", "EXPOSE 80 $P"),
        *(
            'CMD ["a"]',
            "ENTRYPOINT x",
            'SHELL ["a", "b"]',
            "VOLUME /a",
            "STOPSIGNAL 9",
            "HEALTHCHECK --retries=2 CMD x",
        ),
    ]
)


@given(st.lists(TRIGGERS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_goes_through_a_trigger_comes_back_as_it_was(lines: list[str]) -> None:
    begin = "FROM scratch AS tools\nFROM scratch AS parent\nENV P=90\n"
    direct = stage(begin + "FROM parent\n" + "\n".join(lines))
    through = stage(begin + "\n".join(f"ONBUILD {line}" for line in lines) + "\nFROM parent")
    assert through.config == direct.config
    assert [step.title for step in through.steps] == [step.title for step in direct.steps]
    assert through.origins == direct.origins
    assert all(step.is_trigger for step in through.steps)


@given(st.text("$ {}AB:-+?#%/*\\'\"<a ", max_size=40), st.dictionaries(NAMES, VALUES, max_size=3))
@settings(max_examples=150, deadline=None)
def test_expansion_ends_and_knows_what_it_looked_up(word: str, variables: dict[str, str]) -> None:
    try:
        found = expand(word, variables)
    except Mistake:
        return
    assert found.matched <= set(variables)
    assert not found.unmatched & set(variables)


@given(st.dictionaries(NAMES, VALUES, min_size=1))
@settings(max_examples=100, deadline=None)
def test_values_in_double_quotes_come_back(variables: dict[str, str]) -> None:
    quoted = {
        key: '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'
        for key, value in variables.items()
    }
    env = final("FROM scratch\nENV " + " ".join(f"{key}={value}" for key, value in quoted.items())).env
    assert set(env[1:]) == {f"{key}={value}" for key, value in variables.items()}


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_values_in_single_quotes_come_back(value: str) -> None:
    bare = value.replace("'", "")
    assert expand(f"'{bare}'", {}).text == bare
    assert quoted_words(f"a='{bare}' b", "\\") == [f"a='{bare}'", "b"]


@given(st.text("ab*?.", max_size=8), st.text("ab.\n", max_size=12), st.booleans())
@settings(max_examples=150, deadline=None)
def test_trimming_agrees_with_trying_every_beginning(pattern: str, value: str, longest: bool) -> None:
    ends = [end for end in range(len(value) + 1) if _matches(pattern, value[:end])]
    expected = value[(max if longest else min)(ends) :] if ends else value
    assert globs.trim_prefix(value, pattern, longest=longest) == expected
    backwards = globs.trim_suffix(value[::-1], pattern[::-1], longest=longest)
    assert backwards == expected[::-1]


@given(st.text("ab*?", max_size=6), st.text("ab\n", max_size=10))
@settings(max_examples=150, deadline=None)
def test_replacing_agrees_with_trying_every_place(pattern: str, value: str) -> None:
    places = [(start, end) for start in range(len(value) + 1) for end in range(start, len(value) + 1)]
    fits = [(start, -end) for start, end in places if _matches(pattern, value[start:end])]
    expected = value
    if fits:
        start, end = min(fits)
        expected = f"{value[:start]}-{value[-end:]}"
    assert globs.replace(value, pattern, "-", all_matches=False) == expected


def _matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return _matches(pattern[1:], text) or (bool(text) and text[0] != "\n" and _matches(pattern, text[1:]))
    if not text or (text[0] == "\n" if pattern[0] == "?" else text[0] != pattern[0]):
        return False
    return _matches(pattern[1:], text[1:])
