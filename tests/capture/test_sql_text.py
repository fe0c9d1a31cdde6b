"""SQL loses its literals, whatever the vendor, and hostile text costs linear time."""

from __future__ import annotations

import random
import time

import pytest

from tailrace.django_integration.recorders.sql_text import SQL_MAX_CHARS, describe

SEED = 7_114


@pytest.mark.parametrize(
    ("vendor", "sql", "shown"),
    [
        ("sqlite", "SELECT 'it''s' ,\n\t 1.5e-3, -7, .5 FROM t1", "SELECT ? , ?, -?, ? FROM t1"),
        ("sqlite", 'SELECT "a 1"."b\'" FROM t', 'SELECT "a 1"."b\'" FROM t'),
        ("sqlite", "SELECT 'a\\' , x", "SELECT ? , x"),
        ("mysql", "SELECT 'a\\' , x' , \"b\", `c 1` # gone", "SELECT ? , ?, `c 1`"),
        ("postgresql", "SELECT E'a\\'b', $$x'y$$, $q$ z $$ $q$, $1", "SELECT ?, ?, ?, $1"),
        ("postgresql", "SELECT a #> '{b}' -- gone\n/* gone /* too */ */", "SELECT a #> ?"),
        ("sqlite", "/* x */ SELECT /*+ hint */ 1 -- end", "SELECT ?"),
        ("sqlite", "SELECT 'not closed", "SELECT ?"),
        ("sqlite", "SELECT %s, %(name)s, 0xFF, abc123", "SELECT %s, %(name)s, ?, abc123"),
        ("sqlite", "SELECT * FROM t WHERE a IN (1, 2, 3)", "SELECT * FROM t WHERE a IN (...)"),
        ("sqlite", "SELECT * FROM t WHERE a IN (%s,%s)", "SELECT * FROM t WHERE a IN (...)"),
        ("sqlite", "INSERT INTO t VALUES (%s, 1), (%s, 2)", "INSERT INTO t VALUES (%s, ?), ..."),
        ("sqlite", 'ROLLBACK TO SAVEPOINT "s1_x2"', "ROLLBACK TO SAVEPOINT ?"),
        ("sqlite", "SELECT 1;", "SELECT ?"),
        ("sqlite", "", ""),
    ],
)
def test_text(vendor: str, sql: str, shown: str) -> None:
    assert describe(sql, vendor).sql == shown


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("select 1", "SELECT"),
        ("(SELECT 1) UNION (SELECT 2)", "SELECT"),
        ("/* x */ update t set a = 1", "UPDATE"),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "INSERT"),
        ("WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a", "SELECT"),
        ("PRAGMA foreign_keys", "PRAGMA"),
        ("EVIL12 x", "OTHER"),
        ("", "OTHER"),
        ("123", "OTHER"),
    ],
)
def test_operation(sql: str, operation: str) -> None:
    assert describe(sql, "postgresql").operation == operation


def test_text_is_bounded() -> None:
    sql = "SELECT " + ", ".join(f"column_{n}" for n in range(5_000))
    assert len(describe(sql, "sqlite").sql) == SQL_MAX_CHARS


@pytest.mark.parametrize("vendor", ["sqlite", "mysql", "postgresql", "oracle"])
def test_no_literal_survives(vendor: str) -> None:
    """Each literal quoted by the vendor's rules, in random surroundings."""
    rng = random.Random(SEED)
    escapes = vendor == "mysql"
    for _ in range(2_000):
        secret = "".join(rng.choice("zq'\\\" $-/*#") for _ in range(rng.randint(3, 12))) + "zqzq"
        text = secret.replace("\\", "\\\\") if escapes else secret
        literal = "'" + text.replace("'", "''") + "'"
        before = rng.choice(["", "'a''b', ", "/* x */ ", '"col", ' if not escapes else "`c`, "])
        shown = describe(f"SELECT {before}{literal}, x FROM t WHERE a = {literal}", vendor).sql
        assert "zq" not in shown, f"seed {SEED}: {secret!r} in {shown!r}"
        assert shown.endswith(", x FROM t WHERE a = ?")


@pytest.mark.parametrize("vendor", ["sqlite", "mysql", "postgresql"])
@pytest.mark.parametrize(
    "hostile", ["'", '"', "/*", "/* */", "--", "$a$", "$", "1", "1.", "e1", "\\'", "IN (?,", " ("]
)
def test_hostile_text_costs_linear_time(vendor: str, hostile: str) -> None:
    text = hostile * (2**20 // len(hostile))
    started = time.perf_counter()
    describe(text, vendor)
    assert time.perf_counter() - started < 1.0
