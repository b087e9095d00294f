"""A small web server in a container, reached by a port of the host: what `fluyt run -p 8080:80` does, by gRPC.

It makes the bridge fluyt0 and the nftables table fluyt in the network namespace that it is called in; run it as
`unshare --net -- sh -c 'ip link set lo up && exec python examples/published_port.py'` to keep the host's own as it is.
"""

import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
from daemon import running_daemon
from first_container import BASE, import_base

from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_spec_pb2, network_pb2

SERVE = "mkdir -p /www && echo 'a page from a container' > /www/index.html && exec httpd -f -p 80 -h /www"
PORT = 8080
READY_SECONDS = 10.0


def serve(channel: grpc.Channel) -> None:
    """A container serves a page on its port 80, which is 8080 of the host; prints the page, deletes the container."""
    containers = containers_pb2_grpc.ContainerServiceStub(channel)
    network = network_pb2.NetworkSpec(
        mode=network_pb2.NetworkSpec.MODE_BRIDGE,
        published_ports=[network_pb2.PublishedPort(container_port=80, host_port=PORT)],
    )
    spec = container_spec_pb2.ContainerSpec(
        image=BASE, entrypoint=container_spec_pb2.StringList(values=["sh", "-c", SERVE]), network=network
    )
    made = containers.CreateContainer(containers_pb2.CreateContainerRequest(spec=spec, name="web"))
    container = containers.StartContainer(containers_pb2.StartContainerRequest(container=made.container.id)).container
    print(f"container {container.id[:12]} has {container.networks[0].ipv4_address}")
    print(f"http://127.0.0.1:{PORT}/ answers: {fetch().strip()}")
    containers.DeleteContainer(containers_pb2.DeleteContainerRequest(container=container.id, force=True))


def fetch() -> str:
    """The page, once the server is up."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=READY_SECONDS) as answer:
                page: bytes = answer.read()
                return page.decode()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> int:
    """The example; afterwards neither bridge nor table are left."""
    try:
        with running_daemon() as channel:
            import_base(channel)
            serve(channel)
    finally:
        for command in (["ip", "link", "delete", "fluyt0"], ["nft", "delete", "table", "inet", "fluyt"]):
            subprocess.run(command, check=False, capture_output=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
