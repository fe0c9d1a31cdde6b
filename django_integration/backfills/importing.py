"""The kinds that import: from files, and from the tables of django-orbit and django-silk."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from tailrace.backends import get_backend
from tailrace.backends.backfill.ends import sink_of
from tailrace.pipeline.backfill.contracts import BackfillRefused, Sink, Source, Values
from tailrace.pipeline.backfill.parameters import Parameter
from tailrace.pipeline.backfill.transfer import Transfer
from tailrace.pipeline.interchange import EventMaker, Format, Identity
from tailrace.pipeline.interchange.csv_events import (
    ENCODINGS,
    CsvFormat,
    Dialect,
    Encoding,
    read_header,
)
from tailrace.pipeline.interchange.influx_lines import LineProtocolFormat, Names
from tailrace.pipeline.interchange.ndjson import FlatNdjsonFormat, NdjsonFormat
from tailrace.pipeline.interchange.times import TimeReader
from tailrace.pipeline.masking import Masker
from tailrace.pipeline.runtime import runtime

from .backend_choice import backend_parameter
from .files import FileSource, Opened, allowed_path
from .import_parameters import (
    TIME_CHOICES,
    column_parameters,
    columns_of,
    times_of,
    zone_of,
)
from .imports.orbit import OrbitEntries
from .imports.silk import IDENTITY as SILK_IDENTITY
from .imports.silk import SilkRows
from .imports.tables import Part, Reader, TableSource

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


class Import(Transfer):
    """What all imports share: where events go."""

    def parameters(self) -> Sequence[Parameter]:
        return (*self.own_parameters(), backend_parameter("To backend"))

    @abstractmethod
    def own_parameters(self) -> Sequence[Parameter]:
        """Return what this import asks for."""

    def sink(self, values: Values) -> Sink:
        try:
            return sink_of(get_backend(values["backend"]))
        except ImproperlyConfigured as error:
            raise BackfillRefused(str(error)) from error

    def finish(self, values: Values, total: Any) -> Sequence[str]:
        if not total.rows_refused:
            return ()
        return (
            f"{total.rows_refused} records could not be imported; the steps' notes say why. Mend "
            "the file and import it again: what is stored already is not stored twice.",
        )


class FileImport(Import):
    """What imports of files share."""

    def own_parameters(self) -> Sequence[Parameter]:
        return (
            Parameter(
                name="path",
                type="path",
                is_required=True,
                label="File",
                help="In a folder of TAILRACE['EXCHANGE_DIRS'] that all workers see; packed by "
                "gzip or not.",
            ),
            *self.format_parameters(),
            Parameter(
                name="source_name",
                label="Name of the source",
                help="For a file that grows: with the same name, a second import adds what is "
                "new. Without, a file is what its content is.",
            ),
            Parameter(
                name="mask",
                type="boolean",
                default=True,
                label="Mask secrets",
                help="Off only for what Tailrace itself exported, which was masked before.",
            ),
        )

    @abstractmethod
    def format_parameters(self) -> Sequence[Parameter]:
        """Return what this format asks for."""

    @abstractmethod
    def open(self, values: Values) -> Opened:
        """Return the file's format.

        Raises:
            BackfillRefused: parameters are wrong.
            BackendError: the file cannot be read.
        """

    def identity(self, values: Values) -> tuple[str, ...]:
        """Return what this import adds to each event, beside the file's content."""
        return (self.name, values.get("measurement") or "", *(values.get("constant_tags") or ()))

    def source(self, values: Values) -> Source:
        config = runtime().config
        path = allowed_path(values["path"], config)
        masker = Masker(config.mask)
        maker = EventMaker(config, masker if values["mask"] else None)
        opened = functools.cache(lambda: self.open(values))
        identity, name = self.identity(values), values["source_name"] or ""
        return FileSource(path, opened, maker, masker, identity, name)


class ImportNdjson(FileImport):
    """Imports NDJSON: what Tailrace exports, or anybody's objects."""

    name = "import-ndjson"
    title = "Import NDJSON"
    description = (
        "Reads events from a file of JSON, one object a line: those that Tailrace exported, or "
        "any others, whose keys you say the meaning of."
    )

    def format_parameters(self) -> Sequence[Parameter]:
        forms = (("tailrace", "as Tailrace exports it"), ("flat", "any objects"))
        return (
            Parameter(name="form", type="choice", choices=forms, default="tailrace", label="Form"),
            *column_parameters("key"),
        )

    def open(self, values: Values) -> Opened:
        if values["form"] == "tailrace":
            return Opened(NdjsonFormat())
        columns = columns_of(values)
        if problem := columns.problems(None):
            raise BackfillRefused(problem)
        return Opened(FlatNdjsonFormat(columns, times_of(values)))


