"""Which layers of an image need another blob, and what a caller may ask of them."""

import pytest

from fluyt.v1 import builds_pb2
from fluytd.api.convert.builds import from_request
from fluytd.builds.model import Packing
from fluytd.builds.repacking import is_repacked
from fluytd.errors import FieldInvalid
from fluytd.ids import Digest
from fluytd.images.manifests import Descriptor, compression_of
from fluytd.images.model import ImageLayer

OCI, DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
Output = builds_pb2.BuildOutputSpec


def layer(media_type: str) -> ImageLayer:
    digest = Digest.of(b"layer")
    return ImageLayer(Descriptor(media_type, digest, 5), digest, digest, digest.hex, 5)


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        (OCI, "uncompressed"),
        (f"{OCI}+gzip", "gzip"),
        (f"{OCI}+zstd", "zstd"),
        (DOCKER, "uncompressed"),
        (f"{DOCKER}.gzip", "gzip"),
        (f"{DOCKER}.zstd", "zstd"),
    ],
)
def test_a_media_type_tells_the_compression(media_type: str, name: str) -> None:
    assert compression_of(media_type) == name
    for wanted in ("gzip", "zstd", "uncompressed"):
        assert is_repacked(layer(media_type), Packing(wanted), is_of_base=False) == (wanted != name)


def test_a_level_needs_another_blob_and_a_base_only_where_all_are_asked_for() -> None:
    gzip = layer(f"{OCI}+gzip")
    assert is_repacked(gzip, Packing("gzip", 6), is_of_base=False)
    assert not is_repacked(gzip, Packing("zstd", 3), is_of_base=True)
    assert is_repacked(gzip, Packing("zstd", 3, is_for_bases=True), is_of_base=True)
    assert not is_repacked(gzip, Packing("gzip", is_for_bases=True), is_of_base=True)


def asked(output: builds_pb2.BuildOutputSpec) -> Packing:
    context = builds_pb2.BuildSource(context_id="c")
    return from_request(builds_pb2.BuildImageRequest(context=context, output=output)).packing


def test_what_may_be_asked() -> None:
    assert asked(Output()) == Packing("gzip", None, is_for_bases=False)
    assert asked(Output(compression=Output.COMPRESSION_GZIP, compression_level=0)) == Packing("gzip", 0)
    zstd = Output(compression=Output.COMPRESSION_ZSTD, compression_level=22, force_compression=True)
    assert asked(zstd) == Packing("zstd", 22, is_for_bases=True)
    assert asked(Output(compression=Output.COMPRESSION_UNCOMPRESSED)) == Packing("uncompressed")


@pytest.mark.parametrize(
    ("compression", "level", "field"),
    [
        (Output.COMPRESSION_UNSPECIFIED, 10, "output.compression_level"),
        (Output.COMPRESSION_GZIP, -1, "output.compression_level"),
        (Output.COMPRESSION_ZSTD, 0, "output.compression_level"),
        (Output.COMPRESSION_ZSTD, 23, "output.compression_level"),
        (Output.COMPRESSION_UNCOMPRESSED, 0, "output.compression_level"),
        (99, 1, "output.compression"),
    ],
)
def test_what_is_no_compression_is_refused(compression: int, level: int, field: str) -> None:
    output = Output(compression=compression, compression_level=level)  # type: ignore[arg-type]
    with pytest.raises(FieldInvalid) as caught:
        asked(output)
    assert caught.value.metadata["field"] == field


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1700000000", 1_700_000_000), ("", None)])
def test_the_argument_bounds_times(text: str, seconds: int | None) -> None:
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id="c"), build_args={"SOURCE_DATE_EPOCH": text}
    )
    assert from_request(request).source_date_seconds == seconds
    request.source_date.seconds = 7
    assert from_request(request).source_date_seconds == 7


@pytest.mark.parametrize("text", ["-1", "1.5", "now", " 1", "1" * 12, "١"])
def test_an_argument_that_is_no_time_is_refused(text: str) -> None:
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id="c"), build_args={"SOURCE_DATE_EPOCH": text}
    )
    with pytest.raises(FieldInvalid):
        from_request(request)
