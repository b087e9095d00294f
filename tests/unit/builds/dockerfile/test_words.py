"""Words: quotes, escapes and every form of expansion, as BuildKit's lexer answers."""

import time

import pytest

from fluytd.builds.dockerfile import globs, limits
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.words import Style, expand
from fluytd.errors import LimitExceeded

VARIABLES = {"A": "one", "E": "", "P": "/usr/lib/x.tar.gz", "W": "a  b"}

#: id, word, as one word, where words split; None for an error.
ROWS: list[tuple[str, str, str | None, list[str] | None]] = [
    ("w01", "${A:-d}", "one", ["one"]),
    ("w02", "${U:-d}", "d", ["d"]),
    ("w03", "${E:-d}", "d", ["d"]),
    ("w04", "${E-d}", "", []),
    ("w05", "${U-d}", "d", ["d"]),
    ("w06", "${A:+s}", "s", ["s"]),
    ("w07", "${E:+s}", "", []),
    ("w08", "${E+s}", "s", ["s"]),
    ("w09", "${U+s}", "", []),
    ("w10", "${P#*/}", "usr/lib/x.tar.gz", ["usr/lib/x.tar.gz"]),
    ("w11", "${P##*/}", "x.tar.gz", ["x.tar.gz"]),
    ("w12", "${P%.*}", "/usr/lib/x.tar", ["/usr/lib/x.tar"]),
    ("w13", "${P%%.*}", "/usr/lib/x", ["/usr/lib/x"]),
    ("w14", "${P/usr/opt}", "/opt/lib/x.tar.gz", ["/opt/lib/x.tar.gz"]),
    ("w15", "${P//\\//_}", "_usr_lib_x.tar.gz", ["_usr_lib_x.tar.gz"]),
    ("w16", "${U:-${A}}", "one", ["one"]),
    ("w17", "${A", None, None),
    ("w18", "$", "$", ["$"]),
    ("w19", "${}", None, None),
    ("w20", "${A:=z}", None, None),
    ("w21", "${U?gone}", None, None),
    ("w22", "$A$A", "oneone", ["oneone"]),
    ("w23", "${A}b$A_b", "oneb", ["oneb"]),
    ("w24", "\\$A", "$A", ["$A"]),
    ("w25", "'$A'", "$A", ["$A"]),
    ("w26", '"$A"', "one", ["one"]),
    ("w27", '"\\$A"', "$A", ["$A"]),
    ("w28", "a\\ b", "a b", ["a b"]),
    ("w29", "$W", "a  b", ["a", "b"]),
    ("w30", '"$W"', "a  b", ["a  b"]),
    ("w31", "~", "~", ["~"]),
    ("w32", "$(cmd)", "$(cmd)", ["$(cmd)"]),
    ("w33", "${A:0:1}", None, None),
    ("w34", "${P%/*}", "/usr/lib", ["/usr/lib"]),
    ("w35", "a\\\\b", "a\\b", ["a\\b"]),
    ("w36", "'a\\\\b'", "a\\\\b", ["a\\\\b"]),
    ("w37", '"a\\nb"', "a\\nb", ["a\\nb"]),
    ("w38", "${1:-p}", "p", ["p"]),
    ("w39", 'he said "hi"', "he said hi", ["he", "said", "hi"]),
]

