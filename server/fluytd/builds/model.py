"""What a build is asked for, what its steps and its cache are, as values. It does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fluytd.builds.entitlements import Entitlements
from fluytd.containers.spec import ResourcesSpec, RlimitSpec, UsersSpec
from fluytd.errors import Failure
from fluytd.ids import Digest, ImageReference
from fluytd.images.manifests import Descriptor
from fluytd.images.model import ImageLayer
from fluytd.images.platforms import Platform
from fluytd.operations.model import BuildResult, BuildStep, OperationState
from fluytd.registries.model import Credentials

#: Secrets of one build together. Source: Docker's bound of a secret.
MAX_SECRETS_BYTES: Final = 500 * 1024
MAX_NAMED_CONTEXTS: Final = 64
MAX_REFERENCES: Final = 64
MAX_LABELS: Final = 1_000
#: What asks for the users of RUN in a request, as errors name it.
USERS_FIELD: Final = "user_namespace"
#: Platforms of one build.
MAX_PLATFORMS: Final = 16
#: Caches that one build reads.
MAX_CACHES: Final = 16
#: Of the content of one cache mount that travels, uncompressed.
MAX_CACHE_MOUNT_BYTES: Final = 1024 * 1024 * 1024
#: Cache mounts of one cache.
MAX_CACHE_MOUNTS: Final = 64
#: Of the name of a cache in a folder.
MAX_CACHE_TAG_CHARS: Final = 128
#: Blobs that a caller says to have of a cache.
MAX_PRESENT_DIGESTS: Final = 20_000
#: Annotations of a manifest or index, and their bytes.
MAX_ANNOTATIONS: Final = 1_000
MAX_ANNOTATIONS_BYTES: Final = 256 * 1024
#: Of the URI of who builds.
MAX_BUILDER_ID_CHARS: Final = 1_024


@dataclass(frozen=True, slots=True)
class UploadedSource:
    """A context that was uploaded."""

    context_id: str


@dataclass(frozen=True, slots=True)
class GitContext:
    """A repository, `URL[#ref[:directory]]`."""

    url: str


@dataclass(frozen=True, slots=True)
class HttpContext:
    """A tar, or a Dockerfile alone, behind a URL."""

    url: str


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The tree of an image."""

    reference: str


ContextSource = UploadedSource | GitContext | HttpContext | ImageSource


@dataclass(frozen=True, slots=True)
class RegistryCache:
    """A cache in a registry."""

    reference: ImageReference
    #: Cache mounts are filled from it.
    has_mounts: bool = False


@dataclass(frozen=True, slots=True)
class UploadedCache:
    """A cache in a folder of the caller's, whose blobs were uploaded as a context."""

    context_id: str
    manifest_digest: Digest
    has_mounts: bool = False


CacheSource = RegistryCache | UploadedCache


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """What a cache is written of."""

    #: Results of the stages that the image consists of; else all.
    is_min: bool = False
    #: Also the content of the cache mounts.
    has_mounts: bool = False


@dataclass(frozen=True, slots=True)
class ProvenanceWish:
    """What a provenance attestation is to tell."""

    is_max: bool = False
    is_v1: bool = False
    builder_id: str = ""


