"""The order in which the application is put together, as data.

Each module has ``init_app(app)`` and may have ``is_enabled(settings)``.
"""

ORDER: tuple[tuple[str, str], ...] = (
    ("shared.extensions.logging", "first, so that what follows can report"),
    ("shared.extensions.sentry", "early, so that what follows is reported"),
    ("shared.extensions.database", "before migrate and everything that stores"),
    ("shared.extensions.migrate", "needs the models bound to a database"),
    ("shared.extensions.redis", "before celery: guards and progress"),
    ("shared.extensions.storage", "before anything that reads or writes a file"),
    ("shared.extensions.celery", "its tasks use all of the above"),
    ("shared.extensions.telemetry", "last: it watches the database and the tasks"),
)

#: What a migration needs: neither Redis nor Celery.
MIGRATION_ORDER = tuple(
    row for row in ORDER if row[0].endswith((".logging", ".database", ".migrate"))
)
