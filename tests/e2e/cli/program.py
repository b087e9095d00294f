"""The native command line as a person calls it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.engine import REPOSITORY

PROGRAM = REPOSITORY / "target" / "release" / "fluyt"
IMAGE = "busybox:1"
#: How long one command may take on a loaded machine.
PATIENCE_SECONDS = 40


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The objects of `--format json`, one a line; fails the test if a line is not JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class Program:
    """The program with one daemon's address in its environment."""

    def __init__(self, socket: Path, program: Path = PROGRAM) -> None:
        self.program = program
        self.environment = {"PATH": os.environ["PATH"], "FLUYT_HOST": f"unix://{socket}"}

    def __call__(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Ended:
        """Runs to the end; `environment` is added to the program's own."""
        ended = subprocess.run(
            [self.program, *arguments],
            input=stdin,
            env=self.environment | environment,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def ok(self, *arguments: str, stdin: bytes = b"", **environment: str) -> str:
        """Standard output of a command that must succeed."""
        ended = self(*arguments, stdin=stdin, **environment)
        assert ended.code == 0, ended
        return ended.out

    def run(self, *flags: str, script: str, **environment: str) -> str:
        """Standard output of a shell script in a container that is removed afterwards."""
        return self.ok("run", "--rm", *flags, IMAGE, "sh", "-c", script, stdin=b"", **environment)

    def spawn(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """The command started, its three streams piped."""
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
