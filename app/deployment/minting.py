"""Access tokens signed with the secret of a deployment, for tests and operators."""

from enum import StrEnum

from app.deployment.errors import CommandError
from app.deployment.target import DataDir, settings_of


class TokenRole(StrEnum):
    HOUSEHOLD = "household"
    PARENT = "parent"
    SERVICE = "service"
    ADMIN = "admin"


OF_AN_ACCOUNT = (TokenRole.HOUSEHOLD, TokenRole.PARENT)


def mint(role: TokenRole, account: str, *, minutes: int, data_dir: DataDir) -> str:
    """Mint a token with the secret of a deployment.

    Raises:
        CommandError: the account id is invalid.
    """
    from uuid import UUID  # noqa: PLC0415  keeps `--help` quick

    from app.auth import tokens  # noqa: PLC0415
    from app.clock import now_ms  # noqa: PLC0415

    if role in OF_AN_ACCOUNT:
        try:
            account = str(UUID(account))
        except ValueError as error:
            raise CommandError(f"--account: {account!r} is not an account id (a UUID)") from error
    settings = settings_of(data_dir)
    issuer = tokens.Tokens(
        secret=settings.jwt_secret.get_secret_value().encode(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    return issuer.issue(account_id=account, role=tokens.Role(role), at_s=now_ms() // 1000, life_seconds=minutes * 60)
