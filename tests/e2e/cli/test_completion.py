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


def test_bash_completes_a_command(alone: Program) -> None:
    script = alone.ok("completion", "bash")
    ask = 'COMP_WORDS=(fluyt doc); COMP_CWORD=1; _fluyt fluyt doc fluyt; echo "${COMPREPLY[@]}"'
    ended = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("doctor\n", "")


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
    script = alone.ok("completion", "bash")
    *before, last = ("fluyt", *words)
    line = f"COMP_WORDS=({' '.join([*before, last])}); COMP_CWORD={len(before)}; _fluyt fluyt {last} {before[-1]}"
    command = f'{script}\n{line}; echo "${{COMPREPLY[@]}}"'
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == (f"{expected}\n", "")


def test_an_unknown_shell_is_refused_with_those_that_are_known(alone: Program) -> None:
    ended = alone("completion", "tcsh")
    assert ended.code == 125
    assert "bash, zsh, fish" in ended.err
