"""``rag-worker datasets``: what there is, and how its documents are indexed."""

import click

from worker.cli import dataset_life
from worker.cli.process_rules import rule
from worker.cli.reindexing import reindex, remove_index
from worker.cli.retrieval import retrieval


@click.group()
def datasets() -> None:
    """List, delete or configure datasets."""


datasets.add_command(rule)
datasets.add_command(retrieval)
for _command in dataset_life.COMMANDS:
    datasets.add_command(_command)
datasets.add_command(reindex)
datasets.add_command(remove_index)
