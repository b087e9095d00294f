"""The daemon is killed while it gives a host's directory its SELinux label: the record of the start stands, and the
next start gives the label to all of it.

The attribute is kept by every kernel for root. The daemon is shown a host with SELinux whose policy knows no types of
containers, so that those that run here have no label, and label what they mount all the same.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_spec_pb2, mount_pb2
from tests.recovery.crash import (
    BYSTANDER,
    CALL_SECONDS,
    COUNT,
    IMAGE,
    CrashedEngine,
    Scenario,
    crash,
    delete,
    die_at,
    end_in_order,
    find,
    nothing,
    start_ready,
    wait_for_end,
)
from tests.support import image_files, images
from tests.support.preloaded_fluytd import Preloaded

NAME = "half"
LABEL = b"system_u:object_r:container_file_t:s0"
ENTRIES = ("", "a", "d", "d/b", "d/c", "link")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded, registry: str) -> Iterator[CrashedEngine]:
    """An engine that takes its host for one with SELinux, with the bystander."""
    shown = tmp_path_factory.mktemp("selinux")
    (shown / "enforce").write_text("1")
    options = (f"--selinux-filesystem-path={shown}", f"--selinux-config-dir={shown}")
    with CrashedEngine(tmp_path_factory.mktemp("labels"), preloaded, registry, options=options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        start_ready(running, BYSTANDER, COUNT)
        yield running
        if running.process.poll() is not None:
            running.start()


def tree(engine: CrashedEngine) -> Path:
    """What is mounted."""
    return engine.root.parent / "shown to a container"


def label_of(path: Path) -> bytes | None:
    """Its label, None without one."""
    try:
        return os.getxattr(path, "security.selinux", follow_symlinks=False).rstrip(b"\0")
    except OSError:
        return None


def make_tree(engine: CrashedEngine) -> None:
    """The tree is there, without labels."""
    root = tree(engine)
    (root / "d").mkdir(parents=True, exist_ok=True)
    for name in ("a", "d/b", "d/c"):
        (root / name).unlink(missing_ok=True)
        (root / name).write_text("x")
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("/etc/passwd")
    for name in ENTRIES:
        if label_of(root / name) is not None:
            os.removexattr(root / name, "security.selinux", follow_symlinks=False)
    assert labels(engine) == [None] * len(ENTRIES)


def labels(engine: CrashedEngine) -> list[bytes | None]:
    """Of all its entries, its own first."""
    return [label_of(tree(engine) / name) for name in ENTRIES]


def run(engine: CrashedEngine) -> None:
    """CreateContainer and StartContainer of one that mounts the tree as shared."""
    bind = mount_pb2.BindMount(source=str(tree(engine)), relabel=mount_pb2.RELABEL_SHARED)
    spec = container_spec_pb2.ContainerSpec(
        image=IMAGE, args=["cat", "/t/d/b"], mounts=[mount_pb2.Mount(target="/t", bind=bind)]
    )
    request = containers_pb2.CreateContainerRequest(spec=spec, name=NAME)
    engine.containers.CreateContainer(request, timeout=CALL_SECONDS)
    start(engine)


def start(engine: CrashedEngine) -> None:
    """StartContainer."""
    engine.containers.StartContainer(containers_pb2.StartContainerRequest(container=NAME), timeout=CALL_SECONDS)


def whole(engine: CrashedEngine) -> None:
    """The tree as a whole is not taken for labelled; after the next start all of it is, and no link was followed."""
    assert labels(engine)[0] is None
    assert find(engine, NAME) is not None
    start(engine)
    ended = wait_for_end(engine, NAME)
    assert (ended.exit_code, engine.logs(NAME)) == (0, b"x"), ended
    assert labels(engine) == [LABEL] * len(ENTRIES)
    assert label_of(Path("/etc/passwd")) != LABEL
    delete(engine, NAME)


LABELLING = Scenario(run, whole, make_tree)
#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {"container.start.relabel": LABELLING}
#: Of a daemon that comes up: see the last test.
OF_LAYERS = "layer.label"
#: Failpoints of the core in the daemon: among the entries, and before the root.
CORE_SCENARIOS = {"host.relabel.entry": LABELLING, "host.relabel.entry:4": LABELLING, "host.relabel.root": LABELLING}


@pytest.mark.needs("root")
@pytest.mark.parametrize(("failpoint", "scenario"), (SCENARIOS | CORE_SCENARIOS).items())
def test_a_tree_that_was_labelled_in_part_is_labelled_whole_by_the_next_start(
    engine: CrashedEngine, failpoint: str, scenario: Scenario
) -> None:
    crash(engine, failpoint, scenario)


@pytest.mark.needs("root")
@pytest.mark.parametrize("failpoint", [OF_LAYERS, f"{OF_LAYERS}:2", "host.relabel.entry:2", "host.relabel.root"])
def test_layers_that_were_labelled_in_part_are_labelled_whole_by_the_next_daemon(
    tmp_path: Path, preloaded: Preloaded, registry: str, failpoint: str
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    for name in ("enforce", "context"):
        (shown / name).write_text("")
    options = (f"--selinux-filesystem-path={shown}", f"--selinux-config-dir={shown}", "--layer-store=directory")
    layers = tmp_path / "engine" / "data" / "layers"
    (tmp_path / "engine").mkdir()
    with CrashedEngine(tmp_path / "engine", preloaded, registry, options=options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        end_in_order(running)
        for path in (layers, *layers.rglob("*")):
            if label_of(path) is not None:
                os.removexattr(path, "security.selinux", follow_symlinks=False)
        die_at(running, failpoint, nothing)
        assert label_of(layers) is None or failpoint == f"{OF_LAYERS}:2"
        running.start()
        found = {label_of(path) for path in (layers, *layers.rglob("*"))}
        assert found == {b"system_u:object_r:container_ro_file_t:s0"}
        assert len([*layers.rglob("busybox")]) == 1
