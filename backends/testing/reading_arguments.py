"""What cannot be asked raises, and says what can; hostile arguments do nothing else."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from .reading_data import make
from .reading_tools import NOON, ReaderTools, raises

LATER = NOON + timedelta(hours=1)
_ATTACKS = (
    "'; DROP TABLE tailrace_event; --",
    '"; DELETE FROM tailrace_event; --',
    "\\'; SELECT 1; --",
    "1) OR (1=1",
    "v') FROM tailrace_event; DELETE FROM tailrace_event WHERE ('1'='1",
    "%s",
    "%(v)s",
    "%%",
    "$.v",
    '$."v"',
    "$[*]",
    "$**.v",
    "\0",
    "\ud800",
    "v__contains",
    "pk",
    "tags__route",
    "?",
    ":v",
    "{v}",
    "/*",
    "*/",
    "`",
    "]",
    "U&'\\0061'",
    "x" * 5_000,
    "",
    "\n",
    "\u202e",
    "é",
)


class ArgumentsContract(ReaderTools):
    """Tests of what :mod:`tailrace.backends.reading.query` refuses, on this backend."""

    def test_naive_datetimes_are_refused(self) -> None:
        backend = self.of_values(1)
        naive = datetime(2024, 1, 1)
        for wrong in (naive, date(2024, 1, 1), "2024-01-01", 1_700_000_000, True):
            for name in ("start", "end"):
                raises(lambda: backend.query("m", **{name: wrong}), name, "aware")  # noqa: B023
                raises(lambda: backend.aggregate("m", "v", **{name: wrong}), name, "aware")  # noqa: B023

    def test_a_window_has_its_start_before_its_end(self) -> None:
        backend = self.of_values(1)
        for end in (NOON, NOON - timedelta(microseconds=1)):
            raises(lambda: backend.query("m", start=NOON, end=end), "half-open")  # noqa: B023
            raises(lambda: backend.aggregate("m", "v", start=NOON, end=end), "half-open")  # noqa: B023

    def test_a_limit_is_not_negative(self) -> None:
        backend = self.of_values(1)
        for wrong in (-1, 1.5, "1", True):
            raises(lambda: backend.query("m", limit=wrong), "limit")  # noqa: B023
        assert len(backend.query("m", limit=10**30)) == 1

    def test_an_unknown_function_names_those_there_are(self) -> None:
        backend = self.of_values(1)
        wrong: Any
        for wrong in ("median", "AVG", "p100", "p5", "avg(v)", "", None, 1, []):
            raises(lambda: backend.aggregate("m", "v", wrong), "avg, min, max", "p99")  # noqa: B023

    def test_an_unknown_interval_names_those_there_are(self) -> None:
        backend = self.of_values(1)
        for wrong in ("fortnight", "0s", "1.5h", 60, "", timedelta(0)):
            raises(lambda: backend.aggregate("m", "v", interval=wrong), "interval")  # noqa: B023
            raises(lambda: backend.downsample("m", "v", wrong), "interval")  # noqa: B023
        raises(lambda: backend.downsample("m", "v", None), "interval")

    def test_other_arguments_that_make_no_sense(self) -> None:
        backend = self.of_values(1)
        window = {"start": NOON, "end": LATER, "interval": "hour"}
        raises(lambda: backend.query("m", order="time; --"), "-time")
        raises(lambda: backend.query("m", fields="v"), "list")
        raises(lambda: backend.query("m", fields=[1]), "fields")
        raises(lambda: backend.query("m", tags=["route"]), "tags")
        raises(lambda: backend.query("m", tags={"a": object()}), "tags")
        raises(lambda: backend.query("m", tags={1: "a"}), "tag")
        raises(lambda: backend.query("m", trace_id=5), "trace_id")
        raises(lambda: backend.query(""), "measurement")
        raises(lambda: backend.query(5), "5")
        raises(lambda: backend.query(None), "None")
        raises(lambda: backend.query("x" * 101), "101")
        raises(lambda: backend.aggregate("m", None, "avg"), "field")
        raises(lambda: backend.aggregate("m", "", "avg"), "field")
        raises(lambda: backend.aggregate("m", "v", group_by="route"), "list")
        raises(lambda: backend.aggregate("m", "v", group_by=["result"]), "result")
        raises(lambda: backend.aggregate("m", "v", group_by=["bucket"]), "bucket")
        raises(lambda: backend.aggregate("m", "v", interval="day", tz="Mars/Olympus"), "Mars")
        raises(lambda: backend.aggregate("m", "v", fill=0), "start and end")
        raises(lambda: backend.aggregate("m", "v", interval="day", fill=0), "start and end")
        wrong: Any
        for wrong in ("zero", 1, 0.0, False, []):
            raises(lambda: backend.aggregate("m", "v", fill=wrong, **window), "previous")  # noqa: B023
        far = datetime(9999, 1, 1, tzinfo=UTC)
        endless = {"start": NOON, "end": far, "interval": "1s", "fill": 0}
        raises(lambda: backend.aggregate("m", "v", **endless), "wider")

    def test_hostile_arguments_change_nothing(self) -> None:
        events = [make("m", NOON, {"route": "a"}, {"v": n}) for n in range(3)]
        backend = self.stored(*events)
        generator = random.Random(20_240_515)
        answered = 0
        for number in range(self.reading_examples * 3):
            call, name = self._hostile(generator, number)
            try:
                call(backend)
                answered += 1
            except ValueError as error:
                assert str(error), name  # noqa: PT017 - some are answered
        assert answered, "all were refused, so that no database saw one"
        assert backend.aggregate("m", "v", "sum") == {"result": 3}
        assert len(backend.query("m")) == 3

    def _hostile(self, generator: random.Random, number: int) -> Any:
        text = hostile_text(generator)
        calls = (
            lambda b: b.query(text),
            lambda b: b.query("m", tags={text: "a"}, order="time"),
            lambda b: b.query("m", tags={"route": [text, "a"]}),
            lambda b: b.query("m", fields=[text]),
            lambda b: b.query("m", order=text),
            lambda b: b.query("m", trace_id=text),
            lambda b: b.aggregate("m", text, "sum"),
            lambda b: b.aggregate("m", text, "p95", interval="hour", group_by=[text]),
            lambda b: b.aggregate("m", text, "count", tags={text: text}),
            lambda b: b.aggregate(text, "v", text),
            lambda b: b.aggregate("m", "v", "max", interval=text),
            lambda b: b.aggregate("m", "v", "min", interval="day", tz=text),
            lambda b: b.aggregate("m", "v", "avg", group_by=["route", text]),
            lambda b: b.aggregate("m", "v", "avg", fill=text),
            lambda b: b.aggregate("m", "v", "avg", device=text),
        )
        return calls[number % len(calls)], text


def hostile_text(generator: random.Random) -> str:
    """Return a text that means something to a parser of SQL, of JSON paths or of formats."""
    parts = generator.choices(_ATTACKS, k=generator.randint(1, 3))
    if generator.random() < 0.5:
        parts.append("".join(chr(generator.randrange(1, 0x3000)) for _ in range(5)))
    generator.shuffle(parts)
    return "".join(parts)[: generator.choice((20, 90, 6_000))]
