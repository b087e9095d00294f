"""The three distributions install together into a bare environment and bring both commands."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL_TIMEOUT_SECONDS = 1500


def run(*command: str | Path) -> str:
    # The build's target directory is the checkout's, so that what set-up compiled is not compiled again.
    environment = os.environ | {"CARGO_TARGET_DIR": str(ROOT / "target")}
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.timeout(INSTALL_TIMEOUT_SECONDS)
def test_a_bare_environment_gets_both_commands(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_dir = tmp_path / "venv" / "bin"

    run(bin_dir / "python", "-m", "pip", "install", "--quiet", "./clients/python", "./clients/cli", ".")

    assert "0.1.0" in run(bin_dir / "fluyt", "--version")
    assert "0.1.0" in run(bin_dir / "fluytd", "--version")
    supervisor = run(
        bin_dir / "python", "-c", "import fluytd, pathlib; print(pathlib.Path(fluytd.__file__).parent / 'libexec')"
    ).strip()
    program = Path(supervisor) / "fluyt-supervisor"
    assert os.access(program, os.X_OK)
    assert str(ROOT) not in supervisor, "the installed package is used, not the checkout"
    described = subprocess.run(["file", "-b", program], capture_output=True, text=True, check=False).stdout
    if described:
        assert "statically linked" in described
    assert sys.version_info >= (3, 11)
