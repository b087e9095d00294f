"""From the outcome of the target stage to an image: config and manifest written, all of it visible, named last."""

import json
from dataclasses import dataclass
from typing import Any, Final

from fluytd import failpoints
from fluytd.builds.graph import rfc3339
from fluytd.builds.solver import Outcome
from fluytd.clock import Clock
from fluytd.content.ports import Blobs
from fluytd.events.model import ImageBuilt
from fluytd.gc.collect import Collector
from fluytd.gc.leases import Lease
from fluytd.ids import Digest, ImageReference
from fluytd.images import config as configs
from fluytd.images import write_manifest
from fluytd.images.assemble import Assembler, possible_layer_ids
from fluytd.images.catalogue import Addition, Catalogue
from fluytd.images.commit import ABOUT_THE_MAKING, as_oci, whole_history
from fluytd.images.config import ImageConfig
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.model import Image, ImageLayer
from fluytd.operations.service import OperationHandle

#: What this engine writes below `config`; all else stays as the base has it.
_WRITTEN: Final = frozenset(
    {
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "Healthcheck",
        "OnBuild",
        "Shell",
        "ArgsEscaped",
    }
)


@dataclass(frozen=True, slots=True)
class ImageMaker:
    """Makes images of outcomes."""

    blobs: Blobs
    assembler: Assembler
    catalogue: Catalogue
    collector: Collector
    clock: Clock

    async def make(
        self,
        outcome: Outcome,
        config: ImageConfig,
        references: tuple[ImageReference, ...],
        lease: Lease,
        handle: OperationHandle,
    ) -> Image:
        """The image is here, whole, and has these references; the same outcome gives the same image.

        Raises STORAGE_FULL, IO_FAILED, LIMIT_EXCEEDED, CANCELLED.
        """
        layers = tuple(as_oci(layer) for layer in outcome.layers)
        data = config_bytes(outcome, config)
        parsed = configs.parse(data, len(layers), "the config of the build")
        config_digest = Digest.of(data)
        await lease.add([config_digest, *possible_layer_ids(parsed)])
        failpoints.hit("build.config.stage")
        await self.blobs.stage(data, config_digest)
        manifest_data = write_manifest.manifest(config_digest, len(data), [layer.descriptor for layer in layers])
        manifest = Descriptor(OCI_MANIFEST, Digest.of(manifest_data), len(manifest_data))
        await lease.add([manifest.digest])
        failpoints.hit("build.manifest.stage")
        await self.blobs.stage(manifest_data, manifest.digest)
        image = Image(
            id=config_digest,
            manifest=manifest,
            target=manifest,
            config_text=data.decode(),
            config=parsed,
            layers=layers,
            create_time_unix_nanos=self.clock.now_unix_nanos(),
        )
        handle.check()
        names = tuple(dict.fromkeys(str(reference.with_default_tag()) for reference in references))
        async with self.collector.unless_added() as published:
            published.append(image)
            await self.assembler.publish([image], "build")
            failpoints.hit("build.record")
            fact = ImageBuilt(image.id, names)
            added = await self.catalogue.add(
                [Addition(image=image, names=names, repo_digests=(), fact=fact)], handle.actor
            )
        await self.collector.sweep_replaced(added.replaced)
        return added.images[0]


def config_bytes(outcome: Outcome, config: ImageConfig) -> bytes:
    """The config of the image, exactly. Unknown fields of the base stay."""
    document: dict[str, Any] = json.loads(outcome.base.config_text) if outcome.base is not None else {}
    for name in ABOUT_THE_MAKING:
        document.pop(name, None)
    base_layer_count = len(outcome.base.layers) if outcome.base is not None else 0
    history = whole_history(document, base_layer_count) if outcome.base is not None else []
    document |= {"architecture": config.platform.architecture, "os": config.platform.os}
    if config.platform.variant:
        document["variant"] = config.platform.variant
    if config.author:
        document["author"] = config.author
    if outcome.create_time_unix_nanos is not None:
        document["created"] = rfc3339(outcome.create_time_unix_nanos)
    kept = {name: value for name, value in dict(document.get("config") or {}).items() if name not in _WRITTEN}
    document["config"] = kept | _run_config(config)
    document["rootfs"] = {"type": "layers", "diff_ids": [layer.diff_id for layer in outcome.layers]}
    document["history"] = [*history, *outcome.history]
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _run_config(config: ImageConfig) -> dict[str, object]:
    values: dict[str, object] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Volumes": {path: {} for path in config.volumes},
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "OnBuild": list(config.on_build),
        "Shell": list(config.shell),
    }
    check = config.health_check
    if check is not None:
        spans = {
            "Interval": check.interval_nanos,
            "Timeout": check.timeout_nanos,
            "StartPeriod": check.start_period_nanos,
            "StartInterval": check.start_interval_nanos,
            "Retries": check.retries,
        }
        values["Healthcheck"] = {"Test": list(check.test)} | {name: span for name, span in spans.items() if span}
    return {name: value for name, value in values.items() if value}


def layer_ids_of(layers: tuple[ImageLayer, ...]) -> list[str]:
    """Blobs and layers, for a lease."""
    return [name for layer in layers for name in (layer.descriptor.digest, layer.layer_id)]
