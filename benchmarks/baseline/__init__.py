"""The common recipe in small, to be measured against: Flask, Celery, early acknowledgement.

What many backends do: a row, a commit, ``.delay()``, a flag in Redis for ten minutes, a
status column, ``status = "error"`` on an exception. No lease, no outbox, no sweeper.
It parses, splits and embeds with the same functions as rag-worker.
"""
