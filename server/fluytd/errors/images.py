"""Catalogue entries about references, images and registries."""

from fluytd.errors.base import HostUnsupported, InvalidInput, NotFound, ResourceExhausted, Upstream, WrongState


class ReferenceInvalid(
    InvalidInput,
    reason="REFERENCE_INVALID",
    keys="reference rule",
    text="{reference!r} is not an image reference: {rule}",
    next_step="Write it as [host[:port]/]path[:tag][@sha256:digest] in lower case.",
):
    """A reference that breaks Docker's rules."""


class ImageNotFound(
    NotFound,
    reason="IMAGE_NOT_FOUND",
    keys="reference",
    text="there is no image {reference}",
    next_step="Check the spelling, list the images that are here, or pull it.",
):
    """An image that is neither here nor, when pulling, in the registry."""


class ImageAmbiguous(
    InvalidInput,
    reason="IMAGE_AMBIGUOUS",
    keys="reference matches",
    text="{reference} stands for several images: {matches}",
    next_step="Give more digits of the image id.",
):
    """A shortened image id that fits more than one image."""


class ImageInUse(
    WrongState,
    reason="IMAGE_IN_USE",
    keys="reference holder_ids",
    text="image {reference} is used by {holder_ids}",
    next_step="Delete those containers first, or untag its other names; force removes several names at once.",
):
    """An image that a container, or another of its names, still needs."""


class PlatformUnavailable(
    HostUnsupported,
    reason="PLATFORM_UNAVAILABLE",
    keys="reference platform available",
    text="{reference} has no image for {platform}; it has: {available}",
    next_step="Ask for one of the platforms that it has.",
):
    """An index without an entry for the platform."""


class RegistryUnreachable(
    Upstream,
    reason="REGISTRY_UNREACHABLE",
    keys="registry attempt_count detail",
    text="registry {registry} cannot be reached after {attempt_count} attempts: {detail}",
    next_step="Check the host name, the network and the registry, then try again; a pull keeps what was fetched.",
):
    """No answer, or answers that broke off, to the last attempt."""


class RegistryAccessDenied(
    WrongState,
    reason="REGISTRY_ACCESS_DENIED",
    keys="registry repository status",
    text="registry {registry} denies access to {repository} (HTTP {status})",
    next_step="Check that the repository exists and that the credentials may read it.",
):
    """401 or 403 of a registry."""


class RegistryProtocol(
    Upstream,
    reason="REGISTRY_PROTOCOL",
    keys="registry rule status",
    text="registry {registry} broke the distribution protocol: {rule} (HTTP {status})",
    next_step="Check that the address is a registry's; look into its log, then pull again.",
):
    """An answer that the OCI distribution specification does not allow."""


class RegistryRateLimited(
    ResourceExhausted,
    reason="REGISTRY_RATE_LIMITED",
    keys="registry retry_after_seconds",
    text="registry {registry} limits the rate; it asks to wait {retry_after_seconds} seconds",
    next_step="Wait that long, then pull again.",
):
    """429 to the last attempt."""


class RegistrySearchUnsupported(
    HostUnsupported,
    reason="REGISTRY_SEARCH_UNSUPPORTED",
    keys="registry",
    text="registry {registry} offers neither a search nor a list of its repositories",
    next_step="Look on its web page; images whose names are known can be pulled all the same.",
):
    """A registry in which nothing can be looked for."""


class RegistryConfigInvalid(
    WrongState,
    reason="REGISTRY_CONFIG_INVALID",
    keys="path rule",
    text="the settings of registries cannot be used: {path}: {rule}",
    next_step="Mend the file on the engine's host; it is read again with the next request.",
):
    """hosts.toml, a certificate, the file of credentials or a proxy that is not as it must be."""
