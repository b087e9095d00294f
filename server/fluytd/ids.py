"""Names of things, parsed once and trusted afterwards: container and operation ids, digests, image references.

It knows rules of spelling only, never whether the thing exists.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Self

from fluytd.errors import DigestInvalid, FieldInvalid, ReferenceInvalid

#: Longest reference that is looked at: host, path, tag and digest at their longest stay below it.
MAX_REFERENCE_CHARS = 1024
#: Longest repository path. Source: distribution/reference, RepositoryNameTotalLengthMax.
MAX_REPOSITORY_CHARS = 255
#: Longest registry host with its port. Source: RFC 1035 section 2.3.4.
MAX_DOMAIN_CHARS = 255

_HEX_64 = re.compile(r"[0-9a-f]{64}")
#: Lower-case hexadecimal digits by algorithm. Source: opencontainers/image-spec descriptor.md, Registered algorithms.
_DIGEST_HEX = {"sha256": _HEX_64, "sha512": re.compile(r"[0-9a-f]{128}")}
# Source: opencontainers/image-spec descriptor.md, section Digests.
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_MAX_DIGEST_CHARS = 256

# Source: github.com/distribution/reference regexp.go.
_DOMAIN_NAME = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_NAME}(?:\.{_DOMAIN_NAME})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"

_SHORT_ID_CHARS = 12


class ContainerId(str):
    """64 lower-case hexadecimal digits, as Docker writes container ids."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """A random id. The first 12 digits are never all decimal, since hosts take such a name for a number.

        Source: moby pkg/stringid, GenerateRandomID.
        """
        while True:
            text = secrets.token_hex(32)
            if not text[:_SHORT_ID_CHARS].isdecimal():
                return cls(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises FIELD_INVALID (field `container_id`)."""
        if not _HEX_64.fullmatch(text):
            raise FieldInvalid(field="container_id", rule="must be 64 lower-case hexadecimal digits")
        return cls(text)

    @property
    def short(self) -> str:
        """The first 12 digits."""
        return self[:_SHORT_ID_CHARS]


_PROBE_PREFIX = "probe-"


class ExecId(str):
    """32 lower-case hexadecimal digits, of a health check's process after a prefix."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """A random id."""
        return cls(secrets.token_hex(16))

    @classmethod
    def new_of_probe(cls) -> Self:
        """A random id by which a later daemon knows the process for one that a health check began."""
        return cls(_PROBE_PREFIX + secrets.token_hex(16))

    @staticmethod
    def is_of_probe(text: str) -> bool:
        """Whether `new_of_probe` made it."""
        return text.startswith(_PROBE_PREFIX)


class OperationId(str):
    """32 lower-case hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """A random id."""
        return cls(secrets.token_hex(16))


class Digest(str):
    """`sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128: the algorithms that the stores check.

    What the engine itself names is always by SHA-256.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Raises DIGEST_INVALID for anything else, before the text is used as a path or in a URL."""
        if not isinstance(text, str) or len(text) > _MAX_DIGEST_CHARS or not _DIGEST.fullmatch(text):
            raise DigestInvalid(digest=text)
        algorithm, _, value = text.partition(":")
        if algorithm not in _DIGEST_HEX or not _DIGEST_HEX[algorithm].fullmatch(value):
            raise DigestInvalid(digest=text)
        return cls(text)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """The digest of these bytes; `algorithm` is that of a parsed digest."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The digits, unique over all algorithms."""
        return self.partition(":")[2]


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A normalised image reference: registry host, repository path, and a tag or a digest or both.

    Source: github.com/distribution/reference normalize.go.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The normalised reference; neither tag nor digest is added. Raises REFERENCE_INVALID (reference, rule)."""
        if len(text) > MAX_REFERENCE_CHARS:
            raise _invalid(text, f"it is longer than {MAX_REFERENCE_CHARS} characters")
        if _HEX_64.fullmatch(text):
            raise _invalid(text, "64 hexadecimal digits are an image id, not a name")
        rest, digest = _cut_digest(text)
        rest, tag = _cut_tag(text, rest)
        domain, path = _split_domain(rest)
        _check_name(text, domain, path)
        return cls(domain, path, tag, digest)

    @property
    def name(self) -> str:
        """Host and path, complete: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: `busybox`, `user/app`, `registry:5000/app`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        official = self.path.removeprefix(_OFFICIAL_PREFIX)
        return official if official != self.path and "/" not in official else self.path

    @property
    def is_name_only(self) -> bool:
        """True if it has neither tag nor digest."""
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> "ImageReference":
        """With the tag `latest` where it has neither tag nor digest."""
        return ImageReference(self.domain, self.path, DEFAULT_TAG) if self.is_name_only else self

    @property
    def registry_reference(self) -> str:
        """What to ask a registry for: the digest where there is one (it wins over a tag), else the tag or `latest`."""
        return self.digest or self.tag or DEFAULT_TAG

    @property
    def familiar(self) -> str:
        """As people write it, with tag and digest where it has them."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def _invalid(text: str, rule: str) -> ReferenceInvalid:
    return ReferenceInvalid(reference=text, rule=rule)


def _cut_digest(text: str) -> tuple[str, Digest | None]:
    rest, at, digest = text.partition("@")
    if not at:
        return rest, None
    try:
        return rest, Digest.parse(digest)
    except DigestInvalid:
        raise _invalid(
            text, "after @ it needs sha256: and 64, or sha512: and 128 lower-case hexadecimal digits"
        ) from None


def _cut_tag(text: str, rest: str) -> tuple[str, str | None]:
    # A colon before the last slash belongs to the host's port.
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, None
    if not _TAG.fullmatch(tag):
        raise _invalid(text, "a tag has 1 to 128 letters, digits, _ . - and begins with none of . -")
    return head, tag


def _split_domain(rest: str) -> tuple[str, str]:
    first, slash, remainder = rest.partition("/")
    is_host = first == "localhost" or "." in first or ":" in first or first != first.lower()
    domain, path = (first, remainder) if slash and is_host else (DEFAULT_DOMAIN, rest)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL_PREFIX + path
    return domain, path


def _check_name(text: str, domain: str, path: str) -> None:
    if path in {"", _OFFICIAL_PREFIX}:
        raise _invalid(text, "it has no repository name")
    if path != path.lower():
        raise _invalid(text, "the repository name must be lower-case")
    if len(path) > MAX_REPOSITORY_CHARS:
        raise _invalid(text, f"the repository name is longer than {MAX_REPOSITORY_CHARS} characters")
    if len(domain) > MAX_DOMAIN_CHARS or not _DOMAIN.fullmatch(domain):
        raise _invalid(text, "the registry's host is malformed")
    if not _PATH.fullmatch(path):
        raise _invalid(
            text, "a repository name has parts of a-z and 0-9, joined by one . _ or __ or any number of -, divided by /"
        )
