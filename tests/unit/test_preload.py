"""Existing preloads stay when the server gets another allocator."""

import pytest

from app.embedded import valkey
from app.embedded.valkey import Valkey


@pytest.mark.parametrize(
    ("given", "allocator", "loaded"),
    [
        ("", None, None),
        ("", "libjemalloc.so.2", "libjemalloc.so.2"),
        ("/x/clock.so", None, "/x/clock.so"),
        ("/x/clock.so", "libjemalloc.so.2", "/x/clock.so:libjemalloc.so.2"),
        ("/x/a.so /x/b.so", "libjemalloc.so.2", "/x/a.so:/x/b.so:libjemalloc.so.2"),
        ("/opt/libjemalloc.so.2", "libjemalloc.so.2", "/opt/libjemalloc.so.2"),
    ],
)
def test_ours_is_added(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    given: str,
    allocator: str | None,
    loaded: str | None,
) -> None:
    monkeypatch.setenv("LD_PRELOAD", given)
    monkeypatch.setattr(valkey, "find_library", lambda _: allocator)
    assert Valkey(tmp_path_factory.mktemp("valkey"))._variables().get("LD_PRELOAD") == loaded
