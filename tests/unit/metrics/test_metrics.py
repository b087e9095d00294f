"""What metrics say of a moment, and what they count of calls."""

from dataclasses import replace

import pytest

from fluytd.containers.model import State
from fluytd.errors import FieldInvalid
from fluytd.metrics.calls import BOUNDS_SECONDS, CallFigures
from fluytd.metrics.exporter import split_address
from fluytd.metrics.model import Family, Kind, Moment, families
from tests.support.fakes.containers import FakeStats
from tests.unit.api.test_briefs import made


def moment(*containers: tuple[State, FakeStats | None]) -> dict[str, Family]:
    """The metrics of an engine with these containers, by name."""
    records = [
        (replace(made(number), state=state, restart_count=number), stats)
        for number, (state, stats) in enumerate(containers)
    ]
    seen = Moment(
        version="1.2.3",
        engine_id="e",
        start_time_unix_nanos=1_500_000_000,
        image_count=3,
        disk_usage_bytes={"blobs": 7},
        head_sequence=12,
        containers=records,
    )
    return {family.name: family for family in families(seen)}


def test_containers_are_counted_by_state_and_no_state_is_left_out() -> None:
    found = moment((State.RUNNING, FakeStats()), (State.RUNNING, FakeStats()), (State.EXITED, None))
    counts = dict(found["fluyt_containers"].samples)
    assert counts[("running",)] == 2
    assert counts[("exited",)] == 1
    assert counts.keys() == {(state.value.lower(),) for state in State}


def test_figures_are_in_base_units_and_those_that_the_host_does_not_count_are_absent() -> None:
    found = moment((State.RUNNING, FakeStats(cpu_usage_nanos=2_500_000_000)), (State.EXITED, None))
    [(labels, value)] = found["fluyt_container_cpu_usage_seconds_total"].samples
    assert (labels[1:], value) == (("c0", "busybox"), 2.5)
    assert "fluyt_container_memory_pressure_percent" not in found
    assert [value for _, value in found["fluyt_container_restarts_total"].samples] == [0, 1]


def test_an_engine_without_containers_has_metrics_of_its_own() -> None:
    found = moment()
    assert found["fluyt_engine_start_time_seconds"].samples == [((), 1.5)]
    assert (found["fluyt_images"].samples, found["fluyt_events_total"].samples) == ([((), 3)], [((), 12)])
    assert not [name for name in found if name.startswith("fluyt_container_")]


def test_counters_end_in_total_and_gauges_do_not() -> None:
    for name, family in moment((State.RUNNING, FakeStats(cpu_usage_nanos=1))).items():
        assert name.endswith("_total") is (family.kind is Kind.COUNTER), name


def test_calls_are_counted_by_status_and_in_classes_that_count_those_below_too() -> None:
    calls = CallFigures()
    assert list(calls.families()) == []
    for code, seconds in (("OK", 0.0005), ("OK", 0.03), ("NOT_FOUND", 100.0)):
        calls.ended("/a.B/C", code, seconds)
    counted, timed = calls.families()
    assert dict(counted.samples) == {("/a.B/C", "OK"): 2, ("/a.B/C", "NOT_FOUND"): 1}
    classes = {bound: value for (_, bound), value in timed.samples}
    assert (classes["0.001"], classes["0.025"], classes["0.05"], classes["30.0"], classes["+Inf"]) == (1, 1, 2, 2, 3)
    assert classes["sum"] == pytest.approx(100.0305)
    assert len(classes) == len(BOUNDS_SECONDS) + 2


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:1", "192.0.2.1:9", "[::]:1", "localhost:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":1"],
)
def test_metrics_are_served_on_loopback_addresses_only(address: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        split_address(address)
    assert caught.value.metadata["field"] == "metrics_address"


@pytest.mark.parametrize(("address", "parts"), [("127.0.0.1:9323", ("127.0.0.1", 9323)), ("[::1]:0", ("::1", 0))])
def test_loopback_addresses_of_both_families_are_taken(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
