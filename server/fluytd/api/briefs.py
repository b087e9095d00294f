"""Containers as lists show them, kept as bytes: to convert one takes thirty times as long as to find it again."""

from typing import Final

from fluyt.v1 import containers_pb2
from fluytd.api.convert.containers import to_container
from fluytd.containers.model import Container

#: Containers whose bytes are kept; the oldest go first beyond it.
MAX_KEPT: Final = 8_192


class Briefs:
    """A record never changes, so its bytes hold as long as it is the container's record. Belongs to the event loop."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Container, bool, bytes]] = {}

    def of(self, container: Container, *, waits_for_restart: bool = False) -> bytes:
        """A serialized ListContainersResponse of this one container; joined ones are one of all of them.

        Source: protobuf encoding, "Last One Wins": messages of one type may be merged by joining their bytes.
        """
        kept = self._kept.get(container.id)
        if kept is not None and kept[0] is container and kept[1] is waits_for_restart:
            return kept[2]
        message = to_container(container, is_brief=True, waits_for_restart=waits_for_restart)
        response = containers_pb2.ListContainersResponse(containers=[message])
        data = response.SerializeToString()
        if kept is None and len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[container.id] = container, waits_for_restart, data
        return data
