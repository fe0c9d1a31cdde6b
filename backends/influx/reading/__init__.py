"""Reading from InfluxDB 2 in Flux. See ``reader.py``, which is what a backend inherits.

====================  ==========================================================================
``flux.py``           texts of Flux: literals, and the building blocks there are
``annotated.py``      annotated CSV, read as it arrives
``selection.py``      which points a question is about
``stored.py``         names as points have them
``assembly.py``       events, put together from their fields
``events.py``         events in their order, and the first of them
``aggregates.py``     functions: added up by InfluxDB where that is exact, else here
``numbers.py``        exact sums, means, extremes and percentiles
``readings.py``       readings of a model
``deletion.py``       deletes of readings
====================  ==========================================================================
"""

from .reader import InfluxReader

__all__ = ["InfluxReader"]
