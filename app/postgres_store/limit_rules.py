"""Rules of limits as they are stored: one JSON object, NULL for settings that use none."""

from functools import lru_cache

import msgspec

from app.domain.limits import LimitRules

_decode = msgspec.json.Decoder(LimitRules).decode


@lru_cache(maxsize=4096)
def rules_of(text: str | None) -> LimitRules | None:
    """The rules in a column. Decoded once for all children with equal rules."""
    return None if text is None else _decode(text)
