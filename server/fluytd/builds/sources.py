"""What builds read from elsewhere: repositories that `git` clones in a confined step, and files fetched by HTTP.

D/build_scratch/<id>-git    `tree` and `commit`, written by the step alone, read once it has ended
D/build_scratch/<id>-http   one file
R/builds/<id>-git           the configuration of a clone, which may hold a token; below the run root, gone with the step
R/builds/<id>-<name>        for git over ssh: known hosts, a line of passwd, and the folder of the agent's socket

The step is a container as that of a RUN is: seccomp, no capability, no privilege to gain; of the host it sees programs
and certificates, read only, and the network. Its users are the host's, as not every file system of a host can show its
programs with other owners: nobody, or root with the default capabilities where a repository of the host is read.
Nothing of what came is trusted: it is read beneath its own root.
"""

import asyncio
import os
import re
import secrets as randomness
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.builds.agent_sockets import AgentSocket, served
from fluytd.builds.agents import DEFAULT_AGENT, AgentSession
from fluytd.builds.dockerfile.origins import GitSource, HttpSource
from fluytd.builds.executor import Command, Executor
from fluytd.builds.git_step import (
    AGENT,
    CONFIG,
    HOST_PATHS,
    KNOWN_HOSTS,
    OUTPUT,
    PASSWD,
    REPOSITORY,
    SCRIPT,
    SSH_COMMAND,
    CloneStep,
    clone_step,
    host_key_complaint,
    without,
)
from fluytd.builds.model import BuildRequest
from fluytd.builds.ports import Downloads, FileTree, Trees
from fluytd.containers.spec import BindSpec, NetworkMode, NetworkSpec, ResourcesSpec, RlimitSpec, SecuritySpec
from fluytd.errors import (
    BuildAgentMissing,
    BuildHostKeyUnknown,
    BuildSourceChanged,
    BuildSourceUnavailable,
    EngineError,
    FieldInvalid,
    IoFailed,
    LimitExceeded,
    ProgramMissing,
)
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Proxies
from fluytd.workers import Workers

