"""Volumes by themselves: made, found, renamed, copied, sent, deleted."""

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest

from fluyt.v1 import engine_pb2, engine_pb2_grpc, volumes_pb2
from tests.e2e.containers import steps as containers
from tests.e2e.containers.steps import EXISTS, IMAGE, INVALID, NOT_FOUND, WRONG_STATE, refused
from tests.e2e.volumes.steps import create, delete, export_tar, get, import_tar, names, output, remove, volume
from tests.support import tarball
from tests.support.engine import Engine
from tests.support.wait import until_now


def test_a_volume_is_made_shown_and_deleted(engine: Engine) -> None:
    made = create(engine, "data", labels={"team": "web"})
    assert (made.name, made.driver, made.is_anonymous, made.version) == ("data", "local", False, 1)
    assert dict(made.labels) == {"team": "web"}
    path = Path(made.mountpoint)
    assert path.name == "_data"
    assert path.is_dir()
    assert path.stat().st_mode & 0o7777 == 0o755
    assert path.parent.stat().st_mode & 0o7777 == 0o710
    assert get(engine, "data").mountpoint == made.mountpoint
    answer = engine.volumes.DeleteVolume(volumes_pb2.DeleteVolumeRequest(name="data"))
    assert answer.name == "data"
    assert not path.parent.exists()
    assert refused(lambda: get(engine, "data"))[:2] == (NOT_FOUND, "VOLUME_NOT_FOUND")
    assert refused(lambda: delete(engine, "data"))[:2] == (NOT_FOUND, "VOLUME_NOT_FOUND")
    delete(engine, "data", force=True)


def test_an_equal_volume_is_answered_as_it_is_and_another_is_refused(engine: Engine) -> None:
    first = create(engine, "same", labels={"a": "1"})
    assert create(engine, "same").mountpoint == first.mountpoint
    options = {"type": "tmpfs", "device": "tmpfs"}
    assert refused(lambda: create(engine, "same", driver_options=options))[:2] == (EXISTS, "VOLUME_EXISTS")
    delete(engine, "same")


def test_a_volume_without_a_name_is_anonymous(engine: Engine) -> None:
    made = create(engine)
    assert made.is_anonymous
    assert len(made.name) == 64
    delete(engine, made.name)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"name": "x"}, "name"),
        ({"name": "../up"}, "name"),
        ({"name": "-dash"}, "name"),
        ({"name": "ok", "labels": {"": "x"}}, "labels"),
        ({"name": "ok", "driver_options": {"size": "much"}}, "driver_options"),
        ({"name": "ok", "driver_options": {"what": "1"}}, "driver_options"),
        ({"name": "ok", "driver_options": {"type": "tmpfs"}}, "driver_options"),
        ({"name": "ok", "driver_options": {"type": "none", "device": "/x"}}, "driver_options"),
        ({"name": "ok", "driver_options": {"type": "none", "o": "bind", "device": "x"}}, "driver_options"),
        ({"name": "ok", "limit_bytes": -1}, "limit_bytes"),
    ],
)
def test_what_no_volume_can_be_is_refused_by_its_field(engine: Engine, wish: dict[str, Any], field: str) -> None:
    code, reason, metadata = refused(lambda: create(engine, **wish))
    assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", field)
    assert "ok" not in names(engine)


def test_what_this_host_or_engine_cannot_give_says_so(engine: Engine) -> None:
    assert refused(lambda: create(engine, "ok", driver="zfs"))[:2] == (WRONG_STATE, "VOLUME_DRIVER_NOT_FOUND")
    labels = {"a": "x" * 300_000}
    assert refused(lambda: create(engine, "ok", labels=labels))[2]["limit"] == "MAX_LABELS_BYTES"
    options = {f"k{number}": "" for number in range(65)}
    assert refused(lambda: create(engine, "ok", driver_options=options))[2]["limit"] == "MAX_DRIVER_OPTIONS"
    assert refused(lambda: create(engine, "ok", driver_options={"o": "x" * 5000}))[2]["limit"] == (
        "MAX_DRIVER_OPTION_BYTES"
    )
    assert "ok" not in names(engine)


