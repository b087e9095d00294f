"""RUN in a user namespace: root of a step is nobody on the host, and the image is the same as without one."""

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fluyt import builds, images, operations
from fluyt.v1 import builds_pb2, containers_pb2
from fluyt.v1.types import operation_pb2, security_pb2
from tests.e2e.builds.steps import BASE, Built, build, context, refused, shell
from tests.e2e.builds.test_judges import run
from tests.e2e.containers.steps import create
from tests.support import image_files, tarball
from tests.support import images as small_images
from tests.support.engine import Engine
from tests.support.wait import until_now

USERS = security_pb2.UserNamespaceSpec
AUTO, HOST = USERS(mode=USERS.MODE_AUTO), USERS(mode=USERS.MODE_HOST)
#: The engine's defaults. Source: server/fluytd/config.py and MAX_UNASKED_IDS.
FIRST, COUNT = 2**30, 2**20
ONE_RANGE = ["--userns-pool-count", "65536", "--default-userns", "auto"]
MAP = "cat /proc/self/uid_map /proc/self/gid_map"
#: CAP_NET_RAW, as the kernel keeps it. Source: capabilities(7), vfs_cap_data.
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


def maps(built: Built) -> set[tuple[int, ...]]:
    """The id maps that a step has printed."""
    return {tuple(map(int, line.split())) for line in built.output.splitlines()}


def layers(engine: Engine, built: Built, folder: Path) -> list[dict[str, tuple[int, int]]]:
    """Owners in each layer by path, as skopeo takes the image out of an archive; lowest first."""
    images.save(engine.channel, [built.reference], folder / "image.tar")
    run("skopeo", "copy", "--dest-decompress", f"oci-archive:{folder}/image.tar", f"dir:{folder}/out")
    inspected = run("skopeo", "inspect", "--format", "{{range .Layers}}{{println .}}{{end}}", f"dir:{folder}/out")
    found = []
    for digest in inspected.decode().split():
        data = (folder / "out" / digest.removeprefix("sha256:")).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest.removeprefix("sha256:")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found.append({member.name: (member.uid, member.gid) for member in tar})
    return found


def test_a_step_has_a_range_of_ids_that_is_nobody_on_the_host(engine: Engine, tmp_path: Path) -> None:
    own = build(engine, tmp_path, f"FROM busybox:1\nRUN {MAP}\n", users=AUTO, no_cache=True)
    ((inside, first, count),) = maps(own)
    assert (inside, count) == (0, COUNT)
    assert first >= FIRST
    sized = USERS(mode=USERS.MODE_AUTO, size=70_000)
    ((_, _, count),) = maps(build(engine, tmp_path, f"FROM busybox:1\nRUN {MAP}\n", users=sized, no_cache=True))
    assert count == 70_000
    of_host = {(0, 0, 2**32 - 1)}
    assert maps(build(engine, tmp_path, f"FROM busybox:1\nRUN {MAP}\n", users=HOST, no_cache=True)) == of_host


@pytest.mark.parametrize("mode", ["auto", "host"])
def test_the_setting_of_the_engine_holds_where_a_build_says_nothing(tmp_path: Path, mode: str) -> None:
    with Engine(tmp_path, options=["--default-userns", mode]) as engine:
        engine.load(image_files.oci_archive({BASE: small_images.busybox_image()}))
        folder = context(tmp_path / "context", {"f": ""})
        ((_, first, _),) = maps(build(engine, folder, f"FROM busybox:1\nRUN {MAP}\n"))
        assert (first > 0) == (mode == "auto")
        # A namespace of the host's needs the host's users; who asks for both is told so.
        dockerfile = f"FROM busybox:1\nRUN --network=host {MAP}\n"
        allowed = {"entitlements": ["network.host"]}
        assert maps(build(engine, folder, dockerfile, **allowed)) == {(0, 0, 2**32 - 1)}
        failure = refused(engine, folder, dockerfile, users=AUTO, no_cache=True, **allowed)
        assert (failure.metadata["cause"], failure.metadata["step"]) == ("FIELD_INVALID", "2")
        assert "user_namespace" in str(failure)


