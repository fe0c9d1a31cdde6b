"""Imports and exports by the command, into real databases and real files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from backfill.copy_site import make_rows

from interchange.file_site import FileSite
from interchange.peer_databases import run_host

ROWS = 1_200


def test_what_is_exported_is_imported_as_the_same_events(site: FileSite) -> None:
    site.seed(make_rows(ROWS))
    before = site.events("old")
    folder = site.files / "out"
    folder.mkdir()
    arguments = ("--backend", "old", "--measurement", "checkout", "--path", "out")
    result = site.run("export-ndjson", *arguments, "--slice-rows", "500", "--gzip")
    assert (result["rows_read"], result["rows_written"]) == (ROWS, ROWS)
    assert result["source_digest"] == result["target_digest"]
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert all(path.name.endswith(".ndjson.gz") for path in files)
    site.empty("old")
    whole = site.files / "all.ndjson"
    whole.write_bytes(b"".join(gzip.decompress(path.read_bytes()) for path in files))
    importing = ("--backend", "old", "--path", "all.ndjson", "--mask", "false")
    assert site.run("import-ndjson", *importing)["rows_written"] == ROWS
    assert site.events("old") == before
    again = site.run("import-ndjson", *importing)
    assert (again["rows_written"], again["rows_present"]) == (0, ROWS)
    assert site.events("old") == before


def test_csv(sqlite_site: FileSite) -> None:
    site = sqlite_site
    lines = ["when;shop;amount;note"]
    lines += [
        f'1700000{number:03};s{number % 3};{number / 4};"a\nb {number}"' for number in range(500)
    ]
    lines.insert(100, "never;s1;1;x")
    packed = site.files / "till.csv.gz"
    packed.write_bytes(gzip.compress("\n".join(lines).encode()))
    arguments = (
        *("--backend", "old", "--path", "till.csv.gz", "--measurement", "sale"),
        *(
            "--time-column",
            "when",
            "--time-form",
            "s",
            "--tags",
            "shop",
            "--delimiter",
            "semicolon",
        ),
    )
    result = site.run("import-csv", *arguments)
    assert (result["rows_written"], result["rows_refused"]) == (500, 1)
    assert "line 200: the time is 'never'" in json.dumps(result["notes"])
    events = site.events("old", "sale")
    assert len(events) == 500
    fields = [json.loads(event[4]) for event in events]
    assert sorted(each["amount"] for each in fields) == [number / 4 for number in range(500)]
    assert all(each["note"].startswith("a\nb ") for each in fields)
    again = site.run("import-csv", *arguments)
    assert (again["rows_written"], again["rows_present"]) == (0, 500)


def test_line_protocol_and_a_file_that_grows(sqlite_site: FileSite) -> None:
    site = sqlite_site
    path = site.files / "points.lp"
    path.write_text(
        "".join(f"cpu,host=h{n % 2} load={n}i,user=0.5 {1_700_000_000 + n}\n" for n in range(300))
    )
    arguments = (
        *("--backend", "old", "--path", "points.lp", "--precision", "s"),
        *("--source-name", "telegraf"),
    )
    assert site.run("import-line-protocol", *arguments)["rows_written"] == 300
    with path.open("a") as file:
        file.write("cpu,host=h1 load=300i 1700000300\nnonsense\n")
    result = site.run("import-line-protocol", *arguments)
    assert (result["rows_written"], result["rows_present"], result["rows_refused"]) == (1, 300, 1)
    events = site.events("old", "cpu")
    assert len(events) == 301
    assert type(json.loads(events[0][4])["load"]) is int


def test_parquet(sqlite_site: FileSite) -> None:
    site = sqlite_site
    site.is_resident = False
    site.seed(make_rows(ROWS))
    arguments = ("--backend", "old", "--measurement", "checkout", "--path", ".")
    result = site.run("export-parquet", *arguments, "--slice-rows", "1000")
    assert result["rows_written"] == ROWS
    assert result["source_digest"] == result["target_digest"]
    files = sorted(site.files.iterdir())
    rows: list[dict[str, Any]] = []
    for path in files:
        rows += pyarrow.parquet.read_table(path).to_pylist()
    found = sorted(
        (row["id"].replace("-", ""), row["time"], dict(row["tags"]), row["trace_id"] or "")
        for row in rows
    )
    expected = sorted((e[0], e[2], json.loads(e[3]), e[5]) for e in site.events("old"))
    assert found == expected


@pytest.mark.parametrize("peer", ["orbit", "silk"])
def test_a_peers_history(sqlite_site: FileSite, peer: str, tmp_path: Path) -> None:
    site = sqlite_site
    file = tmp_path / f"{peer}.sqlite3"
    made = run_host(peer, f"sqlite:///{file}", 5)
    site.peer_url = f"sqlite:///{file}"
    count = (
        len(made)
        if peer == "orbit"
        else sum(len(made[name]) for name in ("Request", "SQLQuery", "Profile"))
    )
    arguments = ("--backend", "old", "--database", "peer")
    result = site.run(f"import-{peer}", *arguments)
    assert (result["rows_read"], result["rows_written"], result["rows_refused"]) == (
        count,
        count,
        0,
    )
    events = site.everything()
    assert len(events) == len({event[0] for event in events}) == count
    if peer == "orbit":
        assert {event[1] for event in events} == {entry["type"] for entry in made}
        times = {entry["id"].replace("-", ""): entry["created_at"] for entry in made}
        assert {event[0]: event[2].isoformat() for event in events} == times
    assert "hunter2secret" not in repr(events)
    again = site.run(f"import-{peer}", *arguments)
    assert (again["rows_written"], again["rows_present"]) == (0, count)
    assert site.everything() == events


def test_a_start_that_is_refused_says_why_and_leaves_nothing(sqlite_site: FileSite) -> None:
    sqlite_site.is_resident = False
    done = sqlite_site.backfill("import-ndjson", "--backend", "old", "--path", "../../etc/passwd")
    assert done.returncode != 0
    assert "in none of the folders of TAILRACE['EXCHANGE_DIRS']" in done.stderr
    assert "Traceback" not in done.stderr
    assert sqlite_site.backfill("list").stdout == ""