class ImportCsv(FileImport):
    """Imports CSV."""

    name = "import-csv"
    title = "Import CSV"
    description = "Reads events from a file of CSV whose columns you say the meaning of."

    def format_parameters(self) -> Sequence[Parameter]:
        delimiters = tuple((name, f"{name} ({mark!r})") for name, mark in _DELIMITERS.items())
        encodings = tuple((encoding, encoding) for encoding in ENCODINGS)
        return (
            *column_parameters("column"),
            Parameter(
                name="delimiter", type="choice", choices=delimiters, default="comma",
                label="Separator",
            ),
            Parameter(
                name="encoding", type="choice", choices=encodings, default="utf-8",
                label="Encoding",
            ),
            Parameter(
                name="header",
                type="lines",
                label="Columns",
                help="Of a file that does not begin with their names: one a line, all of them.",
            ),
        )  # fmt: skip

    def open(self, values: Values) -> Opened:
        encoding = cast(Encoding, values["encoding"])
        dialect = Dialect(_DELIMITERS[values["delimiter"]], encoding, tuple(values["header"] or ()))
        columns = columns_of(values)
        header = read_header(allowed_path(values["path"], runtime().config), dialect)
        if problem := columns.problems(header.names):
            raise BackfillRefused(problem)
        format_ = CsvFormat(dialect, header.names, columns, times_of(values))
        return Opened(format_, header.offset, header.line)


class ImportLineProtocol(FileImport):
    """Imports InfluxDB's line protocol."""

    name = "import-line-protocol"
    title = "Import Influx line protocol"
    description = (
        "Reads points from a file of InfluxDB's line protocol, each with its timestamp; integers "
        "stay integers."
    )

    def format_parameters(self) -> Sequence[Parameter]:
        return (
            Parameter(
                name="precision", type="choice", choices=TIME_CHOICES[1:], default="ns",
                label="Timestamps",
            ),
            Parameter(
                name="trace_column", label="Trace id",
                help="The tag or field that holds it, if one does.",
            ),
            Parameter(
                name="id_column", label="Event id",
                help="The tag or field that holds a UUID of each event, if one does.",
            ),
        )  # fmt: skip

    def open(self, values: Values) -> Opened:
        names = Names(values["trace_column"] or "", values["id_column"] or "")
        form: Format = LineProtocolFormat(TimeReader(values["precision"]), names)
        return Opened(form)


class TableImport(Import):
    """What imports of tables share."""

    identity: ClassVar[Identity]

    def own_parameters(self) -> Sequence[Parameter]:
        aliases = tuple((alias, alias) for alias in settings.DATABASES)
        return (
            Parameter(
                name="database", type="choice", choices=aliases, is_required=True,
                label="From database", help="An alias of DATABASES.",
            ),
            Parameter(
                name="contents", type="boolean", default=False, label="Bodies and contents, too",
                help="Bodies, contents of mails and of models, and SQL parameters, masked.",
            ),
            Parameter(
                name="time_zone", label="Time zone",
                help="Of a host with USE_TZ = False, such as Europe/Berlin.",
            ),
        )  # fmt: skip

    @abstractmethod
    def parts(self, reader: Reader, masker: Masker, takes_contents: bool) -> dict[str, Part]:
        """Return what becomes of each table."""

    def source(self, values: Values) -> Source:
        config = runtime().config
        masker = Masker(config.mask)
        reader = Reader(values["database"], zone_of(values))
        parts = self.parts(reader, masker, values["contents"])
        return TableSource(reader, parts, EventMaker(config, masker), self.identity)


class ImportOrbit(TableImport):
    """Imports what django-orbit stored."""

    name = "import-orbit"
    title = "Import from django-orbit"
    description = (
        "Reads the entries of django-orbit's table, all 17 types. The package need not be "
        "installed any more."
    )
    identity = Identity("django-orbit")

    def parts(self, reader: Reader, masker: Masker, takes_contents: bool) -> dict[str, Part]:
        return OrbitEntries(reader, masker, takes_contents).parts()


class ImportSilk(TableImport):
    """Imports what django-silk stored."""

    name = "import-silk"
    title = "Import from django-silk"
    description = (
        "Reads django-silk's requests with their responses, its queries and profiles. The "
        "package need not be installed any more."
    )
    identity = SILK_IDENTITY

    def parts(self, reader: Reader, masker: Masker, takes_contents: bool) -> dict[str, Part]:
        return SilkRows(reader, masker, takes_contents).parts()
