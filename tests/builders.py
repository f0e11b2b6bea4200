"""Settings for tests."""

from typing import Any

from pydantic import SecretStr

from app.settings.settings import Settings


def settings_for(*, database_url: str, redis_url: str, **overrides: Any) -> Settings:
    """Settings for tests: cheap hashing, secrets of no value."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "redis_url": SecretStr(redis_url),
        "jwt_secret": SecretStr("j" * 32),
        "session_secret": SecretStr("s" * 32),
        "pin_pepper": SecretStr("p" * 32),
        "bcrypt_cost": 4,
        "database_pool": 3,
        "redis_timeout_seconds": 2,
        "max_beats_per_second": 0,
    }
    return Settings(**(values | overrides))
