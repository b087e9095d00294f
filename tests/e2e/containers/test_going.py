"""Calls about a container that ends or goes in that moment: a true answer, never that the host or the engine failed."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from fluyt.v1 import container_files_pb2, containers_pb2, logs_pb2
from fluyt.v1.types import security_pb2
from tests.e2e.containers import copy_steps as copies
from tests.e2e.containers.steps import IMAGE, create, delete, refusal, start, started, wait
from tests.e2e.execs import steps as execs
from tests.support.engine import Engine

CALLERS = 6
SECONDS = 6
Call = Callable[[str], object]


def answers(call: Call, container: str) -> str:
    """`ok`, or why not."""
    try:
        call(container)
    except grpc.RpcError as error:
        return refusal(error)[1]
    return "ok"


def told_meanwhile(engine: Engine, calls: dict[str, Call], live: Callable[[str], None]) -> Counter[tuple[str, str]]:
    """What the calls answered about containers of which each lives as told and goes, again and again for a while."""
    deadline = time.monotonic() + SECONDS
    told: Counter[tuple[str, str]] = Counter()

    def ask(number: int) -> Counter[tuple[str, str]]:
        own: Counter[tuple[str, str]] = Counter()
        while time.monotonic() < deadline:
            for name, call in calls.items():
                own[name, answers(call, f"goes-{number % 2}")] += 1
        return own

    def go(number: int) -> None:
        while time.monotonic() < deadline:
            live(f"goes-{number}")

    with ThreadPoolExecutor(CALLERS + 2) as callers:
        going = [callers.submit(go, number) for number in range(2)]
        for asked in [callers.submit(ask, number) for number in range(CALLERS)]:
            told += asked.result()
        for one in going:
            one.result()
    return told


def test_what_is_deleted_meanwhile_is_not_found_or_left_out(engine: Engine) -> None:
    def list_all(_: str) -> None:
        engine.containers.ListContainers(containers_pb2.ListContainersRequest(include_size=True))

    def read(name: str) -> None:
        list(engine.logs_api.ReadLogs(logs_pb2.ReadLogsRequest(container=name, follow=True), timeout=20))

    def copy(name: str) -> None:
        request = container_files_pb2.CopyFromRequest(container=name, path="/etc/passwd")
        list(engine.containers.CopyFrom(request, timeout=20))

    def get(name: str) -> None:
        engine.containers.GetContainer(containers_pb2.GetContainerRequest(container=name, include_size=True))

    def prune(_: str) -> None:
        engine.containers.PruneContainers(containers_pb2.PruneContainersRequest(dry_run=True))

    def live(name: str) -> None:
        create(engine, "echo", "x", name=name)
        start(engine, name)
        wait(engine, name)
        delete(engine, name)

    calls: dict[str, Call] = {"list": list_all, "logs": read, "copy": copy, "get": get, "prune": prune}
    told = told_meanwhile(engine, calls, live)
    allowed = {"ok", "CONTAINER_NOT_FOUND", "CONTAINER_WRONG_STATE"}
    assert {name for name, _ in told} == set(calls)
    assert {what for what in told if what[1] not in allowed} == set(), told
    assert {what for what in told if what[0] in {"list", "prune"}} == {("list", "ok"), ("prune", "ok")}


def test_a_copy_into_what_ends_is_answered(engine: Engine) -> None:
    archive = copies.tar(copies.member("f", b"hello"))

    def copy(name: str) -> None:
        options = container_files_pb2.CopyToOptions(container=name, path="/tmp")
        parts = [
            container_files_pb2.CopyToRequest(options=options),
            container_files_pb2.CopyToRequest(chunk=archive),
        ]
        # One that is not answered at all fails by its deadline.
        engine.containers.CopyTo(iter(parts), timeout=8)

    def live(name: str) -> None:
        start(engine, name)
        wait(engine, name)

    for number in range(2):
        create(engine, "sleep", "0.1", name=f"goes-{number}")
    told = told_meanwhile(engine, {"copy": copy}, live)
    assert set(told) <= {("copy", "ok"), ("copy", "CONTAINER_WRONG_STATE")}, told
    assert len(told) == 2


def test_who_shares_a_namespace_with_what_ends_is_told_of_its_state(engine: Engine) -> None:
    def join(name: str) -> None:
        other = security_pb2.NamespaceSpec(mode=security_pb2.NamespaceSpec.MODE_CONTAINER, container=name)
        engine.run(IMAGE, "true", namespaces=security_pb2.NamespacesSpec(pid=other))

    def live(name: str) -> None:
        started(engine, "sleep", "0.1", name=name)
        wait(engine, name)
        delete(engine, name)

    told = told_meanwhile(engine, {"join": join}, live)
    assert set(told) <= {("join", what) for what in ("ok", "CONTAINER_NOT_FOUND", "CONTAINER_WRONG_STATE")}, told
    assert told["join", "ok"]


def test_a_process_in_what_ends_is_refused_by_the_containers_state(engine: Engine) -> None:
    def run(name: str) -> None:
        execs.run(engine, name, "true")

    def live(name: str) -> None:
        started(engine, "sleep", "0.2", name=name, image=IMAGE)
        wait(engine, name)
        delete(engine, name)

    told = told_meanwhile(engine, {"exec": run}, live)
    assert set(told) <= {("exec", what) for what in ("ok", "CONTAINER_NOT_FOUND", "CONTAINER_WRONG_STATE")}, told
    assert told["exec", "ok"]
