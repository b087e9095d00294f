"""What a caller says when it asks for a build's cache."""

import pytest

from fluyt.v1 import builds_pb2
from fluytd.api.convert.builds import from_save_cache
from fluytd.builds.model import MAX_CACHE_TAG_CHARS, MAX_PRESENT_DIGESTS
from fluytd.errors import DigestInvalid, EngineError, FieldInvalid, LimitExceeded

DIGEST = "sha256:" + "a" * 64


def test_what_is_within_the_bounds_is_taken() -> None:
    longest = "t" * MAX_CACHE_TAG_CHARS
    asked = builds_pb2.SaveBuildCacheRequest(tag=longest, present_digests=[DIGEST] * MAX_PRESENT_DIGESTS)
    tag, present = from_save_cache(asked)
    assert (tag, [str(one) for one in present]) == (longest, [DIGEST])
    assert from_save_cache(builds_pb2.SaveBuildCacheRequest()) == ("latest", frozenset())


@pytest.mark.parametrize(
    ("request_", "error", "named"),
    [
        (
            builds_pb2.SaveBuildCacheRequest(present_digests=[DIGEST] * (MAX_PRESENT_DIGESTS + 1)),
            LimitExceeded,
            "MAX_PRESENT_DIGESTS",
        ),
        (builds_pb2.SaveBuildCacheRequest(tag="t" * (MAX_CACHE_TAG_CHARS + 1)), FieldInvalid, str(MAX_CACHE_TAG_CHARS)),
        (builds_pb2.SaveBuildCacheRequest(present_digests=["sha256:short"]), DigestInvalid, "short"),
    ],
    ids=["digests", "tag", "digest"],
)
def test_what_is_beyond_is_refused_by_name(
    request_: builds_pb2.SaveBuildCacheRequest, error: type[EngineError], named: str
) -> None:
    with pytest.raises(error) as refused:
        from_save_cache(request_)
    assert named in str(refused.value.metadata)
