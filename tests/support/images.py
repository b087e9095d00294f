"""Builds tiny OCI and Docker images in process, byte for byte as a test wants them.

Images are values: nothing is written here. `image_files` writes them as layouts and archives, and pushes them.
Typical use::

    base = images.busybox_image(cmd=["sh"])
    image = images.image([images.layer(tarball.file("hello", "world"))], cmd=["/hello"])
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from tests.support import tarball
from tests.support.tarball import Compression, Format, Member

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

CREATED = "2001-09-09T01:46:40Z"
BUSYBOX = Path("/bin/busybox")
"""Debian's statically linked busybox, of the package busybox-static."""

HOST_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
"""This machine's architecture in OCI's (Go's) spelling."""

Json = dict[str, Any]
"""A JSON object whose members a test may set to anything, also to what no image may hold."""


def digest_of(data: bytes) -> str:
    """`sha256:` and 64 lower-case hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def dump(value: object) -> bytes:
    """Compact JSON, the same bytes for the same value."""
    return json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Layer:
    """A layer: `blob` is what a registry stores, `tar` what it decompresses to."""

    blob: bytes
    tar: bytes
    compression: Compression

    @property
    def digest(self) -> str:
        """The digest of the blob as stored."""
        return digest_of(self.blob)

    @property
    def diff_id(self) -> str:
        """The digest of the uncompressed tar."""
        return digest_of(self.tar)

    def media_type(self, *, docker: bool = False) -> str:
        """The OCI or Docker media type that fits the compression."""
        if docker:
            return DOCKER_LAYER + {"none": "", "gzip": ".gzip", "zstd": ".zstd"}[self.compression]
        return OCI_LAYER + ("" if self.compression == "none" else f"+{self.compression}")

    def descriptor(self, *, docker: bool = False) -> Json:
        """The descriptor of the blob as a manifest lists it."""
        return {"mediaType": self.media_type(docker=docker), "digest": self.digest, "size": len(self.blob)}

    def uncompressed(self) -> Layer:
        """The same layer stored as a plain tar, as docker save writes it."""
        return Layer(self.tar, self.tar, "none")


@dataclass(frozen=True)
class Image:
    """One image for one platform: manifest and config as exact bytes, and the blobs they name."""

    manifest: bytes
    config: bytes
    layers: tuple[Layer, ...]
    media_type: str

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return digest_of(self.manifest)

    @property
    def config_digest(self) -> str:
        """The digest of the config, which Docker calls the image's id."""
        return digest_of(self.config)

    @property
    def diff_ids(self) -> list[str]:
        """The diff_ids of the layers, lowest first (not read from the config, which may lie)."""
        return [layer.diff_id for layer in self.layers]

    @property
    def blobs(self) -> dict[str, bytes]:
        """Config and layers by digest; the manifest is not among them."""
        return {self.config_digest: self.config, **{layer.digest: layer.blob for layer in self.layers}}

    @property
    def manifests(self) -> dict[str, tuple[str, bytes]]:
        """Media type and bytes of each manifest by digest: here the one of the image itself."""
        return {self.digest: (self.media_type, self.manifest)}

    def descriptor(self, *, with_platform: bool = True) -> Json:
        """The descriptor of the manifest as an index lists it; the platform is taken from the config."""
        entry: Json = {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest)}
        if with_platform:
            config = json.loads(self.config)
            entry["platform"] = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
        return entry


