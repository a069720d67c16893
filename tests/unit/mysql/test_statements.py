"""How PostgreSQL's statements are carried over to MariaDB, by examples of each rule."""

import pytest

from shared.mysql.statements import SEPARATOR, translated
from shared.mysql.targets import Table, Tables, Untranslated

TABLES = Tables(
    {
        "outbox": Table(("id",), frozenset({"id", "queue", "lease_token", "attempts"})),
        "points": Table(
            ("vector_id", "write_id"), frozenset({"vector_id", "write_id", "swept_at"})
        ),
        "builds": Table(("id",), frozenset({"id", "generation", "status"})),
    },
    frozenset({"id"}),
)


def steps(source: str) -> list[str]:
    return translated(source, TABLES).split(SEPARATOR)


def one(source: str) -> str:
    (step,) = steps(source)
    return step


@pytest.mark.parametrize(
    ("postgresql", "mariadb"),
    [
        ("SELECT statement_timestamp(), now()", "SELECT NOW(6), NOW(6)"),
        (
            "SELECT now() - make_interval(secs => :age), now() + interval '2 days'",
            "SELECT NOW(6) - INTERVAL (:age) SECOND, NOW(6) + INTERVAL '2' DAY",
        ),
        (
            "SELECT extract(epoch FROM now() - a) FROM b",
            "SELECT (TIMESTAMPDIFF(MICROSECOND, a, NOW(6)) / 1e6) FROM b",
        ),
        ("SELECT 1 FROM a WHERE b = ANY(:c)", "SELECT 1 FROM a WHERE b IN :LIST__c"),
        (
            "SELECT 1 FROM a WHERE b <> ALL(CAST(:c AS uuid[]))",
            "SELECT 1 FROM a WHERE NOT (b IN :IDS__c)",
        ),
        (
            "SELECT 1 FROM a WHERE :b = ANY(queues)",
            "SELECT 1 FROM a WHERE JSON_CONTAINS(queues, JSON_QUOTE(:b))",
        ),
        (
            "SELECT count(*) FILTER (WHERE a > 1) FROM b",
            "SELECT COUNT(CASE WHEN a > 1 THEN 1 END) FROM b",
        ),
        (
            "SELECT count(DISTINCT a) FILTER (WHERE c) FROM b",
            "SELECT COUNT(DISTINCT CASE WHEN c THEN a END) FROM b",
        ),
        (
            "SELECT a FROM b ORDER BY a FOR NO KEY UPDATE OF b SKIP LOCKED",
            "SELECT a FROM b ORDER BY a FOR UPDATE SKIP LOCKED",
        ),
        ("SELECT CAST(:id AS uuid)", "SELECT REPLACE(:id, '-', '')"),
        (
            "SELECT u.a FROM unnest(CAST(:x AS uuid[]), CAST(:y AS bytea[])) AS u(a, b)",
            (
                "SELECT u.a FROM (SELECT CAST(REPLACE(c0, '-', '') AS CHAR(32)) AS `a`, "
                "UNHEX(c1) AS `b` FROM JSON_TABLE(:ZIP__x__y, '$[*]' COLUMNS (c0 CHAR(36) PATH "
                "'$[0]', c1 LONGTEXT PATH '$[1]')) AS json_rows) AS `u`"
            ),
        ),
        ("SELECT args ->> 1 FROM a", "SELECT JSON_UNQUOTE(JSON_EXTRACT(args, '$[1]')) FROM a"),
        ("SELECT EXISTS (SELECT FROM a)", "SELECT EXISTS(SELECT 1 FROM a)"),
        (
            "DELETE FROM a WHERE b IN (SELECT b FROM a LIMIT :most)",
            "DELETE FROM a WHERE b IN (SELECT * FROM (SELECT b FROM a LIMIT :most) AS bounded)",
        ),
        ("CREATE TRIGGER a", "CREATE TRIGGER a"),
    ],
)
def test_an_expression_is_written_as_mariadb_has_it(postgresql: str, mariadb: str) -> None:
    known = Tables({**TABLES.by_name, "a": Table(("b",), frozenset("b"))}, TABLES.identifiers)
    assert translated(postgresql, known) == mariadb


def test_settings_of_the_server_for_one_transaction_are_left_out() -> None:
    assert one("SET LOCAL jit = off; SELECT 1") == "SELECT 1"
    assert one("RESET statement_timeout") == "DO 0"


def test_an_update_that_returns_rows_locks_changes_and_reads_them() -> None:
    lock, change, read = steps("""
        UPDATE outbox SET attempts = attempts + 1 WHERE queue = :queue
        RETURNING id, attempts
    """)
    assert lock == (
        "/* keys: keys_0_1 */ SELECT outbox.id FROM outbox WHERE queue = :queue "
        "ORDER BY outbox.id FOR UPDATE"
    )
    assert change == (
        "UPDATE outbox SET outbox.attempts = attempts + 1 WHERE outbox.id IN :LIST__keys_0_1"
    )
    assert read == ("/* rows */ SELECT id, attempts FROM outbox WHERE outbox.id IN :LIST__keys_0_1")


