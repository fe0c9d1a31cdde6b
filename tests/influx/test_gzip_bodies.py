"""Bodies that are sent: a server reads both packers' the same."""

from __future__ import annotations

import gzip

import pytest

from tailrace.backends.influx import gzip_bodies

BODY = b"".join(b"m,plan=pro amount=%di %d\n" % (n, n) for n in range(5_000))


@pytest.mark.parametrize("has_isal", [True, False])
@pytest.mark.parametrize("level", [1, 3, 9])
def test_bodies_come_back_as_they_were(
    monkeypatch: pytest.MonkeyPatch, has_isal: bool, level: int
) -> None:
    if has_isal:
        assert gzip_bodies._isal is not None, "the extra 'influxdb' brings isal"
    else:
        monkeypatch.setattr(gzip_bodies, "_isal", None)
    packed = gzip_bodies.gzipped(BODY, level)
    assert gzip.decompress(packed) == BODY
    assert len(packed) < len(BODY) / 3
