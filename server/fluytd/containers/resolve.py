"""Image and spec put together: what a container executes. Pure: it reads neither host nor clock."""

from typing import Final

from fluytd.containers.model import ImageFacts, Resolved
from fluytd.containers.signals import SIGTERM, parse_signal
from fluytd.containers.spec import ContainerSpec, HealthCheck
from fluytd.errors import FieldInvalid

#: Source: moby `oci/defaults.go` and `pkg/system/path.go`.
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What a terminal is taken for. Source: moby `container/container_unix.go`, CreateDaemonEnvironment().
DEFAULT_TERM: Final = "xterm"
#: Source: moby `container/container.go`, defaultStopTimeout.
DEFAULT_STOP_TIMEOUT_MILLIS: Final = 10_000
#: Interval and timeout of health checks, the interval in their start period, and how many failures make unhealthy.
DEFAULT_HEALTH_MILLIS: Final = 30_000
DEFAULT_START_INTERVAL_MILLIS: Final = 5_000
DEFAULT_HEALTH_RETRIES: Final = 3


def resolve(spec: ContainerSpec, image: ImageFacts, container_id: str, hostname: str = "") -> Resolved:
    """What is executed for this spec in this image. `hostname`: that of whom its namespaces are, if not its own. Raises
    FIELD_INVALID (`spec.args`, `spec.stop_signal`)."""
    hostname = hostname or spec.hostname or container_id[:12]
    return Resolved(
        args=_args(spec, image),
        env=_env(spec, image, hostname),
        working_dir=spec.working_dir or image.working_dir or "/",
        user=spec.user or image.user,
        hostname=hostname,
        stop_signal=_stop_signal(spec, image),
        stop_timeout_millis=(
            DEFAULT_STOP_TIMEOUT_MILLIS if spec.stop_timeout_millis is None else spec.stop_timeout_millis
        ),
        labels=image.labels | spec.labels,
        health_check=health_check(spec.health_check, image.health_check),
        binds=spec.binds,
    )


def health_check(asked: HealthCheck | None, image: HealthCheck | None) -> HealthCheck | None:
    """The check that is carried out, every default filled in: what the caller left out is the image's. None: there is
    none. Raises FIELD_INVALID (`spec.health_check.args`). Source: moby `daemon/commit.go`, merge(), and
    `daemon/health.go` for the defaults."""
    base = image if image is not None and not image.is_disabled else HealthCheck()
    wanted = asked or base
    if wanted.is_disabled or (asked is None and not base.args):
        return None
    args = wanted.args or base.args
    if not args:
        raise FieldInvalid(field="spec.health_check.args", rule="is needed: the image has no health check")
    interval = wanted.interval_millis or base.interval_millis or DEFAULT_HEALTH_MILLIS
    start_interval = wanted.start_interval_millis or base.start_interval_millis
    return HealthCheck(
        args=args,
        interval_millis=interval,
        timeout_millis=wanted.timeout_millis or base.timeout_millis or DEFAULT_HEALTH_MILLIS,
        start_period_millis=wanted.start_period_millis or base.start_period_millis,
        # A short interval must not be made longer by the start period (case L08).
        start_interval_millis=start_interval or min(DEFAULT_START_INTERVAL_MILLIS, interval),
        retries=wanted.retries or base.retries or DEFAULT_HEALTH_RETRIES,
        action=wanted.action,
    )


def _args(spec: ContainerSpec, image: ImageFacts) -> tuple[str, ...]:
    # Source: moby `daemon/commit.go`, merge(): an entrypoint of the caller's own drops the image's command.
    own, args = spec.entrypoint, spec.args
    args = image.entrypoint + (args or image.cmd) if own is None else own + args
    if not args:
        raise FieldInvalid(field="spec.args", rule="is needed: neither the image nor the request names a command")
    return args


def _env(spec: ContainerSpec, image: ImageFacts, hostname: str) -> tuple[str, ...]:
    # A dict keeps the place of a variable that is set again, as Docker does. Source: moby `container/env.go`.
    merged: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.tty:
        merged["TERM"] = DEFAULT_TERM
    for item in image.env:
        name, separator, value = item.partition("=")
        if separator and name:
            merged[name] = value
    for item in spec.env:
        name, separator, value = item.partition("=")
        if separator:
            merged[name] = value
        else:
            merged.pop(name, None)
    return tuple(f"{name}={value}" for name, value in merged.items())


def _stop_signal(spec: ContainerSpec, image: ImageFacts) -> int:
    for field, text in (("spec.stop_signal", spec.stop_signal), ("spec.image", image.stop_signal)):
        if text:
            number = parse_signal(text)
            if number is None:
                raise FieldInvalid(field=field, rule=f"{text!r} is not a signal")
            return number
    return SIGTERM
