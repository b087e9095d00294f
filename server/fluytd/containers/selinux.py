"""SELinux labels of containers: their grammar, which ones a new container gets, and what its mounts are labelled as.
Pure but for the table of levels that are taken.

A container has two labels, fixed when it is made and recorded with it: one of its processes, one of its files. Both
have the same level, two categories that no other container has, so that of two containers of one type neither can reach
what is the other's. A level is free again with the record that has it.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from fluytd.containers.model import Container, Labels
from fluytd.containers.spec import ContainerSpec, NamespaceMode, SecuritySpec
from fluytd.errors import FieldInvalid, FieldNotBuilt, KernelFeatureMissing, LimitExceeded

#: No label of the engine's.
DISABLE: Final = "disable"
#: Categories of a policy. Source: refpolicy, MCS_CATS.
CATEGORIES: Final = 1_024
#: Pairs of them, each a level.
LEVELS: Final = CATEGORIES * (CATEGORIES - 1) // 2
#: The level of what a container without labels asks to be its own; no container gets it. Source: go-selinux, whose
#: containers may be on the same host.
UNLABELLED_LEVEL: Final = "c1022,c1023"

_FIELD: Final = "spec.security.selinux_label"
_PARTS: Final = ("user", "role", "type", "level", "filetype")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_LEVEL: Final = re.compile(r"[A-Za-z0-9_.:,-]{1,63}")
_WHOLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,63}(?::[A-Za-z0-9_.-]{1,63}){2}(?::[A-Za-z0-9_.:,-]{1,63})?")
_RULE: Final = "must be disable, user:, role:, type:, level: or filetype: and a name, or a whole label"


@dataclass(frozen=True, slots=True)
class SelinuxHost:
    """The SELinux of the host, as far as containers need it."""

    #: Labels of processes and of files, which containers' are made of.
    process: str = "system_u:system_r:container_t:s0"
    file: str = "system_u:object_r:container_file_t:s0"
    #: Of the layers of images on disk, which every container's programs are mapped from.
    layers: str = "system_u:object_r:container_ro_file_t:s0"
    #: Who asks for nothing gets labels; not if the host's policy does not have these.
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller says about labels."""

    is_disabled: bool = False
    #: `user`, `role`, `type`, `level`, `filetype`.
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def is_something(self) -> bool:
        """The caller wants labels other than the engine's."""
        return bool(self.parts)


def asked(security: SecuritySpec) -> Asked:
    """What the spec says. Raises FIELD_INVALID, and FIELD_NOT_BUILT for `nested`."""
    label = security.selinux_label
    options = [(f"spec.security.selinux_options[{index}]", one) for index, one in enumerate(security.selinux_options)]
    found: dict[str, str] = {}
    if label == DISABLE:
        if options:
            raise FieldInvalid(field=options[0][0], rule="cannot be given together with disable")
        return Asked(is_disabled=True)
    if label and label.partition(":")[0] not in _PARTS and label != "nested":
        if not _WHOLE.fullmatch(label):
            raise FieldInvalid(field=_FIELD, rule=_RULE)
        found = dict(zip(_PARTS, label.split(":", 3), strict=False))
    elif label:
        options.insert(0, (_FIELD, label))
    for field, option in options:
        key, _, value = option.partition(":")
        if option == "nested":
            raise FieldNotBuilt(field=field)
        if key not in _PARTS or not (_LEVEL if key == "level" else _NAME).fullmatch(value):
            raise FieldInvalid(field=field, rule=_RULE)
        if key in found:
            raise FieldInvalid(field=field, rule=f"{key} is given twice")
        found[key] = value
    return Asked(parts=tuple(found.items()))


def check(security: SecuritySpec, selinux: SelinuxHost | None, kernel_release: str) -> None:
    """Raises as `asked`, and KERNEL_FEATURE_MISSING for labels where there is no SELinux. To be without can be asked of
    any host."""
    if asked(security).is_something and selinux is None:
        raise KernelFeatureMissing(feature="selinux", kernel_release=kernel_release)


