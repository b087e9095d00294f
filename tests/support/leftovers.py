"""What of an engine stands on the host that nothing owns: mounts, cgroups, processes, files open and on disk, rows.

It looks from outside: at /proc, at the cgroup file systems, at the engine's directories, and asks the API what there
is to own things. It changes nothing.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fluyt import builds
from fluyt.v1 import containers_pb2, images_pb2, operations_pb2, volumes_pb2
from fluyt.v1.types import container_pb2, operation_pb2
from fluytd.containers.waiting import MAX_WAITING
from tests.support.engine import Engine
from tests.support.sizes import files_below

#: Most skeletons that wait below `prepared/`. Source: fluytd/containers/skeletons.py, READY_SKELETONS.
MAX_PREPARED = 8
#: Supervisors that wait for starts without a network of the engine's. Source: fluytd/containers/supervisor.py.
READY_SUPERVISORS = 4
#: All that wait at most, those with an interface besides. Source: fluytd/containers/waiting.py.
MAX_IDLE_SUPERVISORS = READY_SUPERVISORS + MAX_WAITING
SUPERVISOR = "fluyt-supervisor"
#: Argument of a supervisor that has no container yet. Source: rust_core/control/src/ready.rs.
IDLE_ARGUMENT = "-" * 64
#: States in which a container has processes, control groups and a run directory.
LIVE = frozenset(
    {
        container_pb2.Container.STATE_STARTING,
        container_pb2.Container.STATE_RUNNING,
        container_pb2.Container.STATE_PAUSED,
        container_pb2.Container.STATE_STOPPING,
    }
)


@dataclass(frozen=True)
class Process:
    """One process of the host as /proc shows it."""

    pid: int
    parent: int
    arguments: tuple[str, ...]
    #: Its lines of /proc/<pid>/cgroup.
    groups: str

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a supervisor, idle or not."""
        return self.arguments[:1] == (SUPERVISOR,)

    @property
    def is_idle(self) -> bool:
        """Whether it is a supervisor that has no container."""
        return self.arguments[:2] == (SUPERVISOR, IDLE_ARGUMENT)

    def holds_below(self, directory: Path) -> list[str]:
        """The files below `directory` that it has open; none once it has ended."""
        try:
            return [name for name in _links(Path("/proc", str(self.pid), "fd")) if name.startswith(f"{directory}/")]
        except (FileNotFoundError, ProcessLookupError):
            return []


def nothing_unowned(engine: Engine, *, is_resumable: bool = False) -> list[str]:
    """A line for each thing that nothing owns; empty when all is in order. The daemon serves.

    Args:
        is_resumable: partial blobs and whole staged ones, and whole staged layers, are no concern: the next attempt
            finds them by their digests, or they are swept when it does not come (setting `ingest_max_age_seconds`).

    What goes a moment after the call that gave it up (a removed container's files, the run of one that has just
    ended) is listed until it has gone: wait for the empty list.
    """
    containers = list_containers(engine)
    live = {container.id for container in containers if container.state in LIVE}
    return [
        *_mounts(engine),
        *_unowned("cgroup", _groups(engine), live),
        *_processes(engine, {container.id: container for container in containers if container.id in live}),
        *_unowned("run directory", _names(engine.root / "run" / "containers"), live),
        *_unowned("directory", _names(engine.root / "data" / "containers"), {one.id for one in containers}),
        *_unowned("volume", _names(engine.root / "data" / "volumes"), _volumes(engine)),
        *_places(engine),
        *_stores(engine, is_resumable=is_resumable),
        *_operations(engine),
        *_held_files(engine, {container.id for container in containers}),
    ]


def nothing_left_of_stopped(engine: Engine) -> list[str]:
    """A line for each thing that a daemon left behind that ended in order, while containers run on."""
    data = engine.root / "data"
    return [
        *(f"prepared: {name}" for name in _names(data / "prepared")),
        *(f"removed: {name}" for name in _names(data / "removed")),
        *(f"idle supervisor of a daemon that has ended: {process}" for process in _abandoned()),
        *_rows(data / "state.db"),
    ]


def list_containers(engine: Engine) -> list[container_pb2.Container]:
    """All containers, in whatever state."""
    answer = engine.containers.ListContainers(containers_pb2.ListContainersRequest())
    assert not answer.next_page_token
    return list(answer.containers)


def _volumes(engine: Engine) -> set[str]:
    """Names of the directories of all volumes."""
    answer = engine.volumes.ListVolumes(volumes_pb2.ListVolumesRequest(page_size=1_000))
    assert not answer.next_page_token
    return {Path(volume.mountpoint).parent.name for volume in answer.volumes}


def list_images(engine: Engine) -> list[images_pb2.Image]:
    """All images."""
    answer = engine.images.ListImages(images_pb2.ListImagesRequest(page_size=1_000))
    assert not answer.next_page_token
    return list(answer.images)


