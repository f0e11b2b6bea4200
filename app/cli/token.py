"""`hourglass token`: an access token, for tests and operators."""

from typing import Annotated

import typer

from app.deployment.minting import OF_AN_ACCOUNT, TokenRole, mint
from app.deployment.target import DataDir


def command(
    role: Annotated[TokenRole, typer.Option(help="Role of the token.")],
    account: Annotated[
        str | None,
        typer.Option(help="Account of the token; for service and admin: name of the user, for the audit log."),
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=366 * 24 * 60, help="Lifetime in minutes.")] = 60,
    data_dir: DataDir = None,
) -> None:
    """Mint an access token and print only the token on standard output."""
    if account is None and role in OF_AN_ACCOUNT:
        raise typer.BadParameter(f"a {role} token needs --account", param_hint="--account")
    print(mint(role, account or "operator", minutes=minutes, data_dir=data_dir))
