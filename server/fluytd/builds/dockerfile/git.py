"""Addresses of git repositories as builds write them. It reaches none of them.

Source: BuildKit frontend/dockerfile/dfgitutil and util/gitutil.
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.text import join_paths, parse_bool

_SCHEME = re.compile(r"[a-zA-Z0-9]+://")
_SCHEMES = frozenset({"http", "https", "ssh", "git"})
_SCP = re.compile(r"([a-zA-Z0-9_-]+)@([a-zA-Z0-9.-]+):(.*?)(?:\?(.*?))?(?:#(.*))?")
_FLAGS = frozenset({"submodules", "keep-git-dir", "fetch-by-commit"})
_COMMIT = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A repository, and what of it is wanted."""

    #: What git itself is given: no query, no fragment.
    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keeps_git_dir: bool | None = None
    with_submodules: bool | None = None
    #: `checksum` is fetched as it is; nothing compares it with what `ref` points to.
    fetches_commit: bool = False


def parse_git(text: str) -> GitAddress | None:
    """The address, or None if the text is none: a path, or a URL of a file. Raises Mistake for bad options."""
    if text.startswith(("./", "../")):
        return None
    scheme = _SCHEME.match(text)
    if scheme is None:
        found = _SCP.fullmatch(text)
        if found is None:
            return None
        user, host, path, query, fragment = found.groups()
        return _with_options(f"{user}@{host}:{path}", query or "", fragment or "", text)
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.netloc:
        return None
    if parts.scheme in {"http", "https"} and not parts.path.endswith(".git"):
        return None
    remote = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return _with_options(remote, parts.query, parts.fragment, text)


def parse_git_context(text: str) -> GitAddress:
    """The address of a context, which is a repository whatever its path ends in, and may be a `file` URL of the
    engine's host. Raises Mistake for what is none."""
    found = parse_git(text)
    if found is not None:
        return found
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https", "file"} or (parts.scheme == "file" and parts.netloc):
        raise Mistake("must be the URL of a git repository", "write https://HOST/PATH.git", text)
    remote = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return _with_options(
        f"file://{parts.path}" if parts.scheme == "file" else remote, parts.query, parts.fragment, text
    )


def _with_options(remote: str, query: str, fragment: str, text: str) -> GitAddress:
    ref, _, subdir = fragment.partition(":")
    address = GitAddress(remote, ref, join_paths("/", subdir).lstrip("/"))
    options: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in options:
            raise Mistake(f"{key} stands twice in {text!r}", "keep one of them", text)
        options[key] = value
    refs = {address.ref} if address.ref else set()
    for key, value in options.items():
        if not value and key not in _FLAGS:
            raise Mistake(f"{key} has no value in {text!r}", f"write {key}=VALUE", text)
        if key in {"ref", "tag", "branch"}:
            refs.add(_full_ref(key, value))
        elif key == "subdir":
            if address.subdir not in {"", value}:
                raise Mistake(f"{text!r} names two folders", "keep one of them", text)
            address = replace(address, subdir=join_paths("/", value).lstrip("/"))
        elif key in {"checksum", "commit"}:
            if _COMMIT.fullmatch(value) is None:
                raise Mistake(f"{value!r} is no commit", "write the commit's hexadecimal digits", text)
            address = replace(address, checksum=value)
        elif key in _FLAGS:
            address = _flagged(address, key, value, text)
        elif key != "mtime" or value not in {"checkout", "commit"}:
            raise Mistake(
                f"{key}={value} is no option of a git address",
                "use ref, tag, branch, subdir, commit, keep-git-dir, submodules or fetch-by-commit",
                text,
            )
    if len(refs) > 1:
        raise Mistake(f"{text!r} names several refs", "keep one of them", text)
    return replace(address, ref=next(iter(refs), ""))


def _full_ref(key: str, value: str) -> str:
    prefix = {"ref": "", "tag": "refs/tags/", "branch": "refs/heads/"}[key]
    return value if value.startswith(prefix) else prefix + value


def _flagged(address: GitAddress, key: str, value: str, text: str) -> GitAddress:
    flag = parse_bool(value) if value else True
    if flag is None:
        raise Mistake(f"{key} is true or false, not {value!r}", f"write {key}=true", text)
    if key == "submodules":
        return replace(address, with_submodules=flag)
    if key == "keep-git-dir":
        return replace(address, keeps_git_dir=flag)
    return replace(address, fetches_commit=flag)