def processes_of(engine: Engine) -> list[Process]:
    """Supervisors of this engine, also the idle ones of its daemon, and all processes of its containers."""
    found: dict[int, Process] = {}
    for process in all_processes():
        is_ours = (
            f"/{engine.cgroup_parent}/" in process.groups
            or (process.is_supervisor and process.parent == engine.process.pid)
            or (process.is_supervisor and process.holds_below(engine.root))
            or process.parent in found
        )
        if is_ours and process.pid != engine.process.pid:
            found[process.pid] = process
    return list(found.values())


def idle_supervisors(found: Iterable[Process]) -> set[int]:
    """Those of the processes that wait for starts. One that waits for a container with users of its own has a child
    that keeps the user namespace for it."""
    waiting = {process.pid: process.parent for process in found if process.is_idle}
    return {pid for pid, parent in waiting.items() if parent not in waiting}


def all_processes() -> Iterator[Process]:
    """Every process of the host, lowest pid first."""
    for pid in sorted(int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()):
        found = process_of(pid)
        if found is not None:
            yield found


def process_of(pid: int) -> Process | None:
    """One process; None if it has gone or is dead and not reaped."""
    root = Path("/proc", str(pid))
    try:
        # Behind the name in parentheses, which may hold anything: state, parent.
        state, parent = (root / "stat").read_text().rpartition(")")[2].split()[:2]
        if state in "ZX":
            return None
        arguments = tuple((root / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
        groups = (root / "cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(parent), arguments, groups)


def _links(directory: Path) -> Iterator[str]:
    for entry in os.scandir(directory):
        try:
            yield str(Path(entry.path).readlink())
        except FileNotFoundError:
            continue  # closed since the directory was read


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _unowned(what: str, found: Iterable[str], owned: set[str]) -> list[str]:
    return [f"{what}: {name}" for name in found if Path(name).name not in owned]


def _mounts(engine: Engine) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount: {line}" for line in lines if str(engine.root) in line]


def _groups(engine: Engine) -> list[str]:
    # Hierarchies stand at one level or (v2 alone) are the mount itself.
    parents = [*Path("/sys/fs/cgroup").glob(f"*/{engine.cgroup_parent}"), Path("/sys/fs/cgroup", engine.cgroup_parent)]
    return [str(group) for parent in parents if parent.is_dir() for group in parent.iterdir() if group.is_dir()]


def _processes(engine: Engine, live: dict[str, container_pb2.Container]) -> Iterator[str]:
    found = processes_of(engine)
    supervisors = [process for process in found if process.is_supervisor and not process.is_idle]
    owned = {process.pid for process in supervisors if set(process.arguments[1:2]) <= live.keys()}
    if (count := len(idle_supervisors(found))) > MAX_IDLE_SUPERVISORS:
        yield f"{count} idle supervisors"
    for process in found:
        is_of_live = any(f"/{engine.cgroup_parent}/{name}" in process.groups for name in live)
        if process.pid not in owned and not process.is_idle and not is_of_live:
            yield f"process: {process}"
    by_container = [process.arguments[1] for process in supervisors if process.pid in owned]
    for name, container in live.items():
        if by_container.count(name) != 1:
            yield f"container {name} has {by_container.count(name)} supervisors"
        if process_of(container.host_pid) is None:
            yield f"container {name} has no process {container.host_pid}"
    yield from (f"idle supervisor of a daemon that has ended: {process}" for process in _abandoned())


def _abandoned() -> list[Process]:
    # A supervisor without a container is its daemon's child, and ends with it. One whose daemon has ended is adopted by
    # the nearest ancestor that adopts (pid 1 or a subreaper), which is one of this process too.
    ancestors, pid = {1}, os.getpid()
    while (process := process_of(pid)) is not None and process.parent not in ancestors:
        ancestors.add(process.parent)
        pid = process.parent
    return [process for process in all_processes() if process.is_idle and process.parent in ancestors]


def _places(engine: Engine) -> Iterator[str]:
    data = engine.root / "data"
    yield from (f"removed: {name}" for name in _names(data / "removed"))
    yield from (f"of a build's step: {name}" for name in _names(data / "build_scratch"))
    yield from (f"secret: {name}" for name in _names(engine.root / "run" / "builds"))
    for place in ("ingest", "layers"):
        yield from (f"repair: {place}/{name}" for name in _names(data / "repair" / place))
    prepared = sorted((data / "prepared").iterdir())
    if len(prepared) > MAX_PREPARED:
        yield f"{len(prepared)} prepared directories"
    for skeleton in prepared:
        for path, size in files_below(skeleton):
            if size:
                yield f"a prepared directory that is not empty: {path}"


def _stores(engine: Engine, *, is_resumable: bool) -> Iterator[str]:
    """Blobs and layers that no image needs, and those that an image needs and has not."""
    data = engine.root / "data"
    blobs: set[str] = set()
    layers: set[str] = set()
    manifests = set()
    visible = set(_names(data / "layers"))
    for image in list_images(engine):
        manifests.add(image.manifest.digest)
        documents = {}
        for digest in (image.manifest.digest, image.id):
            documents[digest] = _blob(data, digest)
            if documents[digest] is None:
                yield f"image {image.id} lacks its blob {digest}"
        manifest, config = documents[image.manifest.digest], documents[image.id]
        if manifest is None or config is None:
            continue
        blobs |= {image.manifest.digest, image.id}
        for layer in json.loads(manifest)["layers"]:
            blobs.add(layer["digest"])
            if _blob(data, layer["digest"]) is None:
                yield f"image {image.id} lacks its blob {layer['digest']}"
        for names in _layer_ids(json.loads(config)["rootfs"]["diff_ids"]):
            found = visible & names
            layers |= found
            if not found:
                yield f"image {image.id} lacks a layer of {names}"
    for record in builds.list_cache(engine.channel):
        if record.layer_digest:
            blobs.add(record.layer_digest)
            ids = {record.diff_id.removeprefix("sha256:"), f"chain-{record.chain_id.removeprefix('sha256:')}"}
            layers |= visible & ids
            if not visible & ids or _blob(data, record.layer_digest) is None:
                yield f"the cache record {record.id} lacks its layer or blob"
    hexes = {digest.removeprefix("sha256:") for digest in blobs}
    yield from (f"blob: {path}" for path in (data / "content" / "blobs").glob("*/*") if path.name not in hexes)
    resumable = {
        name
        for name in visible
        if is_resumable and name.startswith(".staged-") and (data / "layers" / name / "meta.json").exists()
    }
    yield from (f"layer: {name}" for name in sorted(visible - layers - resumable))
    if not is_resumable:
        yield from (f"ingest: {name}" for name in _names(data / "ingest"))
    index = json.loads((data / "content" / "index.json").read_text())
    named = {entry["digest"] for entry in index["manifests"]}
    if named != manifests:
        yield f"index.json names {named}, the images are {manifests}"
    extra = set(_names(data / "content")) - {"blobs", "index.json", "oci-layout"}
    yield from (f"content: {name}" for name in sorted(extra))


def _blob(data: Path, digest: str) -> bytes | None:
    """A visible blob; None if it is absent or is not what its name says."""
    path = data / "content" / "blobs" / digest.replace(":", "/")
    if not path.exists():
        return None
    content = path.read_bytes()
    return content if f"sha256:{hashlib.sha256(content).hexdigest()}" == digest else None


def _layer_ids(diff_ids: list[str]) -> Iterator[set[str]]:
    """For each layer the ids by which it may stand: its own, or that of the stack up to it."""
    chain = ""
    for diff_id in diff_ids:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}" if chain else diff_id
        yield {diff_id.removeprefix("sha256:"), f"chain-{chain.removeprefix('sha256:')}"}


def _operations(engine: Engine) -> list[str]:
    listed = engine.operations.ListOperations(operations_pb2.ListOperationsRequest())
    running = operation_pb2.Operation.STATE_RUNNING
    return [f"operation: {one.id} {one.subject}" for one in listed.operations if one.state == running]


def _held_files(engine: Engine, containers: set[str]) -> Iterator[str]:
    """What the daemon has open of archives that were received, and of containers that are no more."""
    daemon = process_of(engine.process.pid)
    if daemon is None:
        return
    yield from (f"file held open: {name}" for name in daemon.holds_below(engine.root / "data" / "ingest"))
    for place in (engine.root / "data" / "containers", engine.root / "run" / "containers"):
        for name in daemon.holds_below(place):
            if Path(name).relative_to(place).parts[0] not in containers:
                yield f"file held open: {name}"


def _rows(path: Path) -> Iterator[str]:
    """What is wrong between the rows of a database that no daemon has open."""
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as database:
        yield from (f"state.db: {row}" for row in database.execute("PRAGMA foreign_key_check"))
        yield from (f"state.db: {row[0]}" for row in database.execute("PRAGMA integrity_check") if row[0] != "ok")
        yield from (f"request without an answer: {row[0]}" for row in database.execute(_UNANSWERED))
        yield from (f"session of no container: {row[0]}" for row in database.execute(_WITHOUT_CONTAINER))
        yield from (f"operation that runs: {row[0]}" for row in database.execute(_RUNNING))


_UNANSWERED = "SELECT request_id FROM request_ids WHERE response IS NULL"
_WITHOUT_CONTAINER = "SELECT id FROM execs WHERE container_id NOT IN (SELECT id FROM containers)"
_RUNNING = "SELECT id FROM operations WHERE state = 'RUNNING'"
