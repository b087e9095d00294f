"""The bounds of a Dockerfile, each with a name that its error shows. It reads nothing."""

from typing import Final

from fluytd.errors import LimitExceeded

#: A whole file.
MAX_DOCKERFILE_BYTES: Final = 512 * 1024
#: One line as it stands in the file. Source: Go bufio.MaxScanTokenSize, which bounds BuildKit's lines.
MAX_DOCKERFILE_LINE_BYTES: Final = 65_535
#: Instructions in a file, FROM included, and triggers of one base image.
MAX_DOCKERFILE_INSTRUCTIONS: Final = 2_000
MAX_DOCKERFILE_STAGES: Final = 256
#: Names in the ARGs of a file.
MAX_DOCKERFILE_ARGS: Final = 1_024
#: Words, flags or pairs of one instruction.
MAX_INSTRUCTION_WORDS: Final = 4_096
#: Here-documents of one instruction.
MAX_INSTRUCTION_HEREDOCS: Final = 64
#: The body of one here-document.
MAX_HEREDOC_BYTES: Final = 256 * 1024
#: A word after its variables were put in. Source: MAX_ARG_STRLEN of Linux, the longest `NAME=value` that execve takes.
MAX_EXPANSION_CHARS: Final = 131_072
#: The body of a here-document after its variables were put in.
MAX_HEREDOC_EXPANSION_CHARS: Final = 1024 * 1024
#: Everything that the variables of one build expand to, history and environments of its steps included.
MAX_BUILD_EXPANSION_CHARS: Final = 32 * 1024 * 1024
#: All variables of one stage together; what execve takes of an environment is 2 MiB at most. Source: execve(2).
MAX_STAGE_ENV_CHARS: Final = 1024 * 1024
#: `${a:-${b:-${c}}}` within each other.
MAX_EXPANSION_DEPTH: Final = 32
#: Build arguments of a request, and the length of one value.
MAX_BUILD_ARGS: Final = 1_024
#: Ports of one EXPOSE after ranges are written out, and of one image.
MAX_EXPOSED_PORTS: Final = 65_536 * 3
#: All triggers of a base image together.
MAX_TRIGGERS_CHARS: Final = MAX_DOCKERFILE_BYTES


def check(limit: str, actual: int, subject: str) -> None:
    """Nothing, if `actual` is within the bound of that name. Raises LIMIT_EXCEEDED."""
    value = _LIMITS[limit]
    if actual > value:
        raise LimitExceeded(limit=limit, limit_value=value, actual=actual, subject=subject)


_LIMITS: Final[dict[str, int]] = {name: value for name, value in globals().items() if name.startswith("MAX_")}
