"""Git repositories made on the spot."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@localhost",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@localhost",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *arguments: str) -> str:
    """What git prints. Raises AssertionError with what it complains of."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=os.environ | _IDENTITY, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make(folder: Path, files: Mapping[str, str]) -> str:
    """A repository with one commit of these files on `main`; returns the commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    return commit(folder, files)


def commit(folder: Path, files: Mapping[str, str]) -> str:
    """One more commit; a text that begins with `-> ` is a link."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "step")
    return git(folder, "rev-parse", "HEAD")


def bare(folder: Path, source: Path) -> Path:
    """A bare clone that a plain HTTP server can serve too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    git(source, "clone", "-q", "--bare", str(source), str(folder))
    git(folder, "update-server-info")
    return folder
