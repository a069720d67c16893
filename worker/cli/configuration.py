"""``rag-worker config``: what is set, and what can be."""

import json

import click

from shared.settings import env_example, load_settings


@click.group()
def config() -> None:
    """Show the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(*, as_json: bool) -> None:
    """Print every variable with its value; secrets are masked."""
    shown = load_settings().shown()
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for name, value in shown.items():
        click.echo(f"{name}={value}")


@config.command()
def example() -> None:
    """Print .env.example: every variable, its meaning and its default."""
    click.echo(env_example(), nl=False)
