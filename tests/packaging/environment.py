"""A Python environment that holds what a distribution declares and nothing else.

No package index is asked: the declared dependencies, and theirs, are linked from the environment that runs the tests.
One that is needed and not declared is therefore absent.
"""

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.engine import REPOSITORY

#: What README tells to install, by folder, with the name it has.
DISTRIBUTIONS = {"clients/python": "fluyt", "clients/cli": "fluyt-cli", ".": "fluytd"}
#: Building is quick where the checkout is built; on a loaded machine it waits for other builds.
BUILD_PATIENCE_SECONDS = 500


class Environment:
    """A bare environment at `root`, with the third-party packages that our distributions declare."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.site = root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        venv.create(root, with_pip=False)
        for distribution in _closure(_declared()):
            _link(distribution, self.site)

    def install(self, wheels: Path) -> None:
        """Our distributions are installed from `wheels`; pip has found each declared dependency in place."""
        _pip(
            "--python",
            str(self.bin / "python"),
            "install",
            "--no-index",
            "--find-links",
            str(wheels),
            *DISTRIBUTIONS.values(),
        )
        _pip("--python", str(self.bin / "python"), "check")


def build_wheel(folder: Path, wheels: Path) -> None:
    """A wheel of the distribution in `folder` stands in `wheels`, built by its own backend as pip asks for it.

    Compiled artefacts are shared with the checkout's normal build.
    """
    _pip("wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(wheels), str(folder))


def _pip(*arguments: str) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # pip calls the `maturin` it finds there
        "CARGO_TARGET_DIR": str(REPOSITORY / "target"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.pop("PYTHONPATH", None)
    ended = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_PATIENCE_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"


def _declared() -> Iterable[Requirement]:
    for folder in DISTRIBUTIONS:
        project = tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]
        yield from map(Requirement, project.get("dependencies", ()))


def _closure(requirements: Iterable[Requirement]) -> Iterable[metadata.Distribution]:
    """The installed distributions that the requirements lead to, without our own."""
    waiting = list(requirements)
    seen = set(DISTRIBUTIONS.values())
    while waiting:
        requirement = waiting.pop()
        if requirement.name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name)
        distribution = metadata.distribution(requirement.name)
        yield distribution
        waiting += map(Requirement, distribution.requires or ())


def _link(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or ():
        # Programs stand outside of site-packages and are not called.
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        link = site / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(str(distribution.locate_file(file))))
