"""Images whose layers are compressed as was asked for, and in which nothing is later than SOURCE_DATE_EPOCH."""

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt import builds
from fluyt import images as client_images
from fluyt.v1 import builds_pb2
from fluyt.v1.types import operation_pb2
from tests.e2e.builds.steps import BASE, CACHED, Built, build, context, refused, shell
from tests.support import image_files, images
from tests.support.engine import Engine

Output = builds_pb2.BuildOutputSpec
TAR = "application/vnd.oci.image.layer.v1.tar"
#: Of copies alone, which are the same whenever they are made.
COPIES = "FROM busybox:1\nCOPY f /f\nCOPY d /d\n"
#: Of commands, whose files have the time at which they ran; `/made` changes in the second.
COMMANDS = "FROM busybox:1\nRUN mkdir /made && echo a > /made/a\nRUN echo b >> /made/b; rm /made/a; ln -s b /made/c\n"
EPOCH = 1_200_000_000


@pytest.fixture(params=["directory", "erofs"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine that nothing was built with, by either store of layers."""
    (tmp_path / "engine").mkdir()
    with Engine(tmp_path / "engine", options=["--layer-store", request.param]) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context of some files, all of one time."""
    folder = context(tmp_path / "context", {"f": "f" * 5_000, "d/a": os.urandom(300_000), "d/l": "-> a"})
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (EPOCH + 50, EPOCH + 50), follow_symlinks=False)
    return folder


def saved(engine: Engine, built: Built, place: Path) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
    """The layers as the manifest names them, the config, and the layout that the image's archive is."""
    archive = place / "image.tar"
    client_images.save(engine.channel, [built.reference], archive)
    layout = place / "layout"
    with tarfile.open(archive) as tar:
        tar.extractall(layout, filter="data")
    blobs = layout / "blobs" / "sha256"
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    return manifest["layers"], config, layout


def decompressed(layout: Path, place: Path) -> list[Path]:
    """The archives of the layers, lowest first, as skopeo decompresses them; it holds each blob against its digest."""
    command = ["skopeo", "copy", "-q", "--dest-decompress", f"oci:{layout}", f"dir:{place}"]
    subprocess.run(command, check=True, capture_output=True)
    manifest = json.loads((place / "manifest.json").read_text())
    return [place / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize(
    ("output", "types"),
    [
        (Output(compression=Output.COMPRESSION_ZSTD), ["+gzip", "+zstd", "+zstd"]),
        (Output(compression=Output.COMPRESSION_ZSTD, compression_level=19), ["+gzip", "+zstd", "+zstd"]),
        (Output(compression=Output.COMPRESSION_ZSTD, force_compression=True), ["+zstd", "+zstd", "+zstd"]),
        (Output(compression=Output.COMPRESSION_UNCOMPRESSED, force_compression=True), ["", "", ""]),
        (Output(compression_level=1), ["+gzip", "+gzip", "+gzip"]),
    ],
    ids=["zstd", "zstd-19", "zstd-bases", "uncompressed-bases", "gzip-1"],
)
def test_layers_are_compressed_as_was_asked_for(
    engine: Engine, folder: Path, tmp_path: Path, output: builds_pb2.BuildOutputSpec, types: list[str]
) -> None:
    built = build(engine, folder, COPIES, output=output)
    layers, config, layout = saved(engine, built, tmp_path)
    assert [layer["mediaType"] for layer in layers] == [f"{TAR}{kind}" for kind in types]
    archives = decompressed(layout, tmp_path / "plain")
    assert [digest_of(archive) for archive in archives] == config["rootfs"]["diff_ids"]
    for layer, diff_id, kind in zip(layers, config["rootfs"]["diff_ids"], types, strict=True):
        assert (layer["digest"] == diff_id) == (kind == "")
    assert shell(engine, built, "wc -c < /f; wc -c < /d/l") == "5000\n300000\n"


def test_the_same_inputs_give_the_same_image_whatever_was_cached(fresh: Engine, folder: Path) -> None:
    wanted = {
        name: Output(compression=kind, compression_level=level)
        for name, kind, level in (
            ("gzip", Output.COMPRESSION_GZIP, None),
            ("gzip-9", Output.COMPRESSION_GZIP, 9),
            ("zstd", Output.COMPRESSION_ZSTD, None),
            ("zstd-7", Output.COMPRESSION_ZSTD, 7),
        )
    }
    cold = {}
    for name, output in wanted.items():
        builds.prune_cache(fresh.channel, all=True)
        cold[name] = build(fresh, folder, COPIES, output=output).result
    assert len({result.manifest_digest for result in cold.values()}) == len(wanted)
    # The config names what is in the archives, not how they are compressed.
    times = {result.image_id for result in cold.values()}
    for name, output in wanted.items():
        again = build(fresh, folder, COPIES, output=output, source_date_seconds=EPOCH)
        builds.prune_cache(fresh.channel, all=True)
        first = build(fresh, folder, COPIES, output=output, source_date_seconds=EPOCH)
        assert again.result.manifest_digest == first.result.manifest_digest, name
        assert again.result.image_id not in times
        assert [step.state for step in again.steps][1:] == [CACHED, CACHED]


@pytest.mark.needs("skopeo")
def test_nothing_is_later_than_the_source_date_though_the_steps_were_cached(
    fresh: Engine, folder: Path, tmp_path: Path
) -> None:
    plain = build(fresh, folder, COMMANDS)
    bounded = build(fresh, folder, COMMANDS, build_args={"SOURCE_DATE_EPOCH": str(EPOCH)})
    assert [step.state for step in bounded.steps][1:] == [CACHED, CACHED]
    _, config, layout = saved(fresh, bounded, tmp_path)
    assert config["created"] == "2008-01-10T21:20:00.000000000Z"
    for archive in decompressed(layout, tmp_path / "plain")[1:]:
        with tarfile.open(archive) as tar:
            found = {member.name: member.mtime for member in tar}
        assert found
        assert max(found.values()) <= EPOCH, found
    for built in (plain, bounded):
        assert shell(fresh, built, "cat /made/c; ls /made") == "b\nb\nc\n"
    once_more = build(fresh, folder, COMMANDS, source_date_seconds=EPOCH)
    anew = build(fresh, folder, COMMANDS, source_date_seconds=EPOCH, no_cache=True)
    later = build(fresh, folder, COMMANDS, source_date_seconds=EPOCH + 1)
    digests = [one.result.manifest_digest for one in (bounded, once_more, anew, later, plain)]
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests)) == 3


def test_the_argument_is_given_to_the_steps_that_declare_it(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1\nARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /told\n"
    built = build(engine, tmp_path, dockerfile, build_args={"SOURCE_DATE_EPOCH": str(EPOCH)})
    assert shell(engine, built, "cat /told; stat -c %Y /told") == f"{EPOCH}\n{EPOCH}\n"
    assert list(built.result.warnings) == []
    failure = refused(engine, tmp_path, dockerfile, build_args={"SOURCE_DATE_EPOCH": "yesterday"})
    assert (failure.reason, failure.metadata["field"]) == ("FIELD_INVALID", "build_args")


def test_several_stages_and_what_they_copy_are_bounded_too(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1 AS a\nRUN mkdir /a; touch /a/f\nFROM busybox:1\nCOPY --from=a /a /a\nRUN touch /b\n"
    built = build(engine, tmp_path, dockerfile, source_date_seconds=EPOCH)
    script = "for f in /a /a/f /b; do stat -c %Y $f; done | sort -u"
    assert shell(engine, built, script) == f"{EPOCH}\n"
    assert operation_pb2.BuildStep.STATE_DONE in [step.state for step in built.steps]
