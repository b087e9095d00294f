"""From bytes to logical lines: directives, comments, continuations, here-documents."""

import pytest

from fluytd.builds.dockerfile.heredocs import find_heredoc, parse_heredoc
from fluytd.builds.dockerfile.lines import LineReader
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Copy, Run
from fluytd.builds.dockerfile.parse import parse
from fluytd.builds.dockerfile.source import Position
from tests.support.dockerfiles import refusal

#: id, Dockerfile, the logical lines behind FROM, the bodies of their here-documents.
ROWS: list[tuple[str, str, list[str], list[tuple[str, str]]]] = [
    ("d001", "RUN echo a \\\n# note\n  && echo b \\\n\n  && echo c\n", ["RUN echo a   && echo b   && echo c"], []),
    ("d002", "RUN echo a \\   \n   # indented note\n b\n", ["RUN echo a  b"], []),
    ("d003", "RUN echo tail \\", ["RUN echo tail "], []),
    ("d004", "RUN printf 'x\\\n# y\n z'\n", ["RUN printf 'x z'"], []),
    (
        "d097",
        "RUN <<EOF\na\n# not a comment\nb \\\nc\nEOF\n",
        ["RUN <<EOF"],
        [("EOF", "a\n# not a comment\nb \\\nc\n")],
    ),
    ("d098", "RUN <<-EOF\n\t\tx\n\ty\n\tEOF\n", ["RUN <<-EOF"], [("EOF", "\t\tx\n\ty\n")]),
    ("d099", "COPY <<'A' <<B /d/\n$x\nA\n$y\nB\n", ["COPY <<'A' <<B /d/"], [("A", "$x\n"), ("B", "$y\n")]),
    ("d100", "RUN cat <<EOF > /o && echo z\nq\nEOF\n", ["RUN cat <<EOF > /o && echo z"], [("EOF", "q\n")]),
    ("d101", "RUN echo '<<EOF'\n", ["RUN echo '<<EOF'"], []),
    ("d103", "RUN <<A <<B\n1\nA\n2\nB\n", ["RUN <<A <<B"], [("A", "1\n"), ("B", "2\n")]),
    ("d104", "RUN cat <<<EOF\n", ["RUN cat <<<EOF"], []),
    ("d106", "RUN echo $((1<<2))\n", ["RUN echo $((1<<2))"], []),
    ("d107", 'RUN ["x","<<EOF"]\n', ['RUN ["x","<<EOF"]'], []),
    # More of the same kinds.
    ("no newline after the end", "RUN <<EOF\na\nEOF", ["RUN <<EOF"], [("EOF", "a\n")]),
    ("empty body", "RUN <<EOF\nEOF\nRUN x", ["RUN <<EOF", "RUN x"], [("EOF", "")]),
    ("carriage returns", "RUN <<EOF\r\na\r\nEOF\r\nRUN x\r\n", ["RUN <<EOF", "RUN x"], [("EOF", "a\r\n")]),
    ("a descriptor", "RUN 3<<E cat\nx\nE\n", ["RUN 3<<E cat"], [("E", "x\n")]),
    ("blanks before the name", "RUN <<  E > f\nx\nE\n", ["RUN <<  E > f"], [("E", "x\n")]),
    ("quotes join", "RUN <<eo'f'\nx\neof\n", ["RUN <<eo'f'"], [("eof", "x\n")]),
    ("a variable is a name", "RUN <<$E\nx\n$E\n", ["RUN <<$E"], [("$E", "x\n")]),
    ("two words", "RUN <<'one two'\nx\none two\n", ["RUN <<'one two'"], [("one two", "x\n")]),
    ("an indented end is none", "RUN <<E\n E\nE\n", ["RUN <<E"], [("E", " E\n")]),
    ("ends of one another", "RUN <<X <<Y\nY\nX\nX\nY\n", ["RUN <<X <<Y"], [("X", "Y\n"), ("Y", "X\n")]),
    ("behind flags", "RUN --network=none <<E\nx\nE\n", ["RUN --network=none <<E"], [("E", "x\n")]),
    ("behind ONBUILD", "ONBUILD RUN <<E\nx\nE\n", ["ONBUILD RUN <<E"], [("E", "x\n")]),
    ("ADD too", "ADD <<f.txt /x\ny\nf.txt\n", ["ADD <<f.txt /x"], [("f.txt", "y\n")]),
    ("not for USER", "USER <<E\n", ["USER <<E"], []),
    ("over a continuation", "RUN a \\\n <<E\nx\nE\n", ["RUN a  <<E"], [("E", "x\n")]),
    ("an open quote begins none", 'RUN echo "<<E\n', ['RUN echo "<<E'], []),
    ("continuation at the end of the file", "RUN a \\\n\n\n", ["RUN a "], []),
    ("comments at the end", "RUN a \\\n# b\n", ["RUN a "], []),
    ("a doubled escape joins nothing", "RUN a\\\\\nRUN b\n", ["RUN a\\\\", "RUN b"], []),
    ("nor do three", "RUN a\\\\\\\nRUN b\n", ["RUN a\\\\\\", "RUN b"], []),
    ("blanks of the next line stay", "RUN a\\\n   b", ["RUN a   b"], []),
    ("an escape alone", "RUN a \\\n\\\nb", ["RUN a b"], []),
    ("hash within a line", "RUN a # b\n", ["RUN a # b"], []),
    ("tabs and blanks before", "\t RUN a\n", ["RUN a"], []),
]


