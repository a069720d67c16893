"""``rag-worker datasets``: how the documents of a dataset are indexed."""

import click

from worker.cli.process_rules import rule


@click.group()
def datasets() -> None:
    """Show or set how a dataset is indexed."""


datasets.add_command(rule)
