"""Retention on every SQL backend: what is due by the policies, and how it goes.

``plan.py`` says what is due, ``floor.py`` how far it may go without taking from a rollup what that
has not computed yet, ``sweep.py`` deletes in slices, ``whole.py`` drops partitions and chunks,
``levels.py`` deletes buckets of rollups, ``sizes.py`` knows how large things are.
"""
