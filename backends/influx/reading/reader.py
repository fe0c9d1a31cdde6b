"""Reading from InfluxDB: the same answers as from every other backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from tailrace.backends.reader import Reader
from tailrace.backends.reading.arguments import zone_is_fixed
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.query import AggregateQuery, EventQuery, ReadingQuery
from tailrace.backends.reading.result import Found, answer
from tailrace.pipeline.interval import Buckets

from . import deletion, flux, readings, stored
from .aggregates import Question, compute
from .annotated import Row, rows
from .events import find_events
from .readings import Wanted
from .selection import NS_A_MICROSECOND, Ask, Selection, edge_ns, of_fields, to_datetime, to_ns

_LONG_WINDOW = timedelta(days=20 * 366)
_ANY = datetime(2000, 1, 1, tzinfo=UTC)


class InfluxReader(Reader):
    """What a backend on InfluxDB reads with; it gives the bucket and sends the text."""

    def _bucket_read(self) -> str:
        """Return the name of the bucket that has the events."""
        raise NotImplementedError

    def _flux(self, text: str) -> Iterable[str]:
        """Send a query; yield the lines of the annotated CSV that is answered, as they arrive.

        Raises:
            TransientBackendError: the server is down, or has too much to do.
            BackendMisconfigured: it refuses the query, or knows us not.
        """
        raise NotImplementedError

    def _delete_points(self, start_ns: int, end_ns: int, predicate: str, bucket: str = "") -> None:
        """Delete points from one time to another, before which it ends.

        Without a bucket, from that of the events.
        """
        raise NotImplementedError

    def query(self, measurement_or_model: Any, **options: Any) -> list[dict[str, Any]]:
        asked = EventQuery.make(measurement_or_model, **options)
        bucket = self._bucket_read()
        if isinstance(asked.source, ReadingSchema):
            if asked.trace_id is not None:
                return []  # readings are of no trace
            wanted = Wanted.of_events(asked.source, asked)
            return readings.read(self._ask, bucket, wanted).query(measurement_or_model, **options)
        chosen = Selection.make(bucket, asked.source, asked.window, asked.tags)
        return [] if chosen is None else find_events(self._ask, chosen, asked)

    def query_readings(
        self, reading_model: type, *args: Any, **options: Any
    ) -> list[dict[str, Any]]:
        wanted = Wanted.of_readings(ReadingQuery.make(reading_model, *args, **options))
        found = readings.read(self._ask, self._bucket_read(), wanted)
        return found.query_readings(reading_model, *args, **options)

    def aggregate(self, measurement_or_model: Any, field: Any, *args: Any, **options: Any) -> Any:
        asked = AggregateQuery.make(measurement_or_model, field, *args, **options)
        bucket = self._bucket_read()
        search = Search(self._ask, bucket, self._numeric)
        if not isinstance(asked.source, ReadingSchema):
            found, buckets = search.found(asked)
            return answer(asked, found, buckets)
        plain = readings.as_events(asked.source, asked)
        if plain is not None:
            found, buckets = search.found(plain.question)
            return answer(asked, plain.finished(found), buckets)
        there = readings.read(self._ask, bucket, Wanted.of_aggregate(asked.source, asked))
        return there.aggregate(measurement_or_model, field, *args, **options)

    def delete_readings(
        self,
        reading_model: type,
        device: Any = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> int:
        asked = ReadingQuery.make(reading_model, device, start, end)
        return deletion.delete(self._ask, self._delete_points, self._bucket_read(), asked)

    def _ask(self, text: str) -> Iterator[Row]:
        return rows(self._flux(text))

    @cached_property
    def _numeric(self) -> dict[tuple[str, str], bool]:
        """Whether the values under a field's own name are numbers; they never change type."""
        return {}


@dataclass(frozen=True)
class Search:
    """How results of an aggregate are found."""

    ask: Ask
    bucket: str
    numeric: dict[tuple[str, str], bool]

    def found(self, asked: AggregateQuery) -> tuple[Iterable[Found], Buckets | None]:
        """Return the results of events, and the buckets of the window."""
        keys = self._keys(asked)
        chosen = Selection.make(self.bucket, str(asked.source), asked.window, asked.tags)
        buckets, last = self._buckets(asked, chosen, keys)
        if chosen is None or (asked.interval is not None and buckets is None):
            return (), buckets
        if buckets is not None and last is not None and len(buckets.segments) > 1:
            # Points that come in now have an offset that the buckets do not know.
            last_ns = to_ns(last) + NS_A_MICROSECOND
            chosen = chosen.within(to_ns(buckets.segments[0].start), last_ns)
        groups = tuple(map(stored.tag_key, asked.group_by))
        question = Question(asked.function, asked.percent, keys, groups, buckets)
        return compute(self.ask, chosen, question), buckets

    def _keys(self, asked: AggregateQuery) -> tuple[str, ...]:
        if asked.field is None:
            return (stored.ID,)
        if asked.function == "count":
            return stored.value_keys(asked.field)
        keys = stored.number_keys(asked.field)
        if self._own_is_number(str(asked.source), asked.field):
            keys = (stored.own_key(asked.field), *keys)
        return keys

    def _own_is_number(self, measurement: str, field: str) -> bool:
        known = self.numeric.get((measurement, field))
        if known is not None:
            return known
        query = flux.pipeline(
            flux.source(self.bucket, flux.NS_FIRST, flux.NS_END),
            flux.where(
                flux.all_of(
                    [
                        flux.is_one_of("_measurement", [stored.measurement(measurement)]),
                        of_fields([stored.own_key(field)]),
                    ]
                )
            ),
            flux.aggregate("last"),
            flux.keep(["_value"]),
            flux.first_rows(1),
        )
        for block, cells in self.ask(flux.program(query)):
            found = type(block.value(cells, "_value")) in (int, float)
            self.numeric[measurement, field] = found
            return found
        return False

    def _buckets(
        self, asked: AggregateQuery, chosen: Selection | None, keys: tuple[str, ...]
    ) -> tuple[Buckets | None, datetime | None]:
        """Return the buckets up to an instant, and that.

        None without an interval, and where nothing is to be found.
        """
        if asked.interval is None:
            return None, None
        start, last = asked.window.start, asked.window.last
        if zone_is_fixed(asked.zone):  # then any instant will do, where there is no bound
            start, last = start or last or _ANY, last or start or _ANY
        elif asked.fill is None and not (start and last and last - start < _LONG_WINDOW):
            start, last = self._extremes(chosen, keys)
        if start is None or last is None:
            return None, None
        return Buckets(asked.interval, asked.zone, start, last), last

    def _extremes(
        self, chosen: Selection | None, keys: tuple[str, ...]
    ) -> tuple[datetime | None, datetime | None]:
        """Return the first and the last time of what is selected; by index, not by scan."""
        if chosen is None:
            return None, None
        mark = of_fields(keys)
        edges = [edge_ns(self.ask, chosen, mark, descending=each) for each in (False, True)]
        low, high = (None if each is None else to_datetime(each) for each in edges)
        return low, high
