"""Figures and processes of running containers."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_pb2, network_pb2, resources_pb2, stats_pb2
from tests.e2e.containers.steps import INVALID, NOT_FOUND, WRONG_STATE, create, delete, get, refused, started, wait
from tests.support.engine import PATIENCE_SECONDS, Engine
from tests.support.wait import until_now

MIB = 1 << 20


def watch(
    engine: Engine, *names: str, millis: int = 100, once: bool = False
) -> Iterator[Sequence[stats_pb2.ContainerStats]]:
    """The rounds that come; ends with `complete`."""
    interval = duration_pb2.Duration(nanos=millis * 1_000_000)
    request = containers_pb2.WatchStatsRequest(containers=names, interval=interval, once=once)
    for message in engine.containers.WatchStats(request, timeout=50):
        if message.WhichOneof("event") == "complete":
            return
        yield message.round.stats
    raise AssertionError("the stream ended without `complete`")


def once(engine: Engine, name: str) -> stats_pb2.ContainerStats:
    """The figures of one container."""
    [[stats]] = watch(engine, name, once=True)
    return stats


def processes(engine: Engine, name: str, **page: int | str) -> containers_pb2.ListProcessesResponse:
    """ListProcesses' answer."""
    request = containers_pb2.ListProcessesRequest(container=name, **page)  # type: ignore[arg-type]
    return engine.containers.ListProcesses(request)  # type: ignore[no-any-return]


def test_figures_tell_what_a_container_uses_and_may_use(engine: Engine) -> None:
    limits = resources_pb2.Resources(memory_limit_bytes=64 * MIB, pids_limit=20)
    script = 'x=$(head -c 20m /dev/zero | tr "\\0" a); sleep 100 & echo full; wait'
    container = started(engine, "sh", "-c", script, resources=limits)
    until_now(lambda: engine.logs(container.id) == b"full\n", "it holds its memory", PATIENCE_SECONDS)
    stats = once(engine, container.id)
    assert stats.container_id == container.id
    assert 20 * MIB < stats.memory_working_set_bytes <= stats.memory_usage_bytes <= stats.memory_limit_bytes
    assert (stats.memory_limit_bytes, stats.pids_limit, stats.pids_count) == (64 * MIB, 20, 2)
    assert 0 < stats.cpu_user_nanos + stats.cpu_system_nanos <= 2 * stats.cpu_usage_nanos
    assert abs(stats.time.ToNanoseconds() / 1e9 - time.time()) < 30


@pytest.mark.skipif(not Path("/proc/pressure/cpu").exists(), reason="this kernel counts no pressure")
def test_who_waits_for_a_processor_is_told_as_pressure(engine: Engine) -> None:
    script = "while :; do :; done & while :; do :; done & while :; do :; done"
    busy = started(engine, "sh", "-c", script, resources=resources_pb2.Resources(cpu_quota_micros=10_000))
    idle = started(engine, "sleep", "100")
    until_now(lambda: once(engine, busy.id).pressure.cpu_percent > 0, "the kernel has counted", 20)
    assert once(engine, idle.id).pressure.cpu_percent < once(engine, busy.id).pressure.cpu_percent <= 100


def test_a_container_without_limits_is_bounded_by_the_host(engine: Engine) -> None:
    stats = once(engine, started(engine, "sleep", "100").id)
    assert (stats.memory_limit_bytes > 64 * MIB, stats.pids_limit) == (True, 0)


def test_counters_grow_from_round_to_round(engine: Engine) -> None:
    container = started(
        engine, "sh", "-c", "while :; do :; done", resources=resources_pb2.Resources(cpu_quota_micros=20_000)
    )
    usages = []
    for [stats] in watch(engine, container.id):
        usages.append(stats.cpu_usage_nanos)
        if stats.cpu_throttled_periods > 0 and len(usages) >= 3:
            break
    assert usages == sorted(usages)
    assert usages[0] < usages[-1]


def test_the_stream_ends_when_all_named_containers_have_ended(engine: Engine) -> None:
    first, last = started(engine, "sleep", "1000"), started(engine, "sleep", "1000")
    rounds: list[list[str]] = []
    for found in watch(engine, first.id, last.id):
        round_ = [stats.container_id for stats in found]
        if round_ in rounds:  # it was read before the kill that the one before led to
            continue
        rounds.append(round_)
        engine.containers.KillContainer(containers_pb2.KillContainerRequest(container=round_[0]))
    assert rounds == [[first.id, last.id], [last.id]]


def test_without_names_those_that_start_later_come_too(engine: Engine) -> None:
    rounds = watch(engine)
    assert list(next(rounds)) == []
    container = started(engine, "sleep", "100")
    assert any(stats.container_id == container.id for found in rounds for stats in found)


def test_one_round_of_what_does_not_run_is_empty(engine: Engine) -> None:
    assert list(watch(engine, create(engine, "true").id, once=True)) == [[]]


