"""Line protocol: types, escapes, and what the specification does not allow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.pipeline.interchange.drafts import BadRecord
from tailrace.pipeline.interchange.influx_lines import LineProtocolFormat, Names
from tailrace.pipeline.interchange.times import TimeReader

FORM = LineProtocolFormat(TimeReader("ns"))


def test_types() -> None:
    texts = b's="x y, \\"z\\" \\\\ \\n"'
    line = b"m,host=a f=1,g=-1.5e3,h=.5,i=7i,j=8u,k=t,l=FALSE," + texts + b" 1700000000000000001"
    draft = FORM.parse(line)
    assert draft is not None
    assert (draft.measurement, draft.tags) == ("m", {"host": "a"})
    assert draft.time_ns == 1_700_000_000_000_000_001
    expected = {
        "f": 1.0, "g": -1500.0, "h": 0.5, "i": 7, "j": 8, "k": True, "l": False,
        "s": 'x y, "z" \\ \\n',
    }  # fmt: skip
    assert draft.fields == expected
    assert [type(value) for value in draft.fields.values()] == [
        type(value) for value in expected.values()
    ]


def test_escapes() -> None:
    draft = FORM.parse(rb"a\ b\,c\=d,k\ 1\==v\,\ 2,back=c:\dir\\x f\,g=1i 5")
    assert draft is not None
    # = needs no escape in a measurement; a backslash before anything else is itself.
    assert draft.measurement == r"a b,c\=d"
    assert draft.tags == {"k 1=": "v, 2", "back": r"c:\dir\\x"}
    assert draft.fields == {"f,g": 1}


def test_comments_and_empty_lines_say_nothing() -> None:
    assert FORM.parse(b"# m f=1 5\n") is None
    assert FORM.parse(b" \r\n") is None


@pytest.mark.parametrize(
    "line",
    [
        b"m", b"m f", b"m f=", b"m f=1", b"m f=1 x", b"m f=1 1.5", b"m f=1  ", b"m,t f=1 5",
        b"m,t= f=1 5", b"m,=v f=1 5", b",t=v f=1 5", b"m, f=1 5", b"m f=1,f=2 5",
        b"m,a=1,a=2 f=1 5", b"m f=x 5", b"m f=1ii 5", b"m f=1.5i 5", b"m f=-1u 5", b"m f=truely 5",
        b"m f=\"x 5", b"m f=\"x\"y 5", b"m f=1e999 5", b"m f=nan 5", b"m f=1,, 5", b"m f=1 5 6",
        b"m f=1 5,g=2",
        b"m  ", b"m f=1 99999999999999999999", b"m f=0x1 5", b"m f=1\nx 5", b"m f=\xff 5",
        b"m f=1 123456789012345678901234567890",
    ],
)  # fmt: skip
def test_what_is_not_line_protocol_is_refused(line: bytes) -> None:
    with pytest.raises(BadRecord):
        FORM.parse(line)


def test_precision_is_an_option() -> None:
    draft = LineProtocolFormat(TimeReader("ms")).parse(b"m f=1 1700000000123")
    assert draft is not None
    assert draft.time_ns == 1_700_000_000_123_000_000


def test_ids_may_stand_in_tags_or_fields() -> None:
    names = Names(trace_id="trace_id", id="uid")
    form = LineProtocolFormat(TimeReader("ns"), names)
    draft = form.parse(b'm,uid=00112233445566778899aabbccddeeff f=1i,trace_id="abc" 5')
    assert draft is not None
    assert draft.uid == bytes.fromhex("00112233445566778899aabbccddeeff")
    assert (draft.trace_id, draft.tags, draft.fields) == ("abc", {}, {"f": 1})


def test_line_breaks_in_texts(read_file) -> None:
    content = b'm s="one\ntwo=\\"x\n",g=1i 5\r\nm s="x" 6\n# it\'s a="comment\nm f=2i 7\n'
    events = read_file(content, FORM)
    assert [event.rejected for event in events] == [None, None, None]
    assert events[0].fields == {"s": 'one\ntwo="x\n', "g": 1}
    assert [event.time_ns for event in events] == [5, 6, 7]


def test_a_text_that_is_never_closed_costs_its_line(read_file) -> None:
    content = b'm f=1i 1\nm s="open 2\nm f=3i 3\nm s="closed" 4\nm f=5i 5\n'
    events = read_file(content, FORM)
    assert sorted(event.time_ns for event in events if not event.rejected) == [1, 3, 4, 5]
    assert [event.rejected.split(":")[0] for event in events if event.rejected] == ["line 2"]


def test_integers_beyond_64_bits_are_refused(read_file) -> None:
    events = read_file(b"m f=18446744073709551615u 1\nm f=9223372036854775807i 2\n", FORM)
    assert [bool(event.rejected) for event in events] == [True, False]


NAME = st.text(
    st.characters(exclude_characters="\n\r\0\\", exclude_categories=["Cs"]), min_size=1, max_size=12
)


def escape(text: str, special: str) -> str:
    return "".join(f"\\{character}" if character in special else character for character in text)


@settings(max_examples=200, deadline=None)
@given(
    measurement=NAME.filter(
        lambda text: text.strip(" \t") and text[0] not in "#\t" and text[0] != "\x0b"
    ),
    tags=st.dictionaries(NAME, NAME, max_size=3),
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    number=st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_escaped_by_the_rules_comes_back(measurement, tags, text, number, real) -> None:
    parts = [escape(measurement, ", ")]
    parts += [f"{escape(key, ',= ')}={escape(value, ',= ')}" for key, value in tags.items()]
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    line = f'{",".join(parts)} s="{quoted}",n={number}i,r={real!r} 12'
    draft = FORM.parse(line.encode())
    assert draft is not None
    assert (draft.measurement, draft.tags, draft.time_ns) == (measurement, tags, 12)
    assert draft.fields == {"s": text, "n": number, "r": real}
