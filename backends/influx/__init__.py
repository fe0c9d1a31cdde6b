"""InfluxDB: what ``influxdb.py`` and ``line_protocol.py`` are made of.

An event's way: ``writing`` has it encoded (``line_*``), marked (``marks``, ``identity``, with what
``books`` keep) and sent (``client``). ``reading`` goes back; ``rollups``, ``tasks`` and
``retention`` are what the server does by itself.
"""
