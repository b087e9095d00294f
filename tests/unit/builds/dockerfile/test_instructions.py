"""What each instruction's parser takes and refuses, beyond the rows of the field's cases."""

from typing import TypeVar

import pytest

from fluytd.builds.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    Copy,
    Device,
    Entrypoint,
    Env,
    HealthCheck,
    Instruction,
    Label,
    OnBuild,
    Run,
)
from fluytd.builds.dockerfile.parse import parse
from tests.support.dockerfiles import refusal

T = TypeVar("T", bound=Instruction)


def one(kind: type[T], text: str) -> T:
    """The only instruction behind FROM."""
    (found,) = parse(f"FROM scratch\n{text}\n".encode()).stages[0].instructions
    assert isinstance(found, kind)
    return found


@pytest.mark.parametrize(
    ("text", "words", "is_shell"),
    [
        ('CMD [ "a" , "b" ] ', ("a", "b"), False),
        ('CMD ["a\\nb", "\\u00e9", "\\ud83d\\ude00"]', ("a\nb", "é", "😀"), False),
        ('CMD ["\\ud800"]', ("�",), False),
        ('CMD ["a",]', ('["a",]',), True),
        ('CMD ["a" "b"]', ('["a" "b"]',), True),
        ('CMD ["a\tb"]', ('["a\tb"]',), True),
        ('CMD ["a"', ('["a"',), True),
        ('CMD "a", "b"', ('"a", "b"',), True),
        ("CMD [NaN]", ("[NaN]",), True),
        ("CMD [ -f x ] && y", ("[ -f x ] && y",), True),
        ("CMD [" + "[" * 3000, ("[" + "[" * 3000,), True),
        ("CMD", (), True),
        ("CMD []", (), False),
        ("CMD a   b", ("a   b",), True),
    ],
)
def test_json_form_or_shell_form(text: str, words: tuple[str, ...], is_shell: bool) -> None:
    command = one(Cmd, text).command
    assert (command.words, command.is_shell) == (words, is_shell)


def test_an_entrypoint_in_json_form_may_be_empty() -> None:
    assert one(Entrypoint, "ENTRYPOINT []").command.words == ()


def test_every_flag_of_run() -> None:
    run = one(
        Run,
        "RUN --mount=type=cache,target=/c --mount=from=img,target=/i --network=none --security=insecure"
        " --device=vendor.com/gpu=0,required --device=name=x/y=z --device=x/y=*,required=F a --b",
    )
    assert run.mounts == ("type=cache,target=/c", "from=img,target=/i")
    assert run.mount_origins == ("", "img")
    assert (run.network, run.security) == ("none", "insecure")
    assert run.devices == (Device("vendor.com/gpu=0", is_required=True), Device("x/y=z"), Device("x/y=*"))
    assert run.command.words == ("a --b",)


def test_every_flag_of_copy_and_add() -> None:
    copy = one(Copy, "COPY --from=a --chown=1:2 --chmod=0755 --link --parents --exclude=*.a --exclude=b x y /z/")
    assert (copy.from_, copy.chown, copy.chmod, copy.is_linked) == ("a", "1:2", "0755", True)
    assert (copy.keeps_parents, copy.exclude) == (True, ("*.a", "b"))
    assert (copy.sources, copy.destination) == (("x", "y"), "/z/")
    add = one(Add, "ADD --checksum=sha256:ab --keep-git-dir --unpack=false --link=false x /z")
    assert (add.checksum, add.keep_git_dir, add.unpack, add.is_linked) == ("sha256:ab", True, False, False)
    plain = one(Add, "ADD x /z")
    assert (plain.keep_git_dir, plain.unpack) == (None, None)


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("COPY -- --from=a /b", ("--from=a",)),
        ('COPY --chown="a b" x /b', ("x",)),
        ("COPY --chmod=644   x /b", ("x",)),
        ("COPY --chown=a\\ b x /b", ("x",)),
        ('COPY ["--x", "/b"]', ("--x",)),
        ("COPY a\tb\t/c", ("a", "b")),
        ('COPY ["a b","<<EOF", "/c"]', ("a b", "<<EOF")),
    ],
)
def test_flags_end_where_the_first_other_word_stands(text: str, sources: tuple[str, ...]) -> None:
    assert one(Copy, text).sources == sources


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("A=1 B=2", [("A", "1"), ("B", "2")]),
        ("A=1\tB=2", [("A", "1"), ("B", "2")]),
        ('A="x y" B=\'z "\' C=\\ q', [("A", '"x y"'), ("B", "'z \"'"), ("C", "\\ q")]),
        ("A==b", [("A", "=b")]),
        ("A=", [("A", "")]),
        ('"a b"=c', [('"a b"', "c")]),
        ("A  b=c d", [("A", "b=c d")]),
        ("A 'x", [("A", "'x")]),
        ('A="x', [("A", '"x')]),
        ("A=b\\", [("A", "b")]),
    ],
)
def test_both_forms_of_pairs(text: str, pairs: list[tuple[str, str]]) -> None:
    assert [(pair.key, pair.value) for pair in one(Env, f"ENV {text}").pairs] == pairs
    assert [(pair.key, pair.value) for pair in one(Label, f"LABEL {text}").pairs] == pairs


def test_arguments_with_and_without_defaults_and_their_descriptions() -> None:
    arg = one(Arg, "# A the first\n# something else\nARG A=1 B C=")
    assert [(each.key, each.default, each.description) for each in arg.arguments] == [
        ("A", "1", "the first"),
        ("B", None, ""),
        ("C", "", ""),
    ]


