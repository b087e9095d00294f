"""What instructions make of a config, and the history as BuildKit writes it."""

import pytest

from fluytd.builds.dockerfile import config
from fluytd.builds.dockerfile.chmod import apply_mode, check_mode
from fluytd.builds.dockerfile.durations import format_duration, parse_duration
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.images.config import HealthCheck, History
from tests.support.dockerfiles import base_image, build, final, stage

NO_TIMES = " Timeout:0s StartPeriod:0s StartInterval:0s"


@pytest.mark.parametrize(
    ("text", "cmd"),
    [
        ("FROM p\nENTRYPOINT e", ()),
        ('FROM p\nCMD ["d"]\nENTRYPOINT e', ("d",)),
        ('FROM p\nENTRYPOINT e\nCMD ["d"]', ("d",)),
        ("FROM p\nRUN x", ("c",)),
        ("FROM p AS q\nFROM q\nENTRYPOINT []", ()),
        ('FROM scratch AS q\nCMD ["d"]\nFROM q\nENTRYPOINT e', ()),
    ],
)
def test_b01_an_entrypoint_takes_an_inherited_cmd_away(text: str, cmd: tuple[str, ...]) -> None:
    found = build(text, bases={"docker.io/library/p:latest": base_image(cmd=("c",))})
    assert found.stages[-1].config.cmd == cmd


def test_history_is_what_buildkit_writes() -> None:
    text = (
        'FROM scratch\nMAINTAINER me too\nARG A=1 B\nENV X=1 Y="a b"\nENV L old form\nLABEL l=$X\n'
        'SHELL ["/bin/bash", "-c"]\nWORKDIR /w\nWORKDIR /\nUSER u:g\nEXPOSE 90 80/udp\nVOLUME /v "/u"\n'
        'STOPSIGNAL 9\nHEALTHCHECK --interval=90s --retries=3 CMD a b\nONBUILD RUN x\nRUN a  b\nRUN ["c", "d"]\n'
        'COPY --chown=1 --chmod=755 --link a b /c\nADD a /d/\nCOPY <<F /e\nF\nCMD ["a\\n", "\\u00e9\\""]\n'
        'ENTRYPOINT x "y"\n'
    )
    assert [(entry.created_by, not entry.is_empty_layer) for entry in final(text).history] == [
        ("MAINTAINER me too", False),
        ("ARG A=1 B", False),
        ("ENV X=1 Y=a b", False),
        ("ENV L=old form", False),
        ("LABEL l=1", False),
        ("SHELL [/bin/bash -c]", False),
        ("WORKDIR /w", True),
        ("WORKDIR /", False),
        ("USER u:g", False),
        ("EXPOSE [80/udp 90/tcp]", False),
        ("VOLUME [/v /u]", False),
        ("STOPSIGNAL 9", False),
        (f"HEALTHCHECK {{Test:[CMD-SHELL a b] Interval:1m30s{NO_TIMES} Retries:3}}", False),
        ("RUN |2 A=1 B= /bin/bash -c a  b # buildkit", True),
        ("RUN |2 A=1 B= c d # buildkit", True),
        ("COPY --chown=1 --chmod=755 a b /c # buildkit", True),
        ("ADD a /d/ # buildkit", True),
        ("COPY <<F /e # buildkit", True),
        ('CMD ["a\\n" "é\\""]', False),
        ('ENTRYPOINT ["/bin/bash" "-c" "x \\"y\\""]', False),
    ]  # fmt: skip
    assert {entry.comment for entry in final(text).history} == {"buildkit.dockerfile.v0"}
    assert final(text).author == "me too"


def test_history_follows_that_of_the_base() -> None:
    before = History(5, "base", "a", "c", is_empty_layer=False)
    found = build("FROM p\nENV A=1", bases={"docker.io/library/p:latest": base_image(history=(before,))}).stages[0]
    assert [entry.created_by for entry in found.config.history] == ["base", "ENV A=1"]
    assert [step.has_history for step in stage("FROM scratch\nONBUILD RUN x\nUSER a").steps] == [False, True]


