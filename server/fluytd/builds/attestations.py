"""What is attested of a built image: SLSA provenance, an SPDX document, and the manifest that carries them. Pure.

Source: BuildKit docs/attestations (attestation-storage.md, slsa-provenance.md, slsa-definitions.md); in-toto
Statement v0.1; SLSA provenance v0.2 and v1; SPDX 2.3.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from fluytd.builds.graph import rfc3339
from fluytd.builds.model import ProvenanceWish
from fluytd.builds.packages import Package
from fluytd.ids import Digest, ImageReference
from fluytd.images import write_manifest
from fluytd.images.manifests import OCI_MANIFEST, Descriptor
from fluytd.images.model import Attested
from fluytd.images.platforms import Platform
from fluytd.operations.model import BuildStep

STATEMENT_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v0.1"
PROVENANCE_V0_2: Final = "https://slsa.dev/provenance/v0.2"
PROVENANCE_V1: Final = "https://slsa.dev/provenance/v1"
SPDX: Final = "https://spdx.dev/Document"
_BUILD_TYPE_V0_2: Final = "https://mobyproject.org/buildkit@v1"
_BUILD_TYPE_V1: Final = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_EXTENSION: Final = "https://mobyproject.org/buildkit@v1#metadata"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Material:
    """Something that was fetched for the build: a URI, and a digest as (algorithm, hex)."""

    uri: str
    digest: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How an image was made, as far as provenance tells it."""

    build_id: str
    start_unix_nanos: int
    end_unix_nanos: int
    #: Where steps ran.
    build_platform: Platform
    dockerfile_path: str
    dockerfile: bytes
    #: Build arguments, labels and target, as BuildKit's front end calls them; for mode max.
    arguments: Mapping[str, str] = field(default_factory=dict)
    #: What the build was given beyond the confinement of its steps, and what of it each step had, by its number.
    entitlements: tuple[str, ...] = ()
    privileges: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    #: Names of the contexts that were uploaded.
    local_contexts: tuple[str, ...] = ()
    #: The main context where it was fetched.
    source: Material | None = None
    materials: tuple[Material, ...] = ()
    steps: tuple[BuildStep, ...] = ()
    is_dated: bool = False


def image_material(reference: str, digest: Digest, platform: Platform) -> Material:
    """An image that the build stands on or copied from."""
    return Material(image_purl(ImageReference.parse(reference), platform), (digest.algorithm, digest.hex))


def image_purl(reference: ImageReference, platform: Platform) -> str:
    """The package URL of an image, as BuildKit writes it."""
    version = reference.tag or reference.digest or "latest"
    return f"pkg:docker/{reference.familiar_name}@{version}?platform={quote(str(platform), safe='')}"


def provenance(making: Making, wish: ProvenanceWish) -> tuple[str, dict[str, Any]]:
    """The type of the predicate, and it."""
    return (PROVENANCE_V1, _v1(making, wish)) if wish.is_v1 else (PROVENANCE_V0_2, _v0_2(making, wish))


def _frontend(making: Making, wish: ProvenanceWish) -> dict[str, Any]:
    found: dict[str, Any] = {"frontend": "dockerfile.v0"}
    if wish.is_max and making.arguments:
        found["args"] = dict(sorted(making.arguments.items()))
    if making.entitlements:
        found["entitlements"] = list(making.entitlements)
    if making.local_contexts:
        found["locals"] = [{"name": name} for name in making.local_contexts]
    return found


def _materials(making: Making) -> list[dict[str, Any]]:
    return [{"uri": one.uri, "digest": dict([one.digest])} for one in making.materials]


def _config_source(making: Making, entry: str) -> dict[str, Any]:
    source = {"uri": making.source.uri, "digest": dict([making.source.digest])} if making.source is not None else {}
    return {**source, entry: making.dockerfile_path}


def _build_config(making: Making) -> dict[str, Any]:
    return {
        "steps": [
            {"number": step.number, "stage": step.stage, "instruction": step.instruction, "line": step.line}
            | dict(making.privileges.get(step.number, {}))
            for step in making.steps
        ]
    }


def _metadata(making: Making, wish: ProvenanceWish) -> dict[str, Any]:
    if not wish.is_max:
        return {}
    info = {
        "filename": making.dockerfile_path,
        "language": "Dockerfile",
        "data": base64.b64encode(making.dockerfile).decode(),
    }
    return {"source": {"infos": [info]}}


def _v0_2(making: Making, wish: ProvenanceWish) -> dict[str, Any]:
    predicate: dict[str, Any] = {
        "builder": {"id": wish.builder_id},
        "buildType": _BUILD_TYPE_V0_2,
        "materials": _materials(making),
        "invocation": {
            "configSource": _config_source(making, "entryPoint"),
            "parameters": _frontend(making, wish),
            "environment": {"platform": str(making.build_platform)},
        },
    }
    if wish.is_max:
        predicate["buildConfig"] = _build_config(making)
    predicate["metadata"] = {
        "buildInvocationID": making.build_id,
        "buildStartedOn": rfc3339(making.start_unix_nanos),
        "buildFinishedOn": rfc3339(making.end_unix_nanos),
        "completeness": {
            "parameters": wish.is_max,
            "environment": True,
            # What RUN fetched nobody wrote down.
            "materials": False,
        },
        "reproducible": False,
        _EXTENSION: _metadata(making, wish),
    }
    return predicate


