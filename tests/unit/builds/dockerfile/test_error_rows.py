"""The rows of the field's cases that are errors: each with its line and what it says, before any step."""

import pytest

from tests.support.dockerfiles import refusal

#: id, Dockerfile, line (0 where the error is not about one), what the error says, target.
Row = tuple[str, str, int, str, str]

ROWS: list[Row] = [
    ("d006", "FROM scratch\nENV K=a\\\n  b\n", 3, "'b' in ENV has no '='", ""),
    ("d009", "# escape=x\nFROM scratch\n", 1, "the escape character 'x' is neither \\ nor `", ""),
    ("d014", "", 1, "the file has no instructions", ""),
    ("d015", "ENV A=1\n", 1, "ENV stands before the first FROM", ""),
    ("d016", "FROM scratch\nINSTALL x\n", 2, "there is no instruction 'INSTALL'", ""),
    ("d020", 'FROM scratch\nCMD ["a", 5]\n', 2, "an array in JSON form holds something that is no string", ""),
    ("d026", "FROM scratch\nSHELL /bin/bash -c\n", 2, "SHELL is not in JSON form", ""),
    ("d032", "FROM scratch\nENV A\n", 2, "ENV A has no value", ""),
    ("d033", "FROM scratch\nENV =x\n", 2, "a name in ENV is blank", ""),
    ("d052", "ENV X=1\nFROM scratch\n", 1, "ENV stands before the first FROM", ""),
    ("d060", "FROM scratch\nEXPOSE 99999\n", 2, "the port 99999 is above 65535", ""),
    ("d062", "FROM scratch\nEXPOSE\n", 2, "EXPOSE has no argument", ""),
    ("d064", "FROM scratch\nSTOPSIGNAL NOPE\n", 2, "'NOPE' is no signal", ""),
    ("d073", "FROM scratch\nVOLUME \n", 2, "VOLUME has no argument", ""),
    ("d077", "FROM scratch\nHEALTHCHECK --interval=1us CMD x\n", 2, "--interval=1us is less than 1ms", ""),
    ("d078", "FROM scratch\nHEALTHCHECK echo x\n", 2, "'echo' is no kind of HEALTHCHECK", ""),
    ("d080", "FROM scratch\nONBUILD ONBUILD RUN x\n", 2, "ONBUILD ONBUILD is not allowed", ""),
    ("d081", "FROM scratch\nONBUILD FROM x\n", 2, "FROM cannot be a trigger", ""),
    ("d085", "FROM scratch AS 1x\n", 1, "'1x' cannot name a stage", ""),
    ("d087", "FROM scratch AS a\nENV A=1\n", 0, "zz", "zz"),
    ("d088", "FROM scratch AS a\nCOPY --from=a /x /y\n", 2, "the stage a reads from itself", ""),
    ("d089", "FROM\n", 1, "FROM has no argument", ""),
    ("d090", "FROM scratch\nCOPY a\n", 2, "COPY has no destination", ""),
    ("d092", "FROM scratch\nCOPY --chmod=999 a /b\n", 2, "the mode '999' is not octal from 0 to 7777", ""),
    ("d093", "FROM scratch\nCOPY --bogus a /b\n", 2, "COPY has no flag --bogus", ""),
    ("d094", "FROM scratch\nCOPY http://x/y /z\n", 2, "COPY takes no source that is a URL: http://x/y", ""),
    ("d095", "FROM scratch\nRUN --mount=type=foo,target=/x echo\n", 2, "'foo' is not a type of mount", ""),
    ("d096", "FROM scratch\nRUN --network=zzz echo\n", 2, "'zzz' is no network mode", ""),
    ("d102", "FROM scratch\nRUN <<EOF\nx\n", 2, "the here-document 'EOF' has no end", ""),
]


@pytest.mark.parametrize(("text", "line", "said", "target"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_dockerfile_is_refused_with_the_place_and_the_reason(text: str, line: int, said: str, target: str) -> None:
    error = refusal(text, target=target)
    assert said in error.message
    assert int(error.metadata.get("line", "0")) == line
    if line:
        assert error.metadata["file"] == "Dockerfile"
        assert error.metadata["fix"]