def test_every_image_gets_a_path_unless_its_base_has_one() -> None:
    assert final("FROM scratch").env == (f"PATH={config.DEFAULT_PATH}",)
    bases = {
        "docker.io/library/p:latest": base_image(env=("A=1",)),
        "docker.io/library/q:latest": base_image(env=("PATH=/x",)),
    }
    assert build("FROM p", bases=bases).stages[0].config.env == ("A=1", f"PATH={config.DEFAULT_PATH}")
    assert build("FROM q\nENV PATH=/y:$PATH", bases=bases).stages[0].config.env == ("PATH=/y:/x",)


@pytest.mark.parametrize(
    ("current", "path", "expected"),
    [
        ("", "a", "/a"),
        ("/a", "b/./c", "/a/b/c"),
        ("/a", "..", "/"),
        ("/a", "../../..", "/"),
        ("/a", "//b", "/b"),
        ("/a", "", "/a"),
        ("a", "b", "/a/b"),
        ("/", "C:\\x", "/C:\\x"),
        ("/a", "/../b/", "/b"),
    ],
)
def test_working_directories_are_composed(current: str, path: str, expected: str) -> None:
    assert config.working_dir_below(current, path) == expected


def test_texts_as_go_prints_them() -> None:
    assert config.quoted(["a\tb", "\x01\x7f", "\u200b😀"]) == '["a\\tb" "\\x01\\x7f" "\\u200b😀"]'
    assert config.quoted([]) == "[]"
    check = HealthCheck(("NONE",), 0, 0, 0, 0, 0)
    assert config.health_text(check) == "{Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"


@pytest.mark.parametrize(
    ("text", "nanos", "shown"),
    [
        ("5s", 5_000_000_000, "5s"),
        ("1m", 60_000_000_000, "1m0s"),
        ("1h", 3_600_000_000_000, "1h0m0s"),
        ("1.5h", 5_400_000_000_000, "1h30m0s"),
        ("1500ms", 1_500_000_000, "1.5s"),
        ("250ms", 250_000_000, "250ms"),
        ("1us", 1_000, "1µs"),
        ("1.5µs", 1_500, "1.5µs"),
        ("3ns", 3, "3ns"),
        (".5s", 500_000_000, "500ms"),
        ("1.s", 1_000_000_000, "1s"),
        ("-2s", -2_000_000_000, "-2s"),
        ("0", 0, "0s"),
    ],
)
def test_durations_are_read_and_written_as_go_does(text: str, nanos: int, shown: str) -> None:
    assert parse_duration(text) == nanos
    assert format_duration(nanos) == shown


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "5x", "5 s", "--5s", "9999999999h", "1s" * 100, "٣s"])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize(
    ("text", "mode", "is_directory", "expected"),
    [
        ("755", 0o600, False, 0o755),
        ("04755", 0, False, 0o4755),
        ("u+x", 0o644, False, 0o744),
        ("+x", 0o644, False, 0o755),
        ("a-w", 0o666, False, 0o444),
        ("go=", 0o777, False, 0o700),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("g=u", 0o640, False, 0o660),
        ("go=u-w", 0o755, False, 0o755),
        ("u+s", 0o755, False, 0o4755),
        ("g+s", 0o755, False, 0o2755),
        ("+t", 0o755, True, 0o1755),
        ("u=rw,g+r,o-rwx", 0o707, False, 0o640),
    ],
)  # fmt: skip
def test_modes_are_applied_as_chmod_applies_them(text: str, mode: int, is_directory: bool, expected: int) -> None:
    check_mode(text)
    assert apply_mode(text, mode, is_directory=is_directory) == expected


@pytest.mark.parametrize("text", ["", "8", "10000", "u", "x", "u+", "u+y", "u=rw,", "z=r", ",", "0o7"])
def test_what_is_no_mode(text: str) -> None:
    if text == "u+":
        # Adds nothing, as chmod(1) has it.
        check_mode(text)
        assert apply_mode(text, 0o644, is_directory=False) == 0o644
        return
    with pytest.raises(Mistake):
        check_mode(text)
