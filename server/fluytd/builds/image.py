"""From the outcome of the target stage to an image: config and manifest written, all of it visible, named last."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fluytd import failpoints
from fluytd.builds import attestations
from fluytd.builds.attestations import Attestation, IndexAnnotations
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
from fluytd.images.documents import MAX_MANIFEST_BYTES, check_size
from fluytd.images.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor
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

    async def stage(self, outcome: Outcome, config: ImageConfig, annotations: Mapping[str, str], lease: Lease) -> Image:
        """Config and manifest are staged; the same outcome gives the same image.

        Raises STORAGE_FULL, IO_FAILED, LIMIT_EXCEEDED.
        """
        layers = tuple(as_oci(layer) for layer in outcome.layers)
        data = config_bytes(outcome, config)
        parsed = configs.parse(data, len(layers), "the config of the build")
        config_digest = Digest.of(data)
        await lease.add([config_digest, *possible_layer_ids(parsed)])
        failpoints.hit("build.config.stage")
        await self.blobs.stage(data, config_digest)
        manifest_data = write_manifest.manifest(
            config_digest, len(data), [layer.descriptor for layer in layers], annotations
        )
        check_size(len(manifest_data), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, "the manifest of the build")
        manifest = Descriptor(OCI_MANIFEST, Digest.of(manifest_data), len(manifest_data))
        await lease.add([manifest.digest])
        failpoints.hit("build.manifest.stage")
        await self.blobs.stage(manifest_data, manifest.digest)
        return Image(
            id=config_digest,
            manifest=manifest,
            target=manifest,
            config_text=data.decode(),
            config=parsed,
            layers=layers,
            create_time_unix_nanos=self.clock.now_unix_nanos(),
        )

    async def listed(
        self,
        images: Sequence[Image],
        attested: Mapping[Digest, Attestation],
        annotations: IndexAnnotations,
        lease: Lease,
    ) -> list[Image]:
        """The images as one index lists them with what is attested of them, all of it staged.

        Raises STORAGE_FULL, IO_FAILED, LIMIT_EXCEEDED.
        """
        platforms = [(image.manifest, image.config.platform) for image in images]
        data = attestations.index(platforms, attested, annotations)
        check_size(len(data), "MAX_MANIFEST_BYTES", MAX_MANIFEST_BYTES, "the index of the build")
        index = Descriptor(OCI_INDEX, Digest.of(data), len(data))
        held = {digest: text for one in attested.values() for digest, text in one.data.items()}
        for digest, text in (*held.items(), (index.digest, data)):
            await lease.add([digest])
            failpoints.hit("build.index.stage")
            await self.blobs.stage(text, digest)
        return [
            replace(
                image,
                target=index,
                ways=((index,),),
                attested=tuple(
                    one.listed_in(index.digest) for one in (attested.get(image.manifest.digest),) if one is not None
                ),
            )
            for image in images
        ]

    async def publish(
        self, images: Sequence[Image], references: Sequence[ImageReference], handle: OperationHandle
    ) -> list[Image]:
        """The images are here, whole, and have these references. Raises STORAGE_FULL, IO_FAILED, CANCELLED."""
        handle.check()
        names = tuple(dict.fromkeys(str(reference.with_default_tag()) for reference in references))
        listed = {image.manifest.digest: image.ways[0] for image in images if image.ways}
        async with self.collector.unless_added() as published:
            published.extend(images)
            await self.assembler.publish(images, "build")
            failpoints.hit("build.record")
            added = await self.catalogue.add(
                [
                    Addition(image=image, names=names, repo_digests=(), fact=ImageBuilt(image.id, names), listed=listed)
                    for image in images
                ],
                handle.actor,
            )
        await self.collector.sweep_replaced(added.replaced)
        return list(added.images)


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
