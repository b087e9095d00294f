"""The bounds of a container's log, and what the journal is told of it. Pure."""

import re
from typing import Final

from fluytd.containers.model import Container
from fluytd.containers.spec import LogDriver, LogSpec
from fluytd.containers.start_facts import StartSettings

#: What stands of a log that is not kept, for those who read it while it comes.
UNKEPT_SEGMENT_BYTES: Final = 64 * 1024
UNKEPT_SEGMENTS: Final = 2
#: Longest name of a field. Source: systemd, `journal_field_valid`.
MAX_FIELD_NAME: Final = 64
_NO_FIELD_NAME: Final = re.compile(r"[^A-Z0-9_]", re.ASCII)
#: What a label must not be taken for.
_OWN_FIELDS: Final = frozenset(
    {
        "CONTAINER_ID",
        "CONTAINER_ID_FULL",
        "CONTAINER_NAME",
        "CONTAINER_PARTIAL_MESSAGE",
        "CONTAINER_TAG",
        "IMAGE_NAME",
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
    }
)


def log_bounds(log: LogSpec, settings: StartSettings) -> tuple[int, int]:
    """Size and number of a log's segments. Of one that is not kept only as much stands as callers need who read the
    container's output while it comes."""
    if log.driver is LogDriver.NONE:
        return UNKEPT_SEGMENT_BYTES, UNKEPT_SEGMENTS
    return log.segment_size_bytes or settings.log_segment_bytes, log.segment_count or settings.log_segment_count


def journal_fields(container: Container) -> list[tuple[str, str]]:
    """What the journal is told of each line. Source: moby `daemon/logger/journald`, whose names these are."""
    if container.spec.log.driver is not LogDriver.JOURNALD:
        return []
    return [
        ("CONTAINER_ID", container.id[:12]),
        ("CONTAINER_ID_FULL", container.id),
        ("CONTAINER_NAME", container.name),
        ("CONTAINER_TAG", container.id[:12]),
        ("IMAGE_NAME", container.spec.image),
        ("SYSLOG_IDENTIFIER", container.id[:12]),
        *_journal_details(container),
    ]


def _journal_details(container: Container) -> list[tuple[str, str]]:
    """Labels and variables that the journal is told too, under names that it takes. Source: as above."""
    log, labels = container.spec.log, container.resolved.labels
    found = {name: labels[name] for name in log.detail_labels if name in labels}
    variables = dict(item.partition("=")[::2] for item in container.resolved.env if "=" in item)
    found |= {name: variables[name] for name in log.detail_env if name in variables}
    fields = {_NO_FIELD_NAME.sub("_", name.upper()).lstrip("_0123456789"): value for name, value in found.items()}
    return [(name[:MAX_FIELD_NAME], value) for name, value in fields.items() if name and name not in _OWN_FIELDS]
