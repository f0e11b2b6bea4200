"""Unit tests reach nothing outside their process: a test that opens a socket says so by failing."""

import socket

import pytest

DESCRIPTOR_POSITION = 3


class _NoSocket(socket.socket):
    def __init__(self, *arguments: int, **named: int) -> None:
        if len(arguments) <= DESCRIPTOR_POSITION and "fileno" not in named:
            raise AssertionError("a unit test opened a socket; use a fake, or move it to tests/integration")
        super().__init__(*arguments, **named)  # `socketpair`, by which asyncio wakes itself, brings its own


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", _NoSocket)