@pytest.mark.parametrize(("text", "lines", "bodies"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_lines_are_joined_and_bodies_are_kept(text: str, lines: list[str], bodies: list[tuple[str, str]]) -> None:
    found = list(LineReader("FROM scratch\n" + text, "Dockerfile"))[1:]
    assert [line.source.text for line in found] == lines
    assert [(heredoc.name, heredoc.content) for line in found for heredoc in line.heredocs] == bodies


def test_d005_a_doubled_escape_is_a_literal_backslash() -> None:
    lines = list(LineReader("FROM scratch\nENV K v1\\\\\nENV J v2\n", "f"))
    assert [line.source.text for line in lines] == ["FROM scratch", "ENV K v1\\\\", "ENV J v2"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# escape=`\nRUN one `\n two\nENV P C:\\dir\\\n", ["RUN one  two", "ENV P C:\\dir\\"]),
        ("# note first\n# escape=`\nENV X a \\\nb\n", ["ENV X a b"]),
        ("#  ESCAPE = `\nENV X=a`\nb\n", ["ENV X=ab"]),
        ("\n# escape=`\nENV X a \\\nb\n", ["ENV X a b"]),
        ("# unknown=x\n# escape=`\nENV X a \\\nb\n", ["ENV X a b"]),
        ("# syntax=docker/dockerfile:1\n# escape=`\nENV X a `\nb\n", ["ENV X a b"]),
        ("#escape=`\nENV X a `\nb\n", ["ENV X a b"]),
    ],
    ids=["d007", "d008", "d010", "behind a blank line", "behind an unknown one", "second", "without a blank"],
)
def test_the_escape_directive_holds_only_at_the_top(text: str, lines: list[str]) -> None:
    assert [line.source.text for line in LineReader(text, "f")] == lines


@pytest.mark.parametrize(
    "directive",
    [
        "# syntax=docker/dockerfile:1",
        "# syntax=docker.io/docker/dockerfile:1.7-labs",
        "# syntax = docker/dockerfile-upstream:master",
        "# syntax=registry.corp:5000/mirror/docker/dockerfile:1@sha256:abc",
        "# Syntax=docker/dockerfile",
    ],
)
def test_front_ends_of_this_language_are_known(directive: str) -> None:
    assert parse(f"{directive}\nFROM scratch\n".encode()).directives.syntax


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("# syntax=acme/other:1\nFROM scratch", 1, "'acme/other:1' is not built in"),
        ("# escape=\\\n# escape=`\nFROM scratch", 2, "escape stands twice"),
        ("# check=skip\nFROM scratch", 1, "no option 'skip'"),
        ("# check=skp=all\nFROM scratch", 1, "did you mean skip?"),
        ("# check=error=maybe\nFROM scratch", 1, "true or false"),
        ("\\", 1, "no instruction ''"),
        ("# only\n# comments\n", 2, "no instructions"),
        ("\n\n  \n", 3, "no instructions"),
        ("ARG A=1\n", 1, "no FROM"),
        ("FROM scratch\nRUN <<A <<B\nx\nA\n", 2, "'B' has no end"),
        ("FROM scratch\nRUN a \\\n\n --x <<E", 4, "'E' has no end"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_at_its_place(text: str, line: int, said: str) -> None:
    error = refusal(text)
    assert (error.reason, error.metadata["line"]) == ("DOCKERFILE_INVALID", str(line))
    assert said in error.message


def test_bytes_that_are_no_text_are_refused_at_their_place() -> None:
    error = refusal(b"FROM scratch\nRUN a\xff\n")
    assert (error.metadata["line"], error.metadata["column"]) == ("2", "6")
    assert "UTF-8" in error.message
    error = refusal(b"FROM scratch\nRUN \xc3\xa9a\0\n")
    assert (error.metadata["line"], error.metadata["column"]) == ("2", "7")


def test_each_character_knows_its_place_over_continuations() -> None:
    (stage,) = parse(b"FROM scratch\n  RUN a \\\n# note\n   bc \\\n\nd\n").stages
    source = stage.instructions[0].source
    assert (source.start, source.end_line) == (Position(2, 3), 6)
    assert source.locate("a") == Position(2, 7)
    assert source.locate("bc") == Position(4, 4)
    assert source.locate("d") == Position(6, 1)
    assert source.locate("nowhere") == source.start


@pytest.mark.parametrize("word", ["<<EOF", "<<'EOF'", '<<"EOF"', "<<-EOF", '<<-"EOF"', '<<EO"F"', "<< EOF", "<<- EOF"])
def test_words_that_begin_a_here_document(word: str) -> None:
    found = find_heredoc(word)
    assert found is not None
    assert found.name == "EOF"
    assert found.is_expanded == (not set(word) & set("'\""))
    assert found.strips_tabs == ("-" in word)


@pytest.mark.parametrize("word", ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh"])
def test_words_that_begin_none(word: str) -> None:
    assert parse_heredoc(word) is None


@pytest.mark.parametrize("word", ["<<'EOF", '<<"EOF', "<<EOF'", '<<EOF"'])
def test_words_whose_quotes_are_open(word: str) -> None:
    with pytest.raises(Mistake):
        parse_heredoc(word)
    assert find_heredoc(word) is None


def test_tabs_are_stripped_where_the_dash_asks_for_it() -> None:
    run, copy = (
        parse(b"FROM scratch\nRUN <<-E\n\ta\n\t\tb\n\tE\nCOPY <<-'F' /x\n\tc\n\td\\t\nF\n").stages[0].instructions
    )
    assert isinstance(run, Run)
    assert isinstance(copy, Copy)
    assert run.command.heredocs[0].body == "a\nb\n"
    assert (copy.heredocs[0].body, copy.heredocs[0].is_expanded) == ("c\nd\\t\n", False)
