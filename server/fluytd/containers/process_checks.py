"""Rules about what a process is executed with: that of a container, or a further one. Pure; each refusal names its
field."""

from collections.abc import Sequence
from typing import Final

from fluytd.errors import FieldInvalid, LimitExceeded

MIB: Final = 1024 * 1024
#: Source: include/uapi/linux/binfmts.h, MAX_ARG_STRLEN less its final NUL.
MAX_ARG_BYTES: Final = 131_071
#: All arguments and variables together: half of the 6 MiB that execve(2) takes at most, so that the stack has room.
MAX_ARGS_AND_ENV_BYTES: Final = 3 * MIB
MAX_ARGS_AND_ENV_COUNT: Final = 65_536
#: Source: include/uapi/linux/limits.h, PATH_MAX less its final NUL.
MAX_PATH_BYTES: Final = 4_095
MAX_GROUPS: Final = 1_024
#: A user, `name:group` included, or a group.
MAX_USER_BYTES: Final = 256


def check_process(
    args: Sequence[str],
    env: Sequence[str],
    user: str,
    additional_groups: Sequence[str],
    *,
    entrypoint: Sequence[str] = (),
) -> None:
    """What a process is executed with can be, whatever image and host: that of a container, or a further one.

    Raises FIELD_INVALID with the field's path below `spec`, LIMIT_EXCEEDED.
    """
    total = count = 0
    for field, items in (("entrypoint.values", entrypoint), ("args", args), ("env", env)):
        for index, item in enumerate(items):
            total += check_text(item, f"spec.{field}[{index}]", MAX_ARG_BYTES, "MAX_ARG_BYTES")
            count += 1
            if field == "env" and (not item or item.startswith("=")):
                raise FieldInvalid(field=f"spec.env[{index}]", rule="must be `NAME=value`, or `NAME` to remove one")
    bounded(total, MAX_ARGS_AND_ENV_BYTES, "MAX_ARGS_AND_ENV_BYTES", "spec.args and spec.env in bytes")
    bounded(count, MAX_ARGS_AND_ENV_COUNT, "MAX_ARGS_AND_ENV_COUNT", "spec.args and spec.env")
    check_text(user, "spec.user", MAX_USER_BYTES, "MAX_USER_BYTES")
    bounded(len(additional_groups), MAX_GROUPS, "MAX_GROUPS", "spec.additional_groups")
    for index, group in enumerate(additional_groups):
        if not group:
            raise FieldInvalid(field=f"spec.additional_groups[{index}]", rule="must not be empty")
        check_text(group, f"spec.additional_groups[{index}]", MAX_USER_BYTES, "MAX_USER_BYTES")


def check_directory(path: str, field: str) -> None:
    """Raises FIELD_INVALID unless it is an absolute path that the kernel can take; it is followed inside alone."""
    if not path.startswith("/"):
        raise FieldInvalid(field=field, rule="must be an absolute path")
    check_text(path, field, MAX_PATH_BYTES, "MAX_PATH_BYTES")


def check_text(text: str, field: str, max_bytes: int, limit: str) -> int:
    """Its size in bytes. Raises FIELD_INVALID for one with a NUL character, or longer than `max_bytes` (`limit`)."""
    if "\0" in text:
        raise FieldInvalid(field=field, rule="must not contain a NUL character")
    size = len(text.encode())
    if size > max_bytes:
        raise FieldInvalid(field=field, rule=f"is longer than {max_bytes} bytes ({limit})")
    return size


def bounded(actual: int, limit: int, name: str, subject: str) -> None:
    """Raises LIMIT_EXCEEDED."""
    if actual > limit:
        raise LimitExceeded(limit=name, limit_value=limit, actual=actual, subject=subject)
