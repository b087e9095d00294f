"""What a benchmark that was broken off leaves is swept: nothing of its containers stands on the host, others run on."""

from pathlib import Path

from bench.sweep import swept
from tests.support import image_files, images, leftovers
from tests.support.engine import Engine

IMAGE = "busybox:1"


def test_of_a_dead_daemon_supervisors_processes_and_groups_are_swept_and_of_others_nothing(tmp_path: Path) -> None:
    engines = {}
    for name in ("broken", "other"):
        (tmp_path / name).mkdir()
        engines[name] = Engine(tmp_path / name)
        engines[name].load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        engines[name].start_container(IMAGE, "stays", "sleep", "1000")
    broken, other = engines["broken"], engines["other"]
    with other:
        broken.kill()
        before = leftovers.processes_of(other)
        assert leftovers.processes_of(broken)
        told = swept(broken.cgroup_parent, broken.root)
        assert [line.split(" ", 1)[1] for line in told] == ["processes", "control groups"]
        assert leftovers.processes_of(broken) == []
        assert [*Path("/sys/fs/cgroup").glob(f"*/{broken.cgroup_parent}*")] == []
        assert str(broken.root) not in Path("/proc/self/mountinfo").read_text()
        assert swept(broken.cgroup_parent, broken.root) == []
        still = leftovers.processes_of(other)
        assert {one.pid for one in before} <= {one.pid for one in still}
