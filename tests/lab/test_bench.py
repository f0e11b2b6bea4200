"""A very small benchmark run from end to end, and the parts behind its figures."""

import json
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from app.auth.tokens import Tokens
from app.deployment import serving
from app.domain.ids import SessionIds
from app.lab.bench import baseline_server
from app.lab.bench.chart import chart
from app.lab.bench.openloop import centile_ms
from app.lab.bench.viewers import EDUCATIONAL_TITLES, TITLES, State, Viewers, account_id, prepare, profile_id, title_of
from app.server.fast_path import FastPathProtocol
from app.settings.settings import Settings
from app.viewing.endpoint import decode_beat
from tests.builders import settings_for

VIEWERS = 60
AT_S = 1_790_000_000


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(secret=b"s" * 32, issuer="hourglass", audience="hourglass")


@pytest.fixture
def viewers(tmp_path: Path, tokens: Tokens) -> Viewers:
    return prepare(tmp_path, VIEWERS, tokens, at_s=AT_S, life_seconds=60, advance=lambda _: None)


def test_every_viewer_has_a_heartbeat_and_a_token_of_its_own(viewers: Viewers, tokens: Tokens) -> None:
    with viewers.mapped() as mapped:
        for viewer in range(VIEWERS):
            head, _, body = mapped.request(viewer).partition(b"\r\n\r\n")
            beat = decode_beat(body)
            assert (beat.profile_id, beat.title_id) == (profile_id(viewer), title_of(viewer))
            assert beat.session_id is None
            assert f"Content-Length: {len(body)}".encode() in head
            token = head.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode()
            assert tokens.verify(token, at_s=AT_S).account_id == account_id(viewer)


def test_a_session_put_into_a_slot_is_sent_with_the_next_beat(viewers: Viewers) -> None:
    session_id = SessionIds(b"s" * 32).issue(profile_id(7), at_ms=AT_S * 1000, entropy=1)
    with viewers.mapped() as mapped:
        mapped.put_session(7, session_id, watched_seconds=1234.56)
        beat = decode_beat(mapped.request(7)[viewers.layout.body_at :])
        assert (beat.session_id, beat.watched_seconds) == (session_id, 1234.6)
        mapped.put_session(7, "", watched_seconds=0)
        assert decode_beat(mapped.request(7)[viewers.layout.body_at :]).session_id is None
        assert mapped.states[7] == State.KNOWN


def test_one_viewer_in_ten_watches_an_educational_title() -> None:
    educational = {f"title-{number:05}" for number in range(EDUCATIONAL_TITLES)}
    watched = [title_of(viewer) for viewer in range(10_000)]
    assert sum(title in educational for title in watched) == 1_000
    assert len(set(watched)) == TITLES


def test_centiles_are_those_of_the_nearest_rank() -> None:
    latencies = [number / 1000 for number in range(1, 101)]
    assert [centile_ms(latencies, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert centile_ms([0.004], 0.99) == 4


def _options(config: uvicorn.Config) -> dict[str, object]:
    """The options of a server, but for those that the service sets up around it."""
    return {name: value for name, value in vars(config).items() if name not in {"http", "loop", "lifespan"}}


def test_baselines_are_served_with_the_options_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(database_url="postgresql:///nowhere", redis_url="redis://nowhere", port=0)
    configs: list[uvicorn.Config] = []

    class Recorder:
        def __init__(self, _: object, config: uvicorn.Config, **__: object) -> None:
            configs.append(config)

        async def serve(self, *, sockets: Sequence[socket.socket]) -> None:
            assert sockets

    class Application:
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[None]:
            yield

        async def __call__(self, *_: object) -> None:
            raise AssertionError("nobody calls it here")

    application = Application()

    async def passes(*_: object, **__: object) -> None:
        """There are no servers here."""

    def create_app(_: Settings) -> object:
        return application

    monkeypatch.setattr(serving, "preflight", passes)
    monkeypatch.setattr("app.main.create_app", create_app)
    monkeypatch.setattr(serving, "DrainingServer", Recorder)
    monkeypatch.setattr("app.deployment.serving.signal.signal", lambda *_: None)
    serving.serve(settings)

    [service] = configs
    assert not service.access_log, "addresses may hold tickets"
    assert service.date_header, "players without a clock of their own go by it"
    assert service.http is FastPathProtocol  # baselines are plain ASGI applications
    assert _options(baseline_server.config_of(application, settings)) == _options(service)


def test_the_chart_has_a_bar_for_each_part_that_was_measured() -> None:
    result = {
        "machine": {"cpus": 2, "cpu": "<quick & small>"},
        "run": {"viewers": 1_000},
        "heartbeat": {"per_second": 20_000.0},
        "direct": {"per_second": 200.0},
        "flush": {"rows_per_second": 50_000.0},
    }
    drawing = ET.fromstring(chart(result))  # noqa: S314  our own
    name = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.attrib["width"]) for bar in drawing.iter(f"{name}rect") if "rx" in bar.attrib]
    assert bars[0] == pytest.approx(100 * bars[1], rel=0.01)
    assert [text.text for text in drawing.iter(f"{name}text")][1:-1] == [
        "heartbeats",
        "20,000",
        "directly to PostgreSQL",
        "200",
    ]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk, which sends the load, is not installed")
def test_a_tiny_run_counts_every_beat_and_tells_what_it_found(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--viewers=500", "--seconds=2", "--only=heartbeat", "--repeat=1", f"--json={figures}"]
    ended = subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "app.cli", "bench", *options], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert set(found) == {"machine", "run", "heartbeat", "rounds"}
    assert set(found["machine"]["before"]) == {"load_average", "busy_processors", "programs"}
    heartbeat = found["heartbeat"]
    assert heartbeat["errors"] == heartbeat["at_target"]["errors"] == 0, heartbeat
    assert heartbeat["viewers"] == 500
    assert heartbeat["per_second"] > 0
    assert 0 < heartbeat["p50_ms"] <= heartbeat["p99_ms"] <= heartbeat["p999_ms"]
    assert heartbeat["counted_share"] >= 1
    assert 0.003 < heartbeat["opening_share"] < 0.03
    assert 0.003 < heartbeat["ending_share"] < 0.03
    assert 0 <= heartbeat["flush_lag_s"] < 60
    assert {"api", "valkey", "postgres", "worker", "wrk"} <= set(heartbeat["cpu_seconds"])
    rounds = found["rounds"]
    assert set(rounds["parts"]) == {"heartbeat"}
    assert rounds["errors"] == 0, rounds
    assert set(rounds["parts"]["heartbeat"]["cpu_us_per_beat"]) == {"api", "redis", "flush", "load", "total"}
