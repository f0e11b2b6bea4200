"""A profile: a child or an adult of a household."""

import msgspec

from app.domain.markets import Enforcement


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``timezone`` of a child is that of its settings. An adult has no limits to review.

    ``external_id`` is the platform's own id, where it has given one. ``enforcement`` is the profile's own mode,
    None for that of the market.
    """

    id: str
    name: str
    is_kids: bool
    timezone: str
    limits_reviewed: bool
    external_id: str | None = None
    enforcement: Enforcement | None = None