def _v1(making: Making, wish: ProvenanceWish) -> dict[str, Any]:
    internal: dict[str, Any] = {"builderPlatform": str(making.build_platform)}
    if wish.is_max:
        internal["buildConfig"] = _build_config(making)
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": _config_source(making, "path"),
                "request": _frontend(making, wish),
            },
            "internalParameters": internal,
            "resolvedDependencies": _materials(making),
        },
        "runDetails": {
            "builder": {"id": wish.builder_id},
            "metadata": {
                "invocationId": making.build_id,
                "startedOn": rfc3339(making.start_unix_nanos),
                "finishedOn": rfc3339(making.end_unix_nanos),
                "buildkit_metadata": _metadata(making, wish),
                "buildkit_completeness": {"request": wish.is_max, "resolvedDependencies": False},
                "buildkit_reproducible": False,
            },
        },
    }


def spdx(
    name: str,
    digest: Digest,
    packages: Sequence[Package],
    system: Mapping[str, str],
    created_unix_nanos: int,
    tool: str,
) -> dict[str, Any]:
    """The SPDX document of an image.

    Args:
        name: of the image; empty if it has none.
        digest: of its manifest.
        system: its os-release.
        tool: who made the document.
    """
    ordered = sorted(set(packages), key=lambda one: (one.kind, one.name, one.version, one.architecture))
    entries = [_spdx_package(number, package, system) for number, package in enumerate(ordered, 1)]
    root = "SPDXRef-DocumentRoot-Image"
    image = {
        "name": name or "image",
        "SPDXID": root,
        "versionInfo": digest,
        "supplier": "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "CONTAINER",
    }
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", root)]
    relations += [(root, "CONTAINS", entry["SPDXID"]) for entry in entries]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name or "image",
        "documentNamespace": f"urn:fluyt:sbom:{digest}",
        "creationInfo": {"creators": [f"Tool: {tool}"], "created": f"{rfc3339(created_unix_nanos)[:19]}Z"},
        "packages": [image, *entries],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
            for one, kind, other in relations
        ],
    }


def _spdx_package(number: int, package: Package, system: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": package.name,
        "SPDXID": f"SPDXRef-Package-{package.kind}-{_UNSAFE.sub('-', package.name)}-{number}",
        "versionInfo": package.version,
        "supplier": f"Person: {package.maintainer}" if package.maintainer else "NOASSERTION",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        # As its database writes it, which need be no SPDX expression, is a comment.
        "licenseDeclared": "NOASSERTION",
        **({"licenseComments": package.license} if package.license else {}),
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package.purl(system),
            }
        ],
    }


def statement(
    predicate_type: str,
    predicate: Mapping[str, Any],
    references: Sequence[ImageReference],
    manifest: Digest,
    platform: Platform,
) -> bytes:
    """An in-toto statement about an image of these references."""
    subjects = [image_purl(reference, platform) for reference in references] or ["_"]
    document = {
        "_type": _STATEMENT,
        "predicateType": predicate_type,
        "subject": [{"name": name, "digest": {manifest.algorithm: manifest.hex}} for name in subjects],
        "predicate": predicate,
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Attestation:
    """A manifest of statements about one image, with all that it stands on."""

    manifest: Descriptor
    #: Its config, then its statements.
    blobs: tuple[Descriptor, ...]
    #: The bytes of each of these.
    data: Mapping[Digest, bytes]

    def listed_in(self, index: Digest) -> Attested:
        """As an image keeps it."""
        return Attested(index, self.manifest, self.blobs)


def attestation(statements: Sequence[tuple[str, bytes]]) -> Attestation:
    """The manifest of these statements, each with the type of its predicate."""
    layers = [
        Descriptor(
            STATEMENT_TYPE, Digest.of(data), len(data), annotations={"in-toto.io/predicate-type": predicate_type}
        )
        for predicate_type, data in statements
    ]
    config = json.dumps(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        },
        separators=(",", ":"),
    ).encode()
    config_digest = Digest.of(config)
    data = write_manifest.manifest(config_digest, len(config), layers)
    manifest = Descriptor(OCI_MANIFEST, Digest.of(data), len(data), platform=Platform.normalised("unknown", "unknown"))
    held = {Digest.of(text): text for _, text in statements} | {config_digest: config, manifest.digest: data}
    blobs = (Descriptor("application/vnd.oci.image.config.v1+json", config_digest, len(config)), *layers)
    return Attestation(manifest, blobs, held)


@dataclass(frozen=True, slots=True)
class IndexAnnotations:
    """What an index is annotated with."""

    index: Mapping[str, str] = field(default_factory=dict)
    #: Of the descriptor of each image's manifest.
    descriptors: Mapping[str, str] = field(default_factory=dict)


def index(
    images: Sequence[tuple[Descriptor, Platform]],
    attestations: Mapping[Digest, Attestation],
    annotations: IndexAnnotations,
) -> bytes:
    """An index of images, in this order, and of what is attested of them, by the digest of the image's manifest."""
    entries: list[dict[str, Any]] = []
    for manifest, platform in images:
        entry = {**_entry(manifest), "platform": _platform(platform)}
        if annotations.descriptors:
            entry["annotations"] = dict(sorted(annotations.descriptors.items()))
        entries.append(entry)
    for manifest, _ in images:
        attested = attestations.get(manifest.digest)
        if attested is not None:
            about = {
                "vnd.docker.reference.digest": manifest.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            }
            unknown = {"architecture": "unknown", "os": "unknown"}
            entries.append({**_entry(attested.manifest), "annotations": about, "platform": unknown})
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }
    if annotations.index:
        document["annotations"] = dict(sorted(annotations.index.items()))
    return json.dumps(document, separators=(",", ":")).encode()


def _entry(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size_bytes}


def _platform(platform: Platform) -> dict[str, str]:
    named = {"architecture": platform.architecture, "os": platform.os}
    return named | ({"variant": platform.variant} if platform.variant else {})
