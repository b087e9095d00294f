"""Attestations of built images: what is told of their making, and of the packages in them."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fluytd import failpoints
from fluytd.builds import attestations, packages
from fluytd.builds.attestations import Attestation, Making
from fluytd.builds.graph import literal
from fluytd.builds.model import BuildRequest
from fluytd.builds.packages import MAX_PACKAGE_DATABASE_BYTES, Package
from fluytd.builds.ports import FileTree, Trees, Wanted
from fluytd.builds.rpm_packages import RPM_SQLITE, rpm
from fluytd.errors import IoFailed, LimitExceeded
from fluytd.ids import OperationId
from fluytd.images.model import Image
from fluytd.operations.ports import CancelToken
from fluytd.workers import Workers

_log = logging.getLogger(__name__)

_LIMIT: Final = "MAX_PACKAGE_DATABASE_BYTES"


@dataclass(frozen=True, slots=True)
class _Scan:
    """The packages of a tree."""

    #: Empty for the image.
    name: str
    packages: list[Package]
    #: Its os-release.
    system: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Attestor:
    """Attests. Belongs to the event loop."""

    trees: Trees
    workers: Workers
    #: Below the data root; what is written there goes with the call.
    scratch: Path
    remove_tree: Callable[[str], None]
    #: Name and version of the engine.
    tool: str

    async def attest(
        self,
        request: BuildRequest,
        making: Making,
        image: Image,
        scanned: Sequence[tuple[str, FileTree]],
        cancel: CancelToken,
    ) -> Attestation | None:
        """What the request wants attested of an image that is visible or staged; None if it wants nothing.

        `scanned`: of what else packages are told, with its name. Raises LIMIT_EXCEEDED (MAX_PACKAGE_DATABASE_BYTES,
        MAX_PACKAGES), IO_FAILED, CANCELLED.
        """
        found: list[_Scan] = []
        if request.sbom:
            tree = await self.trees.of_layers([layer.layer_id for layer in image.layers], "the image")
            for name, scan in (("", tree), *scanned):
                found.append(_Scan(name, *await self._packages(scan, cancel)))
        # Of tens of thousands of packages: longer than the event loop may be held.
        return await self.workers.run_transfer(_attested, request, making, image, found, self.tool)

    async def _packages(self, tree: FileTree, cancel: CancelToken) -> tuple[list[Package], Mapping[str, str]]:
        found: list[Package] = []
        status = await self._read(tree, [packages.DPKG_STATUS])
        if status is not None:
            found += await self.workers.run(packages.dpkg, status)
        for text in await self._folder(tree, packages.DPKG_STATUS_FOLDER, cancel):
            found += await self.workers.run(packages.dpkg, text, needs_status=False)
        installed = await self._read(tree, packages.APK_INSTALLED)
        if installed is not None:
            found += await self.workers.run(packages.apk, installed)
        database = await self._read(tree, RPM_SQLITE)
        if database is not None:
            listed = await self.workers.run_transfer(rpm, database)
            if listed is None:
                _log.warning("the image's rpm database cannot be read, and its packages are not attested")
            found += listed or []
        system = await self._read(tree, packages.OS_RELEASE)
        return found, packages.os_release(system) if system is not None else {}

    async def _read(self, tree: FileTree, paths: Sequence[str]) -> bytes | None:
        for path in paths:
            data = await self.trees.read_file(tree, path, MAX_PACKAGE_DATABASE_BYTES, _LIMIT)
            if data is not None:
                return data
        return None

    async def _folder(self, tree: FileTree, path: str, cancel: CancelToken) -> list[bytes]:
        """The regular files in a folder of the tree."""
        selection = await self.trees.select(tree, Wanted(literal(path), is_required=False), cancel)
        if not selection.match_count:
            return []
        target = self.scratch / f"{OperationId.new()}-packages"
        try:
            failpoints.hit("build.packages.write")
            await self.workers.run(target.mkdir, 0o700)
            if not await self.trees.write(selection, str(target), cancel):
                return []
            return await self.workers.run_transfer(_files, target)
        finally:
            await self.workers.run_transfer(self.remove_tree, str(target))


def _attested(
    request: BuildRequest,
    making: Making,
    image: Image,
    found: Sequence[_Scan],
    tool: str,
) -> Attestation | None:
    made: list[tuple[str, bytes]] = []
    manifest, platform = image.manifest.digest, image.config.platform
    names = [reference.with_default_tag() for reference in request.references]
    for scan in found:
        name = scan.name or (names[0].familiar if names else "")
        document = attestations.spdx(name, manifest, scan.packages, scan.system, making.end_unix_nanos, tool)
        data = attestations.statement(attestations.SPDX, document, names, manifest, platform)
        made.append((attestations.SPDX, data))
    if request.provenance is not None:
        kind, predicate = attestations.provenance(making, request.provenance)
        made.append((kind, attestations.statement(kind, predicate, names, manifest, platform)))
    return attestations.attestation(made) if made else None


def _files(folder: Path) -> list[bytes]:
    """Nothing but regular files, and of these none that lists digests. Raises LIMIT_EXCEEDED, IO_FAILED."""
    found: list[bytes] = []
    left = MAX_PACKAGE_DATABASE_BYTES
    try:
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if not entry.is_file(follow_symlinks=False) or entry.name.endswith(".md5sums"):
                continue
            left -= entry.stat(follow_symlinks=False).st_size
            if left < 0:
                raise LimitExceeded(
                    limit=_LIMIT,
                    limit_value=MAX_PACKAGE_DATABASE_BYTES,
                    actual=MAX_PACKAGE_DATABASE_BYTES - left,
                    subject=packages.DPKG_STATUS_FOLDER,
                )
            found.append(Path(entry.path).read_bytes())
    except OSError as error:
        raise IoFailed(operation="read", path=str(folder), errno=error.errno) from error
    return found
