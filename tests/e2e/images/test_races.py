"""Pulls, loads, imports, deletions and tags at once: each call ends well or with a reason, the stores stay whole."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from fluyt import errors
from fluyt.v1 import images_pb2
from tests.e2e.images.steps import SUCCEEDED, begin, blob, ended, get, import_rootfs, listed, load, small_layer, stored
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry

ROUNDS = 6
#: What a caller may be told who comes when another was quicker.
EXPECTED = {"IMAGE_NOT_FOUND", "IMAGE_IN_USE", "VERSION_CONFLICT"}


def test_images_that_share_layers_come_and_go_at_once(engine: Engine, registry: FaultyRegistry) -> None:
    shared = [small_layer(f"s{number}") for number in range(3)]
    pulled = [images.image([*shared, small_layer()], cmd=[str(number)]) for number in range(2)]
    loaded = images.image([*shared, small_layer()], cmd=["loaded"])
    for number, image in enumerate(pulled):
        registry.put("app", str(number), image)
    archive = image_files.docker_archive({"loaded:1": loaded})
    unexpected: list[object] = []

    def repeat(call: Callable[[], object]) -> None:
        for _ in range(ROUNDS):
            try:
                outcome = call()
            except grpc.RpcError as error:
                if (reason := errors.from_rpc_error(error).reason) not in EXPECTED:
                    unexpected.append((reason, error))
            else:
                if outcome is not None:
                    unexpected.append(outcome)

    def pull(number: int) -> object:
        operation = ended(engine, begin(engine, f"{registry.address}/app:{number}"))
        return None if operation.state == SUCCEEDED else operation.failure

    def delete(name: str) -> None:
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))

    def tag(name: str) -> None:
        engine.images.TagImage(images_pb2.TagImageRequest(image=name, reference="moving:1"))

    names = [f"{registry.address}/app:{number}" for number in range(2)]
    calls: list[Callable[[], object]] = [
        lambda: pull(0),
        lambda: pull(1),
        lambda: pull(0),
        lambda: load(engine, archive) and None,
        lambda: import_rootfs(engine, shared[0].blob, reference="imported:1") and None,
        *(lambda name=name: delete(name) for name in (*names, "loaded:1", "moving:1", "imported:1")),
        lambda: tag(names[0]),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(repeat, calls))
    assert unexpected == []
    for found in listed(engine):
        for layer in get(engine, found.id).layers:
            assert images.digest_of(blob(engine, layer.descriptor.digest)) == layer.descriptor.digest
    for number in range(2):
        assert pull(number) is None
    load(engine, archive)
    needed = {layer.diff_id[7:] for image in listed(engine) for layer in get(engine, image.id).layers}
    assert stored(engine).layers == needed
