"""What registries tell <-> messages. Pure."""

from collections.abc import Sequence

from fluyt.v1 import images_pb2
from fluyt.v1.types import descriptor_pb2
from fluytd.api.convert.values import to_page_token
from fluytd.errors import FieldInvalid
from fluytd.ids import ImageReference
from fluytd.images.ports import FoundRepository, Referrer
from fluytd.images.remote import Referrers


def to_referrers(found: Referrers, after: str, page_size: int, page_max_bytes: int) -> images_pb2.ListReferrersResponse:
    """One page: what comes after the digest `after`, or the first. Raises FIELD_INVALID for a token of another list."""
    response = images_pb2.ListReferrersResponse(subject=str(found.subject))
    digests = [entry.digest for entry in found.entries]
    if after and after not in digests:
        raise FieldInvalid(field="page_token", rule="is not of this list; begin with the first page")
    size_bytes = 0
    for entry in found.entries[digests.index(after) + 1 if after else 0 :]:
        if len(response.referrers) == page_size or size_bytes > page_max_bytes:
            response.next_page_token = to_page_token(response.referrers[-1].digest)
            break
        message = _descriptor(entry)
        size_bytes += message.ByteSize()
        response.referrers.append(message)
    return response


def _descriptor(entry: Referrer) -> descriptor_pb2.Descriptor:
    return descriptor_pb2.Descriptor(
        media_type=entry.media_type,
        digest=entry.digest,
        size_bytes=entry.size_bytes,
        annotations=entry.annotations,
        artifact_type=entry.artifact_type,
    )


def to_search(registry: str, found: Sequence[FoundRepository], max_bytes: int) -> images_pb2.SearchRegistryResponse:
    """The repositories with references to pull them by; a description that is too long for its share is cut."""
    share = max_bytes // max(len(found), 1) // 4  # characters of up to four bytes
    return images_pb2.SearchRegistryResponse(
        repositories=[
            images_pb2.FoundRepository(
                reference=ImageReference.parse(f"{registry}/{one.name}").familiar_name,
                description=one.description[:share],
                star_count=min(one.star_count, 2**31 - 1),
                is_official=one.is_official,
            )
            for one in found
        ]
    )
