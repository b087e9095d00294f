"""Where a step's files come from: origins, the sources of COPY and ADD, the mounts of RUN. It opens none of them."""

from dataclasses import dataclass
from typing import Literal

from fluytd.images.platforms import Platform


@dataclass(frozen=True, slots=True)
class Scratch:
    """Nothing at all."""

    platform: Platform


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The main context, as its ignore file leaves it."""


@dataclass(frozen=True, slots=True)
class NamedContext:
    """A context of `--build-context`: a folder, or an image that stands in for a name."""

    name: str
    platform: Platform


@dataclass(frozen=True, slots=True)
class StageOutput:
    """The file system of another stage of this file; always of a lower index than the stage that uses it."""

    index: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image by its normalised reference, with tag or digest."""

    reference: str
    platform: Platform


Base = Scratch | NamedContext | StageOutput | Image
Origin = Scratch | BuildContext | NamedContext | StageOutput | Image


@dataclass(frozen=True, slots=True)
class PathSource:
    """A path or wildcard (Go's filepath.Match) below the step's origin: absolute, cleaned, `..` cannot leave it."""

    path: str
    #: With --parents: what below `path` is copied together with its directories; empty otherwise.
    parents_pattern: str = ""
    #: No wildcard stands in it: finding nothing is an error. A wildcard that finds nothing copies nothing.
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A file to fetch; mode 0600, its time that of Last-Modified (case B11)."""

    url: str
    #: The last part of the URL's path, `__unnamed__` where it has none.
    filename: str
    #: `sha256:...` or empty.
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository to clone; its whole tree, or that of `subdir`, is what is copied."""

    remote: str
    #: Branch, tag, full ref or commit; empty for the default branch.
    ref: str = ""
    subdir: str = ""
    #: The commit that `ref` must be, or a beginning of it; empty for any.
    checksum: str = ""
    keeps_git_dir: bool = False
    with_submodules: bool = True


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A here-document as a file: mode 0644 unless --chmod says otherwise, owner 0:0 unless --chown does."""

    name: str
    content: str


FileSource = PathSource | HttpSource | GitSource | InlineSource


@dataclass(frozen=True, slots=True)
class BindMount:
    """--mount=type=bind. Writes are lost when the step ends (case B21)."""

    origin: Origin
    #: Absolute, below the origin.
    source: str
    target: str
    is_read_only: bool = True


@dataclass(frozen=True, slots=True)
class CacheMount:
    """--mount=type=cache. What is in it never enters the layer (case B19)."""

    #: Given, or the cleaned target.
    id: str
    target: str
    #: What an empty cache begins with.
    origin: Origin
    source: str = "/"
    sharing: Literal["shared", "private", "locked"] = "shared"
    is_read_only: bool = False
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """--mount=type=tmpfs."""

    target: str
    #: 0 for the engine's default.
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SecretMount:
    """--mount=type=secret, as a file, a variable, or both (case B20)."""

    id: str
    #: Absolute; None where it is a variable only.
    target: str | None
    #: The variable's name; None where it is a file only.
    env: str | None = None
    #: A secret that the client does not have is an error; else there is then no file and no variable.
    is_required: bool = False
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class SshMount:
    """--mount=type=ssh: the client's agent."""

    id: str
    #: None: /run/buildkit/ssh_agent.N, N the number among the step's ssh mounts; SSH_AUTH_SOCK is set to it.
    target: str | None = None
    is_required: bool = False
    mode: int = 0o600
    uid: int = 0
    gid: int = 0


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SshMount
