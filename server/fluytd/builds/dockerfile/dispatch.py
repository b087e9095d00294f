"""One instruction at its place in a stage: the config it makes and the step it is. A function a kind of instruction."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypedDict, cast

from fluytd.builds.dockerfile import checks, config, limits
from fluytd.builds.dockerfile.checks import Rule, names_secret
from fluytd.builds.dockerfile.copy_steps import copy_step
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    KeyValue,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from fluytd.builds.dockerfile.ports import parse_ports
from fluytd.builds.dockerfile.run_steps import run_step
from fluytd.builds.dockerfile.scope import NOT_VARIABLES, Scope
from fluytd.builds.dockerfile.steps import Step, WorkdirStep
from fluytd.containers.signals import parse_signal
from fluytd.images.config import HealthCheck as ConfigHealthCheck

#: What one port of EXPOSE costs of a build's budget beside its line of history.
_PORT_CHARS: Final = 16


class Common(TypedDict):
    """The fields of every step."""

    instruction: Instruction
    title: str
    is_trigger: bool


def dispatch(scope: Scope, instruction: Instruction, *, is_trigger: bool) -> Step:
    """The step; `scope` is then that after the instruction. Raises Mistake, LIMIT_EXCEEDED."""
    title = scope.title(titled(instruction))
    common = Common(instruction=instruction, title=title, is_trigger=is_trigger)
    if isinstance(instruction, Run):
        return run_step(scope, instruction, is_trigger=is_trigger)
    if isinstance(instruction, Copy | Add):
        return copy_step(scope, instruction, title, is_trigger=is_trigger)
    if isinstance(instruction, Workdir):
        return _workdir(scope, instruction, common)
    lines = len(scope.config.history)
    _HANDLERS[type(instruction)](scope, instruction)
    return Step(**common, config=scope.config, has_history=len(scope.config.history) > lines)


def titled(instruction: Instruction) -> str:
    """The instruction's text with its keyword in upper case."""
    text = instruction.source.text.strip()
    return instruction.keyword.upper() + text[len(instruction.keyword) :]


def _workdir(scope: Scope, instruction: Workdir, common: Common) -> Step:
    path = scope.expand(instruction.path, instruction)
    if not scope.has_workdir and not path.startswith("/"):
        message = f'Relative workdir "{path}" can have unexpected results if the base image changes'
        scope.report(checks.WORKDIR_RELATIVE_PATH, instruction, message)
    scope.has_workdir = True
    directory = config.working_dir_below(scope.config.working_dir, path)
    scope.config = replace(scope.config, working_dir=directory)
    scope.commit(f"WORKDIR {directory}", has_layer=directory != "/")
    if directory == "/":
        return Step(**common, config=scope.config)
    return WorkdirStep(**common, config=scope.config, path=directory, user=scope.config.user)


def _env(scope: Scope, instruction: Env) -> None:
    pairs = _pairs(scope, instruction, instruction.pairs)
    for key, value in pairs:
        _report_secret(scope, "ENV", key, instruction)
        scope.set_variable(key, value)
    scope.config = config.with_env(scope.config, pairs)
    scope.commit(_assignments("ENV", pairs))


def _label(scope: Scope, instruction: Label) -> None:
    pairs = _pairs(scope, instruction, instruction.pairs)
    scope.config = config.with_labels(scope.config, dict(pairs))
    scope.commit(_assignments("LABEL", pairs))


def _pairs(scope: Scope, instruction: Instruction, pairs: tuple[KeyValue, ...]) -> list[tuple[str, str]]:
    """Every word sees the values from before the instruction."""
    found: list[tuple[str, str]] = []
    name = instruction.keyword.upper()
    for pair in pairs:
        key = scope.expand(pair.key, instruction)
        if not key or (name == "ENV" and "=" in key):
            raise Mistake(
                f"{pair.key!r} makes the name {key!r} in {name}", "use a name with characters, without '='", pair.key
            )
        if pair.is_legacy:
            shown = instruction.keyword
            message = f'"{shown} key=value" should be used instead of legacy "{shown} key value" format'
            scope.report(checks.LEGACY_KEY_VALUE_FORMAT, instruction, message)
        found.append((key, scope.expand(pair.value, instruction)))
    return found


def _assignments(name: str, pairs: list[tuple[str, str]]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in pairs)])


def _report_secret(scope: Scope, name: str, key: str, instruction: Instruction) -> None:
    if names_secret(key):
        message = f'Do not use ARG or ENV instructions for sensitive data ({name} "{key}")'
        scope.report(checks.SECRETS_USED_IN_ARG_OR_ENV, instruction, message)


def _arg(scope: Scope, instruction: Arg) -> None:
    """A build argument wins over the default, the default over the value above the first FROM."""
    shown: list[str] = []
    given, above = scope.plan.request.build_args, scope.plan.global_args
    for argument in instruction.arguments:
        key = argument.key
        _report_secret(scope, "ARG", key, instruction)
        scope.consumed.add(key)
        value: str | None
        if key in given:
            value = given[key]
        elif argument.default is not None:
            value = scope.expand(argument.default, instruction)
        else:
            value = above.get(key)
        if value is not None and key not in NOT_VARIABLES:
            scope.set_variable(key, value)
        scope.arguments[key] = value
        shown.append(key if value is None else f"{key}={value}")
    scope.commit("ARG " + " ".join(shown))


