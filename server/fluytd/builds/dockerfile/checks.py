"""Build checks: their names, what they say, and which of their findings count. What they look for is with each step.

Source: Docker's build checks reference; BuildKit frontend/dockerfile/linter/ruleset.go.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fluytd.builds.dockerfile.directives import merged
from fluytd.builds.dockerfile.source import Checks, Finding, Position, Source

_PAGES: Final = "https://docs.docker.com/go/dockerfile/rule/"
_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Rule:
    """One check."""

    name: str
    description: str
    #: Runs only where a file or a caller asks for it.
    is_experimental: bool = False
    has_page: bool = True

    @property
    def url(self) -> str:
        """The page about it; empty where there is none."""
        return f"{_PAGES}{_WORD_START.sub('-', self.name).lower()}/" if self.has_page else ""


STAGE_NAME_CASING: Final = Rule("StageNameCasing", "Stage names should be in lower case")
FROM_AS_CASING: Final = Rule("FromAsCasing", "The keyword 'as' should be in the case of 'from'")
NO_EMPTY_CONTINUATION: Final = Rule(
    "NoEmptyContinuation", "An empty line where a continuation was to come will become an error"
)
CONSISTENT_INSTRUCTION_CASING: Final = Rule(
    "ConsistentInstructionCasing", "All keywords of a file should be in one case, upper or lower"
)
DUPLICATE_STAGE_NAME: Final = Rule("DuplicateStageName", "Each stage should have a name of its own")
RESERVED_STAGE_NAME: Final = Rule("ReservedStageName", "A stage should not be called as what the language reserves")
JSON_ARGS_RECOMMENDED: Final = Rule(
    "JSONArgsRecommended", "ENTRYPOINT and CMD should be in JSON form, since a shell in between takes signals away"
)
MAINTAINER_DEPRECATED: Final = Rule("MaintainerDeprecated", "MAINTAINER is deprecated in favour of a label")
UNDEFINED_ARG_IN_FROM: Final = Rule("UndefinedArgInFrom", "FROM should use declared arguments only")
WORKDIR_RELATIVE_PATH: Final = Rule(
    "WorkdirRelativePath", "A relative WORKDIR without an absolute one before it depends on the base image"
)
UNDEFINED_VAR: Final = Rule("UndefinedVar", "Variables should be defined before they are used")
MULTIPLE_INSTRUCTIONS_DISALLOWED: Final = Rule(
    "MultipleInstructionsDisallowed", "Of several instructions of this kind in one stage only the last has an effect"
)
LEGACY_KEY_VALUE_FORMAT: Final = Rule("LegacyKeyValueFormat", "Pairs should be written with '=', not with a blank")
INVALID_BASE_IMAGE_PLATFORM: Final = Rule(
    "InvalidBaseImagePlatform", "The base image should be of the platform that is built for", has_page=False
)
REDUNDANT_TARGET_PLATFORM: Final = Rule(
    "RedundantTargetPlatform", "--platform=$TARGETPLATFORM is what FROM does without it"
)
SECRETS_USED_IN_ARG_OR_ENV: Final = Rule("SecretsUsedInArgOrEnv", "Secrets should not be in ARG or ENV")
INVALID_DEFAULT_ARG_IN_FROM: Final = Rule(
    "InvalidDefaultArgInFrom", "The defaults of arguments should make a valid base image name"
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED: Final = Rule(
    "FromPlatformFlagConstDisallowed", "--platform of FROM should not be a constant"
)
COPY_IGNORED_FILE: Final = Rule("CopyIgnoredFile", "A file that the ignore file leaves out cannot be copied")
INVALID_DEFINITION_DESCRIPTION: Final = Rule(
    "InvalidDefinitionDescription",
    "A comment right above a stage or an argument should begin with its name, or be parted from it by an empty comment",
    is_experimental=True,
)
EXPOSE_PROTO_CASING: Final = Rule("ExposeProtoCasing", "Protocols of EXPOSE should be in lower case")
EXPOSE_INVALID_FORMAT: Final = Rule("ExposeInvalidFormat", "EXPOSE should name neither a host's address nor its port")

#: Every check by name.
RULES: Final[dict[str, Rule]] = {rule.name: rule for rule in list(globals().values()) if isinstance(rule, Rule)}

# Source: BuildKit validations.go, getSecretsRegex.
_SECRET: Final = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET: Final = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


#: More findings than this help nobody; those that come later are not kept.
MAX_CHECK_FINDINGS: Final = 1_000


class Inspector:
    """Keeps the findings that count."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.findings: list[Finding] = []

    @property
    def is_full(self) -> bool:
        """Nothing more is kept."""
        return len(self.findings) >= MAX_CHECK_FINDINGS

    def report(
        self,
        rule: Rule,
        source: Source,
        message: str,
        comments: tuple[str, ...] = (),
        position: Position | None = None,
    ) -> None:
        """Adds a finding, unless the file, or a comment right above the instruction, skips its rule."""
        checks = merged(self._checks, comments) if comments else self._checks
        if rule.is_experimental:
            counts = checks.runs_all_experimental or rule.name in checks.experimental
        else:
            counts = not checks.skips_all and rule.name not in checks.skipped
        if counts and not self.is_full:
            where = position or source.start
            self.findings.append(
                Finding(rule.name, rule.description, rule.url, message, where, max(source.end_line, where.line))
            )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by its place in the file."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.position))


def names_secret(key: str) -> bool:
    """Whether a variable's name says that it holds a secret."""
    return _SECRET.search(key) is not None and _NO_SECRET.search(key) is None