#: More of the same kinds.
MORE: list[tuple[str, str, str | None, list[str] | None]] = [
    ("name-and-digits", "$1x", "x", ["x"]),
    ("special-parameters", "$@$*$#$?$-$$$!$0.", ".", ["."]),
    ("dollar-at-the-end", "a$", "a$", ["a$"]),
    ("dollar-before-a-sign", "a$.b", "a$.b", ["a$.b"]),
    ("escaped-braces", "\\${}", "${}", ["${}"]),
    ("brace-behind", "${U}}", "}", ["}"]),
    ("two-open-braces", "${{U}", None, None),
    ("no-name", "${:-x}", None, None),
    ("unclosed-default", "${U:-x", None, None),
    ("default-within-default", "${U:-${U2:-z}}", "z", ["z"]),
    ("brace-in-default", "${U:-a {b}", "a {b", ["a", "{b"]),
    ("colon-behind", "${A:+${A}:}", "one:", ["one:"]),
    ("escaped-dollar-in-default", "${U:-\\$A:}", "$A:", ["$A:"]),
    ("quotes-in-default", "${U:-'a b'}", "a b", ["a", "b"]),
    ("alternative-is-expanded", "${A:+$P}", "/usr/lib/x.tar.gz", ["/usr/lib/x.tar.gz"]),
    ("required-and-set", "${A?no}", "one", ["one"]),
    ("required-and-empty", "${E?no}", "", []),
    ("required-and-not-empty", "${E:?no}", None, None),
    ("unknown-modifier", "${A@Q}", None, None),
    ("upper-case-modifier", "${A^^}", None, None),
    ("colon-hash", "${P:#x}", None, None),
    ("prefix-shortest", "${P#/*/}", "lib/x.tar.gz", ["lib/x.tar.gz"]),
    ("prefix-longest", "${P##/*/}", "x.tar.gz", ["x.tar.gz"]),
    ("prefix-without-match", "${P#lib}", "/usr/lib/x.tar.gz", ["/usr/lib/x.tar.gz"]),
    ("prefix-of-unset", "${U#x}", "", []),
    ("suffix-longest", "${P%%/*}", "", []),
    ("suffix-question", "${P%.??}", "/usr/lib/x.tar", ["/usr/lib/x.tar"]),
    ("prefix-escaped-star", "${W#\\*}", "a  b", ["a", "b"]),
    ("brackets-are-literal", "${P#[/]}", "/usr/lib/x.tar.gz", ["/usr/lib/x.tar.gz"]),
    ("pattern-with-variable", "${P#$P}", "", []),
    ("pattern-with-bad-escape", "${P#\\x}", None, None),
    ("replace-first", "${P/r/R}", "/usR/lib/x.tar.gz", ["/usR/lib/x.tar.gz"]),
    ("replace-all", "${P//r/R}", "/usR/lib/x.taR.gz", ["/usR/lib/x.taR.gz"]),
    ("replace-with-nothing", "${P//./}", "/usr/lib/xtargz", ["/usr/lib/xtargz"]),
    ("replace-star-is-greedy", "${P/u*r/U}", "/U.gz", ["/U.gz"]),
    ("replace-everything-once", "${A//*/x}", "x", ["x"]),
    ("replace-nothing", "${A//q/x}", "one", ["one"]),
    ("replace-without-end", "${A/o}", None, None),
    ("replacement-is-expanded", "${A/o/$A}", "onene", ["onene"]),
    ("unclosed-single", "a'b", None, None),
    ("unclosed-double", 'a"b', None, None),
    ("escaped-quote", "he\\'llo", "he'llo", ["he'llo"]),
    ("escape-at-the-end", "hello\\", "hello", ["hello"]),
    ("escaped-escape-at-the-end", "hello\\\\", "hello\\", ["hello\\"]),
    ("single-in-double", '"hel\'lo"', "hel'lo", ["hel'lo"]),
    ("variable-in-both", "\"he'$A'\"", "he'one'", ["he'one'"]),
    ("escape-in-single", "'\\$A'", "\\$A", ["\\$A"]),
    ("unicode", "안'녕'하세요$A", "안녕하세요one", ["안녕하세요one"]),
    ("unicode-name", "$é", "", []),
    ("blanks-around", "  a  b  ", "  a  b  ", ["a", "b"]),
    ("split-joins-neighbours", "x${W}y", "xa  by", ["xa", "by"]),
    ("split-keeps-quoted", 'x"$W"y', "xa  by", ["xa  by"]),
    ("split-of-default-joins", "x${U:-y}", "xy", ["xy"]),
    ("empty-quotes-are-no-word", '"" a', " a", ["a"]),
    ("angle", "a<b", "a<b", ["a<b"]),
    ("two-angles-keep-their-blanks", "<< EOF x", "<< EOF x", ["<< EOF", "x"]),
]


