"""Completion scripts: made without a daemon, accepted by the shell they are for."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli.program import Program


@pytest.fixture
def alone(tmp_path: Path) -> Program:
    """The program where no daemon listens."""
    return Program(tmp_path / "absent.sock")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_commands_and_flags(alone: Program, shell: str) -> None:
    script = alone.ok("completion", shell)
    for word in ("doctor", "memory-swap", "format"):
        assert word in script


def completed(alone: Program, *words: str) -> tuple[str, str]:
    """What bash writes as the completions of the last word, and to its standard error."""
    *before, last = ("fluyt", *words)
    line = f"COMP_WORDS=({' '.join([*before, last])}); COMP_CWORD={len(before)}; _fluyt fluyt {last} {before[-1]}"
    script = alone.ok("completion", "bash")  # longer than an argument may be
    text = f'{script}\n{line}; echo "${{COMPREPLY[@]}}"\n'
    ended = subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)
    return ended.stdout, ended.stderr


def test_bash_completes_a_command(alone: Program) -> None:
    assert completed(alone, "doc") == ("doctor\n", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("image", "prun"), "prune"),
        (("image", "unp"), "unpin"),
        (("system", "d"), "df"),
        (("save", "--outp"), "--output"),
        (("history", "--no-t"), "--no-trunc"),
    ],
)
def test_bash_completes_commands_for_images(alone: Program, words: tuple[str, ...], expected: str) -> None:
    assert completed(alone, *words) == (f"{expected}\n", "")


def test_an_unknown_shell_is_refused_with_those_that_are_known(alone: Program) -> None:
    ended = alone("completion", "tcsh")
    assert ended.code == 125
    assert "bash, zsh, fish" in ended.err
