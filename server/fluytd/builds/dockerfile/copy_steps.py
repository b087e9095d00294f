"""COPY and ADD at their place in a stage: what is copied, from where, to where. Source: BuildKit dispatchCopy."""

import re
from collections.abc import Sequence
from posixpath import basename
from urllib.parse import urlsplit

from fluytd.builds.dockerfile import checks
from fluytd.builds.dockerfile.chmod import check_mode
from fluytd.builds.dockerfile.git import GitAddress, parse_git
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Add, Copy
from fluytd.builds.dockerfile.origins import (
    BuildContext,
    FileSource,
    GitSource,
    HttpSource,
    InlineSource,
    Origin,
    PathSource,
)
from fluytd.builds.dockerfile.references import copy_origin_name, origin_of
from fluytd.builds.dockerfile.scope import Scope
from fluytd.builds.dockerfile.steps import CopyStep
from fluytd.builds.dockerfile.text import clean_path, join_paths

_URL = ("http://", "https://")
_UNNAMED = "__unnamed__"
_PIVOT = "/./"
_SHA256 = re.compile(r"sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
_COMMIT = re.compile(r"[0-9a-f]{1,64}")


def copy_step(scope: Scope, instruction: Copy | Add, title: str, *, is_trigger: bool) -> CopyStep:
    """The step. Raises Mistake, LIMIT_EXCEEDED."""
    name = "ADD" if isinstance(instruction, Add) else "COPY"
    chown = scope.expand(instruction.chown, instruction)
    chmod = scope.expand(instruction.chmod, instruction)
    if chmod:
        check_mode(chmod)
    checksum = scope.expand(instruction.checksum, instruction) if isinstance(instruction, Add) else ""
    paths = [scope.expand(source, instruction) for source in instruction.sources]
    destination = scope.expand(instruction.destination, instruction)
    sources = _sources(instruction, paths, checksum)
    origin = _origin(scope, instruction)
    if origin == BuildContext():
        _report_ignored(scope, instruction, name.title(), sources, paths)
    for heredoc in instruction.heredocs:
        body = scope.expand_body(heredoc.body, instruction) if heredoc.is_expanded else heredoc.body
        sources.append(InlineSource(heredoc.name, body))
    keeps_parents = isinstance(instruction, Copy) and instruction.keeps_parents
    words = [name]
    words += ["--parents"] if keeps_parents else []
    words += [f"--chown={chown}"] if chown else []
    words += [f"--chmod={chmod}"] if chmod else []
    words += [*paths, *(f"<<{heredoc.name}" for heredoc in instruction.heredocs), destination]
    scope.commit(" ".join(words) + " # buildkit", has_layer=True)
    unpack = instruction.unpack if isinstance(instruction, Add) else False
    return CopyStep(
        instruction=instruction,
        title=title,
        is_trigger=is_trigger,
        config=scope.config,
        origin=origin,
        sources=tuple(sources),
        destination=_absolute(scope, destination),
        chown=chown,
        chmod=chmod,
        is_linked=instruction.is_linked,
        keeps_parents=keeps_parents,
        exclude=instruction.exclude,
        unpacks_local=isinstance(instruction, Add) and unpack is not False,
        unpacks_remote=bool(unpack),
    )


def _report_ignored(
    scope: Scope, instruction: Copy | Add, name: str, sources: Sequence[FileSource], paths: Sequence[str]
) -> None:
    hides_source = scope.plan.request.hides_source
    for source, path in zip(sources, paths, strict=False):
        if hides_source is not None and isinstance(source, PathSource) and hides_source(path):
            message = f'Attempting to {name} file "{clean_path(path)}" that is excluded by .dockerignore'
            scope.report(checks.COPY_IGNORED_FILE, instruction, message)


def _origin(scope: Scope, instruction: Copy | Add) -> Origin:
    name = copy_origin_name(scope.plan, instruction) if isinstance(instruction, Copy) else ""
    return origin_of(scope.plan, scope.index, name, may_be_number=True) if name else BuildContext()


def _absolute(scope: Scope, path: str) -> str:
    """Below the working directory; a `/` at the end is kept, and stands for `/.`, `.` and nothing."""
    joined = join_paths("/", path) if path.startswith("/") else join_paths("/", scope.config.working_dir, path)
    means_directory = path in {"", "."} or path.endswith(("/", "/."))
    return joined + "/" if means_directory and joined != "/" else joined


def _sources(instruction: Copy | Add, paths: list[str], checksum: str) -> list[FileSource]:
    addresses = [parse_git(path) for path in paths]
    if checksum:
        _check_checksum(paths, addresses, checksum)
    found: list[FileSource] = []
    for path, address in zip(paths, addresses, strict=True):
        if address is None and not path.startswith(_URL):
            found.append(_path(path, keeps_parents=isinstance(instruction, Copy) and instruction.keeps_parents))
        elif isinstance(instruction, Copy):
            kind = "a URL" if address is None else "a git repository"
            raise Mistake(f"COPY takes no source that is {kind}: {path}", "use ADD", path)
        elif address is None:
            name = basename(urlsplit(path).path.rstrip("/")) if _is_url(path) else ""
            found.append(HttpSource(path, name or _UNNAMED, checksum))
        else:
            found.append(_git(instruction, address, checksum, path))
    return found


def _is_url(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True


def _check_checksum(paths: list[str], addresses: list[GitAddress | None], checksum: str) -> None:
    if len(paths) != 1:
        raise Mistake("--checksum is for one source, not several", "write an ADD for each source", "--checksum")
    if addresses[0] is not None:
        if _COMMIT.fullmatch(checksum) is None:
            raise Mistake(f"{checksum!r} is no commit", "write the commit's hexadecimal digits", "--checksum")
    elif not paths[0].startswith(_URL):
        raise Mistake("--checksum is for URLs and git repositories", "remove it for a local file", "--checksum")
    elif _SHA256.fullmatch(checksum) is None:
        raise Mistake(f"{checksum!r} is no digest", "write sha256: and 64 hexadecimal digits", "--checksum")


def _git(instruction: Add, address: GitAddress, checksum: str, text: str) -> GitSource:
    keeps = [flag for flag in (instruction.keep_git_dir, address.keeps_git_dir) if flag is not None]
    if len(set(keeps)) > 1:
        raise Mistake("--keep-git-dir and the address do not agree", "keep one of them", text)
    if checksum and address.checksum and checksum != address.checksum:
        raise Mistake("--checksum and the commit of the address do not agree", "keep one of them", text)
    return GitSource(
        remote=address.remote,
        ref=address.ref,
        subdir=address.subdir,
        checksum=checksum or address.checksum,
        keeps_git_dir=bool(keeps and keeps[0]),
        with_submodules=address.with_submodules is not False,
    )


def _path(path: str, *, keeps_parents: bool) -> PathSource:
    if not keeps_parents:
        return PathSource(join_paths("/", path), is_required=not _has_wildcard(path))
    before, pivot, after = path.partition(_PIVOT)
    base, pattern = (before, after) if pivot else ("/", path)
    return PathSource(
        join_paths("/", base),
        join_paths("/", pattern)[1:],
        is_required=not _has_wildcard(path),
    )


def _has_wildcard(path: str) -> bool:
    """Whether the path holds a wildcard that no backslash takes away."""
    return re.search(r"(?<!\\)(?:\\\\)*[*?\[]", path) is not None
