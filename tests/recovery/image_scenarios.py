"""How each failpoint on the way of an image is reached, and what must hold after it."""

import bz2
import lzma
from collections.abc import Iterator

import grpc
import pytest

from fluyt import errors
from fluyt.v1 import images_pb2
from fluyt.v1.types import operation_pb2
from tests.recovery.crash import CALL_SECONDS, IMAGE, CrashedEngine, Scenario
from tests.support import image_files, images, leftovers, tarball
from tests.support.engine import CHUNK_BYTES

REFERENCE = "made/half:1"
OTHER_REFERENCE = "made/half:2"
#: Repository of the registry that pulls and pushes are about.
REPOSITORY = "team/half"
SUCCEEDED = operation_pb2.Operation.STATE_SUCCEEDED
MARK = tarball.file("half", "whole\n")
PLAIN = images.busybox_image(images.layer(MARK))
#: Its upper layer has a link to a file of the lower one, so that it is finished over it.
LINKED = images.busybox_image(images.layer(tarball.hardlink("busybox-half", "bin/busybox"), MARK))
#: The same for two platforms.
INDEX = images.index([PLAIN, images.busybox_image(images.layer(MARK), architecture="s390x")])
#: Its config says of the upper layer what is not so.
LYING = images.image(
    PLAIN.layers, config=images.config_json([images.busybox_layer().diff_id, images.digest_of(b"another")], cmd=["sh"])
)


def load(engine: CrashedEngine, image: images.Image = PLAIN) -> None:
    """LoadImages."""
    engine.load(image_files.oci_archive({REFERENCE: image}))


def load_linked(engine: CrashedEngine) -> None:
    """LoadImages of the image whose upper layer needs the lower one."""
    load(engine, LINKED)


def load_lying(engine: CrashedEngine) -> None:
    """LoadImages of what must be refused."""
    try:
        load(engine, LYING)
    except grpc.RpcError as error:
        if errors.from_rpc_error(error).reason != "DIFF_ID_MISMATCH":
            raise


def load_xz(engine: CrashedEngine) -> None:
    """LoadImages of what the core does not decompress."""
    engine.load(lzma.compress(image_files.oci_archive({REFERENCE: PLAIN}), preset=0))


def load_xz_again(engine: CrashedEngine) -> None:
    """As `load_again`, compressed."""
    for reference in names(engine):
        is_whole(engine, reference)
    load_xz(engine)
    whole_then_removed(engine, REFERENCE)


def import_bzip2(engine: CrashedEngine) -> None:
    """ImportImage of what the core does not decompress."""
    import_rootfs(engine, bz2.compress(ROOTFS))


def import_rootfs(engine: CrashedEngine, rootfs: bytes | None = None) -> None:
    """ImportImage."""
    data = ROOTFS if rootfs is None else rootfs

    def requests() -> Iterator[images_pb2.ImportImageRequest]:
        yield images_pb2.ImportImageRequest(options=images_pb2.ImportImageOptions(reference=REFERENCE))
        for offset in range(0, len(data), CHUNK_BYTES):
            yield images_pb2.ImportImageRequest(chunk=data[offset : offset + CHUNK_BYTES])

    engine.images.ImportImage(requests(), timeout=CALL_SECONDS)


#: A root file system in one tar: busybox's without the end of the archive, and the mark.
ROOTFS = images.busybox_layer().tar.rstrip(b"\0")
ROOTFS += b"\0" * (-len(ROOTFS) % tarball.BLOCK_BYTES) + tarball.write_tar([MARK])


def in_registry(engine: CrashedEngine) -> None:
    """The registry has the image."""
    image_files.push(engine.registry, REPOSITORY, "1", PLAIN)


def pull(engine: CrashedEngine) -> None:
    """PullImage to its end."""
    operation = engine.pull(f"{engine.registry}/{REPOSITORY}:1")
    assert operation.state == SUCCEEDED, operation


def index_in_registry(engine: CrashedEngine) -> None:
    """The registry has an index of it."""
    image_files.push(engine.registry, REPOSITORY, "1", INDEX)


def pulled_by_manifest(engine: CrashedEngine) -> None:
    """The registry has an index of the image, which is here without a name."""
    index_in_registry(engine)
    operation = engine.pull(f"{engine.registry}/{REPOSITORY}@{PLAIN.digest}")
    assert operation.state == SUCCEEDED, operation


