"""What holds at one place of a stage: the config so far, the variables, the arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from fluytd.builds.dockerfile import checks, config, limits
from fluytd.builds.dockerfile.checks import Inspector, Rule
from fluytd.builds.dockerfile.mistakes import Mistake, perhaps
from fluytd.builds.dockerfile.model import Instruction
from fluytd.builds.dockerfile.source import Source
from fluytd.builds.dockerfile.steps import Plan
from fluytd.builds.dockerfile.words import Expanded, Style, expand
from fluytd.errors import LimitExceeded
from fluytd.images.config import ImageConfig
from fluytd.images.platforms import Platform

#: Arguments that steer the builder and are no variables of the stage.
NOT_VARIABLES: Final = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
#: Arguments that every RUN has without a declaration, in either case. Source: Docker's reference, Predefined ARGs.
PROXY_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_BODY_STYLE: Final = Style(ignores_quotes=True, limit="MAX_HEREDOC_EXPANSION_CHARS")
#: As much of an instruction is shown while it runs.
_MAX_TITLE_CHARS: Final = 1_024


@dataclass(slots=True)
class Budget:
    """How much text the expansions of one build may still make."""

    spent: int = 0

    def spend(self, chars: int) -> None:
        """Counts more text. Raises LIMIT_EXCEEDED (MAX_BUILD_EXPANSION_CHARS)."""
        self.spent += chars
        limits.check("MAX_BUILD_EXPANSION_CHARS", self.spent, "what the Dockerfile's variables expand to")


@dataclass(slots=True)
class Scope:
    """The state of one stage."""

    plan: Plan
    index: int
    #: As people see it in messages.
    stage_name: str
    platform: Platform
    inspector: Inspector
    budget: Budget
    config: ImageConfig
    #: What words see, and what RUN gets: the config's environment and the arguments, the later one wins.
    variables: dict[str, str]
    variables_chars: int = 0
    #: Declared arguments; None for one without a value.
    arguments: dict[str, str | None] = field(default_factory=dict)
    has_workdir: bool = False
    has_cmd: bool = False
    #: Where CMD, ENTRYPOINT and HEALTHCHECK stood last in this stage.
    last: dict[str, Instruction] = field(default_factory=dict)
    #: Declared somewhere in the stages that were resolved.
    consumed: set[str] = field(default_factory=set)

    @property
    def escape(self) -> str:
        """The file's escape character."""
        return self.plan.parsed.directives.escape

    def expand(self, word: str, instruction: Instruction) -> str:
        """A word with variables put in; unknown ones are reported. Raises Mistake, LIMIT_EXCEEDED."""
        return self._expand(word, instruction, Style(escape=self.escape)).text

    def expand_words(self, word: str, instruction: Instruction) -> tuple[str, ...]:
        """The same, parted at blanks."""
        return self._expand(word, instruction, Style(escape=self.escape)).words

    def expand_body(self, text: str, instruction: Instruction) -> str:
        """The body of a here-document: quotes are characters like others, and the escape is always a backslash."""
        return self._expand(text, instruction, _BODY_STYLE).text

    def _expand(self, word: str, instruction: Instruction, style: Style) -> Expanded:
        found = expand(word, self.variables, style)
        self.budget.spend(len(found.text))
        unknown = () if self.inspector.is_full else found.unmatched - set(self.arguments) - NOT_VARIABLES
        for name in sorted(unknown):
            message = f"Usage of undefined variable '${name}'{perhaps(name, self.variables, '$')}"
            self.report(checks.UNDEFINED_VAR, instruction, message)
        return found

    def title(self, text: str, hidden: Mapping[str, str] | None = None) -> str:
        """Text for progress: variables that are set put in, all else as written. Never fails for what is written."""
        return shown(text, {**self.variables, **(hidden or {})}, self.escape)

    def report(self, rule: Rule, instruction: Instruction, message: str, source: Source | None = None) -> None:
        """A finding about an instruction."""
        self.inspector.report(rule, source or instruction.source, message, instruction.comments)

    def set_variable(self, key: str, value: str) -> None:
        """A variable for what follows. Raises LIMIT_EXCEEDED (MAX_STAGE_ENV_CHARS)."""
        if key in self.variables:
            self.variables_chars -= len(key) + len(self.variables[key]) + 2
        self.variables_chars += len(key) + len(value) + 2
        limits.check("MAX_STAGE_ENV_CHARS", self.variables_chars, f"the variables of stage {self.stage_name}")
        self.variables[key] = value

    def commit(self, created_by: str, *, has_layer: bool = False) -> None:
        """A line of history."""
        self.budget.spend(len(created_by))
        self.config = config.with_history(self.config, created_by, has_layer=has_layer)

    def child(self, index: int, stage_name: str, consumed: set[str]) -> "Scope":
        """Where a stage begins that stands on this finished one: its arguments are in scope too."""
        return replace(
            self,
            index=index,
            stage_name=stage_name,
            config=config.begin_stage(self.config),
            variables=dict(self.variables),
            arguments=dict(self.arguments),
            has_cmd=False,
            last={},
            consumed=consumed,
        )


def shown(text: str, variables: Mapping[str, str], escape: str) -> str:
    """Text with the variables put in that are set; as it is where it cannot be read as words. Cut to a bound."""
    text = text[:_MAX_TITLE_CHARS]
    style = Style(escape=escape, keeps_quotes=True, keeps_escapes=True, keeps_unset=True)
    try:
        return expand(text, variables, style).text[:_MAX_TITLE_CHARS]
    except (Mistake, LimitExceeded):
        return text
