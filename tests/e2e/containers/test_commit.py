"""Images made of containers: what is in them, what their config says, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fluyt.v1 import events_pb2, images_pb2
from fluyt.v1.types import container_pb2, mount_pb2
from tests.e2e.containers import file_steps as files
from tests.e2e.containers.steps import (
    HOST_USERS,
    IMAGE,
    INVALID,
    NOT_FOUND,
    WRONG_STATE,
    create,
    delete,
    get,
    load,
    refused,
    started,
)
from tests.support import tarball
from tests.support.engine import Engine
from tests.support.tarball import Member
from tests.support.wait import until_now


@pytest.fixture
def engine(engine: Engine) -> Iterator[Engine]:
    """The engine; what a test committed goes with it."""
    before = {image.id for image in _images(engine)}
    yield engine
    for image in _images(engine):
        if image.id not in before:
            files.delete_image(engine, image.id)


def _images(engine: Engine) -> list[images_pb2.Image]:
    return list(engine.images.ListImages(images_pb2.ListImagesRequest()).images)


def test_a_committed_image_has_the_containers_files_and_the_base_layers_once(engine: Engine) -> None:
    container = files.ended(engine, "echo data > /data; rm /bin/vi; mkdir -p /a/b; echo deep > /a/b/c", name="maker")
    blobs = len(list((engine.root / "data/content/blobs/sha256").iterdir()))
    layers = len(list((engine.root / "data/layers").iterdir()))
    committed = files.commit(engine, container, "made/committed:1", message="a remark", author="somebody")
    out, _, last = engine.run("made/committed:1", "sh", "-c", "cat /data /a/b/c; ls /bin/vi")
    assert (out, last.exit_code) == (b"data\ndeep\n", 1)
    # A layer, a config and a manifest, and nothing of the base again.
    assert len(list((engine.root / "data/content/blobs/sha256").iterdir())) == blobs + 3
    assert len(list((engine.root / "data/layers").iterdir())) == layers + 1
    config = files.check_config(engine, committed)
    last_step = config["history"][-1]
    assert (last_step["comment"], last_step["author"], config["author"]) == ("a remark", "somebody", "somebody")
    assert committed.layer_size_bytes == len("data\ndeep\n")
    facts = (event.image_committed for event in _events(engine) if event.WhichOneof("fact") == "image_committed")
    # The engine may have been told to commit by other tests before.
    told = next(fact for fact in facts if fact.container_id == container)
    assert (told.image_id, told.container_name) == (committed.image_id, "maker")
    assert told.reference.endswith("made/committed:1")


def _tree() -> list[Member]:
    return [
        tarball.directory("foo"),
        tarball.file("foo/bar", "bar\n"),
        tarball.directory("kept"),
        tarball.file("kept/kept", "kept\n"),
        tarball.directory("a"),
        tarball.directory("a/c"),
        tarball.file("a/c/old", "old"),
    ]


def _events(engine: Engine) -> Iterator[events_pb2.Event]:
    for response in engine.events.WatchEvents(events_pb2.WatchEventsRequest(from_sequence=1), timeout=20):
        if response.WhichOneof("message") == "event":
            yield response.event


def test_the_config_is_the_images_with_the_containers_own_and_the_changes_over_it(engine: Engine) -> None:
    image = load(engine, cmd=["sh"], env=["PATH=/bin", "KEPT=1", "GONE=1", "LATE=1"], labels={"base": "1"})
    container = files.ended(engine, "true", image=image, env=["OWN=2", "GONE"], labels={"own": "2"}, working_dir="/tmp")
    changes = ["ENV LATE=3 MORE=4", "LABEL changed=5", 'CMD ["cat", "/x"]', "USER 1000", "EXPOSE 80", "VOLUME /v"]
    run = files.check_config(engine, files.commit(engine, container, changes=changes))["config"]
    assert run["Env"] == ["PATH=/bin", "KEPT=1", "LATE=3", "OWN=2", "MORE=4"]
    assert run["Labels"] == {"base": "1", "own": "2", "changed": "5"}
    assert (run["Cmd"], run["User"], run["WorkingDir"]) == (["cat", "/x"], "1000", "/tmp")
    assert (run["ExposedPorts"], run["Volumes"]) == ({"80": {}}, {"/v": {}})
    plain = files.check_config(engine, files.commit(engine, container))["config"]
    assert plain["Cmd"] == ["sh", "-ec", "true"]
    entry = files.check_config(engine, files.commit(engine, container, changes=['ENTRYPOINT ["echo"]']))["config"]
    assert entry["Entrypoint"] == ["echo"]
    assert "Cmd" not in entry


def test_a_running_container_holds_still_meanwhile_and_runs_on(engine: Engine) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /one; echo $i > /two; echo $i; done"
    for no_pause in (False, True):
        running = started(engine, "sh", "-c", script)
        until_now(lambda name=running.id: b"\n" in engine.logs(name), "it writes")  # type: ignore[misc]
        committed = files.commit(engine, running.id, "made/live:1", no_pause=no_pause)
        seen = len(engine.logs(running.id))
        until_now(lambda name=running.id, seen=seen: len(engine.logs(name)) > seen, "it runs on")  # type: ignore[misc]
        assert get(engine, running.id).state == container_pb2.Container.STATE_RUNNING
        files.check_config(engine, committed)
        delete(engine, running.id, force=True)
        assert engine.run("made/live:1", "test", "-e", "/one")[2].exit_code == 0


@pytest.mark.parametrize("script", ["mv /foo /foo2", "cp -a /foo /foo2 && rm -r /foo"])
def test_b23_a_moved_directory_of_the_image_is_whole_in_the_committed_one(engine: Engine, script: str) -> None:
    image = load(engine, *_tree())
    container = files.ended(engine, script, image=image)
    files.commit(engine, container, "made/moved:1")
    out, _, last = engine.run("made/moved:1", "sh", "-c", "cat /foo2/bar; ls -d /foo")
    assert (out, last.exit_code) == (b"bar\n", 1)


def test_m10_a_rename_of_the_images_directory_succeeds_by_copying_and_an_export_has_it(engine: Engine) -> None:
    image = load(engine, *_tree())
    container = files.ended(engine, "mv /kept /kept2; mv /a /b", image=image)
    exported = files.members(files.export(engine, container))
    assert {"kept2/kept", "b/c/old"} <= set(exported)
    assert not {"kept", "a"} & set(exported)
    assert {"D /kept", "A /kept2", "A /kept2/kept", "D /a"} <= set(files.changes(engine, container))


def test_b24_a_directory_that_was_made_anew_shows_nothing_of_the_old_one(engine: Engine) -> None:
    image = load(engine, *_tree())
    container = files.ended(engine, "rm -rf /a/c; mkdir /a/c; touch /a/c/foo", image=image)
    committed = files.commit(engine, container, "made/anew:1")
    assert "a/c/.wh..wh..opq" in files.members(files.layer_tar(engine, committed))
    assert engine.run("made/anew:1", "ls", "/a/c")[0] == b"foo\n"
    assert files.changes(engine, container) == ["C /a", "C /a/c", "A /a/c/foo", "D /a/c/old"]


@pytest.mark.parametrize("name", ["/.wh.x", "/a/.wh.old", "/a/.wh..wh..opq", "/.wh..wh.plnk"])
def test_b25_a_real_file_with_the_name_of_a_whiteout_fails_the_commit(engine: Engine, name: str) -> None:
    container = files.ended(engine, f"mkdir -p /a; touch '{name}'")
    before = _images(engine)
    code, reason, metadata = refused(lambda: files.commit(engine, container, "made/never:1"))
    assert (code, reason, metadata["path"]) == (WRONG_STATE, "FILE_UNREPRESENTABLE", name[1:])
    assert _images(engine) == before
    # A list of changes and an export say what is there all the same.
    assert f"A {name}" in files.changes(engine, container)
    assert name[1:] in files.members(files.export(engine, container))


def test_what_is_mounted_and_what_was_made_for_it_is_not_committed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the host")
    mounts = [
        mount_pb2.Mount(target="/data/bound", bind=mount_pb2.BindMount(source=str(tmp_path))),
        mount_pb2.Mount(target="/scratch", tmpfs=mount_pb2.TmpfsMount()),
    ]
    container = files.ended(engine, "echo x > /data/bound/made; echo x > /scratch/x; echo own > /own", mounts=mounts)
    assert files.changes(engine, container) == ["A /own"]
    committed = files.commit(engine, container, "made/mounted:1")
    assert list(files.members(files.layer_tar(engine, committed))) == ["own"]
    exported = files.members(files.export(engine, container))
    assert not any(name.startswith(("data/bound/", "scratch/", "proc/", "sys/", "dev/")) for name in exported)
    assert (tmp_path / "made").read_text() == "x\n"


def test_a_container_without_changes_gives_an_image_without_a_layer_more(engine: Engine) -> None:
    made = create(engine, "true")
    committed = files.commit(engine, made.id, "made/same:1", changes=["LABEL only=config"])
    base = engine.images.GetImage(images_pb2.GetImageRequest(image=IMAGE)).image
    layers = files.document(engine, committed.manifest_digest)["layers"]
    assert layers == files.document(engine, base.manifest.digest)["layers"]
    config = files.check_config(engine, committed)
    assert config["history"][-1]["empty_layer"] is True
    assert committed.layer_size_bytes == 0
    assert engine.run("made/same:1", "echo", "runs")[0] == b"runs\n"


def test_a_commit_of_a_commit_and_the_same_commit_again(engine: Engine) -> None:
    first = files.ended(engine, "echo 1 > /1")
    files.commit(engine, first, "made/first:1")
    second = files.ended(engine, "echo 2 > /2; rm /1", image="made/first:1")
    committed = files.commit(engine, second, "made/second:1")
    assert len(files.check_config(engine, committed)["rootfs"]["diff_ids"]) == 3
    assert engine.run("made/second:1", "sh", "-c", "cat /2; ls /1")[0] == b"2\n"
    again = files.commit(engine, second, "made/second:1")
    assert files.layer_tar(engine, again) == files.layer_tar(engine, committed)


def test_a_request_id_makes_one_image_of_two_requests(engine: Engine) -> None:
    container = files.ended(engine, "echo 1 > /1")
    answers = [files.commit(engine, container, "made/once:1", request_id="commit-once") for _ in range(2)]
    assert answers[0] == answers[1]


def test_hostile_content_stays_content(engine: Engine) -> None:
    script = """
        ln -s /etc/passwd /out; ln -s / /root-link; mkdir /d; ln -s ../../../../etc /d/up; mkfifo /pipe
        ln -s "$(printf 'x%.0s' $(seq 300))" /long; mkdir -p "$(printf 'deep/%.0s' $(seq 50))"
        touch "$(printf '/new\\nline')"; touch "$(printf '/bytes\\377\\376')"; mknod /null2 c 1 3
        echo -n > /tmp-empty; chmod 4755 /tmp-empty; chown 3000000:3000000 /d
    """
    container = files.ended(engine, script, namespaces=HOST_USERS)
    committed = files.commit(engine, container, "made/hostile:1")
    layer = files.members(files.layer_tar(engine, committed))
    assert layer["out"].linkname == "/etc/passwd"
    assert layer["pipe"].isfifo()
    assert (layer["null2"].ischr(), layer["null2"].devmajor, layer["null2"].devminor) == (True, 1, 3)
    assert (layer["d"].uid, layer["tmp-empty"].mode) == (3_000_000, 0o4755)
    assert "new\nline" in layer
    script = "readlink /out; ls -l /null2 | cut -c1; echo /bytes*"
    out, _, _ = engine.run("made/hostile:1", "sh", "-c", script, namespaces=HOST_USERS)
    assert out == b"/etc/passwd\nc\n/bytes\xff\xfe\n"


def test_what_cannot_be_committed_is_refused_and_leaves_nothing(engine: Engine) -> None:
    container = files.ended(engine, "echo 1 > /1")
    before = _images(engine)
    told = refused(lambda: files.commit(engine, "nobody"))
    assert told == (NOT_FOUND, "CONTAINER_NOT_FOUND", {"id": "nobody"})
    for changes, field in ((["NONSENSE x"], "changes[0]"), (["USER a", "CMD ["], "changes[1]")):
        code, reason, metadata = refused(lambda changes=changes: files.commit(engine, container, changes=changes))  # type: ignore[misc]
        assert (code, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", field)
    code, reason, _ = refused(lambda: files.commit(engine, container, "Not A Reference"))
    assert (code, reason) == (INVALID, "REFERENCE_INVALID")
    pinned = "made/pinned@sha256:" + "a" * 64
    assert refused(lambda: files.commit(engine, container, pinned))[1] == "FIELD_INVALID"
    code, reason, metadata = refused(lambda: files.commit(engine, container, message="x" * 70_000))
    assert (reason, metadata["limit"]) == ("LIMIT_EXCEEDED", "MAX_REMARK_BYTES")
    assert _images(engine) == before


def test_a_container_whose_image_was_deleted_is_refused_by_name(engine: Engine) -> None:
    image = load(engine, *_tree())
    container = files.ended(engine, "echo 1 > /1", image=image)
    image_id = get(engine, container).image_id
    files.delete_image(engine, image)
    code, reason, metadata = refused(lambda: files.commit(engine, container, "made/orphan:1"))
    assert (code, reason, metadata["reference"]) == (NOT_FOUND, "IMAGE_NOT_FOUND", image_id)
    assert "foo/bar" in files.members(files.export(engine, container))