@dataclass(frozen=True)
class Index:
    """An index (manifest list) and the images or further indexes it names."""

    manifest: bytes
    children: tuple[Tagged, ...]
    media_type: str

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return digest_of(self.manifest)

    @property
    def blobs(self) -> dict[str, bytes]:
        """Configs and layers of all children by digest."""
        return {digest: data for child in self.children for digest, data in child.blobs.items()}

    @property
    def manifests(self) -> dict[str, tuple[str, bytes]]:
        """Media type and bytes of the children's manifests and of the index by digest, children first."""
        below = {digest: manifest for child in self.children for digest, manifest in child.manifests.items()}
        return {**below, self.digest: (self.media_type, self.manifest)}

    def descriptor(self, *, with_platform: bool = True) -> Json:
        """The descriptor of the index; an index has no platform of its own, whatever `with_platform` says."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.manifest)}


Tagged = Union[Image, Index]  # noqa: UP007 - Index refers to this name before it exists
"""What a tag can name."""


def layer(*members: Member, compression: Compression = "gzip", format: Format = "pax") -> Layer:
    """A layer of these tar members in this order."""
    return layer_of_tar(tarball.write_tar(members, format=format), compression)


def layer_of_tar(tar: bytes, compression: Compression = "gzip") -> Layer:
    """A layer of a ready tar stream."""
    return Layer(tarball.compress(tar, compression), tar, compression)


def layer_of_blob(blob: bytes, tar: bytes, compression: Compression) -> Layer:
    """A layer whose blob was made by the caller: several gzip members, skippable frames, a cut stream."""
    return Layer(blob, tar, compression)


def config_json(
    diff_ids: Sequence[str],
    *,
    entrypoint: Sequence[str] | None = None,
    cmd: Sequence[str] | None = None,
    env: Sequence[str] | None = None,
    user: str | None = None,
    working_dir: str | None = None,
    stop_signal: str | None = None,
    labels: Mapping[str, str] | None = None,
    os: str = "linux",
    architecture: str = HOST_ARCHITECTURE,
    variant: str | None = None,
    extra: Mapping[str, object] | None = None,
    extra_config: Mapping[str, object] | None = None,
) -> Json:
    """An image config. Absent values leave their key out; `extra` replaces top-level keys, `extra_config` those
    below `config` (for example `{"ExposedPorts": {"80/tcp": {}}}`)."""
    values: Json = {
        "Entrypoint": list(entrypoint) if entrypoint is not None else None,
        "Cmd": list(cmd) if cmd is not None else None,
        "Env": list(env) if env is not None else None,
        "User": user,
        "WorkingDir": working_dir,
        "StopSignal": stop_signal,
        "Labels": dict(labels) if labels is not None else None,
        **(extra_config or {}),
    }
    config: Json = {
        "created": CREATED,
        "architecture": architecture,
        "os": os,
        "config": {key: value for key, value in values.items() if value is not None},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number in range(len(diff_ids))],
    }
    if variant is not None:
        config["variant"] = variant
    return {**config, **(extra or {})}


def manifest_json(layers: Sequence[Layer], config: bytes, *, docker: bool = False) -> Json:
    """An image manifest over these layers and this config."""
    return {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": {
            "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": [layer.descriptor(docker=docker) for layer in layers],
    }


def image(
    layers: Iterable[Layer],
    *,
    docker: bool = False,
    config: Mapping[str, object] | None = None,
    manifest: Mapping[str, object] | None = None,
    **config_values: Any,
) -> Image:
    """An image of these layers, lowest first.

    Args:
        docker: Docker's media types in place of OCI's.
        config: a whole config in place of one made by `config_json` from the diff_ids and `config_values`.
        manifest: keys that replace those of the manifest, so that it may lie; a value of None takes the key out.
        config_values: arguments of `config_json`, for example `cmd=["sh"]`, `user="1000"`, `variant="v8"`.
    """
    stack = tuple(layers)
    config_bytes = dump(
        config if config is not None else config_json([each.diff_id for each in stack], **config_values)
    )
    fields = {**manifest_json(stack, config_bytes, docker=docker), **(manifest or {})}
    manifest_bytes = dump({key: value for key, value in fields.items() if value is not None})
    return Image(manifest_bytes, config_bytes, stack, DOCKER_MANIFEST if docker else OCI_MANIFEST)


def index(
    children: Iterable[Tagged], *, docker: bool = False, descriptors: Sequence[Mapping[str, object]] | None = None
) -> Index:
    """An index over `children` in this order; `descriptors` replaces the list of descriptors (attestations, platforms
    that lie, entries that nothing stands behind)."""
    members = tuple(children)
    media_type = DOCKER_LIST if docker else OCI_INDEX
    listed = descriptors if descriptors is not None else [child.descriptor() for child in members]
    body = dump({"schemaVersion": 2, "mediaType": media_type, "manifests": [dict(entry) for entry in listed]})
    return Index(body, members, media_type)


@functools.cache
def busybox_layer(compression: Compression = "gzip") -> Layer:
    """A root file system around Debian's static busybox: /bin with a link for each applet, /etc/passwd, /etc/group,
    and the usual empty directories. Users: root (0:0), daemon (1:1), app (1000:1000, also in group extra, 2000).

    Raises FileNotFoundError if the package busybox-static is not installed. The layer is made once a process.
    """
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    directories = ("bin", "dev", "etc", "home", "home/app", "proc", "root", "sys", "tmp", "usr", "usr/bin", "var")
    modes = {"tmp": 0o1777, "root": 0o700}
    users = (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "app:x:1000:1000:app:/home/app:/bin/sh\n"
    )
    groups = "root:x:0:\ndaemon:x:1:\napp:x:1000:\nextra:x:2000:app\n"
    members: list[Member] = [tarball.directory(name, modes.get(name, 0o755)) for name in directories]
    members += [
        tarball.file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755),
        *(tarball.symlink(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
        tarball.file("etc/passwd", users),
        tarball.file("etc/group", groups),
    ]
    return layer(*members, compression=compression)


BUSYBOX_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def busybox_image(
    *upper: Layer, docker: bool = False, compression: Compression = "gzip", **config_values: Any
) -> Image:
    """A runnable image: `busybox_layer` and any layers above it. `cmd` is `sh` and `env` a usual PATH unless given;
    further `config_values` as in `config_json`."""
    values: dict[str, Any] = {"cmd": ["sh"], "env": [BUSYBOX_PATH], **config_values}
    return image([busybox_layer(compression), *upper], docker=docker, **values)