def load_index(engine: CrashedEngine) -> None:
    """LoadImages of an index."""
    engine.load(image_files.oci_archive({REFERENCE: INDEX}))


def load_index_again(engine: CrashedEngine) -> None:
    """As `load_again`, by the index."""
    for reference in names(engine):
        is_whole(engine, reference)
    load_index(engine)
    whole_then_removed(engine, REFERENCE)


def loaded(engine: CrashedEngine) -> None:
    """The image is here."""
    load(engine)


def push(engine: CrashedEngine) -> None:
    """PushImage to its end."""
    operation = engine.push(REFERENCE, f"{engine.registry}/{REPOSITORY}:pushed")
    assert operation.state == SUCCEEDED, operation


def tag(engine: CrashedEngine) -> None:
    """TagImage."""
    engine.images.TagImage(images_pb2.TagImageRequest(image=REFERENCE, reference=OTHER_REFERENCE), timeout=CALL_SECONDS)


def loaded_and_tagged(engine: CrashedEngine) -> None:
    """The image is here and has two names."""
    load(engine)
    tag(engine)


def untag(engine: CrashedEngine) -> None:
    """UntagImage."""
    engine.images.UntagImage(images_pb2.UntagImageRequest(reference=OTHER_REFERENCE), timeout=CALL_SECONDS)


def remove(engine: CrashedEngine, reference: str = REFERENCE) -> None:
    """DeleteImage."""
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=reference), timeout=CALL_SECONDS)


def run(engine: CrashedEngine) -> None:
    """A container of the base image; what the daemon was killed at is behind it."""
    assert engine.run(IMAGE, "echo", "runs")[0] == b"runs\n"


def names(engine: CrashedEngine) -> dict[str, str]:
    """Reference -> id of the image, of all but the base image."""
    found = {name: image.id for image in leftovers.list_images(engine) for name in image.references}
    return {name: image_id for name, image_id in found.items() if not name.endswith(f"/{IMAGE}")}


def is_whole(engine: CrashedEngine, reference: str) -> None:
    """A container runs from it and finds its file."""
    assert engine.run(reference, "cat", "/half")[0] == b"whole\n"


def whole_then_removed(engine: CrashedEngine, reference: str) -> None:
    """The image is whole and the only one; afterwards it is gone."""
    assert [name.rpartition("/")[2] for name in names(engine)] == [reference.rpartition("/")[2]]
    is_whole(engine, reference)
    remove(engine, reference)
    assert names(engine) == {}


def load_again(engine: CrashedEngine) -> None:
    """What is named is whole; the load succeeds."""
    for reference in names(engine):
        is_whole(engine, reference)
    load(engine)
    whole_then_removed(engine, REFERENCE)


def load_linked_again(engine: CrashedEngine) -> None:
    """As `load_again`, and the link is to the lower layer's file."""
    for reference in names(engine):
        is_whole(engine, reference)
    load_linked(engine)
    assert engine.run(REFERENCE, "/busybox-half", "echo", "linked")[0] == b"linked\n"
    whole_then_removed(engine, REFERENCE)


def refused_again(engine: CrashedEngine) -> None:
    """Nothing is named, and the load is refused again."""
    assert names(engine) == {}
    with pytest.raises(grpc.RpcError) as refused:
        load(engine, LYING)
    assert errors.from_rpc_error(refused.value).reason == "DIFF_ID_MISMATCH"
    assert names(engine) == {}


def import_again(engine: CrashedEngine) -> None:
    """What is named is whole; the import succeeds. Its config tells the time, so that it is another image, and one
    that the killed daemon recorded has no name afterwards."""
    for reference in names(engine):
        is_whole(engine, reference)
    import_rootfs(engine)
    for image in leftovers.list_images(engine):
        if not image.references:
            remove(engine, image.id)
    whole_then_removed(engine, REFERENCE)


def pull_again(engine: CrashedEngine) -> None:
    """What is named is whole; the pull succeeds."""
    for reference in names(engine):
        is_whole(engine, reference)
    pull(engine)
    whole_then_removed(engine, f"{engine.registry}/{REPOSITORY}:1")


def push_again(engine: CrashedEngine) -> None:
    """The push succeeds, and what the registry has is whole."""
    push(engine)
    whole_then_removed(engine, REFERENCE)
    pulled = engine.pull(f"{engine.registry}/{REPOSITORY}:pushed")
    assert pulled.state == SUCCEEDED, pulled
    assert pulled.pull_result.manifest_digest == PLAIN.digest
    whole_then_removed(engine, f"{engine.registry}/{REPOSITORY}:pushed")


