"""What a clone is told: the script of the step, its configuration, and what of a URL is secret. Pure.

Sources: git's documentation (git-config, git-fetch), ssh_config(5), and BuildKit source/git for what a ref means, for
the tokens GIT_AUTH_TOKEN and GIT_AUTH_HEADER, and for submodules.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from fluytd.errors import FieldInvalid

#: Bytes of a URL or ref.
MAX_GIT_URL_BYTES: Final = 8_192
#: Places inside the step.
OUTPUT: Final = "/fluyt/out"
CONFIG: Final = "/fluyt/git.config"
REPOSITORY: Final = "/fluyt/repository"
KNOWN_HOSTS: Final = "/fluyt/known_hosts"
AGENT: Final = "/fluyt/agent"

#: How git calls ssh: with the caller's agent and known hosts, and nothing of the host's own configuration or keys.
SSH_COMMAND: Final = (
    "ssh -F /dev/null -a -x -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no"
    f" -o UserKnownHostsFile={KNOWN_HOSTS} -o GlobalKnownHostsFile=/dev/null -o IdentityFile=none"
    " -o PreferredAuthentications=publickey -o PermitLocalCommand=no -o ConnectTimeout=30 -o LogLevel=ERROR"
)
#: The user of the step as ssh asks for it.
PASSWD: Final = "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"  # noqa: S105 - a line of a file

#: Programs, libraries, and what TLS and names need, of the host; none of it can be written, and none is secret.
HOST_PATHS: Final = (
    "/usr",
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
)

#: `$1` URL, `$2` ref, `$3` `keep` or `drop`, `$4` `with` or `without` submodules. A server without shallow clones is
#: asked for all of the ref, and all refs are looked through for an abbreviated commit. What `git` complains of is the
#: error's detail.
SCRIPT: Final = r"""
set -eu
umask 022
cd /fluyt/out
git init -q tree
cd tree
git remote add origin "$1"
fetch() { git fetch -q --no-tags --no-recurse-submodules "$@"; }
if fetch --depth=1 origin "$2" 2>../first || fetch origin "$2" 2>../second; then
    found=$(git rev-parse -q --verify 'FETCH_HEAD^{commit}')
else
    case $2 in
    *[!0-9a-f]*|?|??|???) cat ../first ../second >&2; exit 1 ;;
    esac
    fetch origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
    found=$(git rev-parse -q --verify "$2^{commit}") || { cat ../first >&2; exit 1; }
fi
git checkout -q --detach "$found"
if [ "$4" = with ] && [ -e .gitmodules ]; then
    modules() { git submodule -q update --init --recursive "$@"; }
    modules --depth=1 2>/dev/null || modules
fi
if [ "$3" = drop ]; then
    find . -name .git -prune -exec rm -rf {} +
