"""COPY, ADD and WORKDIR by the cases of the field: owners, links, names, archives, what never leaves a context."""

import gzip
import io
import lzma
import os
import tarfile
from bz2 import compress as bzip2
from dataclasses import replace
from pathlib import Path

import pytest

from fluyt import images as client_images
from tests.e2e.builds.steps import CACHED, DONE, build, context, refused, shell
from tests.support import image_files, images, tarball
from tests.support.engine import Engine

USER_LINE = "RUN echo 'owner:x:41:42::/:/bin/sh' >> /etc/passwd\n"


def archive() -> bytes:
    """A tar of one file in a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, data in (("top", tarfile.DIRTYPE, b""), ("top/inner", tarfile.REGTYPE, b"unpacked\n")):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.mode, member.uid, member.gid = kind, len(data), 0o755, 5, 6
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_b02_b03_owners_are_those_that_chown_names(engine: Engine, tmp_path: Path) -> None:
    """b03 with it: a directory that is made gets the owner, one that is there keeps its own."""
    folder = context(tmp_path, {"a": "a", "d/f": "f"})
    built = build(
        engine,
        folder,
        f"""
        FROM busybox:1
        {USER_LINE}
        RUN mkdir /e && chown 500:600 /e
        COPY --chown=12 a /number
        COPY --chown=owner a /name
        COPY --chown=300:400 d /new/
        COPY --chown=300:400 d /e/
        """,
    )
    found = shell(engine, built, "stat -c '%n %u:%g' /number /name /new /new/f /e /e/f").splitlines()
    assert found == ["/number 12:12", "/name 41:42", "/new 300:400", "/new/f 300:400", "/e 500:600", "/e/f 300:400"]
    failure = refused(engine, folder, "FROM busybox:1\nCOPY --chown=nobody-here a /a\n")
    assert (failure.reason, failure.metadata["cause"]) == ("BUILD_STEP_FAILED", "USER_INVALID")


def test_b04_owners_of_a_context_do_not_count_and_those_of_a_stage_do(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"f": "f"})
    os.chown(folder / "f", 1000, 1000)
    built = build(
        engine,
        folder,
        """
        FROM busybox:1 AS made
        RUN mkdir -p /s/sub && echo x > /s/sub/x && chown 100:200 /s && chown -R 101:201 /s/sub
        FROM busybox:1
        COPY f /app/f
        COPY --from=made /s /copied
        """,
    )
    found = shell(engine, built, "stat -c '%n %u:%g' /app/f /copied /copied/sub /copied/sub/x").splitlines()
    assert found == ["/app/f 0:0", "/copied 0:0", "/copied/sub 101:201", "/copied/sub/x 101:201"]


def test_b05_b06_content_mode_and_name_count_and_times_do_not(engine: Engine, tmp_path: Path) -> None:
    """b06 with it: the old name of a file is gone."""
    folder = context(tmp_path, {"d/1.txt": "one"})
    dockerfile = "FROM busybox:1\nCOPY d /d\n"
    assert build(engine, folder, dockerfile).state_of("COPY") == DONE
    os.utime(folder / "d" / "1.txt", (5, 5))
    assert build(engine, folder, dockerfile).state_of("COPY") == CACHED
    (folder / "d" / "1.txt").chmod(0o755)
    assert build(engine, folder, dockerfile).state_of("COPY") == DONE
    (folder / "d" / "1.txt").rename(folder / "d" / "3.txt")
    renamed = build(engine, folder, dockerfile)
    assert (renamed.state_of("COPY"), shell(engine, renamed, "ls /d")) == (DONE, "3.txt\n")


def test_b10_a_working_directory_is_the_users_and_one_that_is_there_stays(engine: Engine, tmp_path: Path) -> None:
    built = build(
        engine,
        tmp_path,
        f"""
        FROM busybox:1
        {USER_LINE}
        RUN mkdir /there && chmod 0750 /there
        USER owner
        WORKDIR /made/deep
        RUN touch x
        USER root
        WORKDIR /there
        """,
    )
    found = shell(engine, built, "stat -c '%n %u:%g %a' /made/deep /there; pwd").splitlines()
    assert found == ["/made/deep 41:42 755", "/there 0:0 750", "/there"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bzip2, lzma.compress], ids=["plain", "gzip", "bzip2", "xz"])
def test_b11_b12_add_unpacks_what_is_an_archive_by_its_content(
    engine: Engine, tmp_path: Path, compress: "type[bytes] | object"
) -> None:
    """b12 with it: a name tells nothing."""
    data = compress(archive())  # type: ignore[operator]
    folder = context(tmp_path, {"real.txt": data, "text.tar.gz": "no archive\n"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1
        ADD real.txt /added
        COPY real.txt /copied
        ADD text.tar.gz /text/
        """,
    )
    script = "cat /added/top/inner /text/text.tar.gz; stat -c '%u:%g' /added/top/inner; stat -c '%F %s' /copied"
    found = shell(engine, built, script).splitlines()
    assert found == ["unpacked", "no archive", "5:6", f"regular file {len(data)}"]


