"""What `make run` does: an image built on the spot, a container of it started by gRPC, its output and exit code."""

import sys
import tempfile
from pathlib import Path

import grpc
from daemon import running_daemon
from rootfs import busybox_tar

from fluyt import builds, images, operations
from fluyt.v1 import builds_pb2, containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_spec_pb2

REFERENCE = "example/hello:1"
BASE = "example/busybox:1"


def import_base(channel: grpc.Channel) -> None:
    """Makes the base image of a busybox that this host has."""
    with tempfile.TemporaryDirectory() as directory:
        tar = Path(directory, "rootfs.tar")
        tar.write_bytes(busybox_tar())
        images.import_rootfs(channel, tar, reference=BASE, changes=["ENV PATH=/bin"])


def build_image(channel: grpc.Channel) -> str:
    """Builds the image of examples/hello and prints its steps and what they write; returns its id."""
    context_id = builds.upload_context(channel, Path(__file__).parent / "hello")
    request = builds_pb2.BuildImageRequest(
        context=builds_pb2.BuildSource(context_id=context_id), references=[REFERENCE]
    )
    operation = builds.begin(channel, request)
    for piece in builds.read_log(channel, operation.id):
        print("  | " + piece.data.decode().rstrip("\n").replace("\n", "\n  | "))
    ended = operations.wait(channel, operation.id)
    for step in ended.build_progress.steps:
        print(f"  step {step.number}: {step.instruction}")
    return ended.build_result.image_id


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
        import_base(channel)
        print(f"building {REFERENCE}")
        print(f"image {REFERENCE} is {build_image(channel)}")
        exit_code = run_container(channel)
        print(f"exit code {exit_code}")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
