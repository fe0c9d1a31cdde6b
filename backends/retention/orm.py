"""What a backend on a Django database does about retention."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps

from tailrace.backends.base import BaseBackend
from tailrace.backends.reading.columns import ReadingSchema
from tailrace.backends.reading.dialects import Dialect
from tailrace.backends.registry import backends
from tailrace.pipeline.interval import Interval, parse_interval
from tailrace.pipeline.retention import Policy

from .forecast import Forecast, forecasts
from .plan import models_on, own_names
from .progress import Progress, ProgressStore
from .sweep import Report, sweep

SWEEP_SECONDS = 20.0
"""How long one run works before it makes room for others."""


class OrmRetention(BaseBackend):
    """A part of :class:`tailrace.backends.django_db.DjangoDBBackend`."""

    def create_retention_policy(
        self, reading_model: type, drop_after: str | timedelta | Interval = "90 days"
    ) -> int:
        """Have a model's readings deleted when they are older; a policy that is there is replaced.

        It is kept in this backend's database, and applied by beat, as those of
        ``TAILRACE["RETENTION"]`` are.

        Args:
            reading_model: Whose readings.
            drop_after: Their age.

        Returns:
            The policy's number.

        Raises:
            ValueError: the model or the age is none, its readings are on another database, or
                the settings have a policy for it.
            TransientBackendError, BackendMisconfigured: see ``base.py``.
        """
        age = parse_interval(drop_after)
        label = self._retained_label(reading_model)
        configured = backends.config.retention
        for name in own_names(reading_model):
            if name in configured:
                raise ValueError(
                    f"TAILRACE['RETENTION'][{name!r}] says how long readings of {label} are kept; "
                    "change it there"
                )
        with self._retention_dialect():
            row, _ = self._policies().update_or_create(
                backend=self.alias, target=label, defaults={"drop_after": str(age)}
            )
            return int(row.pk)

    def remove_retention_policy(self, reading_model: type) -> bool:
        """Undo :meth:`create_retention_policy`; return whether there was a policy.

        What ``TAILRACE["RETENTION"]`` has for ``*`` counts for the model then.

        Raises:
            ValueError: the model is none, or its readings are on another database.
            TransientBackendError, BackendMisconfigured: see ``base.py``.
        """
        self._retained_label(reading_model)
        return self._forget_policy(reading_model)

    def sweep(
        self,
        policies: Mapping[str, Policy],
        *,
        seconds: float = SWEEP_SECONDS,
        every_seconds: float = 0.0,
    ) -> Report:
        """Delete what is due, in slices, unless another process is at it.

        Args:
            policies: Of the settings, by target; those of this backend's database count, too.
            seconds: When to stop; the next call goes on from there.
            every_seconds: Not again before so long after the last run that came to its end.

        Returns:
            What went, and what did not.

        Raises:
            TransientBackendError: what was deleted stays deleted; call it again.
            BackendMisconfigured: the tables are missing.
        """
        return sweep(self, policies, seconds=seconds, every_seconds=every_seconds)

    def forecast_retention(
        self, policies: Mapping[str, Policy], now: datetime | None = None
    ) -> list[Forecast]:
        """Return what :meth:`sweep` would delete, and which charts lose detail; change nothing.

        Args:
            policies: As for :meth:`sweep`.
            now: Aware; the clock's without.
        """
        with self._retention_dialect() as dialect:
            return forecasts(self, dialect, policies, now or datetime.now(UTC))

    def retention_progress(self) -> dict[str, Progress]:
        """Return how far retention has come, by target."""
        with self._retention_dialect():
            return ProgressStore(self.alias, str(self.get_db_alias())).all()

    def event_spans(self) -> list[tuple[datetime, datetime]]:
        """Return from when to when each partition or chunk of events goes, the oldest first."""
        return []

    def _forget_policy(self, model: Any) -> bool:
        label = ReadingSchema(model).label
        with self._retention_dialect():
            removed, _ = self._policies().filter(backend=self.alias, target=label).delete()
            return bool(removed)

    def _retained_label(self, model: Any) -> str:
        using = str(self.get_db_alias())
        label = ReadingSchema(model).label
        if model not in models_on(using):
            raise ValueError(
                f"backend {self.alias!r} keeps no readings of {label}: it stores on the alias "
                f"{using!r}, and the model must be a ReadingModel that lives there"
            )
        return label

    def _policies(self) -> Any:
        model: Any = apps.get_model("tailrace", "RetentionPolicy")
        return model._base_manager.using(self.get_db_alias())

    def _retention_dialect(self) -> AbstractContextManager[Dialect]:
        return self._dialect(str(self.get_db_alias()))  # type: ignore[attr-defined]