def test_b13_a_link_that_is_named_is_followed_and_those_below_are_links(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"A/bar": "bar\n", "B/foo": "-> ../A/bar"})
    built = build(engine, folder, "FROM busybox:1\nCOPY B/foo /x\nCOPY B/ /y/\nCOPY B/f* /z/\n")
    script = "stat -c %F /x /z/foo; readlink /y/foo; ls -d /A 2>/dev/null || echo none"
    assert shell(engine, built, script).splitlines() == ["regular file", "regular file", "../A/bar", "none"]


def test_b14_several_sources_never_end_as_one_file(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"a.txt": "a", "b.txt": "b", "c": "c"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1
        COPY *.txt /d
        COPY a.* /one
        WORKDIR /w
        COPY a.txt b.txt ./
        COPY c nomatch* /some/
        """,
    )
    found = shell(engine, built, "ls /d /w /some; stat -c %F /one").split()
    assert found == ["/d:", "a.txt", "b.txt", "/some:", "c", "/w:", "a.txt", "b.txt", "regular", "file"]
    assert (
        refused(engine, folder, "FROM busybox:1\nCOPY a.txt absent /d/\n").metadata["cause"] == "BUILD_SOURCE_NOT_FOUND"
    )


def test_b15_directories_are_copied_by_their_content(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"d/one": "1", "d/sub/two": "2", "f": "f"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1
        RUN mkdir /real && ln -s /real /link
        COPY d /x
        COPY f /y/
        COPY f /z
        WORKDIR /w/deep
        COPY f rel
        COPY . ../../../..
        COPY d /link
        """,
    )
    script = "ls /x /x/sub /y; cat /z rel /f; echo; ls -F / | grep -c link; ls /real"
    found = shell(engine, built, script).split()
    assert found == ["/x:", "one", "sub", "/x/sub:", "two", "/y:", "f", "fff", "1", "one", "sub"]


def test_b16_nothing_outside_the_context_is_ever_copied(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary")
    files: dict[str, str | bytes] = {
        "link": "-> /etc/hostname",
        "up": "-> ../secret",
        "inside": "-> /etc/own",
        "etc/own": "own\n",
    }
    folder = context(tmp_path / "context", files)
    for source in ("../secret", "/etc/passwd", "link", "up", "../../../../etc/passwd"):
        failure = refused(engine, folder, f"FROM busybox:1\nCOPY {source} /x\n")
        assert failure.metadata["cause"] == "BUILD_SOURCE_NOT_FOUND", source
    built = build(engine, folder, "FROM busybox:1\nCOPY inside /x\nCOPY ../etc/own /y\n")
    assert shell(engine, built, "cat /x /y") == "own\nown\n"


def test_b22_ignore_files_leave_out_and_the_dockerfiles_own_wins(engine: Engine, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "Dockerfile": "FROM busybox:1\nCOPY . /all\n",
        "Prod": "FROM busybox:1\nCOPY . /all\n",
        ".dockerignore": "Dockerfile\n.dockerignore\n*.log\n!keep.log\n",
        "Prod.dockerignore": "keep.log\n",
        "a.log": "",
        "keep.log": "",
        "b": "",
    }
    folder = context(tmp_path, files)
    assert shell(engine, build(engine, folder), "ls -A /all").split() == ["Prod", "Prod.dockerignore", "b", "keep.log"]
    own = shell(engine, build(engine, folder, dockerfile_path="Prod"), "ls -A /all").split()
    assert "keep.log" not in own
    assert {"a.log", "Dockerfile", ".dockerignore"} <= set(own)


def test_modes_links_and_excludes_of_copy(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"d/a.sh": "", "d/b.txt": "", "d/deep/c.txt": "", "p/q/r": "r"})
    built = build(
        engine,
        folder,
        """
        FROM busybox:1
        COPY --chmod=u=rwX,go=rX d /symbolic
        COPY --chmod=0700 d/a.sh /octal
        COPY --exclude=**/*.txt d /few
        COPY --link --chown=3:4 d/b.txt /linked/b.txt
        COPY --parents p/*/r /kept/
        COPY <<one <<two /here/
        first
        one
        second
        two
        """,
    )
    script = (
        "stat -c %a /symbolic/a.sh /symbolic/deep /octal; ls /few; stat -c %u:%g /linked/b.txt; cat /kept/p/q/r /here/*"
    )
    found = shell(engine, built, script).split()
    assert found == ["644", "755", "700", "a.sh", "deep", "3:4", "rfirst", "second"]


