"""Contexts by gRPC alone: only what is missing is asked for, hostile entries are refused by their rule."""

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest

from fluyt import builds, errors
from fluyt.v1 import builds_pb2, builds_pb2_grpc
from fluyt.v1.types import platform_pb2, resources_pb2
from tests.e2e.builds.steps import build, context, refused, shell
from tests.support.engine import Engine
from tests.support.metrics import collected
from tests.support.sizes import bytes_below
from tests.support.wait import until_now

Entry = builds_pb2.ContextEntry
Part = builds_pb2.UploadContextRequest


def upload(
    engine: Engine, *parts: builds_pb2.UploadContextRequest, context_id: str = ""
) -> builds_pb2.UploadContextResponse:
    """UploadContext of these parts behind `open`."""

    def requests() -> Iterator[builds_pb2.UploadContextRequest]:
        yield builds_pb2.UploadContextRequest(open=builds_pb2.UploadContextOpen(context_id=context_id))
        yield from parts

    with errors.translated():
        answer: builds_pb2.UploadContextResponse = builds_pb2_grpc.BuildServiceStub(engine.channel).UploadContext(
            requests()
        )
    return answer


def offer(*entries: Entry) -> builds_pb2.UploadContextRequest:
    """One message of entries."""
    return builds_pb2.UploadContextRequest(offer=builds_pb2.ContextOffer(entries=entries))


def file(path: bytes, data: bytes = b"", mode: int = 0o644) -> Entry:
    """A file of one chunk."""
    digests = [blake3.blake3(data).digest()] if data else []
    return Entry(path=path, kind=Entry.KIND_FILE, mode=mode, chunk_digests=digests, size_bytes=len(data))


def test_only_what_is_missing_is_asked_for_and_a_second_context_shares_it(engine: Engine) -> None:
    old, new = b"an old chunk", b"a new chunk"
    first = upload(engine, offer(file(b"a", old)), builds_pb2.UploadContextRequest(chunk=old))
    assert (first.missing_count, list(first.missing_chunk_digests)) == (0, [])
    second = upload(engine, offer(file(b"a", old), file(b"b", new), file(b"c", new)))
    assert (second.missing_count, list(second.missing_chunk_digests)) == (1, [blake3.blake3(new).digest()])
    early = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=second.context_id), dockerfile=b"FROM busybox:1\nCOPY b /b\n"
    )
    with pytest.raises(errors.FluytError) as caught:
        builds.followed(engine.channel, builds.begin(engine.channel, early))
    assert (caught.value.reason, caught.value.metadata["missing_count"]) == ("CONTEXT_INCOMPLETE", "2")
    whole = upload(engine, builds_pb2.UploadContextRequest(chunk=new), context_id=second.context_id)
    assert (whole.context_id, whole.missing_count) == (second.context_id, 0)
    assert builds.followed(engine.channel, builds.begin(engine.channel, early)).image_id


