"""Kills a daemon at random moments in the middle of what is done with images, and knows what the next one must have.

A model beside the engine says of every reference what it names. A call that was answered has had its whole effect; one
that was killed has had all of it or none; what no call was about is as it was.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import grpc

from fluyt.v1 import engine_pb2, engine_pb2_grpc, images_pb2
from fluyt.v1.types import operation_pb2
from fluytd.gc.collect import MIN_RESUMED_BYTES
from tests.recovery.crash import CALL_SECONDS, CrashedEngine, until_nothing_unowned
from tests.support import image_files, images, leftovers, tarball
from tests.support.engine import CHUNK_BYTES
from tests.support.images import Image
from tests.support.registry import FaultyRegistry, blob_path, slow

SUCCEEDED = operation_pb2.Operation.STATE_SUCCEEDED
#: The daemon is killed so long after a call has begun, at most. No call here takes much longer.
KILL_WITHIN_SECONDS = 0.06
#: A layer is on its way for so long, so that kills meet partial ones.
LAYER_SECONDS = 0.06
#: Far above what the daemon takes in from a socket at once, and above what it resumes.
LAYER_BYTES = 6 * MIN_RESUMED_BYTES
#: Share of the killed pulls that are carried to their end at once; the others are killed again.
RESUME_PART = 0.6


class Names(Protocol):
    """The ids that a reference may have, and None if it may have none."""

    def __contains__(self, image_id: object, /) -> bool: ...


class _Any:
    """Whatever an image may be that tells the time in its config."""

    def __contains__(self, image_id: object, /) -> bool:
        return True


@dataclass
class Call:
    """One call: what it does, and what the references are afterwards that it is about."""

    name: str
    #: Returns once the call has been answered; True if it succeeded. Raises grpc.RpcError.
    act: Callable[[], bool]
    #: If it was answered.
    done: dict[str, Names]
    #: If it was not: all or nothing of it.
    maybe: dict[str, Names]
    is_answered: bool = False

    def run(self) -> None:
        """The call has ended, with its daemon or before it."""
        with suppress(grpc.RpcError):
            self.is_answered = self.act()


class Killed:
    """One engine without containers, killed again and again. `finish` it."""

    def __init__(self, engine: CrashedEngine, source: FaultyRegistry, seed: int) -> None:
        """`source` serves what is pulled; the engine's own registry takes what is pushed."""
        self.engine = engine
        #: Calls by name, those of them that were not answered, and layers that were resumed.
        self.calls: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.resumed_count = 0
        self._source = source
        self._random = random.Random(seed)  # noqa: S311 - a seeded choice of moments, nothing secret
        self._number = 0
        self._names: dict[str, str] = {}
        self._reference, self._offered = self._offer()

    def round(self) -> None:
        """One call, one kill, one restart; all that must hold holds."""
        makes = [self._pull, self._pull, self._pull, self._load, self._import]
        if self._names:
            makes += [self._push, self._push, self._delete, self._delete, self._prune]
        call = self._random.choice(makes)()
        delay_seconds = self._random.uniform(0, KILL_WITHIN_SECONDS)
        thread = threading.Thread(target=call.run)
        thread.start()
        thread.join(delay_seconds)
        # Its channel stays until the call has seen the end of its daemon.
        self.engine.process.kill()
        thread.join()
        self.engine.kill()
        self.calls[call.name] += 1
        self.cut[call.name] += not call.is_answered
        stored, seen = self._stored(), len(self._source.requests)
        self.engine.start()
        self._check(call)
        if call.name == "pull":
            if not call.is_answered and self._random.random() < RESUME_PART:
                self._resume(stored, seen)
            if self._reference in self._names:
                self._reference, self._offered = self._offer()

    def finish(self) -> None:
        """Everything can still be done, and nothing is left of it."""
        assert self.engine.pull(self._reference).state == SUCCEEDED
        for image in leftovers.list_images(self.engine):
            self.engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id, force=True))
        until_nothing_unowned(self.engine, is_resumable=True)

    def _check(self, call: Call) -> None:
        found = self._named()
        allowed = call.done if call.is_answered else call.maybe
        for name in found.keys() | self._names.keys():
            expected = allowed.get(name, {self._names.get(name)})
            assert found.get(name) in expected, f"after {call}: {name} is {found.get(name)}"
        self._names = found
        until_nothing_unowned(self.engine, is_resumable=True)
        stub = engine_pb2_grpc.EngineServiceStub(self.engine.channel)
        events = list(stub.CheckStorage(engine_pb2.CheckStorageRequest(), timeout=CALL_SECONDS))
        assert not [event.finding for event in events if event.WhichOneof("event") == "finding"], call
        assert events[-1].HasField("summary")

    def _resume(self, stored: dict[str, int], seen: int) -> None:
        """The same pull succeeds and asks for no byte that was stored when the daemon died."""
        operation = self.engine.pull(self._reference)
        assert operation.state == SUCCEEDED, operation
        for layer in self._offered.layers:
            have = stored.get(layer.digest, 0)
            path = blob_path("app", layer.digest)
            asked = [one for one in self._source.requests[seen:] if urlsplit(one.path).path == path]
            ranges = [one.headers.get("range") for one in asked]
            if have == len(layer.blob):
                assert ranges == [], f"{path} was whole"
            else:
                assert ranges == [f"bytes={have}-" if have >= MIN_RESUMED_BYTES else None], f"{have} of {path}"
            self.resumed_count += have >= MIN_RESUMED_BYTES
        self._names = self._named()
        assert self._names[self._reference] == self._offered.config_digest

    def _stored(self) -> dict[str, int]:
        """Digest -> bytes that are on disk of it, whole or not. No daemon runs."""
        data = self.engine.root / "data"
        found = {path.name: path.stat().st_size for path in (data / "content" / "blobs" / "sha256").glob("*")}
        found |= {path.parent.name: path.stat().st_size for path in (data / "ingest").glob("*/data")}
        return {f"sha256:{name}": size for name, size in found.items()}

    def _named(self) -> dict[str, str]:
        return {name: image.id for image in leftovers.list_images(self.engine) for name in image.references}

    def _made(self) -> Image:
        """An image that was never there before."""
        self._number += 1
        layers = [
            images.layer(tarball.file(name, self._random.randbytes(LAYER_BYTES)), compression="none")
            for name in ("low", "high")
        ]
        return images.image(layers)

    def _offer(self) -> tuple[str, Image]:
        """What is pulled next, served."""
        image = self._made()
        self._source.put("app", str(self._number), image)
        for layer in image.layers:
            self._source.always(blob_path("app", layer.digest), slow(LAYER_SECONDS))
        return f"{self._source.address}/app:{self._number}", image

    def _pull(self) -> Call:
        reference, image_id = self._reference, self._offered.config_digest
        return Call(
            "pull",
            lambda: self.engine.pull(reference).state == SUCCEEDED,
            {reference: {image_id}},
            {reference: {None, image_id}},
        )

    def _load(self) -> Call:
        image = self._made()
        reference = f"docker.io/made/load:{self._number}"
        archive = image_files.oci_archive({reference: image})
        return Call(
            "load",
            lambda: self.engine.load(archive).operation.state == SUCCEEDED,
            {reference: {image.config_digest}},
            {reference: {None, image.config_digest}},
        )

    def _import(self) -> Call:
        rootfs = self._made().layers[0].tar
        reference = f"docker.io/made/import:{self._number}"

        def requests() -> Iterator[images_pb2.ImportImageRequest]:
            yield images_pb2.ImportImageRequest(options=images_pb2.ImportImageOptions(reference=reference))
            for offset in range(0, len(rootfs), CHUNK_BYTES):
                yield images_pb2.ImportImageRequest(chunk=rootfs[offset : offset + CHUNK_BYTES])

        done: dict[str, Names] = {}

        def act() -> bool:
            answer = self.engine.images.ImportImage(requests(), timeout=CALL_SECONDS)
            done[reference] = {answer.image.id}
            return True

        return Call("import", act, done, {reference: _Any()})

    def _push(self) -> Call:
        reference = self._random.choice(sorted(self._names))
        self._number += 1
        target = f"{self.engine.registry}/killed/{self._number}:1"
        return Call("push", lambda: self.engine.push(reference, target).state == SUCCEEDED, {}, {})

    def _delete(self) -> Call:
        reference = self._random.choice(sorted(self._names))
        request = images_pb2.DeleteImageRequest(image=reference)

        def act() -> bool:
            self.engine.images.DeleteImage(request, timeout=CALL_SECONDS)
            return True

        return Call("delete", act, {reference: {None}}, {reference: {None, self._names[reference]}})

    def _prune(self) -> Call:
        request = images_pb2.PruneImagesRequest(all=True)

        def act() -> bool:
            return self.engine.ended(self.engine.images.PruneImages(request).operation).state == SUCCEEDED

        done: dict[str, Names] = {name: {None} for name in self._names}
        return Call("prune", act, done, {name: {None, image_id} for name, image_id in self._names.items()})
