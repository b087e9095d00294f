"""Messages about a container's files as a whole <-> values. It calls nothing."""

from collections.abc import Sequence
from typing import Final

from fluyt.v1 import container_files_pb2, containers_pb2
from fluyt.v1.types import archive_pb2
from fluytd.api.convert.values import from_page_token, to_page_token
from fluytd.containers.commit import CommitRequest
from fluytd.containers.copying import CopyRequest, FileInfo
from fluytd.containers.files import Exported
from fluytd.containers.tree_ports import Change
from fluytd.errors import FieldInvalid
from fluytd.ids import ImageReference

#: Changes of a page where the caller names no number, and the most that one has.
DEFAULT_CHANGES: Final = 1_000
MAX_CHANGES: Final = 10_000
_KINDS: Final = {
    "added": archive_pb2.FileChange.KIND_ADDED,
    "modified": archive_pb2.FileChange.KIND_MODIFIED,
    "deleted": archive_pb2.FileChange.KIND_DELETED,
}


def from_commit(request: containers_pb2.CommitContainerRequest) -> CommitRequest:
    """What is asked. Raises REFERENCE_INVALID."""
    return CommitRequest(
        reference=ImageReference.parse(request.reference) if request.reference else None,
        changes=tuple(request.changes),
        message=request.message,
        author=request.author,
        no_pause=request.no_pause,
    )


def to_export_part(part: bytes | Exported) -> container_files_pb2.ExportContainerResponse:
    """One message of an export."""
    if isinstance(part, Exported):
        complete = archive_pb2.ArchiveComplete(size_bytes=part.size_bytes, entry_count=part.entry_count)
        return container_files_pb2.ExportContainerResponse(complete=complete)
    return container_files_pb2.ExportContainerResponse(chunk=part)


def from_copy_to(options: container_files_pb2.CopyToOptions, reference: str) -> CopyRequest:
    """What is asked."""
    return CopyRequest(
        reference=reference,
        path=from_path(options),
        keep_owners=options.keep_owners,
        replace_kinds=options.replace_kinds,
    )


def from_path(message: container_files_pb2.CopyToOptions | container_files_pb2.CopyFromRequest) -> bytes:
    """The path. Raises FIELD_INVALID if it is given twice."""
    if message.path and message.raw_path:
        raise FieldInvalid(field="raw_path", rule="must not be given together with path")
    return message.raw_path or message.path.encode()


def to_copy_part(part: FileInfo | bytes | Exported) -> container_files_pb2.CopyFromResponse:
    """One message of files being sent."""
    match part:
        case FileInfo():
            info = archive_pb2.FileInfo(
                name=part.name.decode(errors="replace"),
                raw_name=part.name,
                size_bytes=part.size_bytes,
                mode=part.mode,
                link_target=part.link_target.decode(errors="replace"),
                raw_link_target=part.link_target,
            )
            info.modify_time.FromNanoseconds(part.modify_time_unix_nanos)
            return container_files_pb2.CopyFromResponse(info=info)
        case Exported():
            complete = archive_pb2.ArchiveComplete(size_bytes=part.size_bytes, entry_count=part.entry_count)
            return container_files_pb2.CopyFromResponse(complete=complete)
    return container_files_pb2.CopyFromResponse(chunk=part)


def from_position(token: str) -> list[bytes] | None:
    """The path after which a page begins, by its parts; None for the first page. Raises FIELD_INVALID."""
    if not token:
        return None
    try:
        return bytes.fromhex(from_page_token(token)).split(b"/")
    except ValueError:
        raise FieldInvalid(field="page_token", rule="must be a next_page_token of an earlier answer") from None


def to_changes(
    changes: Sequence[Change], after: list[bytes] | None, limit: int, max_bytes: int
) -> container_files_pb2.ListChangesResponse:
    """The page behind `after`: at most `limit` changes, and about `max_bytes`."""
    response = container_files_pb2.ListChangesResponse()
    size_bytes = 0
    for change in changes:
        if after is not None and change.path.split(b"/") <= after:
            continue
        if len(response.changes) == limit or size_bytes > max_bytes:
            response.next_page_token = to_page_token(response.changes[-1].path.hex())
            break
        message = response.changes.add(path=change.path, kind=_KINDS[change.kind])
        size_bytes += message.ByteSize() + 4
    return response
