"""Generate deploy/monitoring: recording rules, alerts, dashboards. Run it without arguments to write the files.

Every duration goes through ``Timing``, so that the tests can render the same rules with shorter durations.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "monitoring"
CHART = Path(__file__).parents[1] / "deploy" / "helm" / "hourglass" / "files"
"""A copy, because a chart cannot read files outside of its folder."""
RUNBOOK = "docs/howto/runbook.md"
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0

BEAT = 'route=~"/api/v1/viewing-time/(heartbeat|heartbeats|session/{session_id}/end)"'
REQUESTS = "http_server_request_duration_seconds"


@dataclass(frozen=True)
class Timing:
    """Durations in the rules. ``scale`` 1 is production.

    Args:
        scale: factor of every window and pause.
        limit_scale: factor of limits of values in seconds.
        least_seconds: shortest window, because a rate needs two scrapes.
        slow_seconds: a heartbeat that takes longer is slow; a bucket of the histogram.
    """

    scale: float = 1.0
    limit_scale: float = 1.0
    least_seconds: float = 1.0
    slow_seconds: float = 0.05

    def window(self, seconds: float) -> str:
        """A duration for PromQL."""
        ms = max(self.least_seconds, seconds * self.scale) * 1000
        for unit, size in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", 1.0)):
            if ms % (size * 1000) == 0:
                return f"{int(ms / size / 1000)}{unit}"
        return f"{int(ms)}ms"

    def seconds(self, seconds: float) -> str:
        """A limit for a value in seconds."""
        return f"{seconds * self.limit_scale:g}"


REAL = Timing()


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A service level objective.

    ``bad`` and ``all`` are rates over ``{window}``; the objective is that ``bad / all`` stays at or below ``budget``.
    ``is_bad`` is recorded as ``hourglass_slo:NAME:is_bad`` before them: 1 while the objective fails. A subquery over
    three days would compute that again for each of its minutes.
    """

    name: str
    alert: str
    title: str
    says: str
    budget: float
    bad: str
    all: str
    is_bad: str = ""

    def error_ratio(self, window: str) -> str:
        bad, everything = self.bad.replace("{window}", window), self.all.replace("{window}", window)
        return f"({bad}) / ({everything})"


