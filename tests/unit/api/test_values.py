"""Times, spans, pages."""

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from fluytd.api.convert import values
from fluytd.errors import FieldInvalid


@pytest.mark.parametrize("nanos", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_a_time_survives_the_round_trip(nanos: int) -> None:
    assert values.from_timestamp(values.timestamp_of(nanos), "t") == nanos


@pytest.mark.parametrize(("seconds", "nanos"), [(-1, 0), (0, -1), (0, 1_000_000_000), (1 << 40, 0)])
def test_a_malformed_time_names_its_field(seconds: int, nanos: int) -> None:
    with pytest.raises(FieldInvalid) as caught:
        values.from_timestamp(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos), "since_time")
    assert caught.value.field == "since_time"


@pytest.mark.parametrize("millis", [0, 1, 1_500, -2_000, -1])
def test_a_span_survives_the_round_trip(millis: int) -> None:
    seconds, rest = divmod(abs(millis), 1000)
    sign = -1 if millis < 0 else 1
    span = duration_pb2.Duration(seconds=sign * seconds, nanos=sign * rest * 1_000_000)
    assert values.from_duration(span, "timeout") == millis


def test_a_span_below_a_millisecond_is_not_nothing() -> None:
    assert values.from_duration(duration_pb2.Duration(nanos=1), "timeout") == 1


@pytest.mark.parametrize(("seconds", "nanos"), [(1, -1), (0, 1_000_000_000), (1 << 60, 0), (-(1 << 60), 0)])
def test_a_malformed_span_is_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(FieldInvalid):
        values.from_duration(duration_pb2.Duration(seconds=seconds, nanos=nanos), "timeout")


@pytest.mark.parametrize(("asked", "given"), [(0, 100), (5, 5), (5_000, 1_000)])
def test_a_page_is_bounded(asked: int, given: int) -> None:
    assert values.page_size(asked, default=100, maximum=1_000) == given


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(FieldInvalid):
        values.page_size(-1, default=100, maximum=1_000)


def test_a_page_token_is_opaque_and_survives() -> None:
    assert values.from_page_token(values.to_page_token("abc/ü")) == "abc/ü"
    assert values.from_page_token("") == ""


@pytest.mark.parametrize("token", ["?", "abc", "//79", "gA=="])
def test_a_token_that_nobody_gave_is_refused(token: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        values.from_page_token(token)
    assert caught.value.field == "page_token"
