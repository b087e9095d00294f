"""Which users and groups of the host a container's are. Pure but for the table of ranges that are taken.

A container in a user namespace has a range of ids of its own, fixed when it is made and recorded with it: 0 inside is
the first of them outside, where it is nobody. Its files show other owners only to its own processes; on disk, layers,
volumes and what it writes itself belong to whom they belong to inside. A range is free again with the record that has
it; nothing on disk remembers it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fluytd.containers.model import Container, IdRange, ImageFacts
from fluytd.containers.spec import ContainerSpec, NamespaceMode, NetworkMode, UsersMode, UsersSpec
from fluytd.errors import FieldInvalid, LimitExceeded

#: Fewest ids that are of use: below it groups such as nogroup do not exist.
MIN_IDS: Final = 1_000
#: Ids end below (uid_t) -1, which is none. Source: user_namespaces(7).
MAX_ID: Final = 2**32 - 2

#: The most ids that a container gets unasked, because its image has files of so high ids: an image shall not use up the
#: pool.
MAX_UNASKED_IDS: Final = 2**20

#: Who users that a container does not have are inside. Source: user_namespaces(7), overflowuid.
NOBODY: Final = 65_534

_FIELD: Final = "spec.namespaces.user"


@dataclass(frozen=True, slots=True)
class IdSettings:
    """The engine's settings about ids, and what the host allows."""

    #: What a container gets whose caller says nothing.
    default: UsersMode = UsersMode.HOST
    #: The pool, and how many ids of it a container gets that asks for no number.
    first_id: int = 2**30
    pool_count: int = 3 * 2**28
    range_count: int = 65_536
    #: Why the host cannot shift owners; empty if it can.
    obstacle: str = ""

    @property
    def has_own_users(self) -> bool:
        """Containers whose caller says nothing have ids of their own."""
        return self.default is UsersMode.AUTO and not self.obstacle