#: Bytes of a clone, objects and work tree together; looked at while it grows.
MAX_GIT_BYTES: Final = 4 * 1024**3
#: Entries of a clone, likewise.
MAX_GIT_ENTRIES: Final = 1_000_000
#: How long a clone may take.
MAX_GIT_SECONDS: Final = 600
#: Bytes of one download. Source: what a layer of a registry may have.
MAX_DOWNLOAD_BYTES: Final = 8 * 1024**3
#: Memory and processes of a clone.
_GIT_MEMORY_BYTES: Final = 2 * 1024**3
_GIT_PIDS: Final = 256
#: Of what git complains, in an error.
_DETAIL_CHARS: Final = 1_000
_OUTPUT_BYTES: Final = 16 * 1024
_MAX_NAME_BYTES: Final = 255
#: Nobody: no more than any user of the host could do.
_NOBODY: Final = 65534
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA1_DIGITS: Final = 40
_FILE_MODE: Final = 0o600
_REGISTRY_FAILURES: Final = ("REGISTRY_", "REFERENCE_INVALID")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came."""

    tree: FileTree
    #: What stands for it in a cache key where its files do not: empty, the files do.
    identity: str = ""
    #: What it is, for provenance: a URI without secrets, and the commit or digest as (algorithm, hex).
    uri: str = ""
    digest: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class SourceTools:
    """What sources are fetched with; one for the daemon."""

    executor: Executor
    downloads: Downloads
    trees: Trees
    workers: Workers
    #: Below the data root, and below the run root.
    scratch: Path
    private: Path
    remove_tree: Callable[[str], None]
    proxies: Proxies


class BuildSources:
    """The sources of one build, each fetched once. Belongs to the event loop."""

    def __init__(
        self,
        tools: SourceTools,
        undo: AsyncExitStack,
        request: BuildRequest,
        agents: AgentSession | None,
        handle: OperationHandle,
    ) -> None:
        """What is fetched goes with `undo`. `request`: its secrets and known hosts are used."""
        self._tools = tools
        self._undo = undo
        self._secrets = request.secrets
        self._known_hosts = request.known_hosts
        self._agents = agents
        self._handle = handle
        self._fetched: dict[GitSource | HttpSource, Fetched] = {}
        self._locks: dict[GitSource | HttpSource, asyncio.Lock] = {}

    async def get(self, source: GitSource | HttpSource) -> Fetched:
        """What the source is now; the same for the whole build.

        Raises BUILD_SOURCE_UNAVAILABLE, BUILD_SOURCE_CHANGED, BUILD_SOURCE_NOT_FOUND (a sub-folder), FIELD_INVALID,
        LIMIT_EXCEEDED, PROGRAM_MISSING, STORAGE_FULL, IO_FAILED, CANCELLED; for git over ssh BUILD_AGENT_MISSING,
        BUILD_AGENT_GONE, BUILD_HOST_KEY_UNKNOWN.
        """
        async with self._locks.setdefault(source, asyncio.Lock()):
            found = self._fetched.get(source)
            if found is None:
                fetch = self._git(source) if isinstance(source, GitSource) else self._http(source)
                found = self._fetched[source] = await fetch
            return found

    @property
    def fetched(self) -> list[Fetched]:
        """All that was fetched so far."""
        return list(self._fetched.values())

    async def _room(self, kind: str, owner: int) -> Path:
        path = self._tools.scratch / f"{randomness.token_hex(16)}-{kind}"
        self._undo.push_async_callback(self._tools.workers.run_transfer, self._tools.remove_tree, str(path))
        failpoints.hit("build.source.fetch")
        await self._tools.workers.run(_make_directory, path, owner)
        return path

    async def _http(self, source: HttpSource) -> Fetched:
        name = source.filename
        if name in {".", ".."} or len(os.fsencode(name)) > _MAX_NAME_BYTES or "\0" in name:
            raise FieldInvalid(field="ADD", rule="must name a URL whose last part can be a file's name")
        room = await self._room("http", 0)
        path = room / name
        shown = _without_query(source.url)
        try:
            _, digest, modified = await self._tools.downloads.download(
                source.url, str(path), ("MAX_DOWNLOAD_BYTES", MAX_DOWNLOAD_BYTES), self._handle.cancel_token
            )
        except EngineError as error:
            if error.failure.reason.startswith(_REGISTRY_FAILURES):
                raise BuildSourceUnavailable(source=shown, detail=str(error)[:_DETAIL_CHARS]) from error
            raise
        if source.checksum and source.checksum != digest:
            raise BuildSourceChanged(source=shown, expected=source.checksum, actual=digest)
        await self._tools.workers.run(_give_file, path, modified or 0)
        tree = await self._tools.trees.of_directory(str(room), shown, "")
        algorithm, _, value = digest.partition(":")
        return Fetched(tree, uri=shown, digest=(algorithm, value))

    async def _git(self, source: GitSource) -> Fetched:
        step = clone_step(
            source.remote,
            source.ref or source.checksum,
            self._secrets,
            keeps_git_dir=source.keeps_git_dir,
            with_submodules=source.with_submodules,
        )
        if await self._tools.workers.run(shutil.which, "git") is None:
            raise ProgramMissing(program="git", purpose="a build reads a git repository")
        if step.ssh_host:
            await self._check_ssh()
        if step.host_path:
            await self._tools.workers.run(_check_repository, step.host_path, step.shown)
        owner = 0 if step.host_path else _NOBODY
        room = await self._room("git", owner)
        await self._clone(step, room, owner)
        commit = await self._tools.workers.run(_read_commit, room / "commit", step.shown)
        if source.checksum and not commit.startswith(source.checksum):
            raise BuildSourceChanged(source=step.shown, expected=source.checksum, actual=commit)
        tree = await self._tools.trees.of_directory(str(room / "tree"), step.shown, source.subdir)
        # Files of .git are other ones each time; the commit is what they hold.
        parts = (step.shown, commit, source.subdir, str(source.with_submodules)) if source.keeps_git_dir else ()
        ref = "#".join(part for part in (step.shown, source.ref) if part)
        algorithm = "sha1" if len(commit) == _SHA1_DIGITS else "sha256"
        return Fetched(tree, self._tools.trees.key_of(parts) if parts else "", ref, (algorithm, commit))

    async def _check_ssh(self) -> None:
        if await self._tools.workers.run(shutil.which, "ssh") is None:
            raise ProgramMissing(program="ssh", purpose="a build reads a git repository over ssh")
        if self._agents is None or DEFAULT_AGENT not in self._agents.ids:
            raise BuildAgentMissing(id=DEFAULT_AGENT, purpose="git over ssh needs")

    async def _clone(self, step: CloneStep, room: Path, owner: int) -> None:
        tools = self._tools
        executor = tools.executor
        room_id = executor.new_room()
        config = tools.private / f"{room_id}-git"
        output = bytearray()
        over: list[EngineError] = []

        def write(_stream: str, _time: int, data: bytes) -> None:
            output.extend(data)
            del output[:-_OUTPUT_BYTES]

        agent: AgentSocket | None = None
        async with AsyncExitStack() as undo:
            files = {config: step.config.encode()}
            known_hosts, passwd = (tools.private / f"{room_id}-{name}" for name in ("known_hosts", "passwd"))
            if step.ssh_host:
                files |= {known_hosts: self._known_hosts, passwd: PASSWD.encode()}
            for path, content in files.items():
                undo.push_async_callback(tools.workers.run, tools.remove_tree, str(path))
                await tools.workers.run(_write_private, path, content, owner)
            command = await tools.workers.run(_command, step, room, config, owner, tools.proxies)
            if step.ssh_host and self._agents is not None:
                place = tools.private / f"{room_id}-agent"
                given = (_FILE_MODE, owner, owner)
                agent = await undo.enter_async_context(
                    served(self._agents, DEFAULT_AGENT, place, given, tools.workers, tools.remove_tree)
                )
                command = _with_ssh(command, known_hosts, passwd, agent.path)
            watching = asyncio.ensure_future(_watched(tools, room, room_id, step.shown, over))
            undo.callback(watching.cancel)
            async with executor.ran(room_id, command, write, self._handle) as (ending, _):
                code = ending.status.shell_code
        if over:
            raise over[0]
        if code != 0 and agent is not None:
            complaint = host_key_complaint(output.decode(errors="replace"))
            if complaint:
                raise BuildHostKeyUnknown(host=step.ssh_host, detail=complaint)
            if agent.fault is not None:
                raise agent.fault
        if code != 0:
            detail = without(output.decode(errors="replace"), step.hidden)
            raise BuildSourceUnavailable(source=step.shown, detail=_one_line(detail) or f"git ended with {code}")
        # It may have ended before it was looked at for the last time.
        size_bytes, count = await tools.workers.run_transfer(_measured, str(room))
        error = _beyond(size_bytes, count, 0, step.shown)
        if error is not None:
            raise error


def _with_ssh(command: Command, known_hosts: Path, passwd: Path, agent: Path) -> Command:
    """The command with what ssh needs."""
    shown = ((KNOWN_HOSTS, known_hosts), ("/etc/passwd", passwd), (AGENT, agent))
    binds = (BindSpec(target, str(path), read_only=True) for target, path in shown)
    env = (f"GIT_SSH_COMMAND={SSH_COMMAND}", f"SSH_AUTH_SOCK={AGENT}")
    return replace(command, env=(*command.env, *env), binds=(*command.binds, *binds))


def _command(step: CloneStep, room: Path, config: Path, owner: int, proxies: Proxies) -> Command:
    binds = [BindSpec(path, os.path.realpath(path), read_only=True) for path in HOST_PATHS if Path(path).exists()]
    binds += [BindSpec(OUTPUT, str(room)), BindSpec(CONFIG, str(config), read_only=True)]
    if step.host_path:
        binds.append(BindSpec(REPOSITORY, os.path.realpath(step.host_path), read_only=True))
    env = [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"HOME={OUTPUT}",
        "LC_ALL=C",
        f"GIT_CONFIG_GLOBAL={CONFIG}",
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_TERMINAL_PROMPT=0",
        "GIT_LFS_SKIP_SMUDGE=1",
    ]
    given = (("http_proxy", proxies.http), ("https_proxy", proxies.https), ("no_proxy", proxies.excepted))
    env += [f"{name}={value}" for name, value in given if value]
    return Command(
        argv=("/bin/sh", "-c", SCRIPT, "clone", *step.arguments),
        env=tuple(env),
        working_dir="/",
        user=f"{owner}:{owner}",
        layer_ids=(),
        # As every fetch of the engine: by the host's own network, or none where the repository is here.
        network=NetworkSpec(NetworkMode.NONE if step.host_path else NetworkMode.HOST),
        binds=tuple(binds),
        resources=ResourcesSpec(memory_limit_bytes=_GIT_MEMORY_BYTES, pids_limit=_GIT_PIDS),
        rlimits=(RlimitSpec("fsize", MAX_GIT_BYTES, MAX_GIT_BYTES),),
        security=SecuritySpec(no_new_privileges=True, drop_capabilities=() if step.host_path else ("ALL",)),
    )


async def _watched(tools: SourceTools, room: Path, room_id: str, shown: str, over: list[EngineError]) -> None:
    """Ends the clone once it is too large or takes too long, and says so in `over`."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not over:
        await asyncio.sleep(1)
        begun = loop.time()
        size_bytes, count = await tools.workers.run_transfer(_measured, str(room))
        error = _beyond(size_bytes, count, int(begun - start), shown)
        if error is not None:
            over.append(error)
            break
        # Counting takes a tenth of the time at most.
        await asyncio.sleep(10 * (loop.time() - begun))
    while True:
        await tools.executor.kill(room_id)
        await asyncio.sleep(1)


