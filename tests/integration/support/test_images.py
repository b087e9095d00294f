"""The images that other tests are made of are what real tools take them for."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support import image_files, images, tarball
from tests.support.tarball import Format


def _read(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data))


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_long_names_links_and_great_ids_survive_in_both_formats(form: Format) -> None:
    name, target = "d/" + "n" * 200, "t" * 180
    entry = tarball.Entry(name, uid=3_000_000, gid=4_000_000_000, data=b"x")
    archive = _read(tarball.write_tar([entry, tarball.symlink("l", target)], format=form))
    member = archive.getmember(name)
    assert (member.uid, member.gid, member.size) == (3_000_000, 4_000_000_000, 1)
    assert archive.getmember("l").linkname == target


def test_ustar_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="ustar"):
        tarball.write_tar([tarball.file("n" * 300)], format="ustar")


@pytest.mark.parametrize("version", ["1.0", "0.1", "0.0", "gnu"])
def test_a_sparse_file_is_what_tar_makes_of_it(version: str, tmp_path: Path) -> None:
    entry = tarball.sparse("s", 8 << 20, [(1 << 20, b"MID"), (5 << 20, b"END")], version)  # type: ignore[arg-type]
    subprocess.run(["tar", "-x", "-C", tmp_path], input=tarball.write_tar([entry]), check=True)
    plain = bytearray(8 << 20)
    plain[1 << 20 : (1 << 20) + 3] = b"MID"
    plain[5 << 20 : (5 << 20) + 3] = b"END"
    assert hashlib.sha256((tmp_path / "s").read_bytes()).digest() == hashlib.sha256(plain).digest()


def test_a_zstd_frame_behind_a_skippable_one_is_read_by_zstd() -> None:
    data = b"abc" * 200_000
    stream = tarball.zstd_skippable(b"abcd") + tarball.zstd_bytes(data)
    assert subprocess.run(["zstd", "-dc"], input=stream, check=True, capture_output=True).stdout == data


def test_digest_and_diff_id_are_those_of_the_blob_and_of_the_tar() -> None:
    layer = images.layer(tarball.file("f", "x"))
    image = images.image([layer], cmd=["/f"])
    assert images.digest_of(gzip.decompress(layer.blob)) == layer.diff_id
    assert json.loads(image.config)["rootfs"]["diff_ids"] == [layer.diff_id]
    assert json.loads(image.manifest)["layers"][0]["digest"] == layer.digest


def test_skopeo_reads_a_layout_and_both_forms_of_docker_archive(tmp_path: Path) -> None:
    image = images.busybox_image(labels={"a": "b"})
    image_files.write_layout(tmp_path / "layout", {"v1": image})
    (tmp_path / "oci.tar").write_bytes(image_files.oci_archive({"v1": image}))
    (tmp_path / "new.tar").write_bytes(image_files.docker_archive({"x/y:v1": image}))
    (tmp_path / "old.tar").write_bytes(image_files.docker_archive_old({"x/y:v1": image}))
    sources = ("oci:layout:v1", "oci-archive:oci.tar:v1", "docker-archive:new.tar", "docker-archive:old.tar")
    for source in sources:
        command = ["skopeo", "inspect", "--config", "--raw", source]
        found = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path).stdout
        assert images.digest_of(found) == image.config_digest, source
