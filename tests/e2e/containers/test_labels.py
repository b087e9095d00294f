"""SELinux labels of containers, by a daemon that takes its host for one with SELinux: which they are, that they stay,
and what is labelled for them. What a label does shows only on a host that has it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt import errors
from fluyt.v1.types import container_pb2, mount_pb2, security_pb2
from fluytd.host import probe
from tests.e2e.builds.steps import build, context
from tests.e2e.containers.steps import (
    INVALID,
    WRONG_STATE,
    create,
    delete,
    get,
    refused,
    refused_run,
    start,
    wait,
)
from tests.support import image_files, images
from tests.support.engine import Engine

IMAGE = "busybox:1"
DISABLED = security_pb2.SecuritySpec(selinux_label="disable")
SHARED, PRIVATE = mount_pb2.RELABEL_SHARED, mount_pb2.RELABEL_PRIVATE

pytestmark = pytest.mark.skipif(probe.has_selinux(), reason="this host has SELinux, and need not be taken for one")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that finds a policy with the types of containers, under names of its own."""
    shown = tmp_path_factory.mktemp("selinux")
    (shown / "enforce").write_text("1")
    (shown / "context").touch()
    (shown / "config").write_text("SELINUXTYPE=mine\n")
    (shown / "mine" / "contexts").mkdir(parents=True)
    text = 'process = "us:ro:inside_t:s0"\nfile = "us:object_r:inside_file_t:s0"\nro_file = "us:object_r:layer_t:s0"\n'
    (shown / "mine" / "contexts" / "lxc_contexts").write_text(text)
    options = (f"--selinux-filesystem-path={shown}", f"--selinux-config-dir={shown}")
    with Engine(tmp_path_factory.mktemp("labelled"), options=options) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def labels_of(container: container_pb2.Container) -> tuple[str, str]:
    return container.selinux_labels.process, container.selinux_labels.mount


def label_of(path: Path) -> str:
    try:
        return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()
    except OSError:
        return ""


def bind(source: Path, relabel: Any = mount_pb2.RELABEL_UNSPECIFIED) -> mount_pb2.Mount:
    return mount_pb2.Mount(target="/t", bind=mount_pb2.BindMount(source=str(source), relabel=relabel))


def test_each_container_has_labels_of_its_own_from_its_creation_on(engine: Engine) -> None:
    made = [create(engine, "true") for _ in range(20)]
    levels = {labels_of(one)[0].removeprefix("us:ro:inside_t:s0:") for one in made}
    assert len(levels) == len(made)
    for one in made:
        level = labels_of(one)[0].removeprefix("us:ro:inside_t:")
        assert labels_of(one)[1] == f"us:object_r:inside_file_t:{level}"
    engine.kill()
    engine.start()
    # Recorded, and taken still.
    assert [labels_of(get(engine, one.id)) for one in made] == [labels_of(one) for one in made]
    for one in made:
        delete(engine, one.id)
    shared = create(engine, "true", namespaces=security_pb2.NamespacesSpec(ipc=_ipc("MODE_SHAREABLE")))
    joined = create(engine, "true", namespaces=security_pb2.NamespacesSpec(ipc=_ipc("MODE_CONTAINER", shared.id)))
    assert labels_of(joined) == labels_of(shared) != ("", "")
    part = security_pb2.SecuritySpec(selinux_options=["type:other_t", "level:s0:c1,c2"])
    asked = create(engine, "true", security=part)
    assert labels_of(asked) == ("us:ro:other_t:s0:c1,c2", "us:object_r:inside_file_t:s0:c1,c2")
    assert list(get(engine, asked.id).spec.security.selinux_options) == list(part.selinux_options)
    for one in (joined, shared, asked):
        delete(engine, one.id)


def _ipc(mode: str, container: str = "") -> security_pb2.NamespaceSpec:
    return security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.Mode.Value(mode), container=container)


def test_a_label_is_given_to_files_processes_and_steps_and_a_kernel_that_cannot_says_so(
    engine: Engine, tmp_path: Path
) -> None:
    refusal = refused_run(engine, "true")
    assert (refusal[:2], refusal[2]["step"]) == ((WRONG_STATE, "PROCESS_START_FAILED"), "root")
    assert "context" in refusal[2]["detail"]
    with pytest.raises(errors.FluytError, match="context"):
        build(engine, context(tmp_path, {"Dockerfile": f"FROM {IMAGE}\nRUN true\n"}))


@pytest.mark.parametrize(
    "spec",
    [
        {"security": DISABLED},
        {"security": security_pb2.SecuritySpec(privileged=True)},
        {"namespaces": security_pb2.NamespacesSpec(pid=_ipc("MODE_HOST"))},
        {"namespaces": security_pb2.NamespacesSpec(ipc=_ipc("MODE_HOST"))},
    ],
)
def test_who_is_without_a_label_runs(engine: Engine, spec: dict[str, Any]) -> None:
    container = create(engine, "true", **spec)
    assert not container.HasField("selinux_labels")
    start(engine, container.id)
    assert wait(engine, container.id).exit_code == 0
    delete(engine, container.id)


def test_what_is_bound_is_labelled_as_asked(engine: Engine, tmp_path: Path) -> None:
    places = {relabel: tmp_path / str(relabel) for relabel in (mount_pb2.RELABEL_UNSPECIFIED, SHARED, PRIVATE)}
    for relabel, place in places.items():
        place.mkdir()
        (place / "file").write_text("x")
        container = create(engine, "cat", "/t/file", security=DISABLED, mounts=[bind(place, relabel)])
        start(engine, container.id)
        assert wait(engine, container.id).exit_code == 0
        delete(engine, container.id)
    of_all = "us:object_r:inside_file_t:s0"
    assert [label_of(place / "file") for place in places.values()] == ["", of_all, f"{of_all}:c1022,c1023"]
    assert [label_of(place) for place in places.values()] == ["", of_all, f"{of_all}:c1022,c1023"]
    labelled = create(engine, "true", mounts=[bind(places[PRIVATE], PRIVATE)])
    refused(lambda: start(engine, labelled.id))
    assert label_of(places[PRIVATE] / "file") == labels_of(labelled)[1]
    delete(engine, labelled.id)


@pytest.mark.parametrize("place", ["/", "/etc", "/usr/bin", "/home"])
def test_what_the_host_needs_keeps_its_labels(engine: Engine, place: str) -> None:
    before = label_of(Path(place))
    container = create(engine, "true", security=DISABLED, mounts=[bind(Path(place), SHARED)])
    refusal = refused(lambda: start(engine, container.id))
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "spec.mounts[0].bind.relabel")
    assert label_of(Path(place)) == before
    delete(engine, container.id)


def test_without_selinux_nothing_is_labelled(container_engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    container = create(container_engine, "cat", "/t/file", mounts=[bind(tmp_path, PRIVATE)])
    assert not container.HasField("selinux_labels")
    start(container_engine, container.id)
    assert wait(container_engine, container.id).exit_code == 0
    assert [label_of(tmp_path), label_of(tmp_path / "file")] == ["", ""]
    delete(container_engine, container.id)
