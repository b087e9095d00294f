"""The whole of Docker's tour, as `examples/tour/tour.sh` goes it: built, tagged, pushed, pulled elsewhere, run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.program import IMAGE, PROGRAM
from tests.support import image_files, images
from tests.support.engine import REPOSITORY, Daemon, Engine
from tests.support.namespaces import Machine, NetworkEngine
from tests.support.registry import RealRegistry

pytestmark = pytest.mark.needs("nft", "ip", "git", "docker-registry")


class Neighbour(Engine):
    """A second engine on the same machine."""

    def __init__(self, root: Path, machine: Machine, **fields: Any) -> None:
        self._machine = machine
        super().__init__(root, **fields)

    def execute(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Daemon:
        """The daemon runs on that machine."""
        return self._machine.inside(lambda: super(Neighbour, self).execute(arguments, environment))


def test_the_tour(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("there", "here")]
    for root in roots:
        root.mkdir()
    with NetworkEngine(roots[0]) as there, Neighbour(roots[1], there.host) as here:
        here.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
        with there.host.inside(lambda: RealRegistry(tmp_path / "registry")) as registry:
            told = there.host.run(
                "env",
                f"PATH={PROGRAM.parent}:{os.environ['PATH']}",
                f"FLUYT_HOST=unix://{here.root}/run/fluytd.sock",
                f"ELSEWHERE=unix://{there.root}/run/fluytd.sock",
                f"REGISTRY={registry.address}",
                f"BASE={IMAGE}",
                "sh",
                str(REPOSITORY / "examples" / "tour" / "tour.sh"),
            )
        assert "<h1>ahoy from a container</h1>" in told
        assert "<h1>hello from a container</h1>" in told
        assert there.left_on_host() == []
