"""The kinds that export: a measurement's history into files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured

from tailrace.backends import get_backend
from tailrace.backends.backfill.ends import source_of
from tailrace.backends.backfill.selection import SLICE_ROWS, Selection
from tailrace.pipeline.backfill.contracts import (
    BackfillRefused,
    Sink,
    Source,
    StepResult,
    Values,
)
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.backfill.transfer import Transfer
from tailrace.pipeline.interchange.shards import NdjsonShard, ShardFormat, ShardSink
from tailrace.pipeline.runtime import runtime

from .backend_choice import backend_parameter
from .files import allowed_path

_SLICE_MAX_ROWS = 100_000


class Export(Transfer):
    """What all exports share."""

    def parameters(self) -> Sequence[Parameter]:
        return (
            backend_parameter("From backend"),
            Parameter(
                name="measurement", is_required=True, label="Measurement",
                help="A measurement, or a model of readings as app_label.ModelName.",
            ),
            Parameter(name="start", type="time", label="From", help="Without: the first one."),
            Parameter(name="end", type="time", label="To", help="Without: the last one there is."),
            Parameter(
                name="path", type="path", is_required=True, label="Folder",
                help="In a folder of TAILRACE['EXCHANGE_DIRS'] that all workers see; each step "
                "makes one file in it.",
            ),
            Parameter(
                name="slice_rows", type="integer", default=SLICE_ROWS, minimum=100,
                maximum=_SLICE_MAX_ROWS, label="Events in a file",
            ),
            *self.own_parameters(),
        )  # fmt: skip

    def own_parameters(self) -> Sequence[Parameter]:
        """Return what this format asks for beside."""
        return ()

    @abstractmethod
    def format_of(self, values: Values) -> ShardFormat:
        """Return how files are written.

        Raises:
            BackfillRefused: what is needed is not installed.
        """

    def source(self, values: Values) -> Source:
        try:
            backend = get_backend(values["backend"])
        except ImproperlyConfigured as error:
            raise BackfillRefused(str(error)) from error
        selection = Selection.make(
            values["measurement"], values["start"], values["end"], values["slice_rows"]
        )
        return source_of(backend, selection)

    def sink(self, values: Values) -> Sink:
        return ShardSink(allowed_path(values["path"], runtime().config), self.format_of(values))

    def finish(self, values: Values, total: StepResult) -> Sequence[str]:
        return (
            f"{total.rows_written} events are in files of {values['path']}, each of which was read "
            "back and compared.",
        )


class ExportNdjson(Export):
    """Exports NDJSON, which imports as the same events."""

    name = "export-ndjson"
    title = "Export to NDJSON"
    description = (
        "Writes a measurement's events, or a model's readings, as JSON, one a line; "
        "import-ndjson reads them as the same events."
    )

    def own_parameters(self) -> Sequence[Parameter]:
        return (Parameter(name="gzip", type="boolean", default=False, label="Packed by gzip"),)

    def format_of(self, values: Values) -> ShardFormat:
        return NdjsonShard(is_packed=values["gzip"])


class ExportParquet(Export):
    """Exports Parquet."""

    name = "export-parquet"
    title = "Export to Parquet"
    description = (
        "Writes a measurement's events, or a model's readings, as Parquet, for analysis "
        "elsewhere. Needs pyarrow: pip install 'django-tailrace[parquet]'."
    )

    def format_of(self, values: Values) -> ShardFormat:
        try:
            from tailrace.pipeline.interchange.parquet import ParquetShard
        except ImportError as error:
            raise BackfillRefused(
                "exports to Parquet need pyarrow: pip install 'django-tailrace[parquet]', on "
                "every worker host"
            ) from error
        return ParquetShard()
