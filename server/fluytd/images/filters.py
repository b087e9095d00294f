"""Which images a list shows. It reads values only."""

from collections.abc import Iterable
from dataclasses import dataclass

from fluytd.ids import ImageReference
from fluytd.images.model import Image


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Conditions of different kinds must all hold; of the values of one kind, one must."""

    #: Patterns of references; `*` stands for any run without a slash, a pattern without a tag fits every tag.
    references: tuple[str, ...] = ()
    #: `name` or `name=value`; here all must hold.
    labels: tuple[str, ...] = ()
    is_dangling: bool | None = None
    #: Built before, after these images.
    before: Image | None = None
    since: Image | None = None
    before_time_unix_nanos: int | None = None

    def accepts(self, image: Image, references: Iterable[str]) -> bool:
        """True if the image with these references in full fits."""
        names = list(references)
        if self.is_dangling is not None and self.is_dangling != (not names):
            return False
        if self.references and not any(_fits(name, pattern) for name in names for pattern in self.references):
            return False
        if not all(_has_label(image, label) for label in self.labels):
            return False
        built = image.config.build_time_unix_nanos or 0
        if self.before is not None and built >= (self.before.config.build_time_unix_nanos or 0):
            return False
        if self.since is not None and built <= (self.since.config.build_time_unix_nanos or 0):
            return False
        return self.before_time_unix_nanos is None or image.create_time_unix_nanos < self.before_time_unix_nanos


def _has_label(image: Image, label: str) -> bool:
    name, equals, value = label.partition("=")
    labels = image.config.labels
    return name in labels and (not equals or labels[name] == value)


def _fits(full: str, pattern: str) -> bool:
    reference = ImageReference.parse(full)
    last = pattern.rpartition("/")[2]
    names = [reference.name, reference.familiar_name]
    if ":" in last:
        names = [f"{name}:{reference.tag}" for name in names]
    return any(glob(name, pattern) for name in names)


def glob(text: str, pattern: str) -> bool:
    """True if the pattern, in which `*` is any run without a slash, fits the whole text. In time text x pattern."""
    at, star, resume = 0, -1, 0
    position = 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, position
            at += 1
        elif at < len(pattern) and pattern[at] == text[position]:
            at += 1
            position += 1
        elif star >= 0 and text[resume] != "/":
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""