def objectives(timing: Timing = REAL) -> tuple[Objective, ...]:
    """The service level objectives. docs/howto/monitor.md explains each."""
    flush_limit = timing.seconds(60)
    return (
        Objective(
            name="beats_answered",
            alert="HourglassBeatsNotAnswered",
            title="Heartbeats answered",
            says="99.9 % of heartbeats get an answer that is no server error",
            budget=0.001,
            bad=f'sum(rate({REQUESTS}_count{{{BEAT},status="5xx"}}[{{window}}])) or vector(0)',
            all=f"sum(rate({REQUESTS}_count{{{BEAT}}}[{{window}}]))",
        ),
        Objective(
            name="beats_fast",
            alert="HourglassBeatsSlow",
            title="Heartbeats answered within 50 ms",
            says="99 % of heartbeats are answered within 50 ms",
            budget=0.01,
            bad=f"sum(rate({REQUESTS}_count{{{BEAT}}}[{{window}}]))"
            f' - sum(rate({REQUESTS}_bucket{{{BEAT},le="{timing.slow_seconds}"}}[{{window}}]))',
            all=f"sum(rate({REQUESTS}_count{{{BEAT}}}[{{window}}]))",
        ),
        Objective(
            name="decisions_on_time",
            alert="HourglassDecisionsLate",
            title="Decisions on time",
            says="99.9 % of decisions leave within 1 s of the heartbeat",
            budget=0.001,
            bad="sum(rate(hourglass_late_decisions_total[{window}]))",
            all=f"sum(rate({REQUESTS}_count{{{BEAT}}}[{{window}}]))",
        ),
        Objective(
            name="flush_in_time",
            alert="HourglassFlushLate",
            title="Counted time flushed within a minute",
            says="for 99 % of the time nothing waits longer than 60 s for the flush",
            budget=0.01,
            is_bad=f"max(hourglass_flush_lag_seconds) > bool {flush_limit}",
            bad="avg_over_time(hourglass_slo:flush_in_time:is_bad[{window}])",
            all="vector(1)",
        ),
        Objective(
            name="decisions_right",
            alert="HourglassDecisionsWrong",
            title="Decisions right",
            says="in 99.9 % of checked minutes the counted time is right within 30 s",
            budget=0.001,
            bad="sum(rate(hourglass_accuracy_errors_total[{window}]))",
            all="sum(rate(hourglass_accuracy_checks_total[{window}]))",
        ),
        Objective(
            name="settings_in_force",
            alert="HourglassSettingsLate",
            title="Settings in force within 1 s",
            says="99 % of changes of settings are in force within 1 s of their commit",
            budget=0.01,
            bad="sum(rate(hourglass_policy_announcement_seconds_count[{window}]))"
            ' - sum(rate(hourglass_policy_announcement_seconds_bucket{le="1.0"}[{window}]))'
            " + sum(rate(hourglass_policy_announcements_failed_total[{window}]))",
            all="sum(rate(hourglass_policy_announcement_seconds_count[{window}]))",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Burn:
    """Burn rates of the 30-day budget that alert, by two windows (SRE workbook, chapter 5)."""

    factor: float
    long: float
    short: float
    severity: str


BURNS = (
    Burn(factor=14.4, long=_HOUR, short=5 * _MINUTE, severity="page"),
    Burn(factor=6, long=6 * _HOUR, short=30 * _MINUTE, severity="page"),
    Burn(factor=3, long=_DAY, short=2 * _HOUR, severity="ticket"),
    Burn(factor=1, long=3 * _DAY, short=6 * _HOUR, severity="ticket"),
)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A cause, or a symptom without a budget. ``lasts`` is the time in seconds before it alerts."""

    name: str
    says: str
    query: str
    lasts: float
    severity: str


def alerts(timing: Timing = REAL) -> tuple[Alert, ...]:
    """Alerts on causes, which appear next to the alert on a symptom."""
    minute, five, ten = timing.window(_MINUTE), timing.window(5 * _MINUTE), timing.window(10 * _MINUTE)
    return (
        Alert(
            name="HourglassApiDown",
            says="No API process answers the scrape.",
            query='sum(up{job="hourglass-api"}) == 0 or absent(up{job="hourglass-api"})',
            lasts=_MINUTE,
            severity="page",
        ),
        Alert(
            name="HourglassRedisAway",
            says="Redis does not answer: heartbeats get 503, players go on for the length of their lease.",
            query=f"sum(rate(hourglass_counters_unavailable_total[{minute}])) > 0",
            lasts=_MINUTE,
            severity="page",
        ),
        Alert(
            name="HourglassRedisUnsafe",
            says="Redis runs with settings, or in a state, in which counted time may be lost.",
            query="max by (concern) (hourglass_redis_concern) > 0",
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassPostgresqlAway",
            says="PostgreSQL does not answer: nothing is flushed, parents and unknown profiles get 503.",
            query=f"sum(rate(hourglass_database_unavailable_total[{minute}])) > 0",
            lasts=2 * _MINUTE,
            severity="page",
        ),
        Alert(
            name="HourglassWorkerStopped",
            says="No flush has ended for ten minutes: counted time stays in Redis alone.",
            query=f"sum(increase(hourglass_flush_cycle_duration_seconds_count[{ten}])) == 0"
            " or absent(hourglass_flush_cycle_duration_seconds_count)",
            lasts=_MINUTE,
            severity="page",
        ),
        Alert(
            name="HourglassJobFailing",
            says="A job of the worker has failed again and again.",
            query=f"sum by (exported_job) (increase(hourglass_job_failures_total[{five}])) > 2",
            lasts=10 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassJobOverdue",
            says="A job of the worker has not ended well for longer than it may.",
            query="max by (exported_job) (hourglass_job_overdue) > 0",
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassFlushBacklog",
            says="The oldest counted time has waited for the flush for more than two minutes.",
            query=f"max(hourglass_flush_lag_seconds) > {timing.seconds(120)}",
            lasts=2 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassDeadLetters",
            says="PostgreSQL refuses rows for their data; they were set aside and need a person.",
            query=f"sum(increase(hourglass_parked_rows_total[{timing.window(_HOUR)}])) > 0",
            lasts=0,
            severity="ticket",
        ),
        Alert(
            name="HourglassWebhookDeadLetters",
            says="A receiver of webhooks has not accepted events for three days; they were set aside.",
            query=f'sum(increase(hourglass_webhook_attempts_total{{result="dead"}}[{timing.window(_HOUR)}])) > 0',
            lasts=0,
            severity="ticket",
        ),
        Alert(
            name="HourglassRedisRegressed",
            says="Redis came back with an older state. Counters are being repaired; find out why it did.",
            query=f"sum(increase(hourglass_redis_regressed_total[{timing.window(_HOUR)}])) > 0",
            lasts=0,
            severity="ticket",
        ),
        Alert(
            name="HourglassEventLoopBlocked",
            says="Something blocks an event loop: every player of that process waits.",
            query=f"histogram_quantile(0.99, sum by (le) (rate(hourglass_event_loop_lag_seconds_bucket[{five}])))"
            " > 0.25",
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassPostgresqlPoolFull",
            says="A process uses nearly all its connections to PostgreSQL: requests of parents wait for one.",
            query="max(sum by (instance) (avg_over_time("
            f'hourglass_postgresql_pool_connections{{state="in_use"}}[{five}]))'
            ' / sum by (instance) (hourglass_postgresql_pool_connections{state="limit"})) > 0.8',
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassStalePolicies",
            says="Policies are served past their life, because neither Redis nor PostgreSQL gives newer ones.",
            query=f"sum(rate(hourglass_stale_policies_total[{five}])) > 0",
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassConnectionsRefused",
            says="API processes have no room for more connections.",
            query=f"sum(increase(hourglass_refused_connections_total[{five}])) > 0",
            lasts=0,
            severity="page",
        ),
        Alert(
            name="HourglassMarketsFileRefused",
            says="The markets file cannot be used: the rules before its last change stay in force.",
            query="min(hourglass_markets_file_usable) == 0",
            lasts=5 * _MINUTE,
            severity="ticket",
        ),
        Alert(
            name="HourglassLockoutStorm",
            says="Somebody guesses PINs or passwords of many accounts.",
            query=f"sum by (kind) (rate(hourglass_lockouts_total[{five}])) > 1",
            lasts=10 * _MINUTE,
            severity="ticket",
        ),
    )


def alert_names() -> tuple[str, ...]:
    return (*(objective.alert for objective in objectives()), *(alert.name for alert in alerts()))


def rules(timing: Timing = REAL) -> dict[str, Any]:
    """The rules file."""
    groups: list[dict[str, Any]] = []
    windows = sorted({window for burn in BURNS for window in (burn.long, burn.short)})
    for objective in objectives(timing):
        recorded = {window: _record(objective, window, timing) for window in windows}
        burning = [_burn_alert(objective, burn, recorded) for burn in BURNS]
        name = f"hourglass-slo-{objective.name}"
        groups.append({"name": name, "rules": [*_sampled(objective), *recorded.values(), *burning]})
    groups.append({"name": "hourglass-causes", "rules": [_alert(alert, timing) for alert in alerts(timing)]})
    return {"groups": groups}


def _sampled(objective: Objective) -> list[dict[str, Any]]:
    if not objective.is_bad:
        return []
    return [{"record": f"hourglass_slo:{objective.name}:is_bad", "expr": objective.is_bad}]


def _record(objective: Objective, window: float, timing: Timing) -> dict[str, Any]:
    return {
        "record": f"hourglass_slo:error_ratio:{REAL.window(window)}",
        "expr": objective.error_ratio(timing.window(window)),
        "labels": {"slo": objective.name},
    }


def _burn_alert(objective: Objective, burn: Burn, recorded: Mapping[float, Mapping[str, Any]]) -> dict[str, Any]:
    limit = f"({burn.factor} * {objective.budget})"
    conditions = [
        f'{recorded[window]["record"]}{{slo="{objective.name}"}} > {limit}' for window in (burn.long, burn.short)
    ]
    return {
        "alert": objective.alert,
        "expr": " and ".join(conditions),
        "labels": {"severity": burn.severity, "slo": objective.name, "burn": f"{burn.factor:g}x"},
        "annotations": _annotations(
            objective.alert,
            f"The objective fails: {objective.says}. Its budget of 30 days burns {burn.factor:g} times too fast.",
        ),
    }


def _alert(alert: Alert, timing: Timing) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.query}
    if alert.lasts:
        rule["for"] = timing.window(alert.lasts)
    return {**rule, "labels": {"severity": alert.severity}, "annotations": _annotations(alert.name, alert.says)}


def _annotations(name: str, says: str) -> dict[str, str]:
    return {"summary": says, "runbook_url": f"{RUNBOOK}#{name.lower()}"}


# --- dashboards


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. ``queries`` are PromQL by legend; ``unit`` is Grafana's name of it."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    says: str = ""
    kind: str = "timeseries"


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    name: str
    title: str
    panels: Sequence[Panel] = field(default=())


RATE = "$__rate_interval"


def _rate(name: str, labels: str = "", by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{{labels}}}[{RATE}]))"


def _quantiles(name: str, labels: str = "") -> dict[str, str]:
    return {
        f"p{share:g}": f"histogram_quantile({share / 100:g}, {_rate(f'{name}_bucket', labels, 'le')})"
        for share in (50, 99, 99.9)
    }


def dashboards() -> tuple[Dashboard, ...]:
    """All dashboards. Each query returns data while the service works; a test checks this."""
    return (_service(), _flush(), _parents(), _slo())


def _service() -> Dashboard:
    return Dashboard(
        name="service",
        title="Hourglass: service",
        panels=(
            Panel(title="Heartbeats", queries={"{{status}}": _rate(f"{REQUESTS}_count", BEAT, "status")}, unit="reqps"),
            Panel(title="Time of heartbeats", queries=_quantiles(REQUESTS, BEAT), unit="s"),
            Panel(
                title="Results of heartbeats",
                queries={"{{outcome}}": _rate("hourglass_heartbeat_outcomes_total", by="outcome")},
                unit="ops",
                says="counted, adult, or the code of the problem.",
            ),
            Panel(
                title="Decisions",
                queries={"{{enforcement}}": _rate("hourglass_heartbeat_decisions_total", by="enforcement")},
                unit="ops",
            ),
            Panel(title="Late decisions", queries={"late": _rate("hourglass_late_decisions_total")}, unit="ops"),
            Panel(
                title="Beats in a script call",
                queries={"beats": f"{_rate('hourglass_heartbeats_total')} / {_rate('hourglass_record_calls_total')}"},
                says="More beats in a call cost less each.",
            ),
            Panel(
                title="Where policies were found",
                queries={"{{source}}": _rate("hourglass_policy_lookups_total", by="source")},
                unit="ops",
                says="memory is L1, redis is L2.",
            ),
            Panel(title="Age of policies at use", queries=_quantiles("hourglass_policy_age_seconds"), unit="s"),
            Panel(
                title="Time of scripts, p99",
                queries={
                    "{{script}}": "histogram_quantile(0.99, "
                    + _rate("hourglass_redis_script_duration_seconds_bucket", by="le, script")
                    + ")"
                },
                unit="s",
            ),
            Panel(title="Round trips to Redis", queries=_quantiles("hourglass_redis_round_trip_seconds"), unit="s"),
            Panel(
                title="SQL statements", queries=_quantiles("hourglass_postgresql_statement_duration_seconds"), unit="s"
            ),
            Panel(
                title="Connections",
                queries={
                    "Redis {{state}}": "sum by (state) (hourglass_redis_pool_connections)",
                    "PostgreSQL {{state}}": "sum by (state) (hourglass_postgresql_pool_connections)",
                },
            ),
            Panel(
                title="Servers away",
                queries={
                    "Redis": _rate("hourglass_counters_unavailable_total"),
                    "PostgreSQL": _rate("hourglass_database_unavailable_total"),
                },
                unit="ops",
            ),
            Panel(title="Event loop lag", queries=_quantiles("hourglass_event_loop_lag_seconds"), unit="s"),
            Panel(title="Event streams", queries={"open": "sum(hourglass_event_streams)"}),
            Panel(
                title="Versions",
                queries={"{{version}}": "max by (version, python) (hourglass_build_info)"},
                kind="stat",
            ),
        ),
    )


def _flush() -> Dashboard:
    return Dashboard(
        name="flush",
        title="Hourglass: flush",
        panels=(
            Panel(
                title="Flush lag",
                queries={"oldest": "max(hourglass_flush_lag_seconds)"},
                unit="s",
                says="Age of the oldest counted time that PostgreSQL does not have.",
            ),
            Panel(title="Backlog", queries={"{{kind}}": "max by (kind) (hourglass_unflushed)"}),
            Panel(title="Rows written", queries={"rows": _rate("hourglass_flushed_entries_total")}, unit="ops"),
            Panel(title="Time of a cycle", queries=_quantiles("hourglass_flush_cycle_duration_seconds"), unit="s"),
            Panel(
                title="Cycles", queries={"cycles": _rate("hourglass_flush_cycle_duration_seconds_count")}, unit="ops"
            ),
            Panel(
                title="Jobs that failed",
                queries={"{{exported_job}}": _rate("hourglass_job_failures_total", by="exported_job")},
                unit="ops",
            ),
            Panel(
                title="Jobs: last good end",
                queries={"{{exported_job}}": "max by (exported_job) (hourglass_job_last_success_age_seconds)"},
                unit="s",
            ),
            Panel(title="Buckets postponed", queries={"buckets": _rate("hourglass_flush_postponed_total")}, unit="ops"),
            Panel(
                title="Workers that flush", queries={"holds the lock": "sum(hourglass_flush_lock_held)"}, kind="stat"
            ),
            Panel(title="Dead letters", queries={"rows": "sum(hourglass_parked_rows_total)"}, kind="stat"),
            Panel(title="Redis regressed", queries={"buckets": "sum(hourglass_redis_regressed_total)"}, kind="stat"),
            Panel(title="Redis concerns", queries={"{{concern}}": "max by (concern) (hourglass_redis_concern)"}),
        ),
    )


def _parents() -> Dashboard:
    others = 'route!~"/api/v1/viewing-time/(heartbeat|heartbeats|session/{session_id}/end)",route=~"/api/v1/.*"'
    return Dashboard(
        name="parents",
        title="Hourglass: parents",
        panels=(
            Panel(
                title="Requests by route",
                queries={"{{route}}": _rate(f"{REQUESTS}_count", others, "route")},
                unit="reqps",
            ),
            Panel(
                title="Requests by status",
                queries={"{{status}}": _rate(f"{REQUESTS}_count", others, "status")},
                unit="reqps",
            ),
            Panel(
                title="Time by route, p99",
                queries={"{{route}}": f"histogram_quantile(0.99, {_rate(f'{REQUESTS}_bucket', others, 'le, route')})"},
                unit="s",
            ),
            Panel(
                title="Settings in force after",
                queries=_quantiles("hourglass_policy_announcement_seconds"),
                unit="s",
                says="From the commit until Redis has them.",
            ),
            Panel(
                title="Announcements that failed",
                queries={"failed": _rate("hourglass_policy_announcements_failed_total")},
                unit="ops",
            ),
            Panel(title="Lockouts", queries={"{{kind}}": _rate("hourglass_lockouts_total", by="kind")}, unit="ops"),
        ),
    )


def _slo() -> Dashboard:
    panels: list[Panel] = []
    for objective in objectives():
        recorded, of_slo = "hourglass_slo:error_ratio", f'{{slo="{objective.name}"}}'
        panels += [
            Panel(
                title=objective.title,
                queries={"bad, last hour": f"{recorded}:1h{of_slo}", "budget": f"vector({objective.budget})"},
                unit="percentunit",
                says=f"Objective: {objective.says}.",
            ),
            Panel(
                title=f"Budget burn: {objective.title.lower()}",
                queries={
                    f"over {window}": f"{recorded}:{window}{of_slo} / {objective.budget}"
                    for window in ("5m", "1h", "6h", "3d")
                },
                says="1 uses up exactly the budget of 30 days.",
            ),
        ]
    panels += [
        Panel(
            title="Wrong minutes by cause",
            queries={"{{cause}}": _rate("hourglass_accuracy_errors_total", by="cause")},
            unit="ops",
            says="Why counted time was off by more than 30 s: loss of Redis, clock, late heartbeat, claim.",
        ),
        Panel(
            title="Checked minutes",
            queries={"checked": _rate("hourglass_accuracy_checks_total")},
            unit="ops",
        ),
    ]
    panels.append(
        Panel(
            title="Alerts", queries={"{{alertname}}": 'count by (alertname) (ALERTS{alertstate="firing"}) or vector(0)'}
        )
    )
    return Dashboard(name="slo", title="Hourglass: objectives", panels=panels)


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard in the JSON of Grafana."""
    return {
        "uid": f"hourglass-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["hourglass"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    width, height = 12, 8
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"x": number % 2 * width, "y": number // 2 * height, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def files() -> Iterator[tuple[Path, str]]:
    """All files with their content."""
    note = "# Made by scripts/monitoring.py; change that.\n"
    for folder in (FOLDER, CHART):
        yield folder / "rules.yml", note + yaml.safe_dump(rules(), sort_keys=False, width=120, allow_unicode=True)
    for dashboard in dashboards():
        content = json.dumps(grafana(dashboard), indent=2, ensure_ascii=False) + "\n"
        for folder in (FOLDER, CHART):
            yield folder / "dashboards" / f"{dashboard.name}.json", content


def main() -> int:
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{__doc__}\n")
        return 0
    for path, content in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