class Levels:
    """The levels that containers have. Belongs to the event loop."""

    def __init__(self) -> None:
        #: Containers by categories: those that share a namespace have the same.
        self._uses: Counter[str] = Counter()

    def hold(self, labels: Labels | None) -> None:
        """A container has these labels."""
        self._uses.update(self._of(labels))

    def release(self, labels: Labels | None) -> None:
        """It has them no longer."""
        for categories in self._of(labels):
            self._uses[categories] -= 1
            if self._uses[categories] <= 0:
                del self._uses[categories]

    def find(self, random: Random) -> str:
        """Categories that no container has, `c3,c77`, chosen at random since other engines of the host choose from the
        same. Raises LIMIT_EXCEEDED."""
        first = random.randrange(LEVELS)
        for offset in range(LEVELS):
            categories = _pair((first + offset) % LEVELS)
            if categories != UNLABELLED_LEVEL and categories not in self._uses:
                return categories
        raise LimitExceeded(limit="LEVELS", limit_value=LEVELS, actual=len(self._uses), subject="selinux levels")

    def _of(self, labels: Labels | None) -> tuple[str, ...]:
        categories = "" if labels is None else _level(labels.mount).partition(":")[2]
        return (categories,) if categories else ()


def _pair(number: int) -> str:
    """Each number below `LEVELS` is another pair of categories."""
    one = number % CATEGORIES
    other = (one + number // CATEGORIES + 1) % CATEGORIES
    return f"c{min(one, other)},c{max(one, other)}"


def chosen(
    spec: ContainerSpec,
    find: Callable[[str], Container],
    selinux: SelinuxHost | None,
    levels: Levels,
    random: Random,
) -> Labels | None:
    """The labels of a new container; None for none of the engine's. `find`: the container of an id.

    Who is privileged or in the host's namespace of process ids or of IPC has none, who shares one of these with another
    container has that one's, unless the caller asks for labels. Source: moby `daemon/create.go`, generateSecurityOpt.
    Raises FIELD_INVALID for other containers with different labels, and `Levels.find`'s.
    """
    wish = asked(spec.security)
    if selinux is None or wish.is_disabled:
        return None
    if not wish.is_something:
        if not selinux.is_default or _is_the_hosts(spec):
            return None
        others = [
            find(one.container).selinux
            for one in (spec.namespaces.pid, spec.namespaces.ipc)
            if one.mode is NamespaceMode.CONTAINER
        ]
        if len(set(others)) > 1:
            rule = "the containers whose process ids and ipc are shared have different SELinux labels"
            raise FieldInvalid(field="spec.namespaces.ipc", rule=rule)
        if others:
            return others[0]
    parts = dict(wish.parts)
    own = zip(_PARTS, selinux.process.split(":", 3), strict=False)
    process = ":".join(parts.get(name, value) for name, value in own)
    user, role, kind, *rest = selinux.file.split(":", 3)
    file = ":".join([user, role, parts.get("filetype", kind), *rest])
    if "level" in parts:
        return Labels(_with_level(process, parts["level"]), _with_level(file, parts["level"]))
    # A policy without levels has labels of three parts.
    categories = levels.find(random) if _level(process) else ""
    return Labels(_with_categories(process, categories), _with_categories(file, categories))


def _is_the_hosts(spec: ContainerSpec) -> bool:
    return spec.security.privileged or NamespaceMode.HOST in {spec.namespaces.pid.mode, spec.namespaces.ipc.mode}


def _level(label: str) -> str:
    """The level of a label; empty without one."""
    return ":".join(label.split(":")[3:])


def _with_level(label: str, level: str) -> str:
    return ":".join([*label.split(":")[:3], level])


def _with_categories(label: str, categories: str) -> str:
    """The label with these categories and no others; as it is if its policy has no levels."""
    level = _level(label)
    if not level:
        return label
    sensitivity = level.partition("-")[0].partition(":")[0]
    return _with_level(label, f"{sensitivity}:{categories}" if categories else sensitivity)


def applied(container: Container, selinux: SelinuxHost | None, kernel_release: str) -> Labels | None:
    """The labels that a start gives. A container that was made while the host had SELinux starts without them where it
    has none any more, unless they were asked for: raises KERNEL_FEATURE_MISSING then."""
    check(container.spec.security, selinux, kernel_release)
    return container.selinux if selinux is not None else None


def shared_label(labels: Labels | None, selinux: SelinuxHost) -> str:
    """What all containers of the type may use: the label of files without categories."""
    return _with_categories(selinux.file if labels is None else labels.mount, "")


def private_label(labels: Labels | None, selinux: SelinuxHost) -> str:
    """What the container alone may use."""
    if labels is not None:
        return labels.mount
    return _with_categories(selinux.file, UNLABELLED_LEVEL)
