"""Celery's own result tables, for the migrations to create.

They stay Celery's models so that an upgrade which adds a column shows up as a
difference between the models and the migrations, not as an error in a worker.
The migrations create the two sequences of their ids as well.
"""

from celery.backends.database.models import TaskExtended, TaskSet
from sqlalchemy import BigInteger, MetaData, Table

# TaskExtended adds its columns to the table of Celery's Task: it is the whole table.
TASK_RESULTS: Table = TaskExtended.__table__
GROUP_RESULTS: Table = TaskSet.__table__
RESULT_METADATA: MetaData = TASK_RESULTS.metadata

# Every store takes an id, also one that updates: at 100 a second Celery's 31 bits
# last eight months, and after that no result is stored.
for _table in (TASK_RESULTS, GROUP_RESULTS):
    _table.c.id.type = BigInteger()
