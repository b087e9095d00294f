"""Containers as lists show them: the bytes that are kept say what a fresh conversion says."""

from dataclasses import replace

import pytest

from fluyt.v1 import containers_pb2
from fluytd.api import briefs
from fluytd.api.convert.containers import to_container
from fluytd.containers import transitions
from fluytd.containers.model import Container
from fluytd.containers.resolve import resolve
from fluytd.containers.spec import ContainerSpec
from tests.support.fakes.containers import IMAGE


def made(number: int, name: str = "") -> Container:
    """A container that was created."""
    spec = ContainerSpec("busybox", args=("true",), env=("A=b",))
    container_id = f"{number:064x}"
    begun = Container(
        id=container_id,
        name=name or f"c{number}",
        spec=spec,
        image=IMAGE,
        resolved=resolve(spec, IMAGE, container_id),
        create_time_unix_nanos=number + 1,
    )
    return transitions.created(begun)


def test_joined_bytes_are_the_list_of_all_in_order() -> None:
    kept, containers = briefs.Briefs(), [made(number) for number in range(5)]
    for _ in range(2):  # made, then found again
        data = b"".join(kept.of(container) for container in containers)
        response = containers_pb2.ListContainersResponse.FromString(data)
        assert list(response.containers) == [to_container(container, is_brief=True) for container in containers]


def test_a_new_record_is_told_at_once() -> None:
    kept, container = briefs.Briefs(), made(1)
    kept.of(container)
    renamed = replace(container, name="other")
    answer = containers_pb2.ListContainersResponse.FromString(kept.of(renamed))
    assert answer.containers[0].name == "other"


def test_no_more_are_kept_than_the_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(briefs, "MAX_KEPT", 3)
    kept = briefs.Briefs()
    for number in range(10):
        kept.of(made(number))
    assert len(kept._kept) == 3
