"""The parents' console: pages rendered on the server, over the same services as the API.

A view asks the services of the features and renders what they answer. It holds no rule of its own and never calls the
HTTP API. Each form works without JavaScript; the scripts only make pages update by themselves.
"""

from dataclasses import dataclass

from app.kit.ttl_cache import TtlCache
from app.web.live_overview import LiveOverview
from app.web.sessions import CaregiverSession, Sessions, WebSession


@dataclass(frozen=True, kw_only=True)
class Console:
    """What the pages need beside the services of the features. ``title_names`` answers None for an unknown title."""

    sessions: Sessions[WebSession]
    caregiver_sessions: Sessions[CaregiverSession]
    live: LiveOverview
    title_names: TtlCache[str, str | None]
