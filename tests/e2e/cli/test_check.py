"""`fluyt system check`: what is damaged, repaired and left; and tags and removals of one platform."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli.program import Program
from tests.support import image_files, images
from tests.support.engine import Engine

SMALL = images.image([images.layer()])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own, since its storage is damaged."""
    with Engine(tmp_path) as running:
        running.load(image_files.oci_archive({"check:1": SMALL}))
        yield running


@pytest.fixture
def program(engine: Engine) -> Program:
    return Program(engine.root / "run" / "fluytd.sock")


def test_a_sound_storage_is_told_in_one_line_and_by_exit_code_0(program: Program) -> None:
    ended = program("system", "check")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Checked: ")
    assert ended.out.endswith("damaged: 0, repaired: 0\n")
    (summary,) = program("system", "check", "--format", "json", "check:1").objects
    assert summary["checked_count"] > 0


def test_damage_that_stays_is_exit_code_1_and_names_who_needs_it(program: Program, engine: Engine) -> None:
    digest = SMALL.layers[0].digest
    (engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")).write_bytes(b"damaged")
    ended = program("system", "check")
    assert ended.code == 1
    assert f"Damaged: {digest}: " in ended.out
    assert "needed by: docker.io/library/check:1" in ended.out
    finding, summary = program("system", "check", "--format", "json").objects
    assert (finding["subject"], finding["failure"]["reason"]) == (digest, "DATA_CORRUPT")
    assert summary["damaged_count"] == 1


def test_what_no_repair_can_make_again_is_still_exit_code_1_and_says_what_to_do(
    program: Program, engine: Engine
) -> None:
    digest = SMALL.layers[0].digest
    (engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")).write_bytes(b"damaged")
    ended = program("system", "check", "--repair")
    assert ended.code == 1
    assert f"Damaged: {digest}: " in ended.out
    assert "delete the image and pull or load it again" in ended.out


def test_damage_that_is_repaired_is_exit_code_0_and_gone_afterwards(program: Program, engine: Engine) -> None:
    (engine.root / "data" / "content" / "oci-layout").write_bytes(b"damaged")
    assert program("system", "check").code == 1
    ended = program("system", "check", "--repair")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Repaired: ")
    assert "damaged: 1, repaired: 1" in ended.out
    assert "damaged: 0, repaired: 0" in program.ok("system", "check")


def test_an_unknown_subject_is_refused(program: Program) -> None:
    ended = program("system", "check", "absent:1")
    assert (ended.code, ended.out) == (1, "")
    assert "absent:1" in ended.err


def test_one_platform_is_tagged_and_removed_by_name(program: Program) -> None:
    program.ok("tag", "--platform", "linux/amd64", "check:1", "of-platform:1")
    assert "of-platform" in program.ok("images")
    assert program("tag", "--platform", "linux/s390x", "check:1", "other:1").code == 1
    assert program("tag", "--platform", "nonsense", "check:1", "other:1").code != 0
    assert program("rmi", "--platform", "linux/s390x", "check:1").code == 1
    assert "Deleted: " in program.ok("rmi", "-f", "--platform", "linux/amd64", "check:1")
    assert "of-platform" not in program.ok("images")