def test_rows_that_another_has_locked_are_skipped() -> None:
    lock, change = steps("""
        WITH free AS (SELECT id FROM outbox WHERE queue = :queue FOR UPDATE SKIP LOCKED)
        UPDATE outbox SET attempts = 0 FROM free WHERE outbox.id = free.id
    """)
    assert lock.endswith("FOR UPDATE SKIP LOCKED")
    assert "free" not in change


def test_what_an_update_reads_beside_its_table_is_joined() -> None:
    lock, change = steps("""
        UPDATE outbox SET lease_token = held.token
        FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held(id, token)
        WHERE outbox.id = held.id
    """)
    assert lock.count("JSON_TABLE") == change.count("JSON_TABLE") == 1
    assert "AS `held` SET outbox.lease_token = held.token" in change


def test_common_tables_stand_in_the_change_as_their_queries() -> None:
    lock, change, read = steps("""
        WITH given AS (
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS g(id, token)
        ),
        ours AS (
            SELECT held.id FROM given JOIN outbox AS held ON held.id = given.id
            FOR UPDATE OF held SKIP LOCKED
        )
        UPDATE outbox AS held SET attempts = given.token
        FROM given JOIN ours ON ours.id = given.id
        WHERE held.id = ours.id AND held.lease_token = given.token
        RETURNING held.id, held.attempts
    """)
    assert lock.startswith("/* keys: keys_0_1 */ WITH given AS (SELECT * FROM (SELECT CAST(")
    assert "(held.id = ours.id AND held.lease_token = given.token) AND ours.id = given.id" in lock
    assert lock.endswith("ORDER BY held.id FOR UPDATE SKIP LOCKED")
    assert change.startswith("UPDATE outbox AS held CROSS JOIN (SELECT * FROM (SELECT CAST(")
    assert "SET held.attempts = given.token WHERE held.id IN :LIST__keys_0_1 AND" in change
    assert "LOCKED" not in change
    assert read.endswith("FROM outbox AS held WHERE held.id IN :LIST__keys_0_1")


def test_what_is_returned_of_another_table_is_tied_by_what_was_not_changed() -> None:
    _, change, read = steps("""
        UPDATE outbox SET queue = NULL FROM builds AS build
        WHERE build.id = outbox.id AND outbox.queue = build.status RETURNING build.generation
    """)
    assert "builds" not in change
    assert "build.id = outbox.id" in read
    assert "status" not in read


def test_rows_are_read_before_they_are_deleted() -> None:
    _, read, delete = steps("DELETE FROM outbox WHERE queue = :queue RETURNING id")
    assert read.startswith("/* rows */ SELECT id FROM outbox")
    assert delete == "DELETE FROM outbox WHERE outbox.id IN :LIST__keys_0_1"


def test_keys_of_several_columns_are_compared_together() -> None:
    lock, delete = steps("""
        DELETE FROM points AS point USING unnest(CAST(:ids AS uuid[])) AS u(id)
        WHERE point.vector_id = u.id
    """)
    assert "SELECT point.vector_id, point.write_id FROM points AS point" in lock
    assert delete == (
        "/* rows */ DELETE point FROM points AS point "
        "WHERE (point.vector_id, point.write_id) IN :LIST__keys_0_1"
    )


def test_what_a_change_within_a_statement_returned_is_read_from_its_rows() -> None:
    lock, insert, delete = steps("""
        WITH gone AS (DELETE FROM outbox WHERE id = :id RETURNING id, queue)
        INSERT INTO builds (id, status) SELECT id, queue FROM gone RETURNING id
    """)
    assert lock.startswith("/* keys: keys_0_1 */ SELECT outbox.id FROM outbox")
    assert insert == (
        "/* rows */ INSERT INTO builds (id, status) WITH gone AS (SELECT id, queue FROM outbox "
        "WHERE outbox.id IN :LIST__keys_0_1) SELECT id, queue FROM gone RETURNING id"
    )
    assert delete == "DELETE FROM outbox WHERE outbox.id IN :LIST__keys_0_1"


def test_a_conflict_changes_the_row_that_is_there_on_its_condition() -> None:
    assert one("""
        INSERT INTO points (vector_id, write_id) VALUES (:id, :write)
        ON CONFLICT (vector_id, write_id) DO UPDATE SET swept_at = NULL
        WHERE points.swept_at IS NOT NULL
    """) == (
        "INSERT INTO points (vector_id, write_id) VALUES (:id, :write) ON DUPLICATE KEY UPDATE "
        "/* some */ swept_at = IF(points.swept_at IS NOT NULL, NULL, points.swept_at)"
    )
    assert one("INSERT INTO builds (id) VALUES (:id) ON CONFLICT DO NOTHING") == (
        "INSERT IGNORE INTO builds (id) VALUES (:id)"
    )


def test_a_table_that_nobody_knows_is_named() -> None:
    with pytest.raises(Untranslated, match="nowhere is no table of the models"):
        translated("UPDATE nowhere SET a = 1 RETURNING a", TABLES)
