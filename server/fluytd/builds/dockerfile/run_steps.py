"""RUN at its place in a stage: the command, its environment, its mounts. Source: BuildKit dispatchRun."""

from posixpath import basename
from typing import Final

from fluytd.builds.dockerfile import config
from fluytd.builds.dockerfile.heredocs import find_heredoc
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Heredoc, Run
from fluytd.builds.dockerfile.mounts import MountOptions, parse_mount
from fluytd.builds.dockerfile.origins import (
    BindMount,
    BuildContext,
    CacheMount,
    InlineSource,
    Mount,
    Origin,
    Scratch,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from fluytd.builds.dockerfile.references import origin_of
from fluytd.builds.dockerfile.scope import PROXY_NAMES, Scope
from fluytd.builds.dockerfile.steps import RunStep
from fluytd.builds.dockerfile.text import clean_path, join_paths, strip

#: Where the file of a here-document with an interpreter stands. Source: BuildKit dispatchRun.
SCRIPT_DIRECTORY: Final = "/dev/pipes"
_SECRET_DIRECTORY: Final = "/run/secrets"  # noqa: S105 - a folder
_MASK: Final = "****"


def run_step(scope: Scope, instruction: Run, *, is_trigger: bool) -> RunStep:
    """The step. Raises Mistake, LIMIT_EXCEEDED."""
    mounts = tuple(_mounts(scope, instruction))
    words, script, summary = _words(instruction)
    argv = (*config.shell_of(scope.config), *words) if instruction.command.is_shell else words
    arguments = {key: scope.variables.get(key, value or "") for key, value in scope.arguments.items()}
    env = tuple(f"{key}={value}" for key, value in scope.variables.items())
    scope.budget.spend(scope.variables_chars)
    masks = {mount.env: _MASK for mount in mounts if isinstance(mount, SecretMount) and mount.env}
    text = strip(instruction.source.text)[len(instruction.keyword) :]
    title = scope.title(f"{instruction.keyword.upper()}{text}{summary}", masks)
    scope.commit(config.run_text(argv, arguments), has_layer=True)
    return RunStep(
        instruction=instruction,
        title=title,
        is_trigger=is_trigger,
        config=scope.config,
        argv=argv,
        env=env,
        proxy_env=tuple(_proxies(scope)),
        working_dir=scope.config.working_dir or "/",
        user=scope.config.user,
        mounts=mounts,
        network=instruction.network,
        security=instruction.security,
        devices=instruction.devices,
        script=script,
    )


def _words(instruction: Run) -> tuple[tuple[str, ...], InlineSource | None, str]:
    """The command's words without the shell, a file that must be there for them, and what progress shows of it."""
    command = instruction.command
    if not command.heredocs:
        return command.words, None, ""
    first = command.heredocs[0]
    summary = f" ({_summary(first.content)})"
    if find_heredoc(command.words[0]) is None:
        # The shell gets the here-documents as they stand.
        bodies = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in command.heredocs)
        return (command.words[0] + bodies,), None, ""
    if not first.body.startswith("#!"):
        return (first.body,), None, summary
    return (f"{SCRIPT_DIRECTORY}/{_file_name(first)}",), InlineSource(first.name, first.body), summary


def _file_name(heredoc: Heredoc) -> str:
    if "/" in heredoc.name or heredoc.name in {".", ".."}:
        raise Mistake(
            f"the here-document {heredoc.name!r} cannot name a file", "use a delimiter without '/'", heredoc.name
        )
    return heredoc.name


def _summary(content: str) -> str:
    first, *others = content.strip().splitlines() or [""]
    return first + ("..." if others else "")


def _proxies(scope: Scope) -> list[str]:
    """The proxy arguments of the request, each in both spellings; of two spellings the lower one wins."""
    found: dict[str, str] = {}
    for key, value in sorted(scope.plan.request.build_args.items()):
        if key.upper() in PROXY_NAMES:
            found[key.upper()] = value
    return [f"{name}={value}" for key, value in found.items() if value for name in (key, key.lower())]


def _mounts(scope: Scope, instruction: Run) -> list[Mount]:
    found: list[Mount] = []
    for text in instruction.mounts:
        options = parse_mount(text, lambda value: scope.expand(value, instruction))
        found.append(_mount(scope, options, text))
    return found


def _mount(scope: Scope, options: MountOptions, text: str) -> Mount:
    if options.kind == "secret":
        return _secret(scope, options, text)
    if options.kind == "ssh":
        target = _target(scope, options.target, text) if options.target else None
        mode = 0o600 if options.mode is None else options.mode
        return SshMount(
            options.id or "default", target, options.is_required, mode, options.uid or 0, options.gid or 0
        )  # fmt: skip
    target = _target(scope, options.target, text)
    if options.kind == "tmpfs":
        return TmpfsMount(target, options.size_bytes)
    source = join_paths("/", options.source)
    if options.kind == "bind":
        origin: Origin = BuildContext() if not options.from_ else _origin(scope, options.from_)
        return BindMount(origin, source, target, options.is_read_only is not False)
    return CacheMount(
        id=options.id or clean_path(options.target),
        target=target,
        origin=Scratch(scope.platform) if not options.from_ else _origin(scope, options.from_),
        source=source,
        sharing=options.sharing or "shared",
        is_read_only=bool(options.is_read_only),
        mode=0o755 if options.mode is None else options.mode,
        uid=options.uid or 0,
        gid=options.gid or 0,
    )


def _origin(scope: Scope, name: str) -> Origin:
    return origin_of(scope.plan, scope.index, name, may_be_number=False)


def _target(scope: Scope, target: str, text: str) -> str:
    found = join_paths("/", target) if target.startswith("/") else join_paths("/", scope.config.working_dir, target)
    if found == "/":
        raise Mistake("a mount cannot stand at /", "write target=/PATH", text)
    return found


def _secret(scope: Scope, options: MountOptions, text: str) -> SecretMount:
    name = options.source or options.id or basename(options.target)
    if not name:
        raise Mistake("a secret has no name", "write id=NAME", text)
    target: str | None = None
    if options.target:
        target = _target(scope, options.target, text)
    elif options.env is None:
        target = f"{_SECRET_DIRECTORY}/{basename(name.rstrip('/')) or name}"
    return SecretMount(
        id=name,
        target=target,
        env=name if options.env == "" else options.env,
        is_required=options.is_required,
        mode=0o400 if options.mode is None else options.mode,
        uid=options.uid or 0,
        gid=options.gid or 0,
    )
