"""CSV: quoted line breaks, types, mapping, and rows that are none."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.errors import BackendError
from tailrace.pipeline.interchange import records
from tailrace.pipeline.interchange.columns import Columns, guess
from tailrace.pipeline.interchange.csv_events import CsvFormat, Dialect, read_header
from tailrace.pipeline.interchange.records import slices_of
from tailrace.pipeline.interchange.times import TimeReader


def csv_format(names: tuple[str, ...], columns: Columns | None = None, **dialect) -> CsvFormat:
    return CsvFormat(
        Dialect(**dialect), names, columns or Columns(measurement="m"), TimeReader("s")
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("FALSE", False), ("1", 1), ("-7", -7), ("+7", 7), ("0", 0),
        ("007", "007"), ("1.5", 1.5), ("-.5", -0.5), ("1.", 1.0), ("1e3", 1000.0),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775808", "9223372036854775808"),
        ("1e999", "1e999"), ("nan", "nan"), ("inf", "inf"), ("null", "null"), (".", "."),
        ("1_000", "1_000"), ("0x10", "0x10"), ("١٢", "١٢"), (" 12 ", 12), ("-", "-"), ("e5", "e5"),
        ("00.5", "00.5"), ("yes", "yes"), ("2026-01-01", "2026-01-01"), ("1" * 500, "1" * 500),
    ],
)  # fmt: skip
def test_types_are_guessed_by_the_stated_rules(text: str, value: object) -> None:
    found = guess(text)
    assert found == value
    assert type(found) is type(value)


def test_a_row_becomes_an_event(read_file) -> None:
    columns = Columns(
        time="when", measurement="sale", tags=("shop",), types={"zip": "text", "ok": "boolean"},
        trace_id="trace", constant_tags={"source": "till"},
    )  # fmt: skip
    names = ("when", "shop", "amount", "count", "zip", "ok", "trace", "note", "")
    row = b'1700000000.5,north,12.50,3,01234,yes,abc,"a ""b"", c\nd",ignored\n'
    (event,) = read_file(row, csv_format(names, columns))
    assert event.rejected is None
    assert event.time_ns == 1_700_000_000_500_000_000
    assert event.tags == {"source": "till", "shop": "north"}
    assert event.fields == {
        "amount": 12.5, "count": 3, "zip": "01234", "ok": True, "note": 'a "b", c\nd',
    }  # fmt: skip
    assert event.trace_id == "abc"


def test_empty_cells_are_not_there_and_chosen_fields_only(read_file) -> None:
    columns = Columns(measurement="m", fields=("a", "b"))
    (event,) = read_file(b"5,,2,3\n", csv_format(("time", "a", "b", "c"), columns))
    assert event.fields == {"b": 2}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"5,1,2", "3 columns"),
        (b"5", "1 columns"),
        (b",1", "no time"),
        (b"x,1", "number since 1970"),
        (b'5,"a"b', "not a row of CSV"),
        (b"5,\xff", "not in utf-8"),
        (b"5," + b"y" * 200_000, "field larger than field limit"),
    ],
)
def test_a_bad_row_is_told(read_file, row: bytes, reason: str) -> None:
    events = read_file(b"5,1\n" + row + b"\n6,2\n", csv_format(("time", "a")))
    assert sorted(event.fields.get("a", 0) for event in events if not event.rejected) == [1, 2]
    (bad,) = [event for event in events if event.rejected]
    assert bad.rejected.startswith("line 2: ")
    assert reason in bad.rejected


def test_a_column_of_a_type_refuses_others(read_file) -> None:
    columns = Columns(measurement="m", types={"a": "integer"})
    events = read_file(b"5,1.5\n5,12\n", csv_format(("time", "a"), columns))
    assert [event.fields for event in events if not event.rejected] == [{"a": 12}]
    assert "not an integer" in next(event.rejected for event in events if event.rejected)


def test_a_quote_that_is_never_closed_costs_its_line(read_file) -> None:
    content = b'1,a\n2,"never closed\n' + b"".join(b"%d,x\n" % n for n in range(3, 1_000))
    events = read_file(content, csv_format(("time", "a")))
    bad = [event for event in events if event.rejected]
    assert len(events) == 999
    assert [event.rejected.split(":")[0] for event in bad] == ["line 2"]


def test_a_quote_that_is_closed_by_a_later_row_costs_its_line(read_file) -> None:
    content = b'1,a\n2,"never closed\n3,b\n4,"c"\n5,d\n'
    events = read_file(content, csv_format(("time", "a")))
    assert {event.fields["a"] for event in events if not event.rejected} == {"a", "b", "c", "d"}
    assert [event.rejected.split(":")[0] for event in events if event.rejected] == ["line 2"]


CELL = st.text(st.sampled_from('ab,"\n\r;é '), max_size=8)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20))
def test_slices_end_where_rows_end(tmp_path_factory, rows: list[tuple[str, str]]) -> None:
    """Python's writer writes, and each slice, read by itself, has whole rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    for number, (first, second) in enumerate(rows):
        writer.writerow([number, first, second])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(buffer.getvalue().encode())
    form = csv_format(
        ("time", "a", "b"), Columns(measurement="m", types={"a": "text", "b": "text"})
    )
    old = records.SLICE_MAX_BYTES, records.SLICE_MAX_RECORDS
    records.SLICE_MAX_RECORDS = 3
    try:
        slices = list(slices_of(path, form))
        assert sum(slice_.records for slice_ in slices) == len(rows)
        assert [slice_.start for slice_ in slices[1:]] == [slice_.end for slice_ in slices[:-1]]
        found = [
            form.parse(record.data)
            for slice_ in slices
            for record in records.read_slice(path, form, slice_)
        ]
    finally:
        records.SLICE_MAX_BYTES, records.SLICE_MAX_RECORDS = old
    values = [(draft.fields.get("a", ""), draft.fields.get("b", "")) for draft in found]
    assert values == rows


def test_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbftime,"a\nb", c \n1,2,3\n')
    header = read_header(path, Dialect())
    assert header.names == ("time", "a\nb", "c")
    assert (header.offset, header.line) == (path.read_bytes().index(b"1,2"), 3)
    assert read_header(path, Dialect(header=("x", "y"))).offset == 0
    for content, reason in [
        (b"", "does not begin"), (b"a,b,a\n", "same name"), (b",,\n", "does not begin"),
        (b'"open\n', "does not begin"), (b"\xff,b\n", "not in utf-8"),
    ]:  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(BackendError, match=reason):
            read_header(path, Dialect())


def test_columns_that_are_not_there_are_named() -> None:
    columns = Columns(time="ts", tags=("shop",), types={"zip": "number"})
    assert "no types" in columns.problems(("time",))
    columns = Columns(time="ts", tags=("shop",))
    assert columns.problems(("time", "shop")) == (
        "the file has no columns ['ts', 'measurement']; it has ['time', 'shop']"
    )
    assert columns.problems(("ts", "shop", "measurement")) == ""


def test_other_dialects(read_file) -> None:
    form = csv_format(("time", "a"), delimiter=";", encoding="cp1252")
    (event,) = read_file("5;é,€\r\n".encode("cp1252"), form)
    assert event.fields == {"a": "é,€"}
