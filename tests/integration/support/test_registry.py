"""The registries that other tests pull from do what they are told, good and bad."""

import http.client
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import image_files, images, registry, tarball
from tests.support.registry import FaultyRegistry, RealRegistry, blob_path, manifest_path


def _get(address: str, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", path, headers=headers or {})
    return connection.getresponse()


@pytest.fixture
def layer() -> images.Layer:
    return images.layer(tarball.file("f", bytes(5000)), compression="none")


def test_a_registry_without_faults_is_read_by_skopeo(tmp_path: Path) -> None:
    # Compressed, since skopeo would compress a plain layer on the way.
    layer = images.layer(tarball.file("f", "x"))
    image = images.image([layer])
    index = images.index([image])
    for requires_token in (False, True):
        with FaultyRegistry(requires_token=requires_token) as served:
            served.put("a/b", "v1", index)
            target = tmp_path / f"out-{requires_token}"
            source = f"docker://{served.address}/a/b:v1"
            command = ["skopeo", "copy", "--src-tls-verify=false", "--all", source, f"oci:{target}:v1"]
            subprocess.run(command, check=True, capture_output=True)
            assert (target / "blobs" / layer.digest.replace(":", "/")).read_bytes() == layer.blob


def test_faults_come_in_order_and_then_end(layer: images.Layer) -> None:
    with FaultyRegistry() as served:
        digest = served.put_blob(layer.blob)
        path = blob_path("a", digest)
        served.on(path, [registry.cut(100)], [], [registry.status(429, {"Retry-After": "2"})])
        broken = _get(served.address, path)
        with pytest.raises(http.client.IncompleteRead) as cut:
            broken.read()
        assert len(cut.value.partial) == 100
        assert _get(served.address, path).read() == layer.blob
        limited = _get(served.address, path)
        assert (limited.status, limited.getheader("Retry-After")) == (429, "2")
        assert _get(served.address, path).status == 200
        assert [request.path for request in served.requests_for(path)] == [path] * 4


def test_ranges_are_honoured_unless_they_are_ignored(layer: images.Layer) -> None:
    with FaultyRegistry() as served:
        path = blob_path("a", served.put_blob(layer.blob))
        asked = {"Range": "bytes=1000-"}
        part = _get(served.address, path, asked)
        size = len(layer.blob)
        assert (part.status, part.getheader("Content-Range")) == (206, f"bytes 1000-{size - 1}/{size}")
        assert part.read() == layer.blob[1000:]
        served.always(path, registry.ignore_range)
        whole = _get(served.address, path, asked)
        assert (whole.status, whole.getheader("Content-Range"), whole.read()) == (200, None, layer.blob)


def test_bytes_headers_length_and_time_can_lie(layer: images.Layer) -> None:
    with FaultyRegistry() as served:
        served.put("a", "v1", images.image([layer]))
        path = manifest_path("a", "v1")
        true = _get(served.address, path).read()
        served.on(path, [registry.wrong_bytes(3)], [registry.headers({"Content-Type": "x/y"})])
        served.on(path, [registry.declared_length(-1)], [registry.delay(0.3)], [registry.redirect("/elsewhere")])
        served.on(path, [registry.declared_length(len(true) + 1)])
        wrong = _get(served.address, path).read()
        assert (len(wrong), wrong == true) == (len(true), False)
        assert _get(served.address, path).getheader("Content-Type") == "x/y"
        chunked = _get(served.address, path)
        assert (chunked.getheader("Content-Length"), chunked.read()) == (None, true)
        started = time.monotonic()
        assert _get(served.address, path).read() == true
        assert time.monotonic() - started >= 0.3
        assert _get(served.address, path).getheader("Location") == "/elsewhere"
        with pytest.raises(http.client.IncompleteRead):
            _get(served.address, path).read()


def test_a_stalled_answer_ends_with_the_registry(layer: images.Layer) -> None:
    served = FaultyRegistry()
    path = blob_path("a", served.put_blob(layer.blob))
    served.on(path, [registry.stall(10)])
    response = _get(served.address, path)
    assert response.read(10) == layer.blob[:10]
    served.stop()
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()


def test_the_real_registry_takes_a_push_and_ends_with_its_context(layer: images.Layer, tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "one") as first, RealRegistry(tmp_path / "two") as second:
        assert first.address != second.address
        image = images.image([layer], docker=True)
        assert image_files.push(first.address, "a/b", "v1", images.index([image], docker=True)) != image.digest
        found = _get(first.address, blob_path("a/b", layer.digest))
        assert found.read() == layer.blob
        assert _get(second.address, blob_path("a/b", layer.digest)).status == 404
    with pytest.raises(OSError, match="refused"):
        _get(first.address, "/v2/")
