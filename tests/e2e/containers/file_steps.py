"""What the tests of a container's files do again and again: commits, exports, lists of changes, judges of them."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from fluyt.v1 import container_files_pb2, containers_pb2, images_pb2
from fluyt.v1.types import archive_pb2
from tests.e2e.containers.steps import IMAGE, create, start, wait
from tests.support.engine import Engine

_LETTERS = {
    archive_pb2.FileChange.KIND_ADDED: "A",
    archive_pb2.FileChange.KIND_MODIFIED: "C",
    archive_pb2.FileChange.KIND_DELETED: "D",
}


def ended(engine: Engine, script: str, *, image: str = IMAGE, **spec: Any) -> str:
    """The id of a container that has run this script to its end, which must be a good one."""
    made = create(engine, "sh", "-ec", script, image=image, **spec)
    start(engine, made.id)
    last = wait(engine, made.id)
    assert last.exit_code == 0, engine.logs(made.id)
    return made.id


def commit(
    engine: Engine, container: str, reference: str = "", **request: Any
) -> containers_pb2.CommitContainerResponse:
    """What CommitContainer answers."""
    answer: containers_pb2.CommitContainerResponse = engine.containers.CommitContainer(
        containers_pb2.CommitContainerRequest(container=container, reference=reference, **request), timeout=50
    )
    return answer


def export(engine: Engine, container: str) -> bytes:
    """The whole tar; fails the test if its end is not told, or tells something else."""
    request = container_files_pb2.ExportContainerRequest(container=container)
    data = b""
    for part in engine.containers.ExportContainer(request, timeout=50):
        if part.WhichOneof("part") == "complete":
            assert part.complete.size_bytes == len(data)
            assert part.complete.entry_count == len(members(data))
            return data
        assert 0 < len(part.chunk) <= 256 * 1024
        data += part.chunk
    raise AssertionError("the export ended without `complete`")


def changes(engine: Engine, container: str, **request: Any) -> list[str]:
    """`A /path`, `C /path`, `D /path`, page by page."""
    found: list[str] = []
    token = ""
    while True:
        answer = engine.containers.ListChanges(
            container_files_pb2.ListChangesRequest(container=container, page_token=token, **request)
        )
        found += [f"{_LETTERS[change.kind]} {change.path.decode()}" for change in answer.changes]
        token = answer.next_page_token
        if not token:
            return found


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    """The members of a tar, as Python reads it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def document(engine: Engine, digest: str) -> dict[str, Any]:
    """A visible JSON blob."""
    parsed: dict[str, Any] = json.loads(blob(engine, digest))
    return parsed


def blob(engine: Engine, digest: str) -> bytes:
    """A visible blob."""
    return (engine.root / "data" / "content" / "blobs" / digest.replace(":", "/")).read_bytes()


def layer_tar(engine: Engine, committed: containers_pb2.CommitContainerResponse) -> bytes:
    """The uncompressed top layer of a committed image."""
    return gzip.decompress(blob(engine, document(engine, committed.manifest_digest)["layers"][-1]["digest"]))


def check_config(engine: Engine, committed: containers_pb2.CommitContainerResponse) -> Mapping[str, Any]:
    """The config, once each of its diff_ids is that of its blob and each layer is one step's (case R18)."""
    manifest = document(engine, committed.manifest_digest)
    config = document(engine, committed.image_id)
    assert manifest["config"]["digest"] == committed.image_id
    diff_ids = []
    for layer in manifest["layers"]:
        data = blob(engine, layer["digest"])
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
        assert len(data) == layer["size"]
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        diff_ids.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
    assert config["rootfs"]["diff_ids"] == diff_ids
    assert sum(not step.get("empty_layer", False) for step in config["history"]) == len(diff_ids)
    return config


def delete_image(engine: Engine, image: str, *, force: bool = True) -> None:
    """DeleteImage."""
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image, force=force))


def changes_page(engine: Engine, container: str, token: str) -> container_files_pb2.ListChangesResponse:
    """One page."""
    request = container_files_pb2.ListChangesRequest(container=container, page_token=token)
    answer: container_files_pb2.ListChangesResponse = engine.containers.ListChanges(request)
    return answer
