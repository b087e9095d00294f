"""The engine's own directories and its id. What stands in them belongs to the stores."""

import os
import secrets
from pathlib import Path
from typing import Final

from fluytd.errors import DataCorruptOnDisk, IoFailed

#: Root alone: layers hold set-user-id programs that no user of the host may reach.
DATA_ROOT_MODE: Final = 0o700
#: Users of the socket's group must get through to it.
RUN_ROOT_MODE: Final = 0o711
#: Below the data root; its owner and mode become those of the container's root.
EMPTY_DIR: Final = "empty"
EMPTY_DIR_MODE: Final = 0o755
#: File in the data root with the engine's id.
ID_FILE: Final = "engine-id"
_ID_HEX_DIGITS: Final = 32


def make(data_root: Path, run_root: Path) -> None:
    """Both directories are there with their modes. Raises IO_FAILED. Blocking."""
    for path, mode in ((data_root, DATA_ROOT_MODE), (run_root, RUN_ROOT_MODE)):
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
        except OSError as error:
            raise IoFailed(operation="make a directory", path=path, errno=error.errno) from error


def empty_directory(data_root: Path) -> str:
    """A directory in which nothing ever stands: what overlay takes as the lower layer of an image that has none.

    Raises IO_FAILED. Blocking.
    """
    path = data_root / EMPTY_DIR
    try:
        path.mkdir(mode=EMPTY_DIR_MODE, exist_ok=True)
    except OSError as error:
        raise IoFailed(operation="make a directory", path=path, errno=error.errno) from error
    return str(path)


def engine_id(data_root: Path) -> str:
    """The engine's id, made at its first start and kept since. Raises DATA_CORRUPT, IO_FAILED. Blocking."""
    path = data_root / ID_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return _make_id(path)
    except (OSError, UnicodeDecodeError) as error:
        raise IoFailed(operation="read", path=path, errno=getattr(error, "errno", "none")) from error
    if len(text) != _ID_HEX_DIGITS or not set(text) <= set("0123456789abcdef"):
        raise DataCorruptOnDisk(path=path, detail="it holds no engine id")
    return text


def _make_id(path: Path) -> str:
    text = secrets.token_hex(_ID_HEX_DIGITS // 2)
    scratch = path.with_name(f".{path.name}")
    try:
        with scratch.open("w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(path)
    except OSError as error:
        raise IoFailed(operation="write", path=path, errno=error.errno) from error
    return text