class IdRanges:
    """The ranges that containers have, in pieces of the usual size. Belongs to the event loop."""

    def __init__(self, settings: IdSettings) -> None:
        self._settings = settings
        self._pieces = settings.pool_count // settings.range_count
        #: Containers by piece: those that share a user namespace have the same range.
        self._uses: Counter[int] = Counter()
        self._next = 0

    def hold(self, ids: IdRange | None) -> None:
        """A container has these ids. Those outside of the pool, of an earlier setting, are nobody else's anyway."""
        self._uses.update(self._of(ids))

    def release(self, ids: IdRange | None) -> None:
        """It has them no longer."""
        for piece in self._of(ids):
            self._uses[piece] -= 1
            if self._uses[piece] <= 0:
                del self._uses[piece]

    def find(self, count: int, field: str = _FIELD) -> IdRange:
        """A free range, the one after that which was found last: what a container had, the next one does not get at
        once. Raises LIMIT_EXCEEDED, with the name of `field`."""
        wanted = -(-count // self._settings.range_count)
        for offset in range(self._pieces):
            first = (self._next + offset) % self._pieces
            if first + wanted <= self._pieces and not any(
                piece in self._uses for piece in range(first, first + wanted)
            ):
                self._next = first + wanted
                return IdRange(self._settings.first_id + first * self._settings.range_count, count)
        raise LimitExceeded(
            limit="userns_pool_count", limit_value=self._settings.pool_count, actual=count, subject=field
        )

    def _of(self, ids: IdRange | None) -> range:
        if ids is None:
            return range(0)
        size = self._settings.range_count
        first, end = ids.first_id - self._settings.first_id, ids.first_id + ids.count - self._settings.first_id
        return range(max(0, first // size), max(0, min(self._pieces, -(-end // size))))


def chosen(
    spec: ContainerSpec, image: ImageFacts, others: Sequence[Container], settings: IdSettings, ranges: IdRanges
) -> IdRange | None:
    """The ids of a new container; None are the host's. `others`: the containers whose namespaces it shares.

    Raises FIELD_INVALID for what cannot be together and for an image with files of other ids, and `IdRanges.find`'s.
    """
    asked = spec.namespaces.user
    mode = settings.default if asked.mode is UsersMode.DEFAULT else asked.mode
    is_asked = asked.mode is UsersMode.AUTO
    needs_host = _why_host(spec)
    if is_asked and settings.obstacle:
        raise FieldInvalid(field=_FIELD, rule=f"cannot be auto on this host: {settings.obstacle}")
    if is_asked and needs_host:
        raise FieldInvalid(field=_FIELD, rule=f"cannot be auto together with {needs_host}")
    if needs_host or asked.mode is UsersMode.HOST:
        return None
    if others:
        ids = _shared(others, is_asked=is_asked)
        if ids is not None:
            _check_image(image, ids.count, f"container {others[0].id} has")
        return ids
    if mode is not UsersMode.AUTO or settings.obstacle:
        return None
    if asked.size:
        _check_image(image, asked.size, "are asked for")
    return ranges.find(asked.size or _fitting(image, settings.range_count))


def of_step(
    spec: ContainerSpec, image: ImageFacts, settings: IdSettings, ranges: IdRanges, field: str
) -> IdRange | None:
    """The ids of a step of a build; None are the host's. `image`: what is known of its stage; `field`: by which users
    were asked for.

    Unasked it gets as many as a container gets at most, so that a step can give files to the same users on every host;
    only where so many are not free, as many as a container of that image would get. Raises as `chosen`.
    """
    asked = spec.namespaces.user
    if asked.mode is UsersMode.HOST or (asked.mode is UsersMode.DEFAULT and not settings.has_own_users):
        return None
    needs_host = _why_host(spec)
    if asked.mode is UsersMode.AUTO and (settings.obstacle or needs_host):
        why = f"on this host: {settings.obstacle}" if settings.obstacle else f"together with {needs_host}"
        raise FieldInvalid(field=field, rule=f"cannot be auto {why}")
    if needs_host:
        return None
    if asked.size:
        _check_image(image, asked.size, "are asked for", field)
        return ranges.find(asked.size, field)
    count = _fitting(image, settings.range_count, field)
    try:
        return ranges.find(max(count, MAX_UNASKED_IDS), field)
    except LimitExceeded:
        return ranges.find(count, field)


def _fitting(image: ImageFacts, range_count: int, field: str = _FIELD) -> int:
    """As many ids as the settings say, or that many times over that every file of the image has one."""
    count = -(-max(image.max_id + 1, range_count) // range_count) * range_count
    if count > range_count:
        _check_image(image, max(MAX_UNASKED_IDS, range_count), "at most are given unasked", field)
    return count


def _check_image(image: ImageFacts, count: int, words: str, field: str = _FIELD) -> None:
    if image.max_id >= count:
        needed = f"auto with a size of {image.max_id + 1} or more, or host"
        rule = f"must be {needed}: image {image.reference or image.image_id} has files of the id {image.max_id}"
        raise FieldInvalid(field=field, rule=f"{rule}, and {count} ids {words}")


def _shared(others: Sequence[Container], *, is_asked: bool) -> IdRange | None:
    """The ids of a container that shares namespaces, which must be in the user namespace that they belong to, or be the
    host's: rights over a namespace are had there and above."""
    found = {other.ids for other in others}
    if len(found) > 1:
        rule = "the containers whose namespaces are shared are in different user namespaces; host is in none"
        raise FieldInvalid(field=_FIELD, rule=rule)
    ids = found.pop()
    if is_asked and ids is None:
        raise FieldInvalid(field=_FIELD, rule=f"cannot be auto: container {others[0].id} has the host's users")
    return ids


def _why_host(spec: ContainerSpec) -> str:
    """What of the spec needs the host's users; empty if nothing does."""
    if spec.security.privileged:
        return "privileged"
    if spec.network.mode is NetworkMode.HOST:
        return "the host's network"
    for kind in ("pid", "ipc", "uts", "cgroup"):
        if getattr(spec.namespaces, kind).mode is NamespaceMode.HOST:
            return f"the host's {kind} namespace"
    return ""


def inside(ids: IdRange | None, uid: int) -> int:
    """The user that a container with these ids sees for one of the host."""
    if ids is None:
        return uid
    return uid - ids.first_id if ids.first_id <= uid < ids.first_id + ids.count else NOBODY


def check_users(users: UsersSpec, field: str = _FIELD) -> None:
    """Raises FIELD_INVALID for a number of ids that cannot be."""
    if not users.size:
        return
    if users.mode is not UsersMode.AUTO:
        raise FieldInvalid(field=f"{field}.size", rule="needs the mode auto")
    if not MIN_IDS <= users.size <= MAX_ID:
        raise FieldInvalid(field=f"{field}.size", rule=f"must be {MIN_IDS} to {MAX_ID}")
