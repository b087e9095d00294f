"""What labels keep a container from, in a machine whose kernel has SELinux and whose policy is that of `policy.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1.types import container_pb2, mount_pb2, security_pb2
from tests.e2e.builds.steps import build, context
from tests.e2e.builds.steps import shell as in_image
from tests.e2e.containers.steps import create, delete, read_logs, refused_run, start, text, wait
from tests.e2e.execs.steps import run as exec_in
from tests.e2e.selinux import policy
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

IMAGE = "busybox:1"
SHARED, PRIVATE = mount_pb2.RELABEL_SHARED, mount_pb2.RELABEL_PRIVATE
LABEL = "cat /proc/self/attr/current | tr -d '\\0'; echo"

pytestmark = pytest.mark.needs("selinux-machine", "checkpolicy")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine in a domain that may everything, with SELinux in force."""
    shown = tmp_path_factory.mktemp("policy")
    policy.load(shown)
    contexts = shown / "tests" / "contexts"
    contexts.mkdir(parents=True)
    (shown / "config").write_text("SELINUXTYPE=tests\n")
    (contexts / "lxc_contexts").write_text(
        f'process = "{policy.PROCESS}:s0"\nfile = "{policy.FILE}:s0"\nro_file = "{policy.LAYERS}:s0"\n'
    )
    with Engine(tmp_path_factory.mktemp("labelled"), options=[f"--selinux-config-dir={shown}"]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def run(engine: Engine, script: str, **spec: Any) -> tuple[str, container_pb2.Container]:
    """What a script printed on both streams, and the container, which is gone."""
    container = create(engine, "sh", "-c", f"{{ {script}\n}} 2>&1", **spec)
    start(engine, container.id)
    wait(engine, container.id, timeout=240)
    output = text(read_logs(engine, container.id)[0]).decode()
    delete(engine, container.id)
    return output, container


def bound(source: Path, relabel: Any = mount_pb2.RELABEL_UNSPECIFIED, target: str = "/t") -> mount_pb2.Mount:
    return mount_pb2.Mount(target=target, bind=mount_pb2.BindMount(source=str(source), relabel=relabel))


def test_every_process_has_the_label_and_every_file_system_its_own(engine: Engine) -> None:
    tmpfs = mount_pb2.Mount(target="/m", tmpfs=mount_pb2.TmpfsMount())
    container = create(engine, "sh", "-c", f"{LABEL}; exec sleep 1000", mounts=[tmpfs])
    start(engine, container.id)
    until_now(lambda: b"\n" in text(read_logs(engine, container.id)[0]), "it writes its label")
    label = container.selinux_labels.process
    assert label.startswith(f"{policy.PROCESS}:s0:c")
    for privileged in (False, True):
        assert exec_in(engine, container.id, "sh", "-c", LABEL, privileged=privileged).out.decode() == f"{label}\n"
    mounts = exec_in(engine, container.id, "cat", "/proc/self/mounts").out.decode().splitlines()
    labelled = {line.split(" ")[1] for line in mounts if container.selinux_labels.mount in line}
    assert {"/", "/dev", "/dev/shm", "/dev/pts", "/m"} <= labelled, mounts
    assert not {"/proc", "/sys", "/sys/fs/cgroup"} & labelled
    works = "echo x >/f && echo x >/m/f && echo x >/dev/shm/f && echo x >/dev/null && cat /f /m/f /dev/shm/f"
    assert exec_in(engine, container.id, "sh", "-c", works).out == b"x\nx\nx\n"
    assert text(read_logs(engine, container.id)[0]).decode() == f"{label}\n"
    delete(engine, container.id, force=True)


def test_what_is_not_labelled_cannot_be_read_until_it_is(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shown")
    read = "cat /t/file; echo more >>/t/new; echo"
    denied, _ = run(engine, read, mounts=[bound(tmp_path)])
    assert denied.count("Permission denied") == 2
    assert not (tmp_path / "new").exists()
    allowed, _ = run(engine, read, mounts=[bound(tmp_path, SHARED)])
    assert "shown" in allowed
    assert "denied" not in allowed
    # It stays so, for others too.
    again, _ = run(engine, "cat /t/file /t/new", mounts=[bound(tmp_path)])
    assert again == "shownmore\n"


def test_what_is_one_containers_another_cannot_read(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    first, _ = run(engine, "cat /t/file; echo of one >/t/written", mounts=[bound(tmp_path, PRIVATE)])
    assert first == "mine"
    for place in ("file", "written"):
        other, _ = run(engine, f"cat /t/{place}", mounts=[bound(tmp_path)])
        assert "Permission denied" in other
    shared, _ = run(engine, "cat /t/file /t/written", mounts=[bound(tmp_path, SHARED)])
    assert shared == "mineof one\n"


def test_a_volume_is_for_all_who_name_it_and_the_files_about_names_are_readable(engine: Engine) -> None:
    volume = mount_pb2.Mount(target="/v", volume=mount_pb2.VolumeMount(volume="between"))
    run(engine, "echo from one >/v/file", mounts=[volume])
    assert run(engine, "cat /v/file", mounts=[volume])[0] == "from one\n"
    assert "localhost" in run(engine, "cat /etc/hosts /etc/resolv.conf")[0]


def test_who_wants_no_label_has_none_and_a_type_that_the_policy_lacks_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shown")
    disabled = security_pb2.SecuritySpec(selinux_label="disable")
    output, container = run(engine, f"{LABEL}; cat /t/file", security=disabled, mounts=[bound(tmp_path)])
    assert not container.HasField("selinux_labels")
    assert "unconfined_t" in output
    assert "shown" in output
    unknown = security_pb2.SecuritySpec(selinux_options=["type:nobodys_t"])
    refusal = refused_run(engine, "true", security=unknown)
    assert (refusal[1], refusal[2]["step"]) == ("PROCESS_START_FAILED", "selinux")
    chosen = security_pb2.SecuritySpec(selinux_options=["level:s0:c1,c2"])
    assert run(engine, LABEL, security=chosen)[0] == f"{policy.PROCESS}:s0:c1,c2\n"


def test_steps_of_a_build_have_labels_and_share_their_caches(engine: Engine, tmp_path: Path) -> None:
    cache = "RUN --mount=type=cache,target=/c"
    first = f"{cache} ({LABEL}) >/label && echo kept >/c/f && cp /bin/busybox /busybox-copied"
    dockerfile = f"FROM {IMAGE}\n{first}\n{cache} cat /c/f >/seen; ({LABEL}) >>/seen\n"
    made = build(engine, context(tmp_path, {"Dockerfile": dockerfile}))
    # A program that a step has written can be executed, too.
    label, *seen = in_image(engine, made, "/busybox-copied cat /label /seen").split()
    assert label.startswith(f"{policy.PROCESS}:s0:c")
    assert seen[0] == "kept"
    assert seen[1] != label