@pytest.mark.needs("skopeo")
def test_owners_in_the_image_are_those_of_inside(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"d/f": "copied"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1
        COPY --chown=1000:1001 d /copied
        RUN stat -c %u:%g /copied/f && touch /root && mkdir /home/u && chown 1000:1000 /home/u && chown 100000 /copied/f
        USER 1000
        RUN echo mine > /home/u/mine && chmod 4755 /home/u/mine && id -u
        USER 0
        COPY --from=busybox:1 --chown=7 /bin/busybox /home/u/
        RUN stat -c '%u:%g %a' /home/u/mine /home/u/busybox /copied/f; chown -R 5:6 /home/u; mkdir -p /new/deep
        """,
        users=AUTO,
        no_cache=True,
    )
    assert built.output == b"1000:1001\n1000\n1000:1000 4755\n7:7 755\n100000:1001 644\n"
    _, _, first, second, third, last = layers(engine, built, tmp_path)
    assert {name: first[name] for name in ("root", "home/u", "copied/f")} == {
        "root": (0, 0),
        "home/u": (1000, 1000),
        "copied/f": (100_000, 1001),
    }
    assert second["home/u/mine"] == (1000, 1000)
    assert third["home/u/busybox"] == (7, 7)
    assert {name: last[name] for name in ("home/u/mine", "home/u", "new", "new/deep", "home")} == {
        "home/u/mine": (5, 6),
        "home/u": (5, 6),
        "new": (0, 0),
        "new/deep": (0, 0),
        "home": (0, 0),
    }
    assert shell(engine, built, "stat -c %u:%g /home/u/mine /copied/f") == "5:6\n100000:1001\n"


def test_mounts_of_a_step_have_the_owners_of_inside(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "x"})
    cached = "--mount=type=cache,id=users,target=/c,uid=1000,gid=1001,mode=0700"
    first = build(
        engine,
        folder,
        f"FROM busybox:1\nUSER 1000:1001\nRUN {cached} stat -c %u:%g /c && echo kept > /c/f && chmod 600 /c/f\n",
        users=AUTO,
    )
    assert first.output == b"1000:1001\n"
    name = hashlib.sha256(b"users").hexdigest()
    kept = engine.root / "data" / "build_mounts" / f"{name}-0" / "f"
    assert (kept.stat().st_uid, kept.stat().st_gid) == (1000, 1001)
    for users in (AUTO, HOST):
        again = build(
            engine,
            folder,
            f"FROM busybox:1\nUSER 1000:1001\nRUN {cached} cat /c/f && stat -c %u:%g /c/f\n",
            users=users,
            no_cache=True,
        )
        assert again.output == b"kept\n1000:1001\n"
    others = build(
        engine,
        folder,
        """
        FROM busybox:1 AS other
        RUN echo x > /x && chown 1000:1000 /x
        FROM busybox:1
        RUN --mount=type=secret,id=s,uid=1000,mode=0400 --mount=type=tmpfs,target=/t \\
            --mount=type=bind,from=other,target=/o,rw <<EOF
        stat -c %u:%a /run/secrets/s /o/x
        touch /t/mine /o/new && chown 1000 /t/mine /o/new && stat -c %u /t /t/mine /o/new
        EOF
        """,
        users=AUTO,
        secrets={"s": b"never"},
    )
    assert others.output.split() == [b"1000:400", b"1000:644", b"0", b"1000", b"1000"]


def test_an_image_is_the_same_with_and_without_users_of_its_own(engine: Engine, tmp_path: Path) -> None:
    capable = replace(tarball.file("usr/capable", b"x", mode=0o755), xattrs={"security.capability": NET_RAW})
    base = small_images.busybox_image(small_images.layer(capable))
    engine.load(image_files.oci_archive({"capable:1": base}))
    folder = context(tmp_path / "context", {"d/f": "f"})
    dockerfile = b"""FROM capable:1
WORKDIR /w
COPY --chown=1000 d d
RUN touch /usr/capable; echo x > y; chown 1000:5 y; mkdir -m 1777 z; mkfifo p; ln -s y l; ln y h; chmod 6755 d/f
USER 1000
RUN echo mine > z/mine; id -u
"""
    found = []
    for users in (AUTO, HOST):
        request = builds_pb2.BuildImageRequest(
            context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, folder)),
            dockerfile=dockerfile,
            no_cache=True,
            user_namespace=users,
        )
        request.source_date.seconds = 1_000_000_000
        found.append(builds.followed(engine.channel, builds.begin(engine.channel, request)).manifest_digest)
    assert found[0] == found[1]


def test_ids_beyond_the_range_are_refused_by_the_kernel_unless_more_are_asked_for(
    engine: Engine, tmp_path: Path
) -> None:
    dockerfile = "FROM busybox:1\nRUN touch /f && chown 3000000 /f\n"
    assert refused(engine, tmp_path, dockerfile, users=AUTO).metadata["cause"] == "BUILD_COMMAND_FAILED"
    enough = USERS(mode=USERS.MODE_AUTO, size=3_000_001)
    built = build(engine, tmp_path, dockerfile, users=enough, reference="users:high")
    # What follows on such a stage needs as many, and says so.
    above = f"FROM {built.reference}\nRUN stat -c %u /f\n"
    assert build(engine, tmp_path, above, users=enough).output == b"3000000\n"
    failure = refused(engine, tmp_path, above, users=AUTO, no_cache=True)
    assert failure.metadata["cause"] == "FIELD_INVALID"
    assert "size of 3000001 or more, or host: image of the stage has files of the id 3000000" in str(failure)
    for wrong in (USERS(mode=USERS.MODE_HOST, size=5000), USERS(mode=USERS.MODE_AUTO, size=1)):
        assert refused(engine, tmp_path, dockerfile, users=wrong).metadata["field"] == "user_namespace.size"


def test_a_range_is_free_again_however_a_step_ended(tmp_path: Path) -> None:
    with Engine(tmp_path, options=ONE_RANGE) as engine:
        engine.load(image_files.oci_archive({BASE: small_images.busybox_image()}))
        folder = context(tmp_path / "context", {"f": ""})

        def is_free() -> None:
            made = create(engine, "true")
            assert made.host_ids.first_id == FIRST
            engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made.id))

        assert maps(build(engine, folder, f"FROM busybox:1\nRUN {MAP}\n")) == {(0, FIRST, 65_536)}
        is_free()
        assert refused(engine, folder, "FROM busybox:1\nRUN exit 3\n").metadata["exit_code"] == "3"
        is_free()
        assert refused(engine, folder, "FROM busybox:1\nUSER nosuch\nRUN true\n").metadata["cause"] == "USER_INVALID"
        is_free()
        made = create(engine, "true")
        failure = refused(engine, folder, "FROM busybox:1\nRUN echo waits\n")
        assert failure.metadata["cause"] == "LIMIT_EXCEEDED"
        assert "userns_pool_count" in str(failure)
        engine.containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=made.id))
        operation = _begun(engine, folder)
        operations.cancel(engine.channel, operation.id)
        assert engine.ended(operation).state == operation_pb2.Operation.STATE_CANCELLED
        is_free()


def test_a_killed_daemon_leaves_no_step_and_its_range_to_the_next(tmp_path: Path) -> None:
    # Of no other engine on this host.
    first = 1_900_000_000 + os.getpid()
    with Engine(tmp_path, options=[*ONE_RANGE, "--userns-first-id", str(first)]) as engine:
        engine.load(image_files.oci_archive({BASE: small_images.busybox_image()}))
        folder = context(tmp_path / "context", {"f": ""})
        _begun(engine, folder)
        engine.kill()
        assert _processes_of(first)
        engine.start()
        # No process has the range any more once it can be given to somebody else.
        assert not _processes_of(first)
        assert maps(build(engine, folder, f"FROM busybox:1\nRUN {MAP}\n")) == {(0, first, 65_536)}
        until_now(lambda: not engine.left_on_host(), "nothing of the step is left on the host")


def _begun(engine: Engine, folder: Path) -> operation_pb2.Operation:
    """A build whose step runs and does not end."""
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=builds.upload_context(engine.channel, folder)),
        dockerfile=b"FROM busybox:1\nRUN echo begun; sleep 1000\n",
    )
    operation = builds.begin(engine.channel, request)
    assert next(iter(builds.read_log(engine.channel, operation.id))).data == b"begun\n"
    return operation


def _processes_of(uid: int) -> list[str]:
    """Processes of the host with this user that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields["Uid"].split()[0] == str(uid) and fields["State"].split()[0] not in "ZX":
            found.append(fields["Name"].strip())
    return found
