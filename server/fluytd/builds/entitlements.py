"""What a build may do beyond its confinement: the entitlements that its caller gives it. Pure.

There are two gates: the caller of a build gives entitlements to what the Dockerfile asks for, and the engine's setting
`build_entitlements` says which it lets callers give. Source: BuildKit util/entitlements, whose names and form these
are; moby daemon/internal/builder-next, whose defaults the setting has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from fluytd.errors import FieldInvalid, LimitExceeded

#: RUN --security=insecure.
INSECURE: Final = "security.insecure"
#: RUN in the host's network.
HOST_NETWORK: Final = "network.host"
#: RUN --device.
DEVICE: Final = "device"
KINDS: Final = (HOST_NETWORK, INSECURE, DEVICE)
#: What one request may give.
MAX_ENTITLEMENTS: Final = 64
MAX_ENTITLEMENT_CHARS: Final = 1_024
_FIELD: Final = "entitlements"


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a build is given."""

    #: As the caller wrote them, for what is told of the build.
    texts: tuple[str, ...] = ()
    #: `security.insecure`, `network.host`, and `device` for every device.
    kinds: frozenset[str] = frozenset()
    #: Single devices, by the name that the Dockerfile asks for; the value is the device in its place, or empty.
    devices: Mapping[str, str] = field(default_factory=dict)

    def with_host_network(self) -> "Entitlements":
        """The same for a build whose caller wants all of it in the host's network, which gives that."""
        texts = self.texts if HOST_NETWORK in self.texts else (*self.texts, HOST_NETWORK)
        return replace(self, texts=texts, kinds=self.kinds | {HOST_NETWORK})


def parse_entitlements(texts: Sequence[str]) -> Entitlements:
    """`security.insecure`, `network.host`, `device` or `device=NAME[,alias=NAME]` each. Raises FIELD_INVALID,
    LIMIT_EXCEEDED."""
    if len(texts) > MAX_ENTITLEMENTS:
        raise LimitExceeded(limit="MAX_ENTITLEMENTS", limit_value=MAX_ENTITLEMENTS, actual=len(texts), subject=_FIELD)
    kinds: set[str] = set()
    devices: dict[str, str] = {}
    for index, text in enumerate(texts):
        at = f"{_FIELD}[{index}]"
        if len(text) > MAX_ENTITLEMENT_CHARS:
            raise FieldInvalid(field=at, rule=f"must have at most {MAX_ENTITLEMENT_CHARS} characters")
        kind, separator, rest = text.partition("=")
        if kind == DEVICE and separator and rest:
            name, alias = _device(rest, at)
            devices[alias or name] = name if alias else ""
        elif text in KINDS:
            kinds.add(text)
        else:
            raise FieldInvalid(field=at, rule=f"must be {', '.join(KINDS)} or device=NAME, not {text!r}")
    return Entitlements(tuple(dict.fromkeys(texts)), frozenset(kinds), devices)


def _device(text: str, at: str) -> tuple[str, str]:
    """Name and alias of `NAME[,alias=NAME]`."""
    name, *options = text.split(",")
    alias = ""
    for option in options:
        key, _, value = option.partition("=")
        if key != "alias" or not value or alias:
            raise FieldInvalid(field=at, rule=f"must be device=NAME[,alias=NAME]; {option!r} is no alias=NAME")
        alias = value
    if not name:
        raise FieldInvalid(field=at, rule="must name a device, device=vendor.com/class=name")
    return name, alias
