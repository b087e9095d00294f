"""Layers that would write beside their root or steer the overlay, in each kind of layer store."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.e2e.containers.steps import IMAGE, load, refusal
from tests.security.canary import Canary
from tests.support import image_files, images, tarball
from tests.support.engine import Engine
from tests.support.tarball import Member


@pytest.fixture(params=["directory", pytest.param("erofs", marks=pytest.mark.needs("erofs"))])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine of each kind of layer store."""
    with Engine(tmp_path, options=["--layer-store", request.param]) as running:
        running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        yield running


def hostile_layers(canary: Canary) -> list[list[Member]]:
    """Entries that would land in the canary, were a link or a name believed."""
    outside, up = str(canary.path), f"../../../../../../../../..{canary.path}"
    return [
        [tarball.symlink("e", outside), tarball.file("e/pwn", "x")],
        [tarball.symlink("e", up), tarball.file("e/pwn", "x")],
        [tarball.symlink("b", outside), tarball.symlink("a", "b"), tarball.file("a/deep/pwn", "x")],
        [tarball.symlink("e", outside), tarball.directory("e/deep", mode=0o777)],
        [tarball.symlink("e", outside), tarball.hardlink("stolen", "e/secret")],
        [tarball.symlink("e", f"{outside}/secret"), tarball.file("e", "x")],
        [tarball.symlink("e", outside), tarball.whiteout("e/secret")],
        [tarball.file(f"../../../../../../../../..{canary.path}/pwn", "x")],
    ]


def test_z01_links_and_names_of_a_layer_lead_nowhere(store: Engine, canary: Canary) -> None:
    loaded = 0
    for members in hostile_layers(canary):
        reason = ""
        try:
            image = load(store, *members)
        except grpc.RpcError as error:
            reason = refusal(error)[1]
        assert reason in {"", "LAYER_REJECTED"}, members
        if not reason:
            loaded += 1
            # Where a link led the way, its place is inside: the image has what was written.
            out = store.run(image, "sh", "-c", f"cat /e/secret /stolen {canary.path}/secret 2>/dev/null")[0]
            assert not canary.is_in(out), members
        assert canary.changes() == [], members
    assert loaded > 0


def test_z01_nothing_beside_a_layer_is_changed_whatever_becomes_of_it(store: Engine, canary: Canary) -> None:
    for members in hostile_layers(canary):
        with suppress(grpc.RpcError):
            load(store, *members)
        assert canary.changes() == [], members


def test_z14_attributes_of_a_layer_do_not_steer_the_overlay(store: Engine) -> None:
    below = images.layer(tarball.directory("d"), tarball.file("d/low", "low"), tarball.file("other/x", "x"))
    for prefix in ("trusted", "user"):
        for name, value in (("opaque", "y"), ("redirect", "/other"), ("metacopy", ""), ("whiteout", "y")):
            attribute = {f"SCHILY.xattr.{prefix}.overlay.{name}": value}
            steered = tarball.Entry("d/", tarball.DIRECTORY, pax=attribute, mode=0o755)
            made = images.busybox_image(below, images.layer(steered))
            store.load(image_files.oci_archive({"steered:1": made}))
            out = store.run("steered:1", "sh", "-c", "cat /d/low; ls /d")[0]
            assert out == b"lowlow\n", (prefix, name)
