"""How each failpoint on the way from a container to an image is reached, and what must hold after it."""

from fluyt.v1 import containers_pb2, images_pb2
from tests.recovery.crash import CALL_SECONDS, COUNT, CrashedEngine, Scenario, delete, start_ready
from tests.recovery.image_scenarios import names, whole_then_removed
from tests.support import leftovers
from tests.support.wait import until_now

REFERENCE = "made/half:1"
NAME = "committed"


def running(engine: CrashedEngine) -> None:
    """A container that counts and has changed a file."""
    start_ready(engine, NAME, f"echo whole > /half; {COUNT}")


def request() -> containers_pb2.CommitContainerRequest:
    """What asks for the image."""
    return containers_pb2.CommitContainerRequest(container=NAME, reference=REFERENCE)


def commit(engine: CrashedEngine) -> None:
    """CommitContainer of a running one, which is frozen meanwhile."""
    engine.containers.CommitContainer(request(), timeout=CALL_SECONDS)


def commit_again(engine: CrashedEngine) -> None:
    """The container counts on; the commit succeeds. An image of the killed daemon has lost its name to it."""
    seen = len(engine.logs(NAME))
    until_now(lambda: len(engine.logs(NAME)) > seen, "it is not frozen any more")
    commit(engine)
    delete(engine, NAME)
    for image in leftovers.list_images(engine):
        if not image.references:
            engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id))
    for reference in names(engine):
        assert reference.endswith(REFERENCE)
    whole_then_removed(engine, REFERENCE)


COMMITTING = Scenario(commit, commit_again, running)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "commit.layer.store": COMMITTING,
    "commit.config.stage": COMMITTING,
    "commit.manifest.stage": COMMITTING,
    "commit.blobs.publish": COMMITTING,
    "commit.layers.publish": COMMITTING,
    "commit.record": COMMITTING,
    "container.commit.freeze": COMMITTING,
    "container.commit.thaw": COMMITTING,
}

#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {
    "content.unnamed.stage": COMMITTING,
    "ingest.changes.staged": COMMITTING,
}
