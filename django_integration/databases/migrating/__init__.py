"""Migrating many databases: look, plan, lock, run, mend.

``inspect`` compares what the migrations say with what a database has; ``runner`` applies what is
pending, one alias after the other, each under a lock; ``repair`` puts right what a run that was
cut off, or a hand, left behind.
"""