def test_volumes_are_filtered_and_come_page_by_page(engine: Engine) -> None:
    for name in ("list-a", "list-b", "list-c"):
        create(engine, name, labels={"kind": name[-1]})
    holder = containers.create(engine, "true", mounts=[volume("/v", "list-a")])
    assert names(engine, names=["list-"]) == ["list-a", "list-b", "list-c"]
    assert names(engine, names=["list-"], is_dangling=True) == ["list-b", "list-c"]
    assert names(engine, names=["list-"], is_dangling=False) == ["list-a"]
    assert names(engine, labels=["kind=b"]) == ["list-b"]
    assert names(engine, names=["list-"], labels=["kind"], drivers=["local"]) == ["list-a", "list-b", "list-c"]
    assert names(engine, names=["list-"], drivers=["other"]) == []
    assert list(get(engine, "list-a").container_ids) == [holder.id]
    found, token = [], ""
    while True:
        request = volumes_pb2.ListVolumesRequest(
            page_size=2, page_token=token, filter=volumes_pb2.VolumeFilter(names=["list-"])
        )
        page = engine.volumes.ListVolumes(request)
        found += [one.name for one in page.volumes]
        token = page.next_page_token
        if not token:
            break
    assert found == ["list-a", "list-b", "list-c"]
    containers.delete(engine, holder.id)
    for name in found:
        delete(engine, name)


def test_a_volume_is_renamed_and_its_containers_keep_it(engine: Engine) -> None:
    create(engine, "before")
    create(engine, "taken")
    output(engine, IMAGE, "echo kept > /v/f", mounts=[volume("/v", "before")])
    holder = containers.create(engine, "cat", "/v/f", mounts=[volume("/v", "before")])
    rename = volumes_pb2.RenameVolumeRequest(name="before", new_name="taken")
    assert refused(lambda: engine.volumes.RenameVolume(rename))[:2] == (EXISTS, "VOLUME_EXISTS")
    rename = volumes_pb2.RenameVolumeRequest(name="before", new_name="after", expected_version=7)
    assert refused(lambda: engine.volumes.RenameVolume(rename))[1] == "VERSION_CONFLICT"
    rename.expected_version = 1
    renamed = engine.volumes.RenameVolume(rename).volume
    assert (renamed.name, renamed.version) == ("after", 2)
    assert list(containers.get(engine, holder.id).volumes) == ["after"]
    containers.start(engine, holder.id)
    containers.wait(engine, holder.id)
    assert containers.text(containers.read_logs(engine, holder.id)[0]) == b"kept\n"
    containers.delete(engine, holder.id)
    running = containers.started(engine, "sleep", "60", mounts=[volume("/v", "after")])
    rename = volumes_pb2.RenameVolumeRequest(name="after", new_name="again")
    assert refused(lambda: engine.volumes.RenameVolume(rename))[1] == "VOLUME_IN_USE"
    containers.delete(engine, running.id, force=True)
    for name in ("after", "taken"):
        delete(engine, name)


def test_prune_takes_what_no_container_has(engine: Engine) -> None:
    anonymous = create(engine, labels={"prune": "1"}).name
    create(engine, "prune-named", labels={"prune": "1"})
    Path(get(engine, anonymous).mountpoint, "f").write_bytes(b"x" * 100_000)
    holder = containers.create(engine, "true", mounts=[volume("/v")])

    def prune(**fields: Any) -> volumes_pb2.PruneVolumesResponse:
        wanted = volumes_pb2.VolumeFilter(labels=["prune"])
        return engine.volumes.PruneVolumes(  # type: ignore[no-any-return]
            volumes_pb2.PruneVolumesRequest(filter=wanted, **fields)
        )

    assert list(prune(dry_run=True).deleted) == [anonymous]
    assert anonymous in names(engine)
    pruned = prune()
    assert list(pruned.deleted) == [anonymous]
    assert pruned.reclaimed_bytes >= 100_000
    assert list(prune(all=True).deleted) == ["prune-named"]
    assert set(holder.volumes) <= set(names(engine))
    remove(engine, holder.id, volumes=True)


