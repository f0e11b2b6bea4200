"""The API in this process, for what serves the SDK."""

from tests.api.conftest import api, clock

__all__ = ["api", "clock"]
