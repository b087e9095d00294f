"""CNI's lists and plugins on this host: read from the operator's directories, executed by the core."""

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fluytd._core import network
from fluytd.errors import FieldInvalid, IoFailed
from fluytd.networks.cni.attachments import PLACE

#: Lists that are looked at in one directory, and bytes of each.
MAX_CONFLISTS: Final = 256
MAX_CONFLIST_BYTES: Final = 65_536
#: How long one plugin may take, and what it may print.
PLUGIN_TIMEOUT_MILLIS: Final = 30_000
MAX_RESULT_BYTES: Final = 262_144
#: Plugins execute iptables and their like.
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PRIVATE: Final = 0o700


class CorePlugins:
    """Implements `ports.Plugins`."""

    def __init__(self, config_dirs: Sequence[str], plugin_dirs: Sequence[str], run_dir: Path) -> None:
        """`run_dir`: for what plugins read; made when the first is executed."""
        self._config_dirs = [*config_dirs]
        self._plugin_dirs = [*plugin_dirs]
        self._run_dir = run_dir

    def read_list(self, name: str) -> str:
        """See `ports.Plugins.read_list`."""
        unread = []
        for directory in self._config_dirs:
            try:
                found = sorted(one.name for one in Path(directory).iterdir() if one.suffix == ".conflist")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise IoFailed(operation="listdir", path=directory, errno=error.errno) from error
            if len(found) > MAX_CONFLISTS:
                raise FieldInvalid(field=PLACE, rule=f"{directory} has more than {MAX_CONFLISTS} lists (MAX_CONFLISTS)")
            for file_name in found:
                try:
                    text = _read(Path(directory, file_name))
                    if json.loads(text)["name"] == name:
                        return text
                except (OSError, ValueError, RecursionError, KeyError, TypeError):
                    unread.append(file_name)
        rule = f"no list of the name {name!r} stands in {', '.join(self._config_dirs)}"
        raise FieldInvalid(field=PLACE, rule=rule + (f"; not readable: {', '.join(unread)}" if unread else ""))

    def find(self, kind: str) -> str:
        """See `ports.Plugins.find`."""
        for directory in self._plugin_dirs:
            path = Path(directory, kind)
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
        raise FieldInvalid(field=PLACE, rule=f"the plugin {kind!r} is in none of {', '.join(self._plugin_dirs)}")

    def run(self, kind: str, environment: Mapping[str, str], config: bytes, file_name: str) -> network.PluginEnd:
        """See `ports.Plugins.run`."""
        program = self.find(kind)
        try:
            self._run_dir.mkdir(_PRIVATE, parents=True, exist_ok=True)
        except OSError as error:
            raise IoFailed(operation="mkdir", path=str(self._run_dir), errno=error.errno) from error
        whole = {"PATH": _PATH, "CNI_PATH": ":".join(self._plugin_dirs), **environment}
        path = str(self._run_dir / file_name)
        return network.run_plugin(program, [*whole.items()], config, path, PLUGIN_TIMEOUT_MILLIS, MAX_RESULT_BYTES)

    def forget(self, file_name: str) -> None:
        """See `ports.Plugins.forget`."""
        path = self._run_dir / file_name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise IoFailed(operation="unlink", path=str(path), errno=error.errno) from error


def _read(path: Path) -> str:
    # A pipe of that name keeps nobody waiting.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("no file")
        text = file.read(MAX_CONFLIST_BYTES + 1)
    if len(text) > MAX_CONFLIST_BYTES:
        raise ValueError("too long")
    return text.decode()
