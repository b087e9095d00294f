"""Importing root file systems: the config that changes ask for, judged by skopeo; bad tars and bad changes."""

import bz2
import json
import lzma
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

import grpc
import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import platform_pb2
from tests.e2e.images.steps import blob, get, import_rootfs, refused, small_layer, staged, stored
from tests.support import images, tarball
from tests.support.engine import Engine

CHANGES = [
    'CMD ["-c", "echo $A"]',
    'ENTRYPOINT ["/bin/sh"]',
    "ENV A=1 B='two words'",
    "ENV A=3",
    "ENV OLD form of it",
    "LABEL com.example.a=b",
    "USER 1000:1000",
    "WORKDIR /srv",
    "EXPOSE 80/tcp 53/udp",
    'VOLUME ["/data"]',
    "STOPSIGNAL SIGINT",
    "cmd /bin/ls",
    'CMD ["-c", "echo $A"]',
]


@pytest.mark.needs("skopeo")
def test_r18_changes_stand_in_the_config_as_skopeo_reads_it(engine: Engine) -> None:
    layer = small_layer(compression="none")
    answer = import_rootfs(
        engine, layer.tar, reference="team/app:1", changes=CHANGES, message="made here", size_bytes=len(layer.tar)
    )
    layout = f"oci:{engine.root}/data/content:docker.io/team/app:1"
    command = ["skopeo", "inspect", "--raw", "--config", layout]
    config = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert config["config"] == {
        "Cmd": ["-c", "echo $A"],
        "Entrypoint": ["/bin/sh"],
        "Env": ["A=3", "B=two words", "OLD=form of it"],
        "Labels": {"com.example.a": "b"},
        "User": "1000:1000",
        "WorkingDir": "/srv",
        "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
    }
    assert (config["os"], config["architecture"]) == ("linux", images.HOST_ARCHITECTURE)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(config["created"])).total_seconds()) < 60
    # One layer, one step that made it, and the digest of what the blob decompresses to (R18).
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert [step.get("empty_layer", False) for step in config["history"]] == [False]
    assert config["history"][0]["comment"] == "made here"
    found = get(engine, answer.image.id)
    assert found.history[0].diff_id == layer.diff_id
    assert blob(engine, found.layers[0].descriptor.digest) == layer.tar


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_r18_a_compressed_root_is_kept_as_it_came_under_its_own_diff_id(
    engine: Engine, compression: tarball.Compression
) -> None:
    layer = small_layer(compression=compression)
    (found,) = get(engine, import_rootfs(engine, layer.blob).image.id).layers
    assert (found.descriptor.digest, found.diff_id) == (layer.digest, layer.diff_id)
    assert found.descriptor.media_type == layer.media_type()


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
def test_r18_a_root_in_a_compression_that_no_layer_has_is_kept_without_it(
    engine: Engine, compress: Callable[[bytes], bytes]
) -> None:
    layer = small_layer(compression="none")
    (found,) = get(engine, import_rootfs(engine, compress(layer.tar)).image.id).layers
    assert (found.descriptor.digest, found.diff_id) == (layer.diff_id, layer.diff_id)
    assert found.descriptor.media_type == images.OCI_LAYER
    assert blob(engine, layer.diff_id) == layer.tar
    before, staged_before = stored(engine), staged(engine)
    cut = refused(lambda: import_rootfs(engine, compress(small_layer().tar)[:-5]))
    assert (cut.reason, "compressed data" in cut.metadata["detail"]) == ("LAYER_CORRUPT", True)
    assert (stored(engine), staged(engine)) == (before, staged_before)


def test_an_imported_root_runs_as_its_config_says(engine: Engine) -> None:
    changes = ['ENTRYPOINT ["/bin/sh", "-c"]', 'CMD ["id -u; pwd; echo $A"]', "USER app", "WORKDIR /tmp", "ENV A=7"]
    import_rootfs(
        engine,
        images.busybox_layer().blob,
        reference="imported",
        changes=[*changes, images.BUSYBOX_PATH and f"ENV {images.BUSYBOX_PATH}"],
    )
    assert engine.run("imported")[0] == b"1000\n/tmp\n7\n"


