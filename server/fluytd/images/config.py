"""Image configs: how an image is to be run and how it was made, as typed values from the exact bytes.

Source: OCI image-spec config.md; Docker image spec v1.2 for Healthcheck, OnBuild and Shell.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from fluytd.ids import Digest
from fluytd.images.documents import MAX_CONFIG_BYTES, Fields, check_size, read_json, refuse_manifest
from fluytd.images.platforms import Platform

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR = 1


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How an image asks for its health to be found out; durations of 0 mean the default."""

    test: tuple[str, ...]
    interval_nanos: int
    timeout_nanos: int
    start_period_nanos: int
    start_interval_nanos: int
    retries: int


@dataclass(frozen=True, slots=True)
class History:
    """One step in the making of an image."""

    build_time_unix_nanos: int | None
    created_by: str
    author: str
    comment: str
    is_empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the config says; lists that are absent are empty."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    build_time_unix_nanos: int | None = None
    author: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    health_check: HealthCheck | None = None
    history: tuple[History, ...] = ()


def parse(data: bytes, layer_count: int, subject: str) -> ImageConfig:
    """The config in `data`, of an image whose manifest has `layer_count` layers.

    Raises MANIFEST_INVALID (also for another number of diff_ids, case R14), DIGEST_INVALID, LIMIT_EXCEEDED.
    """
    check_size(len(data), "MAX_CONFIG_BYTES", MAX_CONFIG_BYTES, subject)
    refuse = refuse_manifest(subject)
    document = Fields(read_json(data, refuse), "", refuse)
    document.check_known_spelling("rootfs", "config", "architecture", "os")
    diff_ids = document.object("rootfs").digests("diff_ids")
    if len(diff_ids) != layer_count:
        raise refuse(f"it has {len(diff_ids)} diff_ids for {layer_count} layers")
    if not document.text("os") or not document.text("architecture"):
        raise refuse("it names no os and architecture")
    run = document.object("config")
    return ImageConfig(
        platform=Platform.normalised(
            document.text("os"), document.text("architecture"), document.text("variant"), document.text("os.version")
        ),
        diff_ids=diff_ids,
        build_time_unix_nanos=parse_time(document.text("created")),
        author=document.text("author"),
        entrypoint=_words(run, "Entrypoint"),
        cmd=_words(run, "Cmd"),
        env=run.texts("Env"),
        user=run.text("User"),
        working_dir=run.text("WorkingDir"),
        stop_signal=run.text("StopSignal"),
        exposed_ports=run.key_set("ExposedPorts"),
        volumes=run.key_set("Volumes"),
        labels=run.text_map("Labels"),
        shell=_words(run, "Shell"),
        on_build=run.texts("OnBuild"),
        health_check=_health_check(run.object("Healthcheck")) if run.has("Healthcheck") else None,
        history=tuple(_history(entry) for entry in document.objects("history")),
    )


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The digest of each stack of layers, lowest first. Source: OCI image-spec config.md, section Layer ChainID."""
    found: list[Digest] = []
    for diff_id in diff_ids:
        text = f"{found[-1]} {diff_id}" if found else ""
        found.append(Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest()) if text else diff_id)
    return tuple(found)


def parse_time(text: str) -> int | None:
    """RFC 3339 to nanoseconds since 1970; None for Go's zero time and for anything else."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    seconds, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(seconds).replace(tzinfo=_zone(zone))
        if moment.year == _FIRST_YEAR:
            return None
        whole = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return whole * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def _zone(text: str) -> timezone:
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _words(run: Fields, name: str) -> tuple[str, ...]:
    """A list of words, or the one text that very old configs have in its place."""
    return (run.text(name),) if run.is_text(name) else run.texts(name)


def _health_check(entry: Fields) -> HealthCheck:
    def nanos(name: str) -> int:
        return entry.number(name) if entry.has(name) else 0

    return HealthCheck(
        test=entry.texts("Test"),
        interval_nanos=nanos("Interval"),
        timeout_nanos=nanos("Timeout"),
        start_period_nanos=nanos("StartPeriod"),
        start_interval_nanos=nanos("StartInterval"),
        retries=nanos("Retries"),
    )


def _history(entry: Fields) -> History:
    return History(
        build_time_unix_nanos=parse_time(entry.text("created")),
        created_by=entry.text("created_by"),
        author=entry.text("author"),
        comment=entry.text("comment"),
        is_empty_layer=entry.flag("empty_layer"),
    )
