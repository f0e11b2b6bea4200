"""Beats that a gateway has gathered: a thousand in a request."""

import http.client
import json
from urllib.parse import urlsplit

from app.auth.tokens import Role
from app.bench.crew import Crew
from app.bench.failures import BenchFailed, Skipped
from app.bench.load import Mode, Order
from app.bench.parts.part import Figures, Part, figures_of, summary_of
from app.bench.stage import TOKEN_LIFE_SECONDS, Stage
from app.clock import now_ms
from app.wiring import tokens_of

PATH = "/api/v1/viewing-time/heartbeats"
BEATS = 1_000
CONNECTIONS = 4
NOT_FOUND = 404
OK = 200


def run(stage: Stage) -> Figures:
    crew = stage.open_sessions()
    token = tokens_of(stage.settings).issue(
        account_id="bench-gateway", role=Role.SERVICE, at_s=now_ms() // 1000, life_seconds=TOKEN_LIFE_SECONDS
    )
    refused = _refused(stage, crew, token)
    stage.warm(crew)
    stage.rest()
    measured = stage.measure(
        crew,
        "batches",
        Order(
            seconds=stage.plan.sample_seconds,
            span=stage.plan.everybody,
            mode=Mode.BATCH,
            connections=CONNECTIONS,
            token=token,
        ),
    )
    refused += _refused(stage, crew, token)
    figures = figures_of(measured)
    return figures | {
        "per_second": round(figures["per_second"] * BEATS, 1),
        "requests_per_second": figures["per_second"],
        "errors": figures["errors"] + refused,
        "cpu_us_per_beat": {name: round(us / BEATS, 3) for name, us in measured.microseconds_each.items()},
    }


def _refused(stage: Stage, crew: Crew, token: str) -> int:
    """How many beats of one batch are not answered as beats: a batch as a whole is 200 all the same."""
    with stage.viewers.mapped() as mapped:
        beats = [json.loads(mapped.request(viewer)[mapped.layout.body_at :]) for viewer in stage.plan.guests[:BEATS]]
    connection = http.client.HTTPConnection(urlsplit(crew.url).netloc, timeout=10)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", PATH, body=json.dumps({"beats": beats}), headers=headers)
    with connection.getresponse() as answer:
        text = answer.read()
    if answer.status == NOT_FOUND:
        raise Skipped(f"{PATH} does not exist")
    if answer.status != OK:
        raise BenchFailed(f"{PATH} answers {answer.status}: {text.decode(errors='replace')}")
    return sum("enforcement" not in result for result in json.loads(text)["results"])


PART = Part(name="batch", run=run, summary=summary_of)
