"""Lines are handed on together, up to a bound."""

from fluytd.logs.pieces import OutputPiece, joined
from tests.support.fakes.records import FakeRecord


def _data(*records: FakeRecord) -> list[tuple[str, bytes]]:
    return [(piece.stream, piece.data) for piece in joined(records, 8)]


def test_neighbours_of_one_stream_are_one_piece_with_the_last_ones_place() -> None:
    records = [FakeRecord("stdout", b"a\n", 1, "1:1"), FakeRecord("stdout", b"b\n", 2, "1:2")]
    assert list(joined(records, 8)) == [OutputPiece("stdout", b"a\nb\n", 2, "1:2")]


def test_streams_stay_apart_and_in_order() -> None:
    records = [FakeRecord("stdout", b"a"), FakeRecord("stderr", b"b"), FakeRecord("stdout", b"c")]
    assert _data(*records) == [("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c")]


def test_a_piece_holds_no_more_than_the_bound() -> None:
    records = [FakeRecord("stdout", b"12345"), FakeRecord("stdout", b"678"), FakeRecord("stdout", b"9")]
    assert _data(*records) == [("stdout", b"12345678"), ("stdout", b"9")]


def test_a_longer_line_is_several_pieces_and_has_its_place_after_the_last() -> None:
    pieces = list(joined([FakeRecord("stdout", b"123456789abcdefgh", 1, "1:5")], 8))
    assert [(piece.data, piece.cursor) for piece in pieces] == [(b"12345678", ""), (b"9abcdefg", ""), (b"h", "1:5")]


def test_nothing_is_nothing() -> None:
    assert list(joined([], 8)) == []
