"""Push of an image whose blobs are stored, beside `skopeo copy` of the same OCI layout, each into an empty registry.

    python -m bench.push --layout DIR [--rounds N]

`DIR` is an OCI layout with one image. Rounds alternate; the registry (Debian's docker-registry, plain HTTP on loopback)
is started anew on an empty directory for each push, outside the measured time. Ours is measured from the RPC to the end
of the operation, skopeo from the start of its process to its end.
"""

import argparse
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.figures import Figure, table
from bench.ours import Ours, start_daemon
from bench.peers import quiet_run
from fluyt.v1 import images_pb2, images_pb2_grpc, operations_pb2, operations_pb2_grpc
from fluyt.v1.types import operation_pb2
from tests.support.registry import RealRegistry

CHUNK_BYTES = 1 << 18


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fluyt-bench-push-") as scratch:
        print(table(measure(Path(scratch), options.layout, options.rounds)))


def measure(scratch: Path, layout: Path, rounds: int) -> list[Figure]:
    """Seconds of a push into an empty registry, for us and for skopeo."""
    (scratch / "engine").mkdir()
    daemon = start_daemon(scratch / "engine/data", scratch / "engine/run", scratch / "engine/fluytd.log")
    client = Ours(scratch / "engine/run/fluytd.sock")
    try:
        image_id = _load(client, layout, scratch)
        pushes: dict[str, Callable[[str], float]] = {
            "fluyt": lambda target: _ours(client, image_id, target),
            "skopeo copy": lambda target: quiet_run(
                ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{target}"], {}
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in pushes}
        for number in range(rounds):
            for name, push in pushes.items():
                root = scratch / f"registry-{number}-{name.split()[0]}"
                with RealRegistry(root) as registry:
                    times[name].append(push(f"{registry.address}/bench:1"))
                shutil.rmtree(root)
                subprocess.run(["sync"], check=True)
        return [Figure("push of stored blobs", name, "s", tuple(series)) for name, series in times.items()]
    finally:
        client.close()
        daemon.terminate()
        daemon.wait(30)


def _load(client: Ours, layout: Path, scratch: Path) -> str:
    archive = scratch / "layout.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(layout.iterdir()):
            tar.add(path, arcname=path.name)

    def requests() -> Iterator[images_pb2.LoadImagesRequest]:
        yield images_pb2.LoadImagesRequest(options=images_pb2.LoadImagesOptions())
        with archive.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield images_pb2.LoadImagesRequest(chunk=chunk)

    answer = images_pb2_grpc.ImageServiceStub(client.channel).LoadImages(requests())
    archive.unlink()
    image_id: str = answer.images[0].image_id
    return image_id


def _ours(client: Ours, image_id: str, target: str) -> float:
    images = images_pb2_grpc.ImageServiceStub(client.channel)
    operations = operations_pb2_grpc.OperationServiceStub(client.channel)
    begin = time.perf_counter()
    operation = images.PushImage(images_pb2.PushImageRequest(reference=image_id, target_reference=target)).operation
    for update in operations.WatchOperation(operations_pb2.WatchOperationRequest(id=operation.id)):
        operation = update.operation
    seconds = time.perf_counter() - begin
    if operation.state != operation_pb2.Operation.State.STATE_SUCCEEDED:
        raise SystemExit(f"the push failed: {operation.failure}")
    return seconds


if __name__ == "__main__":
    main()
