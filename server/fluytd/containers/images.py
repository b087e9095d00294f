"""The images that containers are made of, as the images' table in memory shows them. It fetches nothing itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import Final

from fluytd.containers.checks import MAX_HEALTH_RETRIES, MAX_HEALTH_SPAN_MILLIS
from fluytd.containers.model import ImageFacts
from fluytd.containers.spec import HealthCheck, PlatformChoice
from fluytd.errors import ImageAmbiguous, ImageNotFound, PlatformUnavailable, ReferenceInvalid
from fluytd.images.config import ImageConfig
from fluytd.images.model import Image
from fluytd.images.platforms import Platform
from fluytd.images.table import ImageTable
from fluytd.operations.model import Operation
from fluytd.registries.model import Credentials

#: Of images that name none. Source: Docker image spec v1.2, Shell.
DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_NANOS_PER_MILLI: Final = 1_000_000
#: Images of which is kept what containers take from them, the oldest given up first.
MAX_KEPT_FACTS: Final = 256
#: Begins a pull and yields its operation until it has ended; raises its failure.
Pull = Callable[[str, PlatformChoice | None, Credentials | None], AsyncGenerator[Operation, None]]
#: Removes those of these layers that nothing needs.
Sweep = Callable[[Sequence[str]], Awaitable[object]]


class PresentImages:
    """Implements `ports.Images`."""

    def __init__(
        self, table: ImageTable, lower_path: Callable[[str], str], pull: Pull, sweep: Sweep, empty_dir: str
    ) -> None:
        """`lower_path`: layer id -> directory for overlay, raising LAYER_NOT_FOUND; `empty_dir`: for images without
        layers, since overlay needs a lower one."""
        self._empty_dir = empty_dir
        self._sweep = sweep
        self._table = table
        self._lower_path = lower_path
        self._pull = pull
        #: By id and name. Containers of one image share them, and what is made of them.
        self._facts: dict[tuple[str, str], tuple[Image, ImageFacts]] = {}

    async def find(self, reference: str, platform: PlatformChoice | None) -> ImageFacts:
        """See `ports.Images.find`."""
        if platform is None:
            return self._facts_of(*self._table.find(reference))
        match = self._table.lookup(reference)
        fitting = [image for image in match.images if _fits(image.platform, platform)]
        if not fitting:
            wanted = "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)
            available = list(dict.fromkeys(str(image.platform) for image in match.images))
            raise PlatformUnavailable(reference=reference, platform=wanted, available=available)
        return self._facts_of(self._table.choose(fitting, None, reference), match.name)

    def _facts_of(self, image: Image, name: str) -> ImageFacts:
        kept = self._facts.get((image.id, name))
        if kept is not None and kept[0] is image:
            return kept[1]
        if len(self._facts) >= MAX_KEPT_FACTS:
            del self._facts[next(iter(self._facts))]
        facts = facts_of(image, name)
        self._facts[image.id, name] = (image, facts)
        return facts

    def pull(
        self, reference: str, platform: PlatformChoice | None, auth: Credentials | None
    ) -> AsyncGenerator[Operation, None]:
        """See `ports.Images.pull`."""
        return self._pull(reference, platform, auth)

    def ids_of(self, reference: str) -> Collection[str]:
        """See `ports.Images.ids_of`."""
        try:
            return [image.id for image in self._table.lookup(reference).images]
        except (ImageNotFound, ImageAmbiguous, ReferenceInvalid):
            return ()

    def lower_dirs(self, image: ImageFacts) -> tuple[str, ...]:
        """See `ports.Images.lower_dirs`."""
        return tuple(self._lower_path(layer) for layer in reversed(image.layer_ids)) or (self._empty_dir,)

    async def released(self, image: ImageFacts) -> None:
        """See `ports.Images.released`."""
        if self._table.get(image.image_id) is None:
            await self._sweep(image.layer_ids)


def facts_of(image: Image, name: str) -> ImageFacts:
    """What a container takes from an image that was found by `name` (empty if by its id)."""
    config = image.config
    return ImageFacts(
        reference=name,
        image_id=image.id,
        manifest_digest=image.manifest.digest,
        os=config.platform.os,
        architecture=config.platform.architecture,
        variant=config.platform.variant,
        layer_ids=tuple(reversed(image.lower_layer_ids)),
        size_bytes=image.size_bytes,
        max_id=image.max_id,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=config.env,
        user=config.user,
        working_dir=config.working_dir,
        stop_signal=config.stop_signal,
        labels=config.labels,
        health_check=_health_check(config),
        volumes=config.volumes,
        exposed_ports=config.exposed_ports,
    )


def _health_check(config: ImageConfig) -> HealthCheck | None:
    """Source: Docker image spec v1.2, Healthcheck: NONE, CMD and its arguments, CMD-SHELL and its text."""
    check = config.health_check
    if check is None or not check.test:
        return None
    kind, *rest = check.test
    if kind == "NONE":
        return HealthCheck(is_disabled=True)
    if kind not in {"CMD", "CMD-SHELL"} or not rest:
        return None  # a test of no known kind is none, as docker takes it
    return HealthCheck(
        args=tuple(rest) if kind == "CMD" else (*(config.shell or DEFAULT_SHELL), rest[0]),
        interval_millis=_millis(check.interval_nanos),
        timeout_millis=_millis(check.timeout_nanos),
        start_period_millis=_millis(check.start_period_nanos),
        start_interval_millis=_millis(check.start_interval_nanos),
        retries=max(0, min(check.retries, MAX_HEALTH_RETRIES)),
    )


def _millis(nanos: int) -> int:
    """Within the bounds that a caller's own would have to keep: an image is not refused for its health check."""
    return max(0, min(-(-nanos // _NANOS_PER_MILLI), MAX_HEALTH_SPAN_MILLIS))


def _fits(present: Platform, wanted: PlatformChoice) -> bool:
    asked = Platform.normalised(
        wanted.os or present.os, wanted.architecture or present.architecture, wanted.variant or present.variant
    )
    return (asked.os, asked.architecture, asked.variant) == (present.os, present.architecture, present.variant)
