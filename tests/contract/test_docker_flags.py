"""The table of Docker's flags in docs/cli.md names each of them, and the command line does what the table says."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "target" / "release" / "fluyt"
COMMANDS = ("run", "exec", "ps", "logs")
#: A value that each refused flag takes.
VALUES = {"--isolation": "hyperv", "--disable-content-trust": "false"}


@dataclass(frozen=True)
class Flag:
    """One of Docker's."""

    short: str
    long: str
    takes_value: bool

    @property
    def names(self) -> set[str]:
        """As it may be written."""
        return {name for name in (self.short, self.long) if name}


@cache
def docker_flags(command: str) -> tuple[Flag, ...]:
    """What Docker's command line has."""
    lines = (REPOSITORY / "tests/data/docker/flags.tsv").read_text().splitlines()
    fields = [line.split("\t") for line in lines]
    return tuple(
        Flag("" if short == "-" else short, name, value != "-") for of, short, name, value in fields if of == command
    )


@cache
def rows(command: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """(flags, what Fluyt does) of the table."""
    text = (REPOSITORY / "docs/cli.md").read_text()
    section = text.split("\n## Flags of Docker's commands\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(rf"^\| `{command}` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return tuple((tuple(re.findall(r"`(-[^`]+)`", flags)), told) for flags, told in found)


@cache
def help_of(command: str) -> dict[str, bool]:
    """Flag -> whether it takes a value, as the help shows it."""
    shown = subprocess.run([PROGRAM, command, "--help"], capture_output=True, text=True, check=True).stdout
    found: dict[str, bool] = {}
    for line in re.findall(r"^ +((?:-\w, )?--[a-z0-9-]+.*)$", shown, re.MULTILINE):
        names = re.findall(r"(?:^|, )(--?[a-z0-9-]+)", re.sub(r"[<\[].*", "", line), re.IGNORECASE)
        found |= dict.fromkeys(names, "<" in line or "[=" in line)
    for aliases in re.findall(r"\[aliases: ([^\]]+)\]", shown):
        found |= {name if name.startswith("-") else f"--{name}": True for name in aliases.split(", ")}
    return found


def test_the_list_of_dockers_flags_is_whole_enough() -> None:
    assert {command: len(docker_flags(command)) for command in COMMANDS} == {"run": 104, "exec": 9, "ps": 8, "logs": 6}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_flag_stands_in_the_table_once(command: str) -> None:
    listed = [name for flags, _ in rows(command) for name in flags]
    assert sorted(listed) == sorted(name for flag in docker_flags(command) for name in flag.names)


def _told(what: str) -> Iterator[tuple[str, Flag]]:
    for command in COMMANDS:
        for names, told in rows(command):
            if told.startswith(what):
                yield from ((command, flag) for flag in docker_flags(command) if flag.names & set(names))


@pytest.mark.needs("command-line")
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_told_to_be_the_same_has_the_same_names_and_takes_values_alike(command: str) -> None:
    shown = help_of(command)
    same = {flag for of, flag in _told("the same") if of == command}
    listed = {name for names, told in rows(command) if told.startswith("the same") for name in names}
    assert {name for name in listed if name not in shown} == set()
    different = {flag.long for flag in same if shown[flag.long] != flag.takes_value} - {"--sig-proxy"}
    assert different == set()  # --sig-proxy=false takes one in both


@pytest.mark.needs("command-line")
@pytest.mark.parametrize("flag", [flag for _, flag in _told("refused")], ids=lambda flag: flag.long)
def test_what_is_told_to_be_refused_is_refused_before_the_engine_is_asked(flag: Flag) -> None:
    value = VALUES.get(flag.long, "5")
    ended = subprocess.run(
        [PROGRAM, "run", f"{flag.long}={value}", "image", "true"],
        env={"FLUYT_HOST": "unix:///nonexistent/fluytd.sock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, f"{flag.long}" in ended.stderr, "try: " in ended.stderr) == (125, True, True), ended
    assert "nonexistent" not in ended.stderr


@pytest.mark.needs("command-line")
def test_what_goes_by_another_name_is_there_by_that() -> None:
    others = [(names, re.findall(r"`(--[^`]+)`", told)) for names, told in rows("run") if told.startswith("other name")]
    assert others == [(("-h",), ["--hostname"])]
    assert help_of("run")["--hostname"]


def test_there_are_refusals_and_the_most_is_the_same() -> None:
    told = [text for command in COMMANDS for names, text in rows(command) for _ in names]
    assert sum(text.startswith("refused") for text in told) == 11
    assert sum(text.startswith("the same") for text in told) > 120
