"""`--pull` of run and create: what of a tag that has moved at its registry is run, and when the registry is asked."""

from collections.abc import Iterator

import pytest

from tests.e2e.cli.program import Program
from tests.support import images
from tests.support.registry import FaultyRegistry, manifest_path


@pytest.fixture
def moved(fluyt: Program) -> Iterator[tuple[FaultyRegistry, str]]:
    """A registry, and a reference that is here and stands for another image there; `WHICH` tells them apart."""
    with FaultyRegistry() as registry:
        reference = f"{registry.address}/app:1"
        for number in ("old", "new"):
            registry.put("app", "1", images.busybox_image(env=[f"WHICH={number}"]))
            if number == "old":
                fluyt.ok("pull", "-q", reference)
        yield registry, reference
        fluyt("rmi", "-f", reference)
        fluyt("image", "prune", "-f")


def _asked(registry: FaultyRegistry) -> int:
    return len(registry.requests_for(manifest_path("app", "1")))


def _which(fluyt: Program, policy: str, reference: str) -> str:
    return fluyt.ok("run", "--rm", "--pull", policy, reference, "sh", "-c", "echo $WHICH").strip()


def test_missing_and_never_take_what_is_here_and_ask_nobody(fluyt: Program, moved: tuple[FaultyRegistry, str]) -> None:
    registry, reference = moved
    before = _asked(registry)
    assert [_which(fluyt, policy, reference) for policy in ("missing", "never")] == ["old", "old"]
    assert fluyt.ok("run", "--rm", reference, "sh", "-c", "echo $WHICH").strip() == "old", "missing is the default"
    assert _asked(registry) == before


def test_always_takes_what_the_registry_has_now(fluyt: Program, moved: tuple[FaultyRegistry, str]) -> None:
    registry, reference = moved
    assert _which(fluyt, "always", reference) == "new"
    before = _asked(registry)
    assert _which(fluyt, "always", reference) == "new"
    assert _asked(registry) > before, "it is asked though the image is here"
    created = fluyt.ok("create", "--pull", "always", reference).strip()
    assert fluyt.ok("rm", created).strip() == created


def test_always_fails_where_the_registry_does_and_never_where_nothing_is_here(
    fluyt: Program, moved: tuple[FaultyRegistry, str]
) -> None:
    registry, reference = moved
    absent = reference.replace(":1", ":2")
    failed = fluyt("run", "--rm", "--pull", "always", absent, "true")
    assert (failed.code, failed.err.count("try: ")) == (125, 1), failed
    before = len(registry.requests)
    assert fluyt("run", "--rm", "--pull", "never", absent, "true").code == 125
    assert len(registry.requests) == before


def test_advice_of_a_failed_pull_is_given_once(fluyt: Program, moved: tuple[FaultyRegistry, str]) -> None:
    failed = fluyt("pull", moved[1].replace(":1", ":2"))
    assert failed.code == 1
    assert failed.err.count("Check the spelling") == 1, failed
