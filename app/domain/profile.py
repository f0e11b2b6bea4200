"""Who watches: a child or an adult of a household."""

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """``timezone`` is for display; a child's viewing days follow its config. An adult has no limits to review."""

    id: str
    name: str
    is_kids: bool
    timezone: str
    limits_reviewed: bool