def test_a_clone_has_all_and_goes_its_own_way(engine: Engine) -> None:
    create(engine, "origin", labels={"a": "1"})
    script = (
        "mkdir -p /v/d; echo x > /v/d/f; ln /v/d/f /v/hard; chown 7:8 /v/d; chmod 1750 /v/d; ln -s d /v/l; chmod 711 /v"
    )
    script += "; dd if=/dev/zero of=/v/sparse bs=1 count=1 seek=4M 2>/dev/null"
    output(engine, IMAGE, script, mounts=[volume("/v", "origin")])
    clone = volumes_pb2.CloneVolumeRequest(source="origin", name="copy")
    made = engine.volumes.CloneVolume(clone).volume
    assert dict(made.labels) == {"a": "1"}
    show = "cd /v; stat -c '%n %u:%g %a %h' . d d/f hard; readlink l; stat -c %s sparse"
    shown = output(engine, IMAGE, show, mounts=[volume("/v", "origin")])
    assert output(engine, IMAGE, show, mounts=[volume("/v", "copy")]) == shown
    assert (Path(made.mountpoint) / "sparse").stat().st_blocks < 1000
    output(engine, IMAGE, "echo y > /v/d/f", mounts=[volume("/v", "copy")])
    assert output(engine, IMAGE, "cat /v/d/f", mounts=[volume("/v", "origin")]) == "x"
    assert refused(lambda: engine.volumes.CloneVolume(clone))[:2] == (EXISTS, "VOLUME_EXISTS")
    clone = volumes_pb2.CloneVolumeRequest(source="nobody", name="new")
    assert refused(lambda: engine.volumes.CloneVolume(clone))[:2] == (NOT_FOUND, "VOLUME_NOT_FOUND")
    for name in ("origin", "copy"):
        delete(engine, name)


def test_data_goes_out_as_tar_and_comes_in_again(engine: Engine) -> None:
    create(engine, "out")
    script = "cd /v; mkdir -p a/b; echo one > a/b/f; ln a/b/f hard; ln -s a l; chown 5:6 a; chmod 2750 a; touch .wh.x"
    output(engine, IMAGE, script, mounts=[volume("/v", "out")])
    data, count = export_tar(engine, "out")
    with tarfile.open(fileobj=BytesIO(data)) as archive:
        found = {member.name.strip("./") if member.name != ".wh.x" else member.name for member in archive}
    assert {"a", "a/b", "a/b/f", "hard", "l"} <= found
    assert count >= 6
    answer = import_tar(engine, "in", data)
    assert (answer.volume.name, answer.entry_count) == ("in", count)
    show = "cd /v; stat -c '%n %u:%g %a %h' a a/b a/b/f hard .wh.x; readlink l; cat hard"
    shown = output(engine, IMAGE, show, mounts=[volume("/v", "out")])
    assert output(engine, IMAGE, show, mounts=[volume("/v", "in")]) == shown
    for name in ("in", "out"):
        delete(engine, name)
    assert refused(lambda: export_tar(engine, "nobody"))[:2] == (NOT_FOUND, "VOLUME_NOT_FOUND")


