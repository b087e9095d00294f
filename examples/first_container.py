"""What `make run` does: an image made on the spot, a container of it started by gRPC, its output and exit code."""

import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from daemon import running_daemon
from rootfs import busybox_tar

from fluyt.v1 import containers_pb2, containers_pb2_grpc, images_pb2, images_pb2_grpc
from fluyt.v1.types import container_spec_pb2

REFERENCE = "example/hello:1"
CHUNK_BYTES = 512 * 1024


def import_image(channel: grpc.Channel) -> str:
    """Makes the image of examples/hello; returns its id."""
    data = busybox_tar(Path(__file__).parent / "hello")

    def requests() -> Iterator[images_pb2.ImportImageRequest]:
        yield images_pb2.ImportImageRequest(
            options=images_pb2.ImportImageOptions(
                reference=REFERENCE, changes=['ENTRYPOINT ["/opt/greet.sh"]', "ENV PATH=/bin", "WORKDIR /root"]
            )
        )
        for offset in range(0, len(data), CHUNK_BYTES):
            yield images_pb2.ImportImageRequest(chunk=data[offset : offset + CHUNK_BYTES])

    answer: images_pb2.ImportImageResponse = images_pb2_grpc.ImageServiceStub(channel).ImportImage(requests())
    return answer.image.id


def run_container(channel: grpc.Channel) -> int:
    """Runs a container of the image and prints all that it writes; returns its exit code."""
    request = containers_pb2.RunContainerRequest(
        spec=container_spec_pb2.ContainerSpec(image=REFERENCE, args=["by", "gRPC"], auto_remove=True)
    )
    for event in containers_pb2_grpc.ContainerServiceStub(channel).RunContainer(request):
        match event.WhichOneof("event"):
            case "created":
                print(f"container {event.created.id[:12]} ({event.created.name})")
            case "stdout":
                print("  | " + event.stdout.data.decode().rstrip("\n").replace("\n", "\n  | "))
            case "stderr":
                print("  ! " + event.stderr.data.decode().rstrip("\n").replace("\n", "\n  ! "))
            case "exited":
                return int(event.exited.exit_code)
    raise SystemExit("the stream ended before the container did")


def main() -> int:
    """The example; the exit code is the container's."""
    with running_daemon() as channel:
        print(f"image {REFERENCE} is {import_image(channel)}")
        exit_code = run_container(channel)
        print(f"exit code {exit_code}")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
