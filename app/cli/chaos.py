"""`hourglass chaos`: the whole service, broken at random by a seed, while thousands watch."""

import typer


def command() -> None:
    """Soon."""
    raise typer.Exit(1)
