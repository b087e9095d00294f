"""RUN, CMD, ENTRYPOINT, SHELL and HEALTHCHECK. Source: Docker's reference; BuildKit instructions/parse.go."""

import re
from typing import cast

from fluytd.builds.dockerfile.durations import parse_duration
from fluytd.builds.dockerfile.fields import json_words
from fluytd.builds.dockerfile.flags import Flags
from fluytd.builds.dockerfile.instructions.entry import Entry
from fluytd.builds.dockerfile.mistakes import Mistake, perhaps
from fluytd.builds.dockerfile.model import Cmd, Device, Entrypoint, HealthCheck, Network, Run, Security, Shell
from fluytd.builds.dockerfile.mounts import check_mount, comma_fields
from fluytd.builds.dockerfile.text import parse_bool, split_once, strip

_NETWORKS = ("default", "none", "host")
_SECURITIES = ("sandbox", "insecure")
#: Shorter times are refused. Source: moby daemon/health.go, minimumDuration.
_MIN_HEALTH_NANOS = 1_000_000
_MAX_RETRIES = 2**31 - 1


def parse_run(entry: Entry) -> Run:
    """RUN [--mount=...] [--network=...] [--security=...] [--device=...] COMMAND."""
    flags = entry.flags(mount="texts", network="text", security="text", device="texts")
    command = entry.command_line()
    if not command.words:
        raise Mistake("RUN has no command", 'write RUN COMMAND or RUN ["COMMAND", "ARGUMENT"]', 0)
    network = flags.text("network", "default")
    if network not in _NETWORKS:
        raise Mistake(
            f"{network!r} is no network mode{perhaps(network, _NETWORKS)}", "use default, none or host", "--network"
        )
    security = flags.text("security", "sandbox")
    if security not in _SECURITIES:
        raise Mistake(
            f"{security!r} is no security mode{perhaps(security, _SECURITIES)}", "use sandbox or insecure", "--security"
        )
    mounts = flags.texts("mount")
    return Run(
        **entry.common,
        command=command,
        mounts=mounts,
        mount_origins=tuple(check_mount(mount) for mount in mounts),
        network=cast(Network, network),
        security=cast(Security, security),
        devices=tuple(_device(value) for value in flags.texts("device")),
    )


def _device(value: str) -> Device:
    name, is_required = "", False
    for field in comma_fields(value):
        key, separator, text = field.partition("=")
        if key.lower() == "required":
            is_asked = parse_bool(text) if separator else True
            if is_asked is None:
                raise Mistake(f"required is true or false, not {text!r}", "write required or required=false", value)
            is_required = is_asked
        elif key.lower() == "name" and separator and not name:
            name = text
        elif not name:
            # A CDI name may hold `=` itself: vendor.com/class=device.
            name = field
        else:
            raise Mistake(f"{field!r} is no option of --device", "write --device=NAME[,required]", value)
    if not name:
        raise Mistake("--device has no name", "write --device=VENDOR/CLASS=NAME", value)
    return Device(name, is_required)


def parse_cmd(entry: Entry) -> Cmd:
    """CMD in either form; `CMD []` takes an inherited one away."""
    entry.flags()
    return Cmd(**entry.common, command=entry.command_line())


def parse_entrypoint(entry: Entry) -> Entrypoint:
    """ENTRYPOINT in either form; `ENTRYPOINT []` takes an inherited one away."""
    entry.flags()
    return Entrypoint(**entry.common, command=entry.command_line())


def parse_shell(entry: Entry) -> Shell:
    """SHELL in JSON form."""
    entry.flags()
    fix = 'write SHELL ["executable", "argument"]'
    words = json_words(entry.needed('["executable", "argument"]'))
    if words is None:
        raise Mistake("SHELL is not in JSON form", fix, entry.command.offset)
    if not words:
        raise Mistake("SHELL has no argument", fix, entry.command.offset)
    return Shell(**entry.common, words=words)


def parse_health_check(entry: Entry) -> HealthCheck:
    """HEALTHCHECK NONE, or HEALTHCHECK [options] CMD COMMAND."""
    flags = entry.flags(interval="text", timeout="text", start_period="text", start_interval="text", retries="text")
    rest = entry.needed("CMD COMMAND or HEALTHCHECK NONE")
    kind, argument = _first_word(rest)
    if kind.upper() == "NONE":
        if argument:
            raise Mistake("HEALTHCHECK NONE takes no arguments", "remove what stands behind NONE", argument)
        return HealthCheck(**entry.common, test=("NONE",))
    if kind.upper() != "CMD":
        raise Mistake(f"{kind!r} is no kind of HEALTHCHECK", "write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE", kind)
    words = json_words(argument)
    test = ("CMD-SHELL", argument) if words is None else ("CMD", *words)
    if not argument or words == ():
        raise Mistake("HEALTHCHECK CMD has no command", "write HEALTHCHECK CMD COMMAND", kind)
    return HealthCheck(
        **entry.common,
        test=test,
        interval_nanos=_interval(flags, "interval"),
        timeout_nanos=_interval(flags, "timeout"),
        start_period_nanos=_interval(flags, "start-period"),
        start_interval_nanos=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )


def _first_word(rest: str) -> tuple[str, str]:
    parts = split_once(rest)
    return (parts[0], strip(parts[1])) if parts else (rest, "")


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    nanos = parse_duration(text)
    if nanos is None:
        raise Mistake(
            f"--{name}={text} is no duration", "write a number with a unit, such as 30s or 1m30s", f"--{name}"
        )
    if nanos != 0 and nanos < _MIN_HEALTH_NANOS:
        raise Mistake(f"--{name}={text} is less than 1ms", "write 1ms or more, or 0 for the default", f"--{name}")
    return nanos


def _retries(text: str) -> int:
    if not text:
        return 0
    if re.fullmatch(r"[+]?[0-9]{1,10}", text) is None or int(text) > _MAX_RETRIES:
        raise Mistake(f"--retries={text} is no number of tries", "write a whole number from 0 on", "--retries")
    return int(text)