def _beyond(size_bytes: int, count: int, seconds: int, shown: str) -> EngineError | None:
    """What a clone has too much of."""
    limits = {
        "MAX_GIT_BYTES": (MAX_GIT_BYTES, size_bytes),
        "MAX_GIT_ENTRIES": (MAX_GIT_ENTRIES, count),
        "MAX_GIT_SECONDS": (MAX_GIT_SECONDS, seconds),
    }
    for limit, (value, actual) in limits.items():
        if actual > value:
            return LimitExceeded(limit=limit, limit_value=value, actual=actual, subject=shown)
    return None


def _measured(path: str) -> tuple[int, int]:
    """Bytes and entries; of what goes meanwhile nothing is counted."""
    size_bytes = count = 0
    for _, _, files, fd in os.fwalk(path):
        for name in files:
            count += 1
            try:
                size_bytes += os.lstat(name, dir_fd=fd).st_blocks * 512
            except FileNotFoundError:
                continue
        count += 1
    return size_bytes, count


def _make_directory(path: Path, owner: int) -> None:
    try:
        path.mkdir(mode=0o700)
        os.chown(path, owner, owner)
    except OSError as error:
        raise IoFailed(operation="mkdir", path=str(path), errno=error.errno) from error


def _write_private(path: Path, content: bytes, owner: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            os.fchown(fd, owner, owner)
    except OSError as error:
        raise IoFailed(operation="write", path=str(path), errno=error.errno) from error


def _give_file(path: Path, seconds: int) -> None:
    """The file has the mode and time that ADD gives it (case B11). Source: BuildKit source/http."""
    try:
        path.chmod(_FILE_MODE)
        os.utime(path, (seconds, seconds))
    except OSError as error:
        raise IoFailed(operation="utimensat", path=str(path), errno=error.errno) from error


def _check_repository(path: str, shown: str) -> None:
    if not Path(path).is_dir():
        raise BuildSourceUnavailable(source=shown, detail="the engine's host has no such directory")


def _read_commit(path: Path, shown: str) -> str:
    """What the step wrote; the directory was its own to write, so that nothing is followed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(fd, 65).decode(errors="replace")
        finally:
            os.close(fd)
    except OSError as error:
        raise IoFailed(operation="open", path=str(path), errno=error.errno) from error
    if _COMMIT.fullmatch(text) is None:
        raise BuildSourceUnavailable(source=shown, detail="the clone named no commit")
    return text


def _without_query(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0].partition('#')[0]}"


def _one_line(text: str) -> str:
    lines = (
        " ".join("".join(char if char.isprintable() else " " for char in line).split()) for line in text.split("\n")
    )
    return "; ".join(line for line in lines if line)[-_DETAIL_CHARS:]
