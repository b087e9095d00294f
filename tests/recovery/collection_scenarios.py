"""How each failpoint on the way of a collection of images and of a pin is reached."""

from fluyt.v1 import images_pb2
from tests.recovery.crash import CALL_SECONDS, CrashedEngine, Scenario
from tests.recovery.image_scenarios import (
    REFERENCE,
    load,
    load_again,
    loaded,
    names,
    remove,
    whole_then_removed,
)
from tests.support import leftovers


def collect(engine: CrashedEngine) -> None:
    """PruneImages by policy to its end: all goes that no container uses, see the settings of the engine."""
    request = images_pb2.PruneImagesRequest(by_policy=True)
    operation = engine.ended(engine.images.PruneImages(request, timeout=CALL_SECONDS).operation)
    assert operation.failure.reason == "", operation


def collect_again(engine: CrashedEngine) -> None:
    """The image is whole or gone; a collection takes it, and it can be loaded anew."""
    for reference in names(engine):
        whole_then_removed(engine, reference)
        load(engine)
    collect(engine)
    assert names(engine) == {}
    load_again(engine)


def pin(engine: CrashedEngine) -> None:
    """SetImagePin."""
    engine.images.SetImagePin(images_pb2.SetImagePinRequest(image=REFERENCE, is_pinned=True), timeout=CALL_SECONDS)


def pin_again(engine: CrashedEngine) -> None:
    """The image is pinned or not; it can be pinned, and then no collection takes it."""
    pin(engine)
    assert [image.is_pinned for image in leftovers.list_images(engine) if image.id in names(engine).values()] == [True]
    collect(engine)
    assert len(names(engine)) == 1
    remove(engine)


COLLECTING = Scenario(collect, collect_again, loaded)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {"collection.image.delete": COLLECTING, "image.pin.record": Scenario(pin, pin_again, loaded)}
#: Failpoints that other calls pass too.
FURTHER = [
    (name, COLLECTING) for name in ("image.delete.record", "image.delete.index", "gc.blob.delete", "gc.layer.delete")
]
