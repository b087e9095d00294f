"""Reading JSON documents that others wrote: manifests, indexes, configs, archive listings. It knows no format of them.

Two readers must never see two images in one document. What JSON leaves open is therefore refused: duplicate keys, keys
that differ in case only, numbers beyond JSON, text that is no Unicode (case R01 and its kind).
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from fluytd.errors import EngineError, LimitExceeded, ManifestInvalid
from fluytd.ids import Digest

T = TypeVar("T")
Json = dict[str, Any]
#: Makes the error for a broken rule; a manifest and an archive have different ones.
Refuse = Callable[[str], EngineError]

#: Largest manifest or index. Source: distribution-spec, section Pushing Manifests (at least 4 MiB must be taken).
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
#: Largest image config.
MAX_CONFIG_BYTES = 8 * 1024 * 1024
#: Longest single text within a document.
MAX_TEXT_CHARS = 1024 * 1024
#: Largest size that a descriptor may state: what fits into the API's int64.
MAX_SIZE_BYTES = 2**63 - 1


def refuse_manifest(subject: str) -> Refuse:
    """MANIFEST_INVALID for this subject."""
    return lambda rule: ManifestInvalid(subject=subject, rule=rule)


def check_size(actual: int, limit: str, limit_value: int, subject: str) -> None:
    """Raises LIMIT_EXCEEDED if `actual` is above the named limit."""
    if actual > limit_value:
        raise LimitExceeded(limit=limit, limit_value=limit_value, actual=actual, subject=subject)


def read_json(data: bytes, refuse: Refuse) -> Any:
    """The document's value. What `refuse` makes is raised where it breaks JSON or the rules of this module."""

    def pairs(items: list[tuple[str, Any]]) -> Json:
        found = dict(items)
        if len(found) != len(items):
            raise refuse("an object has the same key twice")
        return found

    def constant(text: str) -> Any:
        raise refuse(f"{text} is not a JSON number")

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise refuse("it is not UTF-8") from None
    except RecursionError:
        raise refuse("it is nested too deeply") from None
    except ValueError:
        raise refuse("it is not JSON") from None
    return value


class Fields:
    """The members of one JSON object, read by name with their type checked; null counts as absent."""

    def __init__(self, value: object, where: str, refuse: Refuse) -> None:
        """`where` names the object in messages; empty for the document itself."""
        if not isinstance(value, dict):
            raise refuse(f"{where or 'the document'} must be an object")
        self._value: Json = value
        self._where = where
        self._refuse = refuse

    def check_known_spelling(self, *names: str) -> None:
        """Refuses a key that is one of `names` in other letters, since some readers take it for the same.

        To those in Go the long s and the sign of kelvin are letters of ASCII. Source: Go, encoding/json, `foldName`.
        """
        known = {name.casefold(): name for name in names}
        for key in self._value:
            name = known.get(key.casefold(), key)
            if name != key:
                raise self._refuse(f"{self._path(key[:64])} is spelled {name}")

    @property
    def names(self) -> frozenset[str]:
        """The names of all members, those that are null included."""
        return frozenset(self._value)

    def has(self, name: str) -> bool:
        """True if the member is there and not null."""
        return self._value.get(name) is not None

    def is_text(self, name: str) -> bool:
        """True if the member is a text."""
        return isinstance(self._value.get(name), str)

    def text(self, name: str, default: str = "") -> str:
        """A text of bounded length without NUL."""
        value = self._get(name, str, default)
        return self._check_text(name, value)

    def number(self, name: str) -> int:
        """A whole number from 0 to 2^63 - 1; absent is refused."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE_BYTES:
            raise self._refuse(f"{self._path(name)} must be a whole number from 0 to 2^63 - 1")
        return value

    def flag(self, name: str) -> bool:
        """True or false; absent is false."""
        return self._get(name, bool, False)

    def digest(self, name: str) -> Digest:
        """A digest. Raises DIGEST_INVALID."""
        return Digest.parse(self._value.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; absent is empty."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self._refuse(f"{self._path(name)} must hold text only")
        return tuple(self._check_text(name, item) for item in items)

    def digests(self, name: str) -> tuple[Digest, ...]:
        """A list of digests; absent is empty. Raises DIGEST_INVALID."""
        return tuple(Digest.parse(item) for item in self.items(name))

    def items(self, name: str) -> list[Any]:
        """A list; absent is empty."""
        return self._get(name, list, [])

    def text_map(self, name: str) -> dict[str, str]:
        """An object whose members are texts; absent is empty, null members are empty texts."""
        found = self._get(name, dict, {})
        for key, value in found.items():
            if not isinstance(value, str | None):
                raise self._refuse(f"{self._path(name)} must hold text only")
            self._check_text(name, key)
            self._check_text(name, value or "")
        return {key: value or "" for key, value in found.items()}

    def key_set(self, name: str) -> tuple[str, ...]:
        """The keys of an object, sorted; absent is empty."""
        return tuple(sorted(self._check_text(name, key) for key in self._get(name, dict, {})))

    def object(self, name: str) -> "Fields":
        """An object; absent is an empty one."""
        return Fields(self._value.get(name) or {}, self._path(name), self._refuse)

    def objects(self, name: str) -> "list[Fields]":
        """A list of objects; absent is empty."""
        return [Fields(item, f"{self._path(name)}[{i}]", self._refuse) for i, item in enumerate(self.items(name))]

    def refuse(self, name: str, rule: str) -> EngineError:
        """The error for a member that breaks a rule."""
        return self._refuse(f"{self._path(name)} {rule}")

    def _get(self, name: str, kind: type[T], default: T) -> T:
        value = self._value.get(name)
        if value is None:
            return default
        if not isinstance(value, kind):
            raise self._refuse(f"{self._path(name)} has the wrong type")
        return value

    def _check_text(self, name: str, value: str) -> str:
        if "\0" in value:
            raise self._refuse(f"{self._path(name)} holds a NUL")
        check_size(len(value), "MAX_TEXT_CHARS", MAX_TEXT_CHARS, self._path(name))
        return value

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name
