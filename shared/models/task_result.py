"""Celery's own result tables, for the migrations to create.

They stay Celery's models so that an upgrade which adds a column shows up as a
difference between the models and the migrations, not as an error in a worker.
"""

from celery.backends.database.models import TaskExtended, TaskSet
from sqlalchemy import MetaData, Table

# TaskExtended adds its columns to the table of Celery's Task: it is the whole table.
TASK_RESULTS: Table = TaskExtended.__table__
GROUP_RESULTS: Table = TaskSet.__table__
RESULT_METADATA: MetaData = TASK_RESULTS.metadata