@pytest.mark.parametrize(
    ("entry", "reason", "told"),
    [
        (file(b"/etc/passwd"), "CONTEXT_INVALID", "entry"),
        (file(b"a/../../b"), "CONTEXT_INVALID", "entry"),
        (file(b"a\0b"), "CONTEXT_INVALID", "entry"),
        (file(b""), "CONTEXT_INVALID", "entry"),
        (file(b"a", mode=0o100644), "CONTEXT_INVALID", "entry"),
        (Entry(path=b"l", kind=Entry.KIND_SYMLINK), "CONTEXT_INVALID", "entry"),
        (Entry(path=b"f", kind=Entry.KIND_FILE, size_bytes=9), "CONTEXT_INVALID", "entry"),
        (Entry(path=b"f", kind=Entry.KIND_FILE, size_bytes=-1), "FIELD_INVALID", "field"),
        (Entry(path=b"f", kind=Entry.KIND_FILE, chunk_digests=[b"short"]), "FIELD_INVALID", "field"),
        (Entry(path=b"f"), "FIELD_INVALID", "field"),
        (file(b"n" * 256), "LIMIT_EXCEEDED", "MAX_NAME_BYTES"),
        (file(b"d/" * 2048 + b"f"), "LIMIT_EXCEEDED", "MAX_PATH_BYTES"),
        (file(b"d/" * 200 + b"f"), "LIMIT_EXCEEDED", "MAX_PATH_DEPTH"),
        (
            Entry(path=b"f", kind=Entry.KIND_FILE, size_bytes=1 << 50, chunk_digests=[b"x" * 32]),
            "CONTEXT_INVALID",
            "entry",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_entries_are_refused(engine: Engine, entry: Entry, reason: str, told: str) -> None:
    with pytest.raises(errors.FluytError) as caught:
        upload(engine, offer(entry))
    assert caught.value.reason == reason
    assert told in {*caught.value.metadata.keys(), *caught.value.metadata.values()}


def test_entries_below_a_link_or_a_file_are_refused(engine: Engine) -> None:
    link = Entry(path=b"l", kind=Entry.KIND_SYMLINK, link_target=b"/etc")
    for parent in (link, file(b"l")):
        with pytest.raises(errors.FluytError) as caught:
            upload(engine, offer(parent, file(b"l/passwd")))
        assert caught.value.reason == "CONTEXT_INVALID"


def test_a_chunk_beyond_its_bound_and_an_unknown_context_are_refused(engine: Engine) -> None:
    with pytest.raises(errors.FluytError) as caught:
        upload(engine, builds_pb2.UploadContextRequest(chunk=bytes(512 * 1024 + 1)))
    assert caught.value.metadata["limit"] == "MAX_CHUNK_BYTES"
    for unknown in ("0" * 32, "../../state.db"):
        with pytest.raises(errors.FluytError) as caught:
            upload(engine, context_id=unknown)
        assert caught.value.reason == "CONTEXT_NOT_FOUND"


def test_names_need_not_be_text(engine: Engine) -> None:
    data = b"found\n"
    answer = upload(engine, offer(file(b"d/\xff\xfe", data)), builds_pb2.UploadContextRequest(chunk=data))
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=answer.context_id),
        dockerfile=b"FROM busybox:1\nCOPY d /d\nRUN cat /d/*\n",
    )
    operation = builds.begin(engine.channel, request)
    assert b"".join(piece.data for piece in builds.read_log(engine.channel, operation.id)) == data


def test_named_contexts_are_folders_and_images(engine: Engine, tmp_path: Path) -> None:
    main, other = context(tmp_path / "main", {"f": "main\n"}), context(tmp_path / "other", {"f": "other\n"})
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, main)),
        named_contexts={
            "side": builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, other)),
            "base": builds_pb2.BuildSource(image="busybox:1"),
        },
        references=["named:1"],
        dockerfile=b"FROM base\nCOPY f /main\nCOPY --from=side f /side\n",
    )
    builds.followed(engine.channel, builds.begin(engine.channel, request))
    assert engine.run("named:1", "cat", "/main", "/side")[0] == b"main\nother\n"


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"cache_from": [f"registry:5000/cache:{number}" for number in range(17)]}, "MAX_CACHES"),
        ({"platforms": [platform_pb2.Platform(os="linux", architecture=f"a{n}") for n in range(17)]}, "MAX_PLATFORMS"),
        ({"annotations": {str(number): "" for number in range(1_001)}}, "MAX_ANNOTATIONS"),
        ({"index_annotations": {"a": "x" * 300_000}}, "MAX_ANNOTATIONS_BYTES"),
        ({"cache_to": "registry:5000/cache@sha256:" + "0" * 64}, "cache_to"),
        ({"provenance_spec": builds_pb2.ProvenanceSpec(builder_id="x" * 1_025)}, "provenance_spec.builder_id"),
        ({"extra_hosts": ["good:10.0.0.1", "nothing"]}, "extra_hosts[1]"),
        ({"extra_hosts": ["a:10.0.0.1\n10.0.0.2 b"]}, "extra_hosts[0]"),
        ({"extra_hosts": [f"a{number}:10.0.0.1" for number in range(1_025)]}, "MAX_DNS_ENTRIES"),
        ({"rlimits": [resources_pb2.Rlimit(name="nonsense", soft=1, hard=2)]}, "rlimits[0].name"),
        ({"rlimits": [resources_pb2.Rlimit(name="nofile", soft=3, hard=2)]}, "rlimits[0].soft"),
        ({"resources": resources_pb2.Resources(memory_limit_bytes=1)}, "resources.memory_limit_bytes"),
        ({"resources": resources_pb2.Resources(memory_swap_limit_bytes=1)}, "resources.memory_swap_limit_bytes"),
        ({"entitlements": ["nothing"]}, "entitlements[0]"),
    ],
)
def test_wishes_beyond_a_bound_are_refused_by_its_name(engine: Engine, fields: dict[str, Any], limit: str) -> None:
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id="0" * 32), dockerfile=b"FROM scratch", **fields
    )
    with pytest.raises(errors.FluytError) as caught:
        builds.begin(engine.channel, request)
    assert caught.value.reason in {"LIMIT_EXCEEDED", "FIELD_INVALID"}
    assert limit in caught.value.metadata.values()


