"""How each failpoint on the way of a repair is reached: an image whose layer and its blob are lost, and a registry."""

import contextlib
import json
import sqlite3
from pathlib import Path

from fluyt.v1 import engine_pb2, engine_pb2_grpc
from tests.recovery import commit_scenarios
from tests.recovery.crash import CALL_SECONDS, CrashedEngine, Scenario, delete
from tests.recovery.image_scenarios import PLAIN, REPOSITORY, in_registry, names, pull, whole_then_removed

#: The layer with the mark: no other container stands on it.
LOST = PLAIN.layers[-1]


def pulled_and_damaged(engine: CrashedEngine) -> None:
    """The image is here; the blob of its upper layer and what tells of the layer are not."""
    in_registry(engine)
    pull(engine)
    data = engine.root / "data"
    (data / "content" / "blobs" / LOST.digest.replace(":", "/")).unlink()
    (layer_of(engine) / "meta.json").unlink()


def layer_of(engine: CrashedEngine) -> Path:
    """Where the damaged layer stands."""
    return engine.root / "data" / "layers" / LOST.diff_id.partition(":")[2]


def check(engine: CrashedEngine, *, repair: bool) -> list[engine_pb2.StorageFinding]:
    """What CheckStorage finds."""
    stub = engine_pb2_grpc.EngineServiceStub(engine.channel)
    request = engine_pb2.CheckStorageRequest(repair=repair)
    events = stub.CheckStorage(request, timeout=CALL_SECONDS)
    return [event.finding for event in events if event.WhichOneof("event") == "finding"]


def repair(engine: CrashedEngine) -> None:
    """CheckStorage with repair."""
    assert all(finding.is_repaired for finding in check(engine, repair=True))


def repair_again(engine: CrashedEngine) -> None:
    """The image is still listed and no more is damaged than was; a repair makes it whole."""
    assert len(names(engine)) == 1
    subjects = {finding.subject for finding in check(engine, repair=False)}
    assert subjects <= {LOST.digest, layer_of(engine).name}
    repair(engine)
    assert check(engine, repair=False) == []
    whole_then_removed(engine, f"{engine.registry}/{REPOSITORY}:1")


REPAIRING = Scenario(repair, repair_again, pulled_and_damaged, is_damaging=True)


def pulled_and_record_spoilt(engine: CrashedEngine) -> None:
    """The image's blobs and layers are here; its record cannot be read, and a daemon has started over that."""
    in_registry(engine)
    pull(engine)
    engine.kill()
    with contextlib.closing(sqlite3.connect(engine.root / "data" / "state.db")) as records:
        records.execute("UPDATE images SET record = '{' WHERE id = ?", (PLAIN.config_digest,))
        records.commit()
    engine.start()


def restore_again(engine: CrashedEngine) -> None:
    """The record is as it was or as it ought to be; a repair makes the image whole."""
    repair(engine)
    assert check(engine, repair=False) == []
    assert len(names(engine)) == 1
    whole_then_removed(engine, f"{engine.registry}/{REPOSITORY}:1")


RESTORING = Scenario(repair, restore_again, pulled_and_record_spoilt, is_unlisting=True)


def committed_and_damaged(engine: CrashedEngine) -> None:
    """An image was made of a container, which is gone; the blob of its upper layer is too, and no registry has it."""
    commit_scenarios.running(engine)
    answer = engine.containers.CommitContainer(commit_scenarios.request(), timeout=CALL_SECONDS)
    delete(engine, commit_scenarios.NAME)
    blobs = engine.root / "data" / "content" / "blobs" / "sha256"
    manifest = json.loads((blobs / answer.manifest_digest.partition(":")[2]).read_bytes())
    (blobs / manifest["layers"][-1]["digest"].partition(":")[2]).unlink()


def compress_again(engine: CrashedEngine) -> None:
    """One blob at most is damaged; a repair makes the image whole."""
    assert len(check(engine, repair=False)) <= 1
    repair(engine)
    assert check(engine, repair=False) == []
    whole_then_removed(engine, commit_scenarios.REFERENCE)


COMPRESSING = Scenario(repair, compress_again, committed_and_damaged, is_damaging=True)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "check.blob.compress": COMPRESSING,
    "check.source.fetch": REPAIRING,
    "check.blob.replace": REPAIRING,
    "check.layer.make": REPAIRING,
    "check.layer.replace": REPAIRING,
    "check.record.restore": RESTORING,
}
#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {
    "content.replace.sync": REPAIRING,
    "content.replace.rename": REPAIRING,
    "layer.replace.sync": REPAIRING,
    "layer.replace.rename": REPAIRING,
    "layer.replace.durable": REPAIRING,
}
