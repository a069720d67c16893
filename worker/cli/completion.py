"""``rag-worker completion``: what a shell reads to complete commands and options."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "rag-worker"
#: What the script sets to ask for completions, by click's convention.
VARIABLE = "_RAG_WORKER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    For bash: eval "$(rag-worker completion bash)" in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"nothing completes in {shell}")
    command = context.find_root().command
    click.echo(kind(command, {}, PROGRAM, VARIABLE).source())
