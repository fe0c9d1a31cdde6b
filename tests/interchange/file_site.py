"""A site that imports and exports, by the command, in processes of its own."""

from __future__ import annotations

from pathlib import Path

from backfill.copy_site import CopySite, Row


class FileSite(CopySite):
    """One database that counts, ``old``, and a folder for files."""

    def __init__(self, directory: Path, old: str = "") -> None:
        """Take the database's URL; empty for a SQLite file."""
        super().__init__(directory, "redis://127.0.0.1:1/0", old, "")
        self.files = directory / "files"
        self.files.mkdir(exist_ok=True)
        self.peer_url = ""

    def environment(self, fault: str = "", **extra: str) -> dict[str, str]:
        ours = {
            "DJANGO_SETTINGS_MODULE": "interchange.settings",
            "EXCHANGE_DIRS": str(self.files),
        }
        if self.peer_url:
            ours["PEER_DATABASE_URL"] = self.peer_url
        return super().environment(fault, **{**ours, **extra})

    def run(self, kind: str, *arguments: str) -> dict[str, object]:
        """Run a backfill that must succeed; return its result."""
        done = self.backfill(kind, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        latest = self.latest()
        assert latest["state"] == "done", latest
        result: dict[str, object] = latest["result"]
        return result

    def everything(self) -> list[Row]:
        """Return all events, of any measurement."""
        return [row for name in self.measurements() for row in self.events("old", name)]

    def measurements(self) -> list[str]:
        """Return which measurements there are."""
        statement = (
            "from tailrace.django_integration.models import Event\n"
            "print(*sorted(set(Event.objects.values_list('measurement', flat=True))), sep='\\n')"
        )
        return self.python(statement).split()
