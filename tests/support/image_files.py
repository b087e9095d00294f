"""Writes images of `images` as OCI layouts, OCI archives and docker-archives, and pushes them to a registry.

Archives are returned as bytes, so that a test may cut or bend them before it writes them to a file.
Source: image-spec image-layout.md; moby's image export (docker save), both its form since 25.0 and the one before.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from tests.support import images, tarball
from tests.support.images import Image, Json, Tagged
from tests.support.tarball import Compression, Member

REF_NAME = "org.opencontainers.image.ref.name"
OCI_LAYOUT = images.dump({"imageLayoutVersion": "1.0.0"})


def layout_files(tagged: Mapping[str, Tagged]) -> dict[str, bytes]:
    """The files of an OCI layout by path: `tagged` maps the value of the ref.name annotation (a tag or a whole
    reference; empty for none) to an image or index."""
    files = {"oci-layout": OCI_LAYOUT}
    manifests: list[Json] = []
    for name, each in tagged.items():
        entry = each.descriptor()
        if name:
            entry["annotations"] = {REF_NAME: name}
        manifests.append(entry)
        blobs = {**each.blobs, **{digest: data for digest, (_, data) in each.manifests.items()}}
        files.update({_blob_path(digest): data for digest, data in blobs.items()})
    files["index.json"] = images.dump({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": manifests})
    return files


def write_layout(root: Path, tagged: Mapping[str, Tagged]) -> None:
    """An OCI layout below the directory `root`, which is made if absent."""
    for name, data in layout_files(tagged).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def oci_archive(tagged: Mapping[str, Tagged], *, compression: Compression = "none") -> bytes:
    """A tar of an OCI layout."""
    return _archive(layout_files(tagged), compression)


def docker_archive(
    tagged: Mapping[str, Image], *, compression: Compression = "none", compressed_layers: bool = False
) -> bytes:
    """What `docker save` writes since Engine 25: an OCI layout and a manifest.json over the same blobs.

    Keys are references as in RepoTags (`name:tag`). Layers are plain tars, as Docker writes them, unless
    `compressed_layers`; the config, and with it the image's id, stays the same.
    """
    stored = {name: image if compressed_layers else _with_plain_layers(image) for name, image in tagged.items()}
    files = layout_files(stored)
    files["manifest.json"] = images.dump(
        [
            {
                "Config": _blob_path(image.config_digest),
                "RepoTags": [name],
                "Layers": [_blob_path(layer.digest) for layer in image.layers],
            }
            for name, image in stored.items()
        ]
    )
    return _archive(files, compression)


def docker_archive_old(tagged: Mapping[str, Image], *, compression: Compression = "none") -> bytes:
    """What `docker save` wrote before Engine 25: `<id>/layer.tar`, `<config hex>.json`, manifest.json, repositories.

    A layer met before is a symlink to the first one's layer.tar, as those versions wrote it.
    """
    members: dict[str, Member] = {}
    listing: list[Json] = []
    repositories: dict[str, dict[str, str]] = {}
    first_path: dict[str, str] = {}
    for name, image in tagged.items():
        config_name = image.config_digest.removeprefix("sha256:") + ".json"
        members[config_name] = tarball.file(config_name, image.config)
        paths: list[str] = []
        layer_id = ""
        for layer in image.layers:
            layer_id = hashlib.sha256(f"{layer_id} {layer.diff_id} {image.config_digest}".encode()).hexdigest()
            path = f"{layer_id}/layer.tar"
            members[f"{layer_id}/"] = tarball.directory(layer_id)
            members[f"{layer_id}/VERSION"] = tarball.file(f"{layer_id}/VERSION", "1.0")
            members[f"{layer_id}/json"] = tarball.file(f"{layer_id}/json", images.dump({"id": layer_id}))
            if path in members:
                pass
            elif layer.diff_id in first_path:
                members[path] = tarball.symlink(path, "../" + first_path[layer.diff_id])
            else:
                members[path] = tarball.file(path, layer.tar)
                first_path[layer.diff_id] = path
            paths.append(path)
        listing.append({"Config": config_name, "RepoTags": [name], "Layers": paths})
        repository, _, tag = name.rpartition(":")
        repositories.setdefault(repository, {})[tag] = layer_id
    members["manifest.json"] = tarball.file("manifest.json", images.dump(listing))
    members["repositories"] = tarball.file("repositories", images.dump(repositories))
    return tarball.compress(tarball.write_tar(members.values()), compression)


def push(address: str, repository: str, reference: str, tagged: Tagged) -> str:
    """Puts all blobs and manifests of `tagged` into the registry at `address` (`host:port`, plain HTTP), the top one
    under the tag `reference`; returns its digest. Blobs that are there are not sent again.

    Raises RuntimeError with the registry's answer if it refuses one.
    """
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        for digest, data in tagged.blobs.items():
            _push_blob(connection, repository, digest, data)
        for digest, (media_type, data) in tagged.manifests.items():
            name = reference if digest == tagged.digest else digest
            _request(connection, f"PUT /v2/{repository}/manifests/{name}", {201}, data, media_type)
    finally:
        connection.close()
    return tagged.digest


def _push_blob(connection: http.client.HTTPConnection, repository: str, digest: str, data: bytes) -> None:
    status, _ = _request(connection, f"HEAD /v2/{repository}/blobs/{digest}", {200, 404})
    if status == 200:
        return
    _, location = _request(connection, f"POST /v2/{repository}/blobs/uploads/", {202})
    parts = urlsplit(location)
    query = f"{parts.query}&" if parts.query else ""
    _request(connection, f"PUT {parts.path}?{query}digest={digest}", {201}, data)


def _request(
    connection: http.client.HTTPConnection,
    line: str,
    expected: set[int],
    body: bytes = b"",
    content_type: str = "application/octet-stream",
) -> tuple[int, str]:
    """Status and Location of the answer to the request line `METHOD TARGET`."""
    method, target = line.split(" ", 1)
    connection.request(method, target, body, {"Content-Type": content_type})
    response = connection.getresponse()
    answer = response.read()
    if response.status not in expected:
        raise RuntimeError(f"{line}: {response.status} {answer[:500]!r}")
    return response.status, response.getheader("Location", "")


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _with_plain_layers(image: Image) -> Image:
    layers = tuple(layer.uncompressed() for layer in image.layers)
    docker = image.media_type == images.DOCKER_MANIFEST
    manifest = json.loads(image.manifest)
    manifest["layers"] = [layer.descriptor(docker=docker) for layer in layers]
    return replace(image, layers=layers, manifest=images.dump(manifest))


def _archive(files: Mapping[str, bytes], compression: Compression) -> bytes:
    names = sorted(files)
    folders = sorted({str(parent) for name in names for parent in Path(name).parents if str(parent) != "."})
    members: list[Member] = [tarball.directory(folder) for folder in folders]
    members += [tarball.file(name, files[name]) for name in names]
    return tarball.compress(tarball.write_tar(members), compression)