@pytest.mark.parametrize(
    ("word", "text", "words"), [row[1:] for row in (*ROWS, *MORE)], ids=[row[0] for row in (*ROWS, *MORE)]
)
def test_a_word_expands_as_buildkit_expands_it(word: str, text: str | None, words: list[str] | None) -> None:
    if text is None:
        with pytest.raises(Mistake) as caught:
            expand(word, VARIABLES)
        assert caught.value.fix
        return
    found = expand(word, VARIABLES)
    assert (found.text, list(found.words)) == (text, words)


def test_variables_that_were_found_and_not_found_are_told() -> None:
    found = expand("$A ${U:-$E} ${U2+x}", VARIABLES)
    assert found.matched == {"A", "E"}
    assert found.unmatched == {"U", "U2"}


@pytest.mark.parametrize(
    ("word", "text"),
    [("a`$A", "a$A"), ("a\\b", "a\\b"), ('"`$A\\n"', "$A\\n"), ("`` `a", "` a"), ("C:\\dir\\$A", "C:\\dir\\one")],
)
def test_the_backtick_takes_the_place_of_the_backslash(word: str, text: str) -> None:
    assert expand(word, VARIABLES, Style(escape="`")).text == text


@pytest.mark.parametrize(
    "text", ["$U", "${U}", "${U:-a}", "${U+a}", "${U#a*}", "${U%%b}", "${U/a/b}", "${U//a/b}", "'q' \"r\" \\s"]
)
def test_what_is_not_set_can_be_left_as_it_stands(text: str) -> None:
    assert expand(text, VARIABLES, Style(keeps_unset=True, keeps_quotes=True, keeps_escapes=True)).text == text


def test_the_message_of_a_required_variable_is_its_own() -> None:
    with pytest.raises(Mistake, match="U: set me to one"):
        expand("${U:?set me to $A}", VARIABLES)


def test_growth_is_bounded_by_name() -> None:
    variables = {"B": "x" * 100_000}
    for word in ("$B$B", "${U:-$B$B}", "${B//x/yy}", "${B//*/$B$B}"):
        with pytest.raises(LimitExceeded) as caught:
            expand(word, variables)
        assert caught.value.metadata["limit"] == "MAX_EXPANSION_CHARS"


def test_nesting_is_bounded_by_name() -> None:
    deep = "${U:-" * limits.MAX_EXPANSION_DEPTH
    assert expand(deep + "x" + "}" * limits.MAX_EXPANSION_DEPTH, {}).text == "x"
    with pytest.raises(LimitExceeded) as caught:
        expand("${U:-" + deep, {})
    assert caught.value.metadata["limit"] == "MAX_EXPANSION_DEPTH"


def test_no_pattern_is_slow() -> None:
    value = "a" * 20_000
    begin = time.process_time()
    assert globs.trim_prefix(value, "*a" * 50 + "b", longest=True) == value
    assert globs.trim_suffix(value, "b" + "a*" * 50, longest=False) == value
    assert globs.replace(value, "*a" * 50 + "b", "x", all_matches=True) == value
    assert globs.replace(value, "aa", "b", all_matches=True) == "b" * 10_000
    assert time.process_time() - begin < 6


def test_wildcards_do_not_cross_lines() -> None:
    assert globs.trim_prefix("a\nb", "*b", longest=True) == "a\nb"
    assert globs.replace("ab\nab", "a*b", "x", all_matches=True) == "x\nx"


def test_an_empty_pattern_matches_between_all_characters() -> None:
    assert globs.replace("abc", "", "-", all_matches=True) == "-a-b-c-"
    assert globs.replace("abc", "", "-", all_matches=False) == "-abc"