def test_the_hosts_network_is_not_a_containers_to_count(engine: Engine) -> None:
    for mode in (network_pb2.NetworkSpec.MODE_HOST, network_pb2.NetworkSpec.MODE_NONE):
        stats = once(engine, started(engine, "sleep", "100", network=network_pb2.NetworkSpec(mode=mode)).id)
        assert (stats.network_receive_bytes, stats.network_transmit_bytes) == (0, 0)


def test_a_paused_container_has_figures_and_processes(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=container.id))
    assert once(engine, container.id).pids_count == 1
    assert len(processes(engine, container.id).processes) == 1


def test_many_watchers_come_and_go(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    seen: list[int] = []

    def look() -> None:
        for number, found in enumerate(watch(engine, container.id)):
            if number == 3:
                seen.append(len(found))
                return

    threads = [threading.Thread(target=look) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [1] * 20


@pytest.mark.parametrize("millis", [0, 99, -1, 10**9])
def test_an_interval_out_of_bounds_is_refused(engine: Engine, millis: int) -> None:
    interval = duration_pb2.Duration(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)
    if millis < 0:
        interval = duration_pb2.Duration(nanos=-1_000_000)
    request = containers_pb2.WatchStatsRequest(interval=interval, once=True)
    assert refused(lambda: list(engine.containers.WatchStats(request)))[:2] == (INVALID, "FIELD_INVALID")


def test_figures_of_what_is_not_there_are_refused(engine: Engine) -> None:
    request = containers_pb2.WatchStatsRequest(containers=["nosuch"])
    assert refused(lambda: list(engine.containers.WatchStats(request)))[:2] == (NOT_FOUND, "CONTAINER_NOT_FOUND")
    too_many = containers_pb2.WatchStatsRequest(containers=["a"] * 1001)
    code, reason, metadata = refused(lambda: list(engine.containers.WatchStats(too_many)))
    assert (reason, metadata["limit"], code) == ("LIMIT_EXCEEDED", "MAX_PAGE_SIZE", code)


def test_processes_are_told_as_host_and_container_see_them(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "sleep 1000 & wait", user="1000")

    def told() -> list[list[str]]:
        return [list(process.args) for process in processes(engine, container.id).processes]

    # The shell's child is there before it has become another program.
    until_now(lambda: ["sleep", "1000"] in told(), "both run")
    first, second = processes(engine, container.id).processes
    assert (first.host_pid, first.pid, list(first.args)) == (container.host_pid, 1, ["sh", "-c", "sleep 1000 & wait"])
    assert (second.parent_host_pid, second.pid > 1, list(second.args)) == (first.host_pid, True, ["sleep", "1000"])
    assert (first.uid, first.process_state, first.resident_bytes > 0) == (1000, "S", True)
    assert abs(first.start_time.ToNanoseconds() - container.start_time.ToNanoseconds()) < 5e9


def test_processes_come_in_pages(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "for n in 1 2 3 4; do sleep 1000 & done; wait")
    until_now(lambda: len(processes(engine, container.id).processes) == 5, "all run")
    found, token = [], ""
    while True:
        page = processes(engine, container.id, page_size=2, page_token=token)
        assert len(page.processes) <= 2
        found += [process.host_pid for process in page.processes]
        token = page.next_page_token
        if not token:
            break
    assert found == [process.host_pid for process in processes(engine, container.id).processes]


def test_arguments_of_a_process_are_bounded(engine: Engine) -> None:
    container = started(engine, "sh", "-c", "sleep 1000; exit", "x" * 10_000)
    [first, *_] = processes(engine, container.id).processes
    assert sum(len(arg) for arg in first.args) <= 4096


def test_processes_of_what_does_not_heed_its_stop_are_told(engine: Engine) -> None:
    deaf = started(engine, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done", name="deaf")
    until_now(lambda: engine.logs(deaf.id) == b"ready\n", "it is deaf")
    with ThreadPoolExecutor(1) as callers:
        request = containers_pb2.StopContainerRequest(container=deaf.id)
        request.timeout.FromSeconds(60)
        stopping = callers.submit(engine.containers.StopContainer, request)
        until_now(lambda: get(engine, deaf.id).state == container_pb2.Container.STATE_STOPPING, "it is to stop")
        assert list(processes(engine, deaf.id).processes[0].args[:2]) == ["sh", "-c"]
        delete(engine, deaf.id, force=True)
        stopping.result()


def test_processes_of_what_does_not_run_are_refused(engine: Engine) -> None:
    made = create(engine, "true")
    assert refused(lambda: processes(engine, made.id))[:2] == (WRONG_STATE, "CONTAINER_WRONG_STATE")
    container = started(engine, "sleep", "100")
    assert refused(lambda: processes(engine, container.id, page_token="x"))[:2] == (INVALID, "FIELD_INVALID")  # noqa: S106


def test_a_container_that_goes_while_it_is_watched_is_left_out(engine: Engine) -> None:
    container = started(engine, "sleep", "100")
    rounds = watch(engine, container.id)
    assert len(next(rounds)) == 1
    delete(engine, container.id, force=True)
    assert all(len(found) <= 1 for found in rounds)
    with pytest.raises(grpc.RpcError):
        wait(engine, container.id)