def test_a_platform_may_be_given(engine: Engine) -> None:
    platform = platform_pb2.Platform(os="linux", architecture="arm", variant="v6")
    answer = import_rootfs(engine, small_layer().tar, platform=platform)
    assert (answer.image.platform.architecture, answer.image.platform.variant) == ("arm", "v6")


def test_an_image_without_reference_is_dangling_and_a_name_moves(engine: Engine) -> None:
    dangling = import_rootfs(engine, small_layer().tar).image
    assert list(dangling.references) == []
    first = import_rootfs(engine, small_layer().tar, reference="app").image
    second = import_rootfs(engine, small_layer().tar, reference="app").image
    assert list(second.references) == ["docker.io/library/app:latest"]
    assert list(get(engine, first.id).image.references) == []


@pytest.mark.parametrize(
    "change",
    [
        "RUN true",
        "FROM scratch",
        "HEALTHCHECK NONE",
        "CMD",
        "",
        'CMD ["unclosed"',
        "CMD [1]",
        "ENV A='unclosed",
        "LABEL a=1 b",
        "ENV " + "x" * 70_000,
    ],
)
def test_a_change_that_is_none_is_refused_before_a_byte_is_taken(engine: Engine, change: str) -> None:
    before = (stored(engine), staged(engine))
    found = refused(lambda: import_rootfs(engine, small_layer().tar, changes=["USER 1", change]))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert found.metadata["field"] == "options.changes[1]"
    assert (stored(engine), staged(engine)) == before


def test_too_many_changes_meet_a_named_limit(engine: Engine) -> None:
    found = refused(lambda: import_rootfs(engine, b"", changes=["USER 1"] * 101))
    assert (found.metadata["field"], "MAX_CHANGES" in found.metadata["rule"]) == ("options.changes", True)


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (b"", {"LAYER_CORRUPT"}),
        (b"not a tar" * 200, {"LAYER_CORRUPT"}),
        (tarball.gzip_bytes(tarball.write_tar([tarball.file("f", "x" * 5000)]))[:-20], {"LAYER_CORRUPT"}),
        (tarball.write_tar([tarball.file("f", "x" * 5000)])[:2000], {"LAYER_CORRUPT"}),
        (tarball.write_tar([tarball.file("../../escape1", "x")]), {"LAYER_REJECTED"}),
        (tarball.write_tar([tarball.file(".wh...")]), {"LAYER_REJECTED"}),
    ],
    ids=["empty", "no tar", "cut gzip", "cut tar", "z01", "z02"],
)
def test_a_root_that_cannot_be_unpacked_is_refused(engine: Engine, data: bytes, reasons: set[str]) -> None:
    before = (stored(engine), staged(engine))
    found = refused(lambda: import_rootfs(engine, data, reference="app"))
    assert found.reason in reasons
    assert found.metadata["digest"]
    assert (stored(engine), staged(engine)) == before
    assert import_rootfs(engine, small_layer().tar, reference="app").image.id


@pytest.mark.parametrize("reference", ["UPPER", "a b", "app@sha256:" + "0" * 64])
def test_a_reference_that_cannot_name_it_is_refused(engine: Engine, reference: str) -> None:
    found = refused(lambda: import_rootfs(engine, small_layer().tar, reference=reference))
    assert (found.code, found.reason) in {
        (grpc.StatusCode.INVALID_ARGUMENT, "REFERENCE_INVALID"),
        (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
    }


def test_options_come_first(engine: Engine) -> None:
    found = refused(lambda: engine.images.ImportImage(iter([images_pb2.ImportImageRequest(chunk=b"x")])))
    assert found.reason == "FIELD_INVALID"
