"""What a Dockerfile says, as typed values: instructions as written, nothing expanded, each with where it stands.

`steps.py` has what becomes of them. Source: Docker's Dockerfile reference; BuildKit frontend/dockerfile/instructions.
"""

from dataclasses import dataclass
from typing import Literal

from fluytd.builds.dockerfile.source import Directives, Finding, Source

Network = Literal["default", "none", "host"]
Security = Literal["sandbox", "insecure"]


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document attached to an instruction."""

    name: str
    #: The body as written, its last newline included; tabs are still there.
    content: str
    #: False where the delimiter was quoted: variables in the body stay as they are.
    is_expanded: bool = True
    #: `<<-`: leading tabs of each line are not part of the body.
    strips_tabs: bool = False
    file_descriptor: int = 0

    @property
    def body(self) -> str:
        """The content, without leading tabs where `<<-` asks for that."""
        if not self.strips_tabs:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What every instruction has."""

    source: Source
    #: The keyword as written: `RUN`, `run`.
    keyword: str
    #: The comment lines directly above, without `#`.
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A pair of ENV or LABEL, quotes and variables still in it."""

    key: str
    value: str
    #: Written `KEY value`, not `KEY=value`.
    is_legacy: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """One name of an ARG."""

    key: str
    #: The default, unexpanded; None where it has none, which differs from an empty one.
    default: str | None
    #: The rest of a comment line above that begins with the name; empty for none.
    description: str = ""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command of RUN, CMD, ENTRYPOINT: words of the JSON form, or one text for a shell."""

    words: tuple[str, ...]
    is_shell: bool
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """ARG name[=default]..."""

    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV key=value... or ENV key value."""

    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    """LABEL key=value... or LABEL key value."""

    pairs: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """A CDI device that a RUN asks for."""

    name: str
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN [flags] command."""

    command: CommandLine
    #: The values of --mount as written; variables may stand in them.
    mounts: tuple[str, ...] = ()
    #: What from= of each mount names, "" where it has none; in the order of `mounts`. No variables may stand in it.
    mount_origins: tuple[str, ...] = ()
    network: Network = "default"
    security: Security = "sandbox"
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD share."""

    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    destination: str
    chown: str = ""
    chmod: str = ""
    is_linked: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    """COPY [flags] source... destination."""

    #: The stage, its number, the named context or the image; "" is the build context.
    from_: str = ""
    keeps_parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    """ADD [flags] source... destination."""

    checksum: str = ""
    #: None where the flag is absent.
    keep_git_dir: bool | None = None
    #: None where the flag is absent: local archives are unpacked, remote ones are not.
    unpack: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    """CMD."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    """ENTRYPOINT."""

    command: CommandLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    """SHELL in JSON form."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE port[-port][/protocol]..., in the order in which BuildKit writes them (sorted as text)."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    """VOLUME path... in either form."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    """USER name[:group]."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    """WORKDIR path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    """STOPSIGNAL name or number."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """HEALTHCHECK NONE, or CMD with its options; 0 where an option is absent."""

    #: ("NONE",), ("CMD", ...) or ("CMD-SHELL", text).
    test: tuple[str, ...]
    interval_nanos: int = 0
    timeout_nanos: int = 0
    start_period_nanos: int = 0
    start_interval_nanos: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """ONBUILD instruction: the text is kept for the image's children."""

    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    """MAINTAINER, deprecated."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM [--platform=...] base [AS name]."""

    #: Unexpanded.
    base: str
    #: In lower case, as stages are found by; empty for none.
    name: str = ""
    #: Unexpanded; empty for none.
    platform: str = ""
    #: The rest of a comment line above that begins with the name; empty for none.
    description: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A FROM with what follows it."""

    index: int
    origin: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """The name in lower case; empty for none."""
        return self.origin.name

    @property
    def shown_name(self) -> str:
        """The name, or `stage-2` for the third stage if it has none."""
        return self.origin.name or f"stage-{self.index}"


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A whole Dockerfile."""

    file: str
    directives: Directives
    #: The ARGs above the first FROM.
    arguments: tuple[Arg, ...]
    #: At least one.
    stages: tuple[Stage, ...]
    #: What reading alone finds; those of expansion come with the plan and the resolved build.
    warnings: tuple[Finding, ...] = ()