def test_excludes_are_of_paths_below_what_is_copied(engine: Engine, tmp_path: Path) -> None:
    files = {"d/a": "", "d/b.txt": "", "d/deep/c.txt": "", "d/deep/d": "", "e/x.txt": "", "top.txt": "", "top.md": ""}
    built = build(
        engine,
        context(tmp_path, files),
        """
        FROM busybox:1
        COPY --exclude=*.txt d /shallow
        COPY --exclude=deep/* d /deep
        COPY --exclude=d/* d /none-of-these
        COPY --exclude=*.txt top.* /tops/
        COPY --exclude=*.txt e top.txt /empty/
        COPY --parents --exclude=deep d/./* /parents/
        COPY --parents --exclude=d/*.txt d /kept/
        """,
    )
    folders = "shallow deep none-of-these tops empty parents kept"
    script = f"cd / && for d in {folders}; do echo $(cd $d && find . -type f | sort); done"
    assert shell(engine, built, script).splitlines() == [
        "./a ./deep/c.txt ./deep/d",
        "./a ./b.txt",
        "./a ./b.txt ./deep/c.txt ./deep/d",
        "./top.md",
        "",
        "./a ./b.txt",
        "./d/a ./d/deep/c.txt ./d/deep/d",
    ]


def test_a_copy_that_would_change_what_a_file_is_is_refused(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"d/bin": "a file", "f": "f", "e/etc/passwd/x": "x"})
    for line, path in (("COPY d /", "bin"), ("COPY e /", "etc/passwd"), ("COPY f /etc/passwd/y", "etc/passwd")):
        failure = refused(engine, folder, f"FROM busybox:1\n{line}\n")
        assert failure.metadata["cause"] == "BUILD_COPY_REJECTED", failure
        assert path in failure.metadata["detail"]


def test_b25_a_name_that_a_layer_cannot_hold_is_refused(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {".wh.x": ""})
    assert refused(engine, folder, "FROM busybox:1\nCOPY . /d\n").metadata["cause"] == "BUILD_COPY_REJECTED"
    failure = refused(engine, tmp_path, "FROM busybox:1\nRUN touch /x /.wh.x\n")
    assert failure.metadata["cause"] == "FILE_UNREPRESENTABLE"


def test_what_stands_in_the_way_of_a_directory_is_named(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"d/f": "f", "g": "g"})
    told = "a directory is needed here, and what is here is none"
    for line in ("COPY d /etc/passwd", "COPY d /etc/passwd/", "COPY g /etc/passwd/g", "WORKDIR /etc/passwd"):
        failure = refused(engine, folder, f"FROM busybox:1\n{line}\n")
        cause, detail = failure.metadata["cause"], failure.metadata["detail"]
        assert (cause, "etc/passwd" in detail, told in detail) == ("BUILD_COPY_REJECTED", True, True), (line, detail)


def test_attributes_of_files_are_copied_and_count(engine: Engine, tmp_path: Path) -> None:
    for value in (b"one", b"two"):
        file = replace(tarball.file("f", "the same"), xattrs={"user.told": value})
        engine.load(image_files.oci_archive({f"told:{value.decode()}": images.image([images.layer(file)])}))
    folder = context(tmp_path, {"x": ""})
    states = []
    for name in ("one", "two", "one"):
        built = build(engine, folder, f"FROM scratch\nCOPY --from=told:{name} /f /copied\n")
        states.append(built.state_of("COPY"))
        archive = tmp_path / "saved.tar"
        client_images.save(engine.channel, [built.reference], archive)
        with tarfile.open(archive) as outer:
            blobs = [found.read() for member in outer if (found := outer.extractfile(member)) is not None]
            (layer,) = (blob for blob in blobs if blob.startswith(b"\x1f\x8b"))
            with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
                assert tar.getmember("copied").pax_headers["SCHILY.xattr.user.told"] == name
    assert states == [DONE, DONE, CACHED]
