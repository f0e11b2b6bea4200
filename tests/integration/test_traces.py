"""Traces reach a collector: a request with policy load, script call and SQL as one tree, a flush as another."""

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.embedded.valkey import Valkey
from app.observability.tracing import TracingUnavailable, share_of
from tests.deployed import Deployed, free_port
from tests.servers import Databases

pytest.importorskip("opentelemetry.sdk")

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{CLIENT_SPAN}-01", "00-" + "a" * 32 + f"-{CLIENT_SPAN}-00"


def _home(url: str) -> httpx.Client:
    email = f"{uuid.uuid4().hex}@example.org"
    account = {"email": email, "password": "correct horse battery", "timezone": "Europe/Oslo"}
    tokens = httpx.post(f"{url}/api/v1/auth/register", json=account).raise_for_status().json()
    return httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {tokens['access_token']}"})


def _child(home: httpx.Client) -> str:
    pin = {"new_pin": "1234", "password": "correct horse battery"}
    home.post("/parental-controls/pin", json=pin).raise_for_status()
    unlock = home.post("/parental-controls/pin/verify", json={"pin": "1234"}).raise_for_status().json()["pin_token"]
    child = home.post("/profiles", json={"name": "Ada", "is_kids": True}, headers={"X-PIN-Token": unlock})
    return str(child.raise_for_status().json()["id"])


def test_a_sampled_heartbeat_is_one_tree_of_spans(postgres: Databases, valkey: Valkey, tmp_path: Path) -> None:
    received = tmp_path / "spans"
    received.touch()
    variables = {"DATABASE_URL": postgres.fresh(), "REDIS_URL": valkey.url, "HOURGLASS_TRACES": "1"}
    with Deployed(tmp_path, variables) as deployed:
        deployed.start("collector", sys.executable, "-m", "tests.collector", "0", received)
        port = deployed.until(lambda: deployed.log("collector").strip(), "the collector listens")
        deployed.variables |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_TRACES_SAMPLER_ARG": "0",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        deployed.hourglass("worker", "worker", OTEL_TRACES_SAMPLER_ARG="1", HOURGLASS_FLUSH_CYCLE_SECONDS="0.5")
        url = deployed.api(free_port())
        with _home(url) as home:
            child = _child(home)
            title = {"profile_id": child, "title_id": "moon", "device_id": "tv-1"}
            token = _service_token(deployed)
            httpx.put(
                f"{url}/api/v1/catalog/titles",
                json=[{"id": "moon", "name": "Moon", "is_educational": False}],
                headers={"Authorization": f"Bearer {token}"},
            ).raise_for_status()
            for traceparent in (NOT_SAMPLED, SAMPLED):
                beat = home.post("/viewing-time/heartbeat", json=title, headers={"traceparent": traceparent})
                beat.raise_for_status()
            home.get(f"/viewing-time/balance/{child}", headers={"traceparent": SAMPLED}).raise_for_status()

        def spans() -> list[dict[str, Any]]:
            return [json.loads(line) for line in received.read_text(encoding="utf-8").splitlines()]

        def of_request(name: str) -> dict[str, Any]:
            return next((s for s in spans() if s["trace_id"] == TRACE and s["name"] == name), {})

        beat_span = deployed.until(lambda: of_request("POST /api/v1/viewing-time/heartbeat"), "the beat is traced")
        deployed.until(lambda: of_request("GET /api/v1/viewing-time/balance/{profile_id}"), "the balance is traced")
        flush = deployed.until(lambda: next((s for s in spans() if s["name"] == "flush"), {}), "a flush is traced")
        deployed.until(lambda: [s for s in spans() if s["parent_id"] == flush["span_id"]], "so is what it did")
        assert (beat_span["parent_id"], beat_span["service"], beat_span["kind"]) == (CLIENT_SPAN, "hourglass", 2)
        assert beat_span["attributes"]["http.response.status_code"] == 200
        below = {s["name"] for s in spans() if s["parent_id"] == beat_span["span_id"]}
        assert "script record" in below
        assert {s["trace_id"] for s in spans() if s["kind"] == 2} == {TRACE}  # the sampler chose no other request
        statements = [s for s in spans() if s["name"].startswith("SQL ")]
        assert statements
        assert not any(secret in json.dumps(spans()) for secret in (child, "Ada", "1234", token))


def test_a_collector_that_is_away_holds_up_no_end(postgres: Databases, valkey: Valkey, tmp_path: Path) -> None:
    variables = {"DATABASE_URL": postgres.fresh(), "REDIS_URL": valkey.url, "HOURGLASS_TRACES": "1"}
    away = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "60000",
    }
    with Deployed(tmp_path, {**variables, **away}) as deployed:
        url = deployed.api(free_port())
        assert httpx.get(f"{url}/api/v1/profiles").status_code == 401
        assert deployed.stop("api") == 0


def _service_token(deployed: Deployed) -> str:
    deployed.hourglass("token", "token", "--account", "catalogue", "--role", "service")
    assert deployed.wait("token") == 0
    return deployed.log("token").strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0.01, True)),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, (1.0, False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, (0.0, True)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}, (0.5, False)),
    ],
)
def test_the_share_is_what_the_standard_variables_say(variables: dict[str, str], expected: tuple[float, bool]) -> None:
    assert share_of(variables) == expected


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_TRACES_SAMPLER": "jaeger_remote"}, {"OTEL_TRACES_SAMPLER_ARG": "2"}, {"OTEL_TRACES_SAMPLER_ARG": "half"}],
)
def test_a_sampler_that_is_not_there_is_refused_by_name(variables: dict[str, str]) -> None:
    with pytest.raises(TracingUnavailable, match=next(iter(variables))):
        share_of(variables)