def test_a_hostile_archive_changes_nothing_outside_its_volume(engine: Engine, canary: Path) -> None:
    create(engine, "hostile")
    archives = [
        [tarball.symlink("l", str(canary)), tarball.file("l/f", "x")],
        [tarball.file(f"{canary}/f", "x")],
        [tarball.symlink("l", str(canary)), tarball.hardlink("h", "l/secret")],
        [tarball.file("../../../../../../../../.." + str(canary) + "/f", "x")],
    ]
    reasons = set()
    for members in archives:
        try:
            import_tar(engine, "hostile", tarball.write_tar(members))
        except grpc.RpcError as error:  # refused or confined: either is right
            reasons.add(containers.refusal(error)[1])
        assert [path.name for path in canary.iterdir()] == ["secret"]
        assert (canary / "secret").stat().st_nlink == 1
    assert reasons <= {"LAYER_REJECTED", "IO_FAILED"}
    cut = tarball.write_tar([tarball.file("f", "x" * 3000)])[:2000]
    assert refused(lambda: import_tar(engine, "hostile", cut))[1] == "LAYER_CORRUPT"
    delete(engine, "hostile")


def test_a_size_is_told_without_a_walk_and_marked_while_it_may_change(engine: Engine) -> None:
    create(engine, "sized")
    output(engine, IMAGE, "dd if=/dev/zero of=/v/f bs=1M count=3 2>/dev/null", mounts=[volume("/v", "sized")])
    until_now(lambda: get(engine, "sized").size_bytes >= 3 << 20, "its data is counted")
    until_now(lambda: not get(engine, "sized").size_is_estimate, "nothing changes it")
    usage = engine_pb2_grpc.EngineServiceStub(engine.channel).GetDiskUsage(engine_pb2.GetDiskUsageRequest()).volumes
    assert usage.count == len(names(engine))
    assert usage.reclaimable_bytes >= 3 << 20
    running = containers.started(engine, "sleep", "60", mounts=[volume("/v", "sized")])
    assert get(engine, "sized").size_is_estimate
    containers.delete(engine, running.id, force=True)
    delete(engine, "sized")


def test_a_repeated_request_gets_the_first_answer(engine: Engine) -> None:
    first = create(engine, request_id="once")
    assert create(engine, request_id="once").name == first.name
    request = volumes_pb2.DeleteVolumeRequest(name=first.name, request_id="gone")
    assert engine.volumes.DeleteVolume(request) == engine.volumes.DeleteVolume(request)


def test_options_of_the_local_driver_are_mounted_in_the_container_alone(engine: Engine, tmp_path: Path) -> None:
    mounts_before = Path("/proc/self/mountinfo").read_text()
    (tmp_path / "f").write_text("bound\n")
    create(engine, "bound", driver_options={"type": "none", "o": "bind,ro", "device": str(tmp_path)})
    script = "cat /v/f; touch /v/x 2>&1 | grep -o Read-only"
    assert output(engine, IMAGE, script, mounts=[volume("/v", "bound")]) == "bound\nRead-only"
    create(engine, "memory", driver_options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,noexec"})
    script = "stat -c %u /v; grep ' /v ' /proc/self/mountinfo | grep -o 'noexec\\|size=1024k'"
    assert output(engine, IMAGE, script, mounts=[volume("/v", "memory")]) == "7\nnoexec\nsize=1024k"
    create(engine, "wrong", driver_options={"type": "nothing", "device": "x"})
    _, reason, metadata = containers.refused_run(engine, "true", mounts=[volume("/v", "wrong")])
    assert (reason, metadata["step"]) == ("PROCESS_START_FAILED", "bind_source")
    assert Path("/proc/self/mountinfo").read_text() == mounts_before
    for name in ("bound", "memory", "wrong"):
        delete(engine, name)


def test_a_password_among_options_is_not_shown(engine: Engine) -> None:
    options = {"type": "cifs", "device": "//host/share", "o": "username=me,password=hunter2"}
    shown = create(engine, "secret", driver_options=options)
    assert shown.driver_options["o"] == "username=me,password=***"
    assert "hunter2" not in str(get(engine, "secret"))
    delete(engine, "secret")
