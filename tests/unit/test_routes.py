"""Matching of requests and routes."""

from fastapi.routing import APIRoute

from app.main import create_app
from tests.builders import settings_for


def test_all_routes_lie_in_one_list() -> None:
    """FastAPI searches nested lists three times per request."""
    front = create_app(settings_for(database_url="postgresql://nowhere/x", redis_url="redis://nowhere"))
    nested = [route for route in front._api.routes if not hasattr(route, "path")]
    assert nested == []
    assert len([route for route in front._api.routes if isinstance(route, APIRoute)]) > 30
