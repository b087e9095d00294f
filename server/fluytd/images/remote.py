"""What registries tell of themselves and of what they keep: referrers, searches, whether credentials are taken.

Nothing of it is stored here. A caller that goes breaks the requests off.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from fluytd.errors import FieldInvalid
from fluytd.ids import MAX_REPOSITORY_CHARS, Digest, ImageReference
from fluytd.images.documents import check_size
from fluytd.images.ports import FoundRepository, Referrer, Registry
from fluytd.operations.ports import CancelToken
from fluytd.registries.model import Credentials

T = TypeVar("T")

#: Longest term of a search, and longest type of an artifact that may be asked for.
MAX_SEARCH_CHARS: Final = MAX_REPOSITORY_CHARS
#: Most bytes of the annotations of one referrer, so that it fits into an answer.
MAX_REFERRER_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Referrers:
    """What refers to an image."""

    #: With the digest of what is referred to.
    subject: ImageReference
    entries: Sequence[Referrer]


class Remote:
    """Asks registries for callers."""

    def __init__(self, registry: Registry, new_cancel_token: Callable[[], CancelToken]) -> None:
        self._registry = registry
        self._new_cancel_token = new_cancel_token

    async def referrers(self, reference: ImageReference, artifact_type: str, credentials: Credentials) -> Referrers:
        """All that refers to what the reference names; of one artifact type unless that is empty.

        Raises as `Registry.fetch_manifest`, FIELD_INVALID, LIMIT_EXCEEDED (MAX_REFERRER_BYTES and the core's).
        """
        _check_text(artifact_type, "artifact_type", is_needed=False)

        async def ask(token: CancelToken) -> Referrers:
            digest = reference.digest or await self._digest(reference, credentials, token)
            found = await self._registry.list_referrers(
                reference.domain, reference.path, digest, artifact_type, token, credentials
            )
            subject = ImageReference(reference.domain, reference.path, None, digest)
            for one in found:
                size = sum(len(name) + len(value) for name, value in one.annotations.items())
                check_size(size + len(one.artifact_type), "MAX_REFERRER_BYTES", MAX_REFERRER_BYTES, one.digest)
            return Referrers(subject, found)

        return await self._broken_off_with_caller(ask)

    async def _digest(self, reference: ImageReference, credentials: Credentials, token: CancelToken) -> Digest:
        asked = reference.registry_reference
        found = await self._registry.fetch_manifest(reference.domain, reference.path, asked, token, credentials)
        return found.digest

    async def search(self, registry: str, term: str, limit: int, credentials: Credentials) -> Sequence[FoundRepository]:
        """At most `limit` repositories of the registry that have the term.

        Raises FIELD_INVALID, REGISTRY_SEARCH_UNSUPPORTED, and as `Registry.check_credentials`.
        """
        _check_text(term, "term", is_needed=True)

        async def ask(token: CancelToken) -> Sequence[FoundRepository]:
            return await self._registry.search(registry, term, limit, token, credentials)

        return await self._broken_off_with_caller(ask)

    async def check_credentials(self, registry: str, credentials: Credentials) -> None:
        """The registry takes the credentials, or asks for none. Raises as `Registry.check_credentials`."""
        if credentials.is_anonymous:
            raise FieldInvalid(field="auth", rule="must be given")

        async def ask(token: CancelToken) -> None:
            await self._registry.check_credentials(registry, token, credentials)

        await self._broken_off_with_caller(ask)

    async def _broken_off_with_caller(self, ask: Callable[[CancelToken], Awaitable[T]]) -> T:
        token = self._new_cancel_token()
        work = asyncio.ensure_future(ask(token))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            token.cancel()
            await asyncio.wait({work})
            work.exception()  # taken note of: nobody is left to hear of it
            raise


def _check_text(text: str, field: str, *, is_needed: bool) -> None:
    if is_needed and not text.strip():
        raise FieldInvalid(field=field, rule="must be given")
    if len(text) > MAX_SEARCH_CHARS or not text.isprintable():
        raise FieldInvalid(field=field, rule=f"must be at most MAX_SEARCH_CHARS ({MAX_SEARCH_CHARS}) printable ones")
