"""What instructions make of an image's config, and the history lines that BuildKit writes. Pure values in and out.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert.go; Docker image spec v1.2.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from fluytd.builds.dockerfile.durations import format_duration
from fluytd.builds.dockerfile.text import clean_path
from fluytd.images.config import HealthCheck, History, ImageConfig
from fluytd.images.platforms import Platform

#: Written to every image that has no PATH. Source: BuildKit util/system/path.go.
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What history says of who wrote it. Source: BuildKit, historyComment.
HISTORY_COMMENT: Final = "buildkit.dockerfile.v0"
_DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f",
    "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def empty(platform: Platform) -> ImageConfig:
    """The config of `FROM scratch`."""
    return ImageConfig(platform=platform, diff_ids=(), env=(f"PATH={DEFAULT_PATH}",), working_dir="/")


def begin_stage(base: ImageConfig) -> ImageConfig:
    """What a stage starts with: its base's config, with a PATH, without triggers (case B08)."""
    config = replace(base, on_build=(), build_time_unix_nanos=None)
    if not any(entry.startswith("PATH=") for entry in config.env):
        config = replace(config, env=(*config.env, f"PATH={DEFAULT_PATH}"))
    return replace(config, working_dir=clean_path("/" + config.working_dir)) if config.working_dir else config


def with_env(config: ImageConfig, pairs: Iterable[tuple[str, str]]) -> ImageConfig:
    """With variables set; one that is there keeps its place."""
    env = {entry.partition("=")[0]: entry for entry in config.env}
    for key, value in pairs:
        env[key] = f"{key}={value}"
    return replace(config, env=tuple(env.values()))


def with_labels(config: ImageConfig, labels: Mapping[str, str]) -> ImageConfig:
    """With labels set."""
    return replace(config, labels={**config.labels, **labels})


def with_entrypoint(config: ImageConfig, words: Sequence[str], *, keeps_cmd: bool) -> ImageConfig:
    """With an ENTRYPOINT, which takes a CMD away that is not of the same stage (case B01)."""
    return replace(config, entrypoint=tuple(words), cmd=config.cmd if keeps_cmd else ())


def with_ports(config: ImageConfig, ports: Iterable[str]) -> ImageConfig:
    """With ports exposed, each once."""
    added = set(ports) - set(config.exposed_ports)
    return replace(config, exposed_ports=tuple(sorted({*config.exposed_ports, *added}))) if added else config


def with_volumes(config: ImageConfig, paths: Iterable[str]) -> ImageConfig:
    """With volumes, each once. What RUN writes below them later stays in the image (case B09)."""
    return replace(config, volumes=tuple(sorted({*config.volumes, *paths})))


def with_history(config: ImageConfig, created_by: str, *, has_layer: bool = False) -> ImageConfig:
    """With one more line of history, its time not known yet."""
    entry = History(None, created_by, "", HISTORY_COMMENT, is_empty_layer=not has_layer)
    return replace(config, history=(*config.history, entry))


def shell_of(config: ImageConfig) -> tuple[str, ...]:
    """What goes before a command in shell form."""
    return config.shell or _DEFAULT_SHELL


def working_dir_below(current: str, path: str) -> str:
    """The directory that WORKDIR means, absolute and cleaned; `..` does not leave the root."""
    return clean_path("/" + path) if path.startswith("/") else clean_path(f"/{current or '/'}/{path}")


def quoted(words: Sequence[str]) -> str:
    """Words as Go prints a list of quoted texts: `["a" "b"]`."""
    return "[" + " ".join(f'"{"".join(map(_quoted_char, word))}"' for word in words) + "]"


def _quoted_char(char: str) -> str:
    """Source: Go strconv.Quote."""
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def listed(words: Iterable[str]) -> str:
    """Words as Go prints a list: `[a b]`."""
    return "[" + " ".join(words) + "]"


def health_text(check: HealthCheck) -> str:
    """A health check as Go prints the struct."""
    return (
        f"{{Test:{listed(check.test)} Interval:{format_duration(check.interval_nanos)}"
        f" Timeout:{format_duration(check.timeout_nanos)} StartPeriod:{format_duration(check.start_period_nanos)}"
        f" StartInterval:{format_duration(check.start_interval_nanos)} Retries:{check.retries}}}"
    )


def run_text(argv: Sequence[str], build_args: Mapping[str, str]) -> str:
    """The history line of RUN: the build arguments in scope with their count, then the command."""
    given = [f"{key}={value}" for key, value in build_args.items()]
    return " ".join(["RUN", *([f"|{len(given)}", *given] if given else []), *argv]) + " # buildkit"
