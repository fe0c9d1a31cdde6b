"""Questions about windows that end before 1970: InfluxDB 2.7 answers some of them without end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from influx.conftest import MakeBackend
from influx.test_tasks import Stored

from tailrace.backends.testing.reading_data import make

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("end", [EPOCH - HOUR / 2, EPOCH, EPOCH + HOUR])
@pytest.mark.parametrize(
    ("function", "right"), [("count", 20), ("sum", 190), ("min", 0), ("max", 19), ("avg", 9.5)]
)
def test_functions(real_backend: MakeBackend, end: datetime, function: str, right: Any) -> None:
    backend = real_backend(TIMEOUT=15)
    Stored(backend).stored(
        *(make("m", EPOCH - HOUR + n * timedelta(minutes=1), {}, {"v": n}) for n in range(20))
    )
    for start in (None, EPOCH - HOUR):
        assert backend.aggregate("m", "v", function, start=start, end=end) == {"result": right}
    days = backend.aggregate("m", "v", function, end=end, interval="day")
    assert days == [{"bucket": EPOCH - 24 * HOUR, "result": right}]
