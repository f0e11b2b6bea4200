"""Gateway batches: a thousand heartbeats in a request."""

import http.client
import json
from urllib.parse import urlsplit

from app.auth.tokens import Role
from app.clock import now_ms
from app.lab.bench.environment import TOKEN_LIFE_SECONDS, BenchEnvironment
from app.lab.bench.failures import BenchFailed, Skipped
from app.lab.bench.load import Mode, Order
from app.lab.bench.parts.part import BenchPart, Figures, figures_of, summary_of
from app.lab.bench.service_processes import ServiceProcesses
from app.wiring.external_identity import tokens_of

PATH = "/api/v1/viewing-time/heartbeats"
BEATS = 1_000
CONNECTIONS = 4
NOT_FOUND = 404
OK = 200


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    token = tokens_of(stage.settings).issue(
        account_id="bench-gateway", role=Role.SERVICE, at_s=now_ms() // 1000, life_seconds=TOKEN_LIFE_SECONDS
    )
    refused = _refused(stage, crew, token)
    stage.warm(crew)
    stage.wait_until_flushed()
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


def _refused(stage: BenchEnvironment, crew: ServiceProcesses, token: str) -> int:
    """The number of wrong answers inside a batch, because the batch itself is 200 anyway."""
    with stage.viewers.mapped() as mapped:
        beats = [
            json.loads(mapped.request(viewer)[mapped.layout.body_at :]) for viewer in stage.plan.probe_viewers[:BEATS]
        ]
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


PART = BenchPart(name="batch", run=run, summary=summary_of)