@dataclass(frozen=True, slots=True)
class Packing:
    """How the layers of an image are compressed."""

    #: `gzip`, `zstd` or `uncompressed`.
    compression: str = "gzip"
    #: None: that of its own program.
    level: int | None = None
    #: Layers of base images too.
    is_for_bases: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """Everything a caller may ask of a build that this engine builds; the rest is refused at the API."""

    context: ContextSource
    named_contexts: Mapping[str, ContextSource] = field(default_factory=dict)
    dockerfile_path: str = ""
    #: None: the one at `dockerfile_path`.
    dockerfile: bytes | None = None
    references: tuple[ImageReference, ...] = ()
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Several make an index; none: the host's.
    platforms: tuple[Platform, ...] = ()
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    pull: bool = False
    #: `default`, `none` or `host`.
    network_mode: str = "default"
    #: What the Dockerfile may ask for beyond the confinement of a step.
    entitlements: Entitlements = field(default_factory=Entitlements)
    #: Whose the users of each RUN are.
    users: UsersSpec = field(default_factory=UsersSpec)
    #: `name:address`.
    extra_hosts: tuple[str, ...] = ()
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    rlimits: tuple[RlimitSpec, ...] = ()
    shm_size_bytes: int = 0
    #: Where the control group of each RUN is made; empty: among those of containers.
    cgroup_parent: str = ""
    keeps_image: bool = True
    packing: Packing = field(default_factory=Packing)
    #: The references are pushed once the image is visible.
    pushes: bool = False
    auths: Mapping[str, Credentials] = field(default_factory=dict)
    #: Never in a log, a record or an error.
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    #: Lines of known_hosts(5) for git over ssh.
    known_hosts: bytes = field(default=b"", repr=False)
    check_only: bool = False
    #: Contexts come without what their ignore files leave out.
    is_filtered: bool = False
    #: The one by which the main context was filtered; empty: it is looked for there.
    ignore_file: bytes = b""
    #: Seconds since 1970; None: times as they are.
    source_date_seconds: int | None = None
    #: None: no provenance is added.
    provenance: ProvenanceWish | None = None
    sbom: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)
    index_annotations: Mapping[str, str] = field(default_factory=dict)
    #: Of the manifests' descriptors in the index.
    manifest_descriptor_annotations: Mapping[str, str] = field(default_factory=dict)
    #: Caches that are read, and the one of a registry that is written.
    cache_from: tuple[CacheSource, ...] = ()
    cache_to: ImageReference | None = None
    cache_to_spec: CacheSpec = field(default_factory=CacheSpec)

    @property
    def makes_index(self) -> bool:
        """What comes out is an index of images."""
        is_attested = self.provenance is not None or self.sbom
        annotations = self.index_annotations or self.manifest_descriptor_annotations
        return len(self.platforms) > 1 or is_attested or bool(annotations)


@dataclass(frozen=True, slots=True)
class CachedLayer:
    """What a step added: a layer, or nothing."""

    descriptor: Descriptor
    diff_id: Digest
    chain_id: Digest
    layer_id: str
    size_bytes: int
    #: See `images.model.ImageLayer.max_id`.
    max_id: int = 0

    def as_image_layer(self) -> ImageLayer:
        """The same as an image has it."""
        return ImageLayer(self.descriptor, self.diff_id, self.chain_id, self.layer_id, self.size_bytes, self.max_id)

    @staticmethod
    def of(layer: ImageLayer) -> "CachedLayer":
        """The same as a record has it."""
        return CachedLayer(
            layer.descriptor, layer.diff_id, layer.chain_id, layer.layer_id, layer.size_bytes, layer.max_id
        )


@dataclass(frozen=True, slots=True)
class CachedMount:
    """The content of a cache mount as a cache elsewhere has it."""

    #: Of its directory: made of the id.
    name: str
    #: The id, shortened, for people.
    description: str
    #: A layer over nothing.
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """The result of a step under its key, or the directory of a cache mount under its name."""

    key: str
    #: The step's instruction, shortened, or the id of the mount.
    description: str
    #: None: it changed nothing.
    layer: CachedLayer | None
    create_time_unix_nanos: int
    use_time_unix_nanos: int
    use_count: int = 0
    #: It is the directory of a cache mount.
    is_mount: bool = False
    mount_size_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of its own layer, blob and tree, or of its directory."""
        if self.is_mount:
            return self.mount_size_bytes
        return 0 if self.layer is None else self.layer.size_bytes + self.layer.descriptor.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEntry:
    """A build as the history tells it: what was asked for, how it stands, what came out."""

    #: That of its operation.
    id: str
    create_time_unix_nanos: int
    references: tuple[str, ...] = ()
    dockerfile_path: str = ""
    target: str = ""
    #: `os/architecture[/variant]`.
    platforms: tuple[str, ...] = ()
    state: OperationState = OperationState.RUNNING
    end_time_unix_nanos: int | None = None
    steps: tuple[BuildStep, ...] = ()
    result: BuildResult | None = None
    failure: Failure | None = None
    log_size_bytes: int = 0

    @property
    def is_ended(self) -> bool:
        """Nothing of it changes any more."""
        return self.state is not OperationState.RUNNING


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What came out."""

    image_id: str
    manifest_digest: str
    references: tuple[str, ...]
    warnings: tuple[str, ...]
