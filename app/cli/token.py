"""`hourglass token`: an access token, for tests and operators."""

from enum import StrEnum
from typing import Annotated

import typer

from app.cli.errors import CommandError
from app.cli.target import DataDir, settings_of


class Role(StrEnum):
    HOUSEHOLD = "household"
    PARENT = "parent"
    SERVICE = "service"
    ADMIN = "admin"


OF_AN_ACCOUNT = (Role.HOUSEHOLD, Role.PARENT)


def command(
    role: Annotated[Role, typer.Option(help="What the token may do.")],
    account: Annotated[
        str | None, typer.Option(help="Account it speaks for; with service and admin: who uses it, for the audit log.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=366 * 24 * 60, help="How long it is valid.")] = 60,
    data_dir: DataDir = None,
) -> None:
    """Mint an access token and print it, with nothing else, on standard output."""
    if account is None and role in OF_AN_ACCOUNT:
        raise typer.BadParameter(f"a {role} token needs --account", param_hint="--account")
    print(mint(role, account or "operator", minutes=minutes, data_dir=data_dir))


def mint(role: Role, account: str, *, minutes: int, data_dir: DataDir) -> str:
    """A token signed with the secret of a deployment.

    Raises:
        CommandError: the account cannot be one.
    """
    from uuid import UUID  # noqa: PLC0415  keeps `--help` quick

    from app.auth import tokens  # noqa: PLC0415
    from app.clock import now_ms  # noqa: PLC0415

    if role in OF_AN_ACCOUNT:
        try:
            account = str(UUID(account))
        except ValueError as error:
            raise CommandError(f"--account: {account!r} is no account id (a UUID)") from error
    settings = settings_of(data_dir)
    issuer = tokens.Tokens(
        secret=settings.jwt_secret.get_secret_value().encode(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    return issuer.issue(account_id=account, role=tokens.Role(role), at_s=now_ms() // 1000, life_seconds=minutes * 60)