def _command(scope: Scope, instruction: Instruction, command: CommandLine) -> tuple[str, ...]:
    """The words of CMD or ENTRYPOINT; of each only the last in a stage counts."""
    _note_single(scope, instruction)
    if not command.is_shell:
        return command.words
    if not scope.config.shell:
        name = instruction.keyword
        message = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
        scope.report(checks.JSON_ARGS_RECOMMENDED, instruction, message)
    return (*config.shell_of(scope.config), " ".join(command.words))


def _note_single(scope: Scope, instruction: Instruction) -> None:
    name = instruction.keyword.upper()
    before = scope.last.get(name)
    if before is not None:
        shown = instruction.keyword
        message = (
            f"Multiple {shown} instructions should not be used in the same stage because only the last one will be used"
        )
        rule: Rule = checks.MULTIPLE_INSTRUCTIONS_DISALLOWED
        scope.report(rule, instruction, message, source=before.source)
    scope.last[name] = instruction


def _cmd(scope: Scope, instruction: Cmd) -> None:
    words = _command(scope, instruction, instruction.command)
    scope.has_cmd = True
    scope.config = replace(scope.config, cmd=words)
    scope.commit(f"CMD {config.quoted(words)}")


def _entrypoint(scope: Scope, instruction: Entrypoint) -> None:
    words = _command(scope, instruction, instruction.command)
    scope.config = config.with_entrypoint(scope.config, words, keeps_cmd=scope.has_cmd)
    scope.commit(f"ENTRYPOINT {config.quoted(words)}")


def _shell(scope: Scope, instruction: Shell) -> None:
    scope.config = replace(scope.config, shell=instruction.words)
    scope.commit(f"SHELL {config.listed(instruction.words)}")


def _health_check(scope: Scope, instruction: HealthCheck) -> None:
    _note_single(scope, instruction)
    check = ConfigHealthCheck(
        instruction.test,
        instruction.interval_nanos,
        instruction.timeout_nanos,
        instruction.start_period_nanos,
        instruction.start_interval_nanos,
        instruction.retries,
    )
    scope.config = replace(scope.config, health_check=check)
    scope.commit(f"HEALTHCHECK {config.health_text(check)}")


def _expose(scope: Scope, instruction: Expose) -> None:
    names: list[str] = []
    for word in instruction.ports:
        for text in scope.expand_words(word, instruction):
            ports = parse_ports(text)
            if ports.has_odd_case:
                message = f"Defined protocol '{text}' in EXPOSE instruction should be lowercase"
                scope.report(checks.EXPOSE_PROTO_CASING, instruction, message)
            if ports.names_host:
                message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
                scope.report(checks.EXPOSE_INVALID_FORMAT, instruction, message)
            names += ports.names
            limits.check("MAX_EXPOSED_PORTS", len(names), "the ports of one EXPOSE")
    scope.budget.spend(_PORT_CHARS * len(names))
    scope.config = config.with_ports(scope.config, names)
    scope.commit(f"EXPOSE {config.listed(names)}")


def _volume(scope: Scope, instruction: Volume) -> None:
    paths = [scope.expand(path, instruction) for path in instruction.paths]
    if not all(paths):
        raise Mistake(
            "a path of VOLUME is empty", "set its variables with ARG or ENV", instruction.paths[paths.index("")]
        )
    scope.config = config.with_volumes(scope.config, paths)
    scope.commit(f"VOLUME {config.listed(paths)}")


def _user(scope: Scope, instruction: User) -> None:
    user = scope.expand(instruction.user, instruction)
    scope.config = replace(scope.config, user=user)
    scope.commit(f"USER {user}")


def _stop_signal(scope: Scope, instruction: StopSignal) -> None:
    name = scope.expand(instruction.signal, instruction)
    if parse_signal(name) is None:
        raise Mistake(
            f"{name!r} is no signal", "write a name such as SIGTERM or a number from 1 to 64", instruction.signal
        )
    scope.config = replace(scope.config, stop_signal=name)
    scope.commit(f"STOPSIGNAL {name}")


def _maintainer(scope: Scope, instruction: Maintainer) -> None:
    scope.config = replace(scope.config, author=instruction.name)
    scope.commit(f"MAINTAINER {instruction.name}")


def _on_build(scope: Scope, instruction: OnBuild) -> None:
    scope.config = replace(scope.config, on_build=(*scope.config.on_build, instruction.trigger))


_Handler = Callable[[Scope, Instruction], None]
_HANDLERS: Final[dict[type[Instruction], _Handler]] = {
    Arg: cast(_Handler, _arg),
    Cmd: cast(_Handler, _cmd),
    Entrypoint: cast(_Handler, _entrypoint),
    Env: cast(_Handler, _env),
    Expose: cast(_Handler, _expose),
    HealthCheck: cast(_Handler, _health_check),
    Label: cast(_Handler, _label),
    Maintainer: cast(_Handler, _maintainer),
    OnBuild: cast(_Handler, _on_build),
    Shell: cast(_Handler, _shell),
    StopSignal: cast(_Handler, _stop_signal),
    User: cast(_Handler, _user),
    Volume: cast(_Handler, _volume),
}
