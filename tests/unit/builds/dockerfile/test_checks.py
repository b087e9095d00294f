"""Build checks: each one found where Docker finds it, and left out where a file skips it."""

import time

import pytest

from fluytd.builds.dockerfile.checks import MAX_CHECK_FINDINGS, RULES
from fluytd.builds.dockerfile.steps import Request
from fluytd.errors import DockerfileChecksFailed
from fluytd.images.platforms import Platform
from tests.support.dockerfiles import AMD64, base_image, build, findings

#: check, Dockerfile, the lines of its findings (of this check; there are no others).
ROWS: list[tuple[str, str, list[int]]] = [
    ("StageNameCasing", "FROM scratch AS Build", [1]),
    ("FromAsCasing", "FROM scratch as a", [1]),
    ("FromAsCasing", "from scratch AS a", [1]),
    ("NoEmptyContinuation", "FROM scratch\nENV A=1 \\\n\n  B=2\nUSER a", [3]),
    ("ConsistentInstructionCasing", "FROM scratch\nenv A=1\nUser b", [2, 3]),
    ("ConsistentInstructionCasing", "from scratch\nenv A=1\nUSER b", [3]),
    ("DuplicateStageName", "FROM scratch AS a\nFROM scratch AS b\nFROM scratch AS a", [3]),
    ("ReservedStageName", "FROM scratch AS context\nFROM scratch AS scratch", [1, 2]),
    ("JSONArgsRecommended", "FROM scratch\nCMD a\nENTRYPOINT b", [2, 3]),
    ("MaintainerDeprecated", "FROM scratch\nMAINTAINER me", [2]),
    ("UndefinedArgInFrom", "FROM scratch$NOPE", [1]),
    ("WorkdirRelativePath", "FROM scratch\nWORKDIR a\nWORKDIR b", [2]),
    ("UndefinedVar", "FROM scratch\nENV A=$B\nCOPY $C /x\nUSER ${D:-e}", [2, 3, 4]),
    ("MultipleInstructionsDisallowed", "FROM scratch\nCMD []\nCMD []\nHEALTHCHECK NONE\nHEALTHCHECK NONE", [2, 4]),
    ("LegacyKeyValueFormat", "FROM scratch\nENV A b\nLABEL c d", [2, 3]),
    ("RedundantTargetPlatform", "FROM --platform=${TARGETPLATFORM} scratch", [1]),
    ("SecretsUsedInArgOrEnv", "FROM scratch\nARG API_KEY\nENV db_password=a TOKEN=b", [2, 3, 3]),
    ("InvalidDefaultArgInFrom", "ARG GIVEN\nFROM a:$GIVEN", [2]),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 a AS b", [1]),
    ("InvalidBaseImagePlatform", "FROM other", [1]),
    ("ExposeProtoCasing", "FROM scratch\nEXPOSE 80/TCP", [2]),
    ("ExposeInvalidFormat", "FROM scratch\nEXPOSE 127.0.0.1:80:80\nEXPOSE 8080:80 [::1]:90:90", [2, 3, 3]),
    ("InvalidDefinitionDescription", "# check=experimental=all\n# about\nFROM scratch AS a\n# b it is\nARG b", [3]),
    ("CopyIgnoredFile", "FROM scratch\nCOPY secret a /\nADD secret /\nCOPY --from=x secret /", [2, 3]),
    # What is not to be found.
    ("StageNameCasing", "FROM scratch AS a-1.b_c", []),
    ("FromAsCasing", "From scratch aS a\nFROM scratch", []),
    ("NoEmptyContinuation", "FROM scratch\nENV A=1 \\\n# note\n  B=2", []),
    ("JSONArgsRecommended", 'FROM scratch\nSHELL ["a"]\nCMD a', []),
    ("UndefinedArgInFrom", "ARG T\nFROM scratch$T", []),
    ("WorkdirRelativePath", "FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b", []),
    ("UndefinedVar", "FROM scratch\nARG A\nENV B=$A C=$PATH D='$E' F=\\$G\nRUN $H", []),
    ("SecretsUsedInArgOrEnv", "FROM scratch\nENV PUBLIC_KEY=a TOKEN_FILE=b KEYBOARD=c SECRET_VERSION=d MONKEY=e", []),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=linux/amd64 a AS b-amd64", []),
    ("FromPlatformFlagConstDisallowed", "FROM --platform=$BUILDPLATFORM a", []),
    ("InvalidDefinitionDescription", "# about\nFROM scratch AS a", []),
    ("MultipleInstructionsDisallowed", 'FROM scratch AS a\nCMD ["a"]\nFROM a\nCMD ["b"]', []),
]  # fmt: skip