def test_health_checks() -> None:
    assert one(HealthCheck, "HEALTHCHECK none").test == ("NONE",)
    assert one(HealthCheck, 'HEALTHCHECK cmd ["a"]').test == ("CMD", "a")
    found = one(HealthCheck, "HEALTHCHECK --interval=1h2m3.5s --timeout=250ms --retries=0 CMD  a  b ")
    assert found.test == ("CMD-SHELL", "a  b")
    assert (found.interval_nanos, found.timeout_nanos) == (3_723_500_000_000, 250_000_000)


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("ONBUILD RUN a", "RUN a"),
        ("onbuild   copy . /x ", "copy . /x "),
        ("ONBUILD RUN <<E\nx\nE", "RUN <<E\nx\nE"),
        ("ONBUILD RUN a \\\n  b", "RUN a   b"),
    ],
)
def test_triggers_are_kept_as_written(text: str, trigger: str) -> None:
    (found,) = parse(f"FROM scratch\n{text}".encode()).stages[0].instructions
    assert isinstance(found, OnBuild)
    assert found.trigger == trigger


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("RUN", 1, "RUN has no command"),
        ("RUN []", 1, "RUN has no command"),
        ("RUN --mount=type=bind --netwrk=none a", 23, "did you mean --network?"),
        ("RUN --help", 5, "RUN has no flag --help"),
        ("RUN --network=hst a", 5, "did you mean host?"),
        ("RUN --security=none a", 5, "no security mode"),
        ("RUN --network a", 5, "has no value"),
        ("RUN --network=none --network=none a", 20, "stands twice"),
        ("RUN --mount=from=$X,target=/a b", 18, "takes no variables"),
        ("RUN --mount='type=bind,\"src=a' b", 14, "is not closed"),
        ("RUN --mount= a", 1, "an empty value"),
        ("RUN --device=required a", 14, "--device has no name"),
        ("RUN --device=x/y=z,required=maybe a", 14, "required is true or false"),
        ("RUN --device=x/y=z,optional a", 14, "no option of --device"),
        ("RUN --security=insecure --security=insecure a", 25, "stands twice"),
        ("CMD --x a", 5, "CMD takes no flags"),
        ("ENV --x A=1", 5, "ENV has no flag"),
        ("ARG --x A=1", 5, "ARG has no flag"),
        ("STOPSIGNAL --x 9", 12, "STOPSIGNAL has no flag"),
        ("COPY --lnk a b", 6, "did you mean --link?"),
        ("COPY --link=maybe a b", 6, "true or false"),
        ("COPY --link= a b", 6, "true or false"),
        ("ADD --from=a b c", 5, "ADD has no flag --from"),
        ("COPY --checksum=a b c", 6, "COPY has no flag --checksum"),
        ("COPY", 1, "COPY has no argument"),
        ('COPY ["a"]', 1, "COPY has no destination"),
        ("COPY a <<E\nx\nE", 8, "destination of COPY is a here-document"),
        ("COPY <<a/b /d\nx\na/b", 8, "cannot name a file"),
        ("COPY << E /d\nx\nE", 6, "write it as one word"),
        ("ENV A=1 B", 9, "'B' in ENV has no '='"),
        ("LABEL A", 7, "LABEL A has no value"),
        ("ARG =1", 5, "name in ARG is blank"),
        ("ARG", 1, "ARG has no argument"),
        ("SHELL []", 7, "SHELL has no argument"),
        ("VOLUME []", 8, "path of VOLUME is empty"),
        ('VOLUME ["a", " "]', 8, "path of VOLUME is empty"),
        ("USER", 1, "USER has no argument"),
        ("WORKDIR", 1, "WORKDIR has no argument"),
        ("MAINTAINER", 1, "MAINTAINER has no argument"),
        ("ONBUILD", 1, "ONBUILD has no argument"),
        ("ONBUILD maintainer x", 9, "MAINTAINER cannot be a trigger"),
        ('ONBUILD CMD ["a", 1]', 13, "no string"),
        ("ONBUILD ENV A", 13, "ENV A has no value"),
        ("ONBUILD LABEL a=1 b", 19, "'b' in LABEL has no '='"),
        ("HEALTHCHECK", 1, "HEALTHCHECK has no argument"),
        ("HEALTHCHECK NONE x", 18, "takes no arguments"),
        ("HEALTHCHECK CMD", 13, "has no command"),
        ("HEALTHCHECK CMD []", 13, "has no command"),
        ("HEALTHCHECK --interval=5 CMD a", 13, "no duration"),
        ("HEALTHCHECK --interval=-1s CMD a", 13, "less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", 13, "no number of tries"),
        ("HEALTHCHECK --retries=99999999999 CMD a", 13, "no number of tries"),
        ("RUNN a", 1, "did you mean RUN?"),
        ("copyy a b", 1, "did you mean COPY?"),
        ("FROM scratch AS a-", 0, ""),
        ("FROM scratch AS", 1, "FROM has 2 arguments"),
        ("FROM scratch a b", 1, "FROM has 3 arguments"),
        ("FROM scratch AS a b", 1, "FROM has 4 arguments"),
        ("FROM scratch AS a/b", 17, "cannot name a stage"),
        ("FROM --plat=x scratch", 6, "FROM has no flag --plat"),
    ],
)
def test_what_is_wrong_is_told_with_line_column_and_fix(text: str, column: int, said: str) -> None:
    if not said:
        assert parse(f"FROM scratch\n{text}\n".encode()).stages[-1].name == "a-"
        return
    error = refusal(f"FROM scratch\n{text}\n")
    assert error.reason == "DOCKERFILE_INVALID"
    assert said in error.message
    assert (error.metadata["line"], error.metadata["column"]) == ("2", str(column))
