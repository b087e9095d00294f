"""The network of a build's steps: the engine's own, unless the step or the build says otherwise."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.builds.steps import build
from tests.e2e.networks.conftest import OTHERS_ADDRESSES
from tests.support.namespaces import Machine, NetworkEngine

pytestmark = pytest.mark.needs("root", "busybox", "nft", "ip")
NUMBER = 8000


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from elsewhere\n")

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def url(other_machine: Machine) -> Iterator[str]:
    """Where another machine serves a text."""
    address = OTHERS_ADDRESSES[0].partition("/")[0]
    server = other_machine.inside(lambda: http.server.HTTPServer((address, NUMBER), _Hello))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{address}:{NUMBER}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_step_reaches_the_outside_and_gives_its_address_back(engine: NetworkEngine, url: str, tmp_path: Path) -> None:
    dockerfile = f"FROM busybox:1\nRUN wget -qO- {url} && ip -o address\nRUN --network=none ls /sys/class/net | wc -l\n"
    first = build(engine, tmp_path, dockerfile).output.decode()
    assert "from elsewhere" in first
    assert " eth0 " in first
    assert first.splitlines()[-1] == "1"
    # What ran has left the network: 300 steps would not exhaust it, nor does one leave anything (see `engine`).
    assert engine.host.links() <= {"lo", "wire", "fluyt0"}


@pytest.mark.parametrize(("mode", "links"), [("none", {"lo"}), ("host", {"lo", "wire"})])
def test_the_build_says_what_steps_have_that_name_no_network(
    engine: NetworkEngine, other_machine: Machine, tmp_path: Path, mode: str, links: set[str]
) -> None:
    dockerfile = f"FROM busybox:1\nRUN ls /sys/class/net # {mode}\nRUN --network={mode} ls /sys/class/net # again\n"
    output = build(engine, tmp_path, dockerfile, network_mode=mode).output.decode().split()
    assert links <= set(output)
    assert "eth0" not in output
