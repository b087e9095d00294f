"""Pulling from a registry that never answers, never ends or speaks no HTTP: the pull ends, and the daemon serves on.

How long a silent transfer is waited for is tested where the time can be set, in rust_core/registry/tests/blobs.rs and
hosts.rs; here a pull that would wait is cancelled.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fluyt.v1 import operations_pb2
from tests.e2e.images.steps import (
    CANCELLED,
    FAILED,
    begin,
    ended,
    failed_pull,
    pull,
    pull_mended,
    served,
    small_image,
    stored,
)
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import (
    Fault,
    FaultyRegistry,
    blob_path,
    body,
    declared_length,
    delay,
    headers,
    manifest_path,
    redirect,
    stall,
    verbatim,
)
from tests.support.wait import until_now

MIB = 1024 * 1024
#: An end that is told so soon was not waited for: the shortest time limit of a transfer is 10 s.
AT_ONCE_SECONDS = 8
NEVER_SECONDS = 3600
#: What one round of pulls may leave: the allocator keeps some memory, and connections stay open for a while.
KEPT_BYTES, KEPT_FDS = 48 * MIB, 16
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

Place = Callable[[Image], str]
PLACES: Mapping[str, Place] = {
    "manifest": lambda image: manifest_path("app", "1"),
    "config": lambda image: blob_path("app", image.config_digest),
    "layer": lambda image: blob_path("app", image.layers[0].digest),
}


def endless(start: bytes, piece: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([start], itertools.repeat(piece))


def chunk_of(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def drip(start: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """`start` at once, then a piece a second."""
    yield start
    for piece in pieces:
        time.sleep(1)
        yield piece


def byte_by_byte() -> Iterator[bytes]:
    return drip(CHUNKED, itertools.repeat(chunk_of(b" ")))


def header_by_header() -> Iterator[bytes]:
    return drip(OK, (b"X-%d: x\r\n" % number for number in itertools.count()))


SILENT: Mapping[str, Fault] = {
    "headers never": delay(NEVER_SECONDS),
    "headers without end, one a second": verbatim(header_by_header),
    "body never": stall(0),
    "body never on from its middle": stall(40),
    "body of one byte a second": verbatim(byte_by_byte),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SILENT)
def test_a_pull_of_a_registry_that_keeps_silent_is_cancelled_at_once(
    engine: Engine, registry: FaultyRegistry, kind: str, place: str
) -> None:
    image, before = small_image(), stored(engine)
    reference, path = served(registry, image), PLACES[place](image)
    registry.always(path, SILENT[kind])
    operation = begin(engine, reference)
    until_now(lambda: registry.requests_for(path))
    other = small_image()
    registry.put("other", "1", other)
    assert pull(engine, f"{registry.address}/other:1").image_id == other.config_digest
    cancelled_at = time.monotonic()
    engine.operations.CancelOperation(operations_pb2.CancelOperationRequest(id=operation.id))
    last = ended(engine, operation)
    assert (last.state, last.failure.reason) == (CANCELLED, "CANCELLED")
    assert time.monotonic() - cancelled_at < AT_ONCE_SECONDS
    assert stored(engine).images == before.images | {other.config_digest}
    pull_mended(engine, registry, image, reference)


ENDLESS_CHUNKS = verbatim(endless(CHUNKED, chunk_of(b" " * 65536)))
ENDLESS_BODY = verbatim(endless(OK + b"Content-Length: 1000000000000000\r\n\r\n", b" " * 65536))
ENDLESS_PAST_LENGTH = verbatim(endless(OK + b"Content-Length: 10\r\n\r\n", b" " * 65536))
BODY_TO_THE_END_OF_THE_CONNECTION = verbatim(endless(OK + b"\r\n", b" " * 65536))


@pytest.mark.parametrize("fault", [ENDLESS_CHUNKS, ENDLESS_BODY, BODY_TO_THE_END_OF_THE_CONNECTION])
@pytest.mark.parametrize("place", PLACES)
def test_a_body_without_end_is_not_read_past_its_limit(
    engine: Engine, registry: FaultyRegistry, place: str, fault: Fault
) -> None:
    image = small_image()
    reference, path = served(registry, image), PLACES[place](image)
    registry.always(path, fault)
    reason, metadata = failed_pull(engine, reference)
    if place == "manifest":
        assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "manifest_max_bytes")
    else:
        assert (reason, "sha256:" + path[-64:]) == ("SIZE_MISMATCH", metadata["digest"])
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("place", PLACES)
def test_what_comes_after_the_announced_length_is_not_read(
    engine: Engine, registry: FaultyRegistry, place: str
) -> None:
    image = small_image()
    reference = served(registry, image)
    registry.always(PLACES[place](image), ENDLESS_PAST_LENGTH)
    reason, metadata = failed_pull(engine, reference)
    assert reason in {"MANIFEST_INVALID", "REGISTRY_PROTOCOL", "SIZE_MISMATCH"}
    assert metadata
    pull_mended(engine, registry, image, reference)


def hop(registry: FaultyRegistry, place: str, image: Image, ways: int) -> None:
    """The place leads through so many others back to itself."""
    path = PLACES[place](image)
    stops = [path, *(f"{path}-{number}" for number in range(1, ways))]
    for here, there in itertools.pairwise([*stops, path]):
        registry.always(here, redirect(f"http://{registry.address}{there}"))


@pytest.mark.parametrize("ways", [1, 3])
@pytest.mark.parametrize("place", PLACES)
def test_redirects_in_circles_name_their_limit(engine: Engine, registry: FaultyRegistry, place: str, ways: int) -> None:
    image = small_image()
    reference = served(registry, image)
    hop(registry, place, image, ways)
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["limit"], metadata["limit_value"]) == ("LIMIT_EXCEEDED", "redirect_max_count", "10")
    pull_mended(engine, registry, image, reference)


BROKEN: Mapping[str, Fault] = {
    "chunks of no number": verbatim(lambda: [CHUNKED, b"zz\r\nxx\r\n0\r\n\r\n"]),
    "a chunk of a negative size": verbatim(lambda: [CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"]),
    "a chunk of more than 64 bits": verbatim(lambda: [CHUNKED, b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n"]),
    "a chunk extension without end": verbatim(endless(CHUNKED + b"5;", b"x" * 4096)),
    "two lengths": verbatim(lambda: [OK, b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"]),
    "a negative length": verbatim(lambda: [OK, b"Content-Length: -1\r\n\r\n"]),
    "a length of more than 64 bits": verbatim(lambda: [OK, b"Content-Length: 99999999999999999999999\r\n\r\n"]),
    "headers without end": verbatim(endless(OK, b"X-Header: " + b"x" * 4096 + b"\r\n")),
    "one header without end": verbatim(endless(OK + b"X-Header: ", b"x" * 4096)),
    "a status without end": verbatim(endless(b"HTTP/1.1 200 ", b"x" * 4096)),
    "no HTTP": verbatim(lambda: [b"\x00\xff\x16\x03\x01 SSH-2.0-OpenSSH\r\n"]),
    "nothing": verbatim(list),
}


def test_answers_that_are_no_http_are_errors_that_name_the_registry(engine: Engine, registry: FaultyRegistry) -> None:
    image, before = small_image(), stored(engine)
    for number, fault in enumerate(BROKEN.values()):
        registry.put("app", str(number), image)
        registry.always(manifest_path("app", str(number)), fault)
    # Each is tried again after a while; all at once take no longer than one.
    begun = [begin(engine, f"{registry.address}/app:{number}") for number in range(len(BROKEN))]
    for kind, operation in zip(BROKEN, begun, strict=True):
        last = ended(engine, operation)
        assert (last.state, last.failure.reason) == (FAILED, "REGISTRY_UNREACHABLE"), kind
        assert last.failure.metadata["registry"] == registry.address
        assert last.failure.next_step
    assert stored(engine) == before
    pull_mended(engine, registry, image, f"{registry.address}/app:1")


def test_headers_above_their_limit_name_it(engine: Engine, registry: FaultyRegistry) -> None:
    image = small_image()
    reference = served(registry, image)
    registry.always(manifest_path("app", "1"), headers({f"X-{number}": "x" * 5000 for number in range(16)}))
    reason, metadata = failed_pull(engine, reference)
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "header_max_bytes")
    pull_mended(engine, registry, image, reference)


@pytest.mark.parametrize("media_type", ["text/html", "text/html; charset=utf-8", None])
def test_a_page_for_people_is_no_manifest(engine: Engine, registry: FaultyRegistry, media_type: str | None) -> None:
    image = small_image()
    reference = served(registry, image)
    page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
    registry.always(
        manifest_path("app", "1"), body(page), headers({"Content-Type": media_type, "Docker-Content-Digest": None})
    )
    reason, metadata = failed_pull(engine, reference)
    assert reason in {"MANIFEST_INVALID", "REGISTRY_PROTOCOL"}
    assert metadata["rule"]
    pull_mended(engine, registry, image, reference)


def held(engine: Engine) -> tuple[int, int]:
    """(resident bytes, open files) of the daemon."""
    process = Path(f"/proc/{engine.process.pid}")
    # Source: proc_pid_status(5): VmRSS is in units of 1024 bytes.
    (resident,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(resident.split()[1]) * 1024, len(list((process / "fd").iterdir()))


def test_hostile_registries_cost_neither_memory_nor_files(engine: Engine) -> None:
    def one_round() -> None:
        with FaultyRegistry() as registry:
            image = small_image()
            reference = served(registry, image)
            for place in PLACES:
                for fault in (ENDLESS_CHUNKS, ENDLESS_BODY, ENDLESS_PAST_LENGTH, declared_length(5)):
                    registry.always(PLACES[place](image), fault)
                    failed_pull(engine, reference)
                registry.always(PLACES[place](image))

    one_round()
    resident_bytes, files = held(engine)
    for _ in range(3):
        one_round()
    until_now(lambda: held(engine)[1] <= files + KEPT_FDS)
    assert held(engine)[0] <= resident_bytes + KEPT_BYTES
