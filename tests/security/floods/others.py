"""Another caller than the one that floods: on a connection of its own it asks and starts containers all the while."""

import threading
import time
from collections import Counter
from typing import Self

import grpc

from fluyt.v1 import containers_pb2, containers_pb2_grpc
from fluyt.v1.types import container_spec_pb2
from tests.e2e.containers.steps import IMAGE
from tests.e2e.execs.test_load import held
from tests.support.engine import Engine

#: How long one call of the other caller may take before the engine counts as gone. How fast it is, is a figure, and
#: `python -m bench.floods` takes it.
PATIENCE_SECONDS = 20

#: What the daemon may hold more than before: supervisors made ahead, and connections that gRPC closes in its own time.
MORE_DESCRIPTORS = 12


def descriptors_return(engine: Engine, before: Counter[str]) -> None:
    """The daemon has open what it had before, by kind. `before`: what `held` said."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (more := held(engine) - before).total() > MORE_DESCRIPTORS:
        assert time.monotonic() < until, more
        time.sleep(0.1)


class Others:
    """Calls until the block ends; `answered` and `seconds` tell how it went. The block fails if a call failed."""

    def __init__(self, engine: Engine) -> None:
        self._channel = grpc.insecure_channel(
            f"unix:{engine.root}/run/fluytd.sock", [("grpc.use_local_subchannel_pool", 1)]
        )
        self._containers = containers_pb2_grpc.ContainerServiceStub(self._channel)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._error: Exception | None = None
        #: Seconds of each call that asked, and of each run of a container.
        self.asked: list[float] = []
        self.ran: list[float] = []

    def _call(self) -> None:
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                self._containers.ListContainers(containers_pb2.ListContainersRequest(), timeout=PATIENCE_SECONDS)
                self.asked.append(time.monotonic() - began)
                if len(self.asked) % 10 == 1:
                    began = time.monotonic()
                    self._run()
                    self.ran.append(time.monotonic() - began)
                self._stop.wait(0.01)
        except (grpc.RpcError, AssertionError) as error:
            self._error = error

    def _run(self) -> None:
        spec = container_spec_pb2.ContainerSpec(image=IMAGE, args=["echo", "served"], auto_remove=True)
        request = containers_pb2.RunContainerRequest(spec=spec)
        out = b""
        for event in self._containers.RunContainer(request, timeout=PATIENCE_SECONDS):
            if event.WhichOneof("event") == "stdout":
                out += event.stdout.data
        assert out == b"served\n"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()
        if self._error is not None:
            raise AssertionError("another caller was not answered") from self._error
        assert self.asked
        assert self.ran
