"""Made-up devices and visitors, for ``manage.py tailrace_simulate``."""
