"""A small but real shop."""