def tag_again(engine: CrashedEngine) -> None:
    """The first name stands; the second can be given, whether it was or not."""
    found = names(engine)
    assert {name.rpartition("/")[2] for name in found} <= {"half:1", "half:2"}
    assert len(set(found.values())) == 1
    tag(engine)
    assert len(names(engine)) == 2
    is_whole(engine, OTHER_REFERENCE)
    untag(engine)
    whole_then_removed(engine, REFERENCE)


def untag_again(engine: CrashedEngine) -> None:
    """The first name stands; the second is gone, or is taken away now."""
    if len(names(engine)) == 2:
        untag(engine)
    whole_then_removed(engine, REFERENCE)


def remove_again(engine: CrashedEngine) -> None:
    """It is whole or gone; either way it can be loaded anew."""
    if names(engine):
        whole_then_removed(engine, REFERENCE)
    load_again(engine)


LOADING = Scenario(load, load_again)
LOADING_LINKED = Scenario(load_linked, load_linked_again)
REFUSING = Scenario(load_lying, refused_again)
IMPORTING = Scenario(import_rootfs, import_again)
PULLING = Scenario(pull, pull_again, in_registry)
PULLING_INDEX = Scenario(pull, pull_again, index_in_registry)
PULLING_ITS_INDEX = Scenario(pull, pull_again, pulled_by_manifest)
LOADING_INDEX = Scenario(load_index, load_index_again)
PUSHING = Scenario(push, push_again, loaded)
TAGGING = Scenario(tag, tag_again, loaded)
UNTAGGING = Scenario(untag, untag_again, loaded_and_tagged)
REMOVING = Scenario(remove, remove_again, loaded)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "gc.blob.delete": REMOVING,
    "gc.layer.delete": REMOVING,
    "gc.ingest.delete": REFUSING,
    "gc.staged.delete": REFUSING,
    "image.delete.record": REMOVING,
    "image.delete.index": REMOVING,
    "image.tag.record": TAGGING,
    "image.untag.record": UNTAGGING,
    "import.decompress": Scenario(import_bzip2, import_again),
    "import.spool": IMPORTING,
    "import.layer.store": IMPORTING,
    "import.config.stage": IMPORTING,
    "import.manifest.stage": IMPORTING,
    "import.blobs.publish": IMPORTING,
    "import.layers.publish": IMPORTING,
    "import.record": IMPORTING,
    "load.decompress": Scenario(load_xz, load_xz_again),
    "load.spool": LOADING,
    "load.config.stage": LOADING,
    "load.layer.store": LOADING,
    "load.index.stage": LOADING_INDEX,
    "load.manifest.stage": LOADING,
    "load.blobs.publish": LOADING,
    "load.layers.publish": LOADING,
    "load.record": LOADING,
    "pull.index.publish": PULLING_ITS_INDEX,
    "pull.index.stage": PULLING_INDEX,
    "pull.manifest.stage": PULLING,
    "pull.config.fetch": PULLING,
    "pull.layer.fetch": PULLING,
    "pull.blobs.publish": PULLING,
    "pull.layers.publish": PULLING,
    "pull.record": PULLING,
    "push.blob": PUSHING,
    "push.manifest": PUSHING,
    "push.record": PUSHING,
}

#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {
    "content.ingest.open": LOADING,
    "content.ingest.complete": PULLING,
    "content.publish.sync": LOADING,
    "content.publish.rename:2": LOADING,
    "content.delete": REMOVING,
    "content.ingest.delete": REFUSING,
    "content.index.rename": Scenario(run, run),
    "content.index.rename:2": LOADING,
    "ingest.fetch.open": PULLING,
    "ingest.append": PULLING,
    "ingest.layer.staged": PULLING,
    "ingest.layer.finished": LOADING_LINKED,
    "layer.stage.begin": LOADING,
    "layer.stage.meta": LOADING,
    "layer.stage.name": IMPORTING,
    "layer.publish.sync": LOADING,
    "layer.publish.rename": LOADING,
    "layer.staged.delete": REFUSING,
    "layer.delete.rename": REMOVING,
    "layer.delete.remove": REMOVING,
}
#: The same, where layers are kept as EROFS images.
EROFS_SCENARIOS = {"layer.stage.index": LOADING}