def test_a_push_needs_references_and_an_image(engine: Engine) -> None:
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id="0" * 32), output=builds_pb2.BuildOutputSpec(push=True)
    )
    with pytest.raises(errors.FluytError) as caught:
        builds.begin(engine.channel, request)
    assert (caught.value.reason, caught.value.metadata["field"]) == ("FIELD_INVALID", "output.push")


def test_a_dockerfile_that_is_absent_or_wrong_is_told_with_its_place(engine: Engine, tmp_path: Path) -> None:
    assert refused(engine, tmp_path).reason == "BUILD_SOURCE_NOT_FOUND"
    failure = refused(engine, tmp_path, "FROM busybox:1\nRUM true\n")
    assert (failure.reason, failure.metadata["line"]) == ("DOCKERFILE_INVALID", "2")
    assert refused(engine, tmp_path, "FROM busybox:1\n", target="absent").reason == "BUILD_TARGET_NOT_FOUND"


def test_a_folder_that_did_not_change_is_not_sent_again(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"large": bytes(range(256)) * 4096})
    packs = engine.root / "data" / "contexts" / "chunks"
    built = build(engine, folder, "FROM busybox:1\nCOPY large /large\n")
    before = bytes_below(packs)
    builds.upload_context(engine.channel, folder)
    assert bytes_below(packs) == before
    assert shell(engine, built, "stat -c %s /large") == f"{256 * 4096}\n"


def uploads_ended(engine: Engine) -> dict[str, float]:
    """How many calls of UploadContext have ended, by the status that the engine gave them."""
    rpc = "/fluyt.v1.BuildService/UploadContext"
    calls = ((labels, value) for (name, labels), value in collected(engine).items() if name == "fluyt_rpcs_total")
    return {labels[0]: value for labels, value in calls if labels[1] == rpc}


def test_entries_of_an_upload_that_was_broken_off_are_not_kept(tmp_path: Path) -> None:
    rounds = 10
    with Engine(tmp_path, options=["--metrics-address", "127.0.0.1:0"]) as engine:
        stub = builds_pb2_grpc.BuildServiceStub(engine.channel)
        trees, packs = engine.root / "data" / "contexts" / "trees", engine.root / "data" / "contexts" / "chunks"
        for _ in range(rounds):
            is_over, before = threading.Event(), bytes_below(packs)
            # As many as are put into the store at once; they are stored after what was offered before them.
            chunks = [secrets.token_bytes(512 * 1024) for _ in range(8)]

            def requests(chunks: list[bytes] = chunks, is_over: threading.Event = is_over) -> Iterator[Part]:
                yield Part(open=builds_pb2.UploadContextOpen(context_id=secrets.token_hex(16)))
                yield offer(file(b"a", b"one that never comes"))
                for chunk in chunks:
                    yield Part(chunk=chunk)
                is_over.wait(60)

            call = stub.UploadContext.future(requests())
            end = before + 4 * 1024 * 1024
            until_now(lambda end=end: bytes_below(packs) >= end)  # type: ignore[misc]
            call.cancel()
            is_over.set()
        until_now(lambda: sum(uploads_ended(engine).values()) == rounds)
        assert uploads_ended(engine) == {"CANCELLED": rounds}
        assert list(trees.iterdir()) == []
        # One that the caller ends is kept.
        kept = upload(engine, offer(file(b"a")))
        assert [path.name for path in trees.iterdir()] == [kept.context_id]


def test_a_check_knows_what_the_ignore_file_of_the_context_leaves_out(engine: Engine, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"secret": "s", "kept": "k", ".dockerignore": "secret\n"}
    folder = context(tmp_path, {**files, "Dockerfile": "FROM busybox:1\nCOPY kept /\nCOPY secret /\n"})
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, folder)), check_only=True
    )

    def told() -> list[str]:
        return list(builds.followed(engine.channel, builds.begin(engine.channel, request)).warnings)

    (warning,) = told()
    assert warning.startswith("Dockerfile:3: CopyIgnoredFile: Attempting to Copy file")
    # A caller that has filtered by another file says so.
    request.is_filtered, request.ignore_file = True, b"kept\n"
    (warning,) = told()
    assert warning.startswith("Dockerfile:2: CopyIgnoredFile")
    request.ignore_file = b"[\n"
    with pytest.raises(errors.FluytError) as caught:
        told()
    assert caught.value.reason == "IGNORE_FILE_INVALID"
