"""The error catalogue: each entry is complete, the page is fresh, messages and metadata agree."""

import pickle
import re
from pathlib import Path

import pytest

from fluytd.errors import BlobNotFound, EngineError, FieldInvalid, IoFailed, catalogue, from_core
from fluytd.errors.__main__ import render
from fluytd.errors.base import MAX_VALUE_CHARS

ROOT = Path(__file__).parents[3]
LEAVES = list(catalogue().items())


def made(leaf: type[EngineError]) -> EngineError:
    return leaf(**{key: f"<{key}>" for key in leaf.keys})


@pytest.mark.parametrize(("reason", "leaf"), LEAVES, ids=[reason for reason, _ in LEAVES])
def test_each_reason_has_code_keys_and_a_next_step(reason: str, leaf: type[EngineError]) -> None:
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{2,62}", reason)
    assert leaf.keys
    assert leaf.next_step.endswith(".")
    assert leaf.next_step[0].isupper()
    assert (leaf.__doc__ or "").strip()
    assert leaf.code.name in render()


@pytest.mark.parametrize(("reason", "leaf"), LEAVES, ids=[reason for reason, _ in LEAVES])
def test_every_value_in_a_message_is_in_its_metadata(reason: str, leaf: type[EngineError]) -> None:
    error = made(leaf)
    shown = set(re.findall(r"<(\w+)>", error.message))
    assert shown <= set(error.metadata)
    assert str(error) == error.message
    assert error.failure.reason == reason


def test_the_page_is_the_one_that_the_classes_print() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == render()


def test_a_leaf_takes_exactly_its_keys() -> None:
    with pytest.raises(TypeError):
        BlobNotFound()
    with pytest.raises(TypeError):
        BlobNotFound(digest="d", other="x")


def test_the_core_raises_by_reason() -> None:
    error = from_core("IO_FAILED", {"operation": "rename", "path": "/x", "errno": "5"})
    assert isinstance(error, IoFailed)
    assert error.metadata["errno"] == "5"


@pytest.mark.parametrize(("reason", "metadata"), [("NOT_A_REASON", {}), ("IO_FAILED", {"path": "/x"})])
def test_what_the_catalogue_lacks_becomes_an_incident_that_keeps_its_secret(
    reason: str, metadata: dict[str, str]
) -> None:
    error = from_core(reason, metadata)
    assert error.reason == "UNEXPECTED"
    assert reason not in error.message
    assert any(reason in note for note in error.__notes__)


def test_hostile_values_are_bounded() -> None:
    error = FieldInvalid(field="f", rule="x" * 100_000)
    assert len(error.metadata["rule"]) == MAX_VALUE_CHARS
    assert "{" in FieldInvalid(field="{digest}", rule="{0.__class__}").message


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(BlobNotFound(digest="d")))  # noqa: S301 - our own bytes
    assert (type(error), error.metadata) == (BlobNotFound, {"digest": "d"})


def test_every_reason_of_the_core_is_in_the_catalogue() -> None:
    used: set[str] = set()
    for source in (ROOT / "rust_core").glob("*/src/**/*.rs"):
        body = source.read_text().partition("fn reason(")[2].partition("fn metadata(")[0]
        used |= set(re.findall(r'"([A-Z][A-Z0-9_]+)"', body))
    assert used <= set(catalogue()), used - set(catalogue())
