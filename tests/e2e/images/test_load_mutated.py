"""LoadImages of good archives that were damaged at random: loaded whole or refused by name, and never half."""

import functools
from collections.abc import Callable, Sequence
from typing import Final

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluyt import errors
from fluyt.v1 import images_pb2
from tests.e2e.images.steps import get, listed, load, small_layer, staged, stored
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.images import Image

BLOCK_BYTES: Final = 512
EXAMPLES: Final = 60
FORMS: Final[Sequence[Callable[..., bytes]]] = (
    image_files.oci_archive,
    image_files.docker_archive,
    image_files.docker_archive_old,
)
#: What a load may be told about an archive. Anything else, above all UNEXPECTED, is a defect.
REASONS: Final = frozenset(
    {
        "ARCHIVE_INVALID",
        "DIFF_ID_MISMATCH",
        "DIGEST_INVALID",
        "DIGEST_MISMATCH",
        "LAYER_CORRUPT",
        "LAYER_REJECTED",
        "LIMIT_EXCEEDED",
        "MANIFEST_INVALID",
        "PLATFORM_NOT_FOUND",
        "REFERENCE_INVALID",
        "SIZE_MISMATCH",
    }
)

Mutation = Callable[[bytes], bytes]


@functools.cache
def subject() -> Image:
    """The image of all archives; its layers are small, so that damage meets documents and headers often."""
    return images.image([small_layer(compression="none"), small_layer("g")], cmd=["/f"])


def truncate(part: float) -> Mutation:
    return lambda data: data[: int(len(data) * part)]


def flip(part: float, mask: int) -> Mutation:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        if changed:
            changed[int(len(changed) * part)] ^= mask
        return bytes(changed)

    return change


def splice(source: float, target: float, blocks: int) -> Mutation:
    """Blocks from one place stand at another in place of what was there."""

    def change(data: bytes) -> bytes:
        count = len(data) // BLOCK_BYTES
        start, at = (int(count * part) * BLOCK_BYTES for part in (source, target))
        piece = data[start : start + blocks * BLOCK_BYTES]
        return data[:at] + piece + data[at + len(piece) :]

    return change


def duplicate(source: float, target: float, blocks: int) -> Mutation:
    """Blocks from one place, headers or whole entries among them, stand at another a second time."""

    def change(data: bytes) -> bytes:
        count = len(data) // BLOCK_BYTES
        start, at = (int(count * part) * BLOCK_BYTES for part in (source, target))
        return data[:at] + data[start : start + blocks * BLOCK_BYTES] + data[at:]

    return change


def drop(part: float, blocks: int) -> Mutation:
    def change(data: bytes) -> bytes:
        at = int(len(data) // BLOCK_BYTES * part) * BLOCK_BYTES
        return data[:at] + data[at + blocks * BLOCK_BYTES :]

    return change


PART = st.floats(0, 1, exclude_max=True)
BLOCKS = st.integers(1, 8)
MUTATIONS = st.one_of(
    st.builds(truncate, PART),
    st.builds(flip, PART, st.integers(1, 255)),
    st.builds(splice, PART, PART, BLOCKS),
    st.builds(duplicate, PART, PART, BLOCKS),
    st.builds(drop, PART, BLOCKS),
)


def assert_whole(engine: Engine, answer: images_pb2.LoadImagesResponse) -> None:
    """Every image that was loaded is one, with all its blobs and layers on disk."""
    on_disk = stored(engine)
    for loaded in answer.images:
        found = get(engine, loaded.image_id)
        for layer in found.layers:
            assert layer.descriptor.digest.partition(":")[2] in on_disk.blobs
        assert len(found.layers) == found.image.layer_count <= len(on_disk.layers)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(form=st.sampled_from(FORMS), mutations=st.lists(MUTATIONS, min_size=1, max_size=3))
def test_a_damaged_archive_is_loaded_whole_or_refused_by_name(
    engine: Engine, form: Callable[..., bytes], mutations: list[Mutation]
) -> None:
    archive = form({"app:1": subject()})
    for mutate in mutations:
        archive = mutate(archive)
    before, staged_before = stored(engine), staged(engine)
    try:
        answer = load(engine, archive)
    except grpc.RpcError as error:
        found = errors.from_rpc_error(error)
        assert found.reason in REASONS, (found.reason, found.metadata)
        assert found.metadata
        assert found.next_step
        assert stored(engine) == before
    else:
        assert_whole(engine, answer)
        for image in listed(engine):
            engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
        assert stored(engine) == before
    assert staged(engine) == staged_before


def test_what_was_mutated_loads_as_it_is(engine: Engine) -> None:
    for form in FORMS:
        (loaded,) = load(engine, form({"app:1": subject()})).images
        assert loaded.image_id == subject().config_digest
