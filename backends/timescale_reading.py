from __future__ import annotations


class TimescaleReader:
    pass