OTHER = Platform("linux", "s390x")


def found_in(text: str, rule: str) -> list[int]:
    """The lines of one check's findings."""
    request = Request(AMD64, build_args={"GIVEN": "1"}, hides_source=lambda source: source == "secret")
    bases = {"docker.io/library/other:latest": base_image(platform=OTHER)}
    return [each.position.line for each in build(text, request, bases=bases).warnings if each.rule == rule]


@pytest.mark.parametrize(("rule", "text", "lines"), ROWS, ids=[f"{row[0]}-{len(row[2])}" for row in ROWS])
def test_a_check_finds_what_it_is_for(rule: str, text: str, lines: list[int]) -> None:
    assert found_in(text, rule) == lines


def test_every_check_has_a_row() -> None:
    assert {row[0] for row in ROWS if row[2]} == set(RULES)
    assert len(RULES) == 22


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# check=skip=all\nFROM scratch as A\nCMD a", []),
        ("# check=skip=StageNameCasing, FromAsCasing\nFROM scratch as A\nCMD a", [("JSONArgsRecommended", 3)]),
        ("# check=skip=JSONArgsRecommended we like shells\nFROM scratch\nCMD a", []),
        ("FROM scratch\n# check=skip=JSONArgsRecommended\nCMD a\nENTRYPOINT b", [("JSONArgsRecommended", 4)]),
        ("FROM scratch\n# check=skip=JSONArgsRecommended for now\nCMD a", []),
        ("FROM scratch\n# check=skp=all\nCMD a", [("JSONArgsRecommended", 3)]),
        (
            "# check=experimental=InvalidDefinitionDescription\n#\n# x\nFROM scratch AS a",
            [("InvalidDefinitionDescription", 4)],
        ),
    ],
)
def test_checks_can_be_skipped(text: str, expected: list[tuple[str, int]]) -> None:
    assert findings(text) == expected


def test_findings_fail_a_build_that_asks_for_it() -> None:
    with pytest.raises(DockerfileChecksFailed) as caught:
        build("# check=error=true\nFROM scratch\nCMD a\nMAINTAINER b")
    assert caught.value.metadata == {
        "file": "Dockerfile",
        "line": "3",
        "rules": "JSONArgsRecommended, MaintainerDeprecated",
    }
    assert build("# check=skip=all;error=true\nFROM scratch\nCMD a").warnings == ()
    assert build('# check=error=true\nFROM scratch\nCMD ["a"]').warnings == ()


def test_a_finding_says_what_where_and_where_to_read_more() -> None:
    (found,) = build("FROM scratch\nENV A=$PATHH \\\n  B=2").warnings
    assert found.message == "Usage of undefined variable '$PATHH' (did you mean $PATH?)"
    assert (found.position.line, found.position.column, found.end_line) == (2, 1, 3)
    assert found.url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    assert RULES["JSONArgsRecommended"].url.endswith("/json-args-recommended/")
    assert RULES["InvalidBaseImagePlatform"].url == ""
    assert all(rule.description for rule in RULES.values())


def test_findings_are_bounded() -> None:
    names = " ".join(f"$NAME_{index:028}" for index in range(1_500))
    text = "FROM scratch\nARG " + " ".join(f"ARG_{index:028}" for index in range(900)) + f'\nLABEL a="{names}"'
    begin = time.process_time()
    assert len(build(text).warnings) == MAX_CHECK_FINDINGS
    assert time.process_time() - begin < 20


def test_only_the_stages_that_are_built_are_checked_for_what_expansion_finds() -> None:
    text = "FROM scratch AS a\nCMD x\nFROM scratch"
    assert findings(text) == []
    everything = build(text, Request(AMD64, resolves_every_stage=True))
    assert [each.rule for each in everything.warnings] == ["JSONArgsRecommended"]