fi
printf %s "$found" > ../commit
"""

_REF = re.compile(r"(?!.*\.\.)(?!.*@\{)[^\x00-\x20\x7f~^:?*\[\\+-][^\x00-\x20\x7f~^:?*\[\\]*")
_NETWORK = frozenset({"http", "https", "git"})
_PROTOCOLS: Final = ("http", "https", "git")
#: What begins with a dash would be an option of ssh or of the server's shell. Source: git connect.c.
_USER: Final = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
_HOST: Final = r"(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*"
_SCP = re.compile(rf"{_USER}@{_HOST}):(?P<path>[^-].*)")
_SSH = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?/(?P<path>[^-].*)")


@dataclass(frozen=True, slots=True)
class CloneStep:
    """How one repository is cloned."""

    #: Of the script.
    arguments: tuple[str, ...]
    #: Text of the configuration file; it may hold a secret.
    config: str
    #: A repository of the host that is shown to the step; empty for one that is reached by the network.
    host_path: str
    #: The repository as errors and the cache call it: without user, password and query.
    shown: str
    #: What no message may show.
    hidden: tuple[str, ...]
    #: The host that is reached by ssh; empty for none.
    ssh_host: str = ""


def clone_step(
    remote: str, ref: str, secrets: Mapping[str, bytes], *, keeps_git_dir: bool, with_submodules: bool
) -> CloneStep:
    """The step that clones `remote`.

    Args:
        secrets: of the build; GIT_AUTH_TOKEN and GIT_AUTH_HEADER, also with `.HOST` behind them, are sent to an
            http or https remote.

    Raises FIELD_INVALID for a URL or ref that git must not be given.
    """
    if len(remote.encode()) > MAX_GIT_URL_BYTES or len(ref.encode()) > MAX_GIT_URL_BYTES:
        raise FieldInvalid(field="git_url", rule=f"must have at most {MAX_GIT_URL_BYTES} bytes (MAX_GIT_URL_BYTES)")
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in remote):
        raise FieldInvalid(field="git_url", rule="must have no blanks and no control characters")
    if ref and _REF.fullmatch(ref) is None:
        raise FieldInvalid(field="git_url", rule="must name a branch, a tag, a ref or a commit after #")
    ssh_host = _ssh_host(remote)
    url, shown, header, host_path = (remote, remote, "", "") if ssh_host else _address(remote, secrets)
    # Submodules are fetched by ssh only where the repository itself is.
    protocols = ("file",) if host_path else (*_PROTOCOLS, "ssh") if ssh_host else _PROTOCOLS
    config = "".join(
        f"[{section}]\n\t{name} = {_quoted(value)}\n" for section, name, value in _settings(protocols, bool(header))
    )
    if header:
        config += f"[http {_quoted(shown)}]\n\textraHeader = {_quoted(f'Authorization: {header}')}\n"
    arguments = (url, ref or "HEAD", "keep" if keeps_git_dir else "drop", "with" if with_submodules else "without")
    hidden = tuple(secret for secret in (header, header.partition(" ")[2]) if secret)
    return CloneStep(arguments, config, host_path, shown, hidden, ssh_host)


def _ssh_host(remote: str) -> str:
    """The host of `user@host:path` or an ssh URL; empty for another address. Raises FIELD_INVALID for a bad one."""
    is_url = remote.startswith("ssh://")
    if not is_url and ("://" in remote or "@" not in remote.partition(":")[0]):
        return ""
    found = (_SSH if is_url else _SCP).fullmatch(remote)
    if found is None:
        rule = "must be USER@HOST:PATH or ssh://[USER@]HOST[:PORT]/PATH, without a password"
        raise FieldInvalid(field="git_url", rule=rule)
    return found["host"].strip("[]")


def _address(remote: str, secrets: Mapping[str, bytes]) -> tuple[str, str, str, str]:
    """What git is given, what is shown, the Authorization header, and a path of the host."""
    try:
        parts = urlsplit(remote)
        host = parts.hostname or ""
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        raise FieldInvalid(field="git_url", rule="must be the URL of a git repository") from None
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return f"file://{REPOSITORY}", f"file://{parts.path}", "", unquote(parts.path)
    if parts.scheme not in _NETWORK or not host:
        raise FieldInvalid(
            field="git_url", rule="must be http, https, git, ssh or file, with a host or an absolute path"
        )
    url = urlunsplit((parts.scheme, netloc, parts.path, "", ""))
    if parts.scheme == "git":
        return url, url, "", ""
    user = ":".join(unquote(part) for part in (parts.username or "", parts.password or ""))
    header = _basic(user) if user != ":" else _token_header(host, secrets)
    return url, url, header, ""


def _token_header(host: str, secrets: Mapping[str, bytes]) -> str:
    for name in (f"GIT_AUTH_HEADER.{host}", "GIT_AUTH_HEADER"):
        if name in secrets:
            return secrets[name].decode(errors="replace").strip()
    for name in (f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_TOKEN"):
        if name in secrets:
            return _basic(f"x-access-token:{secrets[name].decode(errors='replace').strip()}")
    return ""


def _basic(user: str) -> str:
    return f"basic {base64.b64encode(user.encode()).decode()}"


def _settings(protocols: tuple[str, ...], has_header: bool) -> list[tuple[str, str, str]]:
    return [
        # No program that the repository names, and none of the host's choosing.
        ("core", "hooksPath", "/dev/null"),
        ("core", "askPass", "/bin/false"),
        ("core", "fsmonitor", "false"),
        ("credential", "helper", ""),
        ("init", "templateDir", ""),
        ("init", "defaultBranch", "main"),
        ("advice", "detachedHead", "false"),
        ("gc", "auto", "0"),
        ("fetch", "fsckObjects", "true"),
        ("safe", "directory", "*"),
        ("protocol", "allow", "never"),
        *((f'protocol "{name}"', "allow", "always") for name in protocols),
        # Once it was sent elsewhere, git sends the header there too.
        ("http", "followRedirects", "false" if has_header else "initial"),
    ]


def _quoted(value: str) -> str:
    """A value as git-config(1) reads it. Raises FIELD_INVALID for one that no line can hold."""
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
        raise FieldInvalid(field="secrets", rule="must have no line feed in a token or header for git")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def host_key_complaint(output: str) -> str:
    """What ssh says of a host's key that it does not take; empty if that is not what it complains of."""
    if "Host key verification failed" not in output:
        return ""
    changed = "REMOTE HOST IDENTIFICATION HAS CHANGED" in output
    return "the host has another key than the known one" if changed else "no key of the host is known"


def without(text: str, hidden: tuple[str, ...]) -> str:
    """The text without what must not be shown."""
    for secret in hidden:
        text = text.replace(secret, "***")
    return text
