"""The chart: heartbeats a second of the service and its baselines."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

WIDTH = 760
LABEL_WIDTH = 220
FIGURE_WIDTH = 110
BAR = 26
GAP = 14
TOP = 56
BOTTOM = 34
OURS = "#2563eb"
OTHERS = "#94a3b8"
INK = "#0f172a"
FAINT = "#64748b"

BARS = (
    ("batch", "heartbeats in batches", OURS),
    ("echo", "bare echo, no service", OTHERS),
    ("asgi", "plain ASGI, no service", OTHERS),
    ("heartbeat", "heartbeats", OURS),
    ("go_service", "Go, bare script call for each", OTHERS),
    ("one_script", "one script call for each", OTHERS),
    ("direct", "directly to PostgreSQL", OTHERS),
)


def chart(result: Mapping[str, Any]) -> str:
    """An SVG document with a bar for each part that measures a rate."""
    bars = [(label, float(result[name]["per_second"]), colour) for name, label, colour in BARS if name in result]
    longest = max((per_second for _, per_second, _ in bars), default=1.0)
    height = TOP + len(bars) * (BAR + GAP) + BOTTOM
    machine, run = result["machine"], result["run"]
    title = f"Heartbeats a second, {run['viewers']:,} viewers"
    footnote = f"everything on one machine: {machine['cpus']} x {machine['cpu']}, hourglass bench"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        f'     aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 30, title, colour=INK, extra=' font-size="17" font-weight="600"'),
    ]
    for place, (label, per_second, colour) in enumerate(bars):
        y = TOP + place * (BAR + GAP)
        length = max(2.0, per_second / longest * (WIDTH - LABEL_WIDTH - FIGURE_WIDTH))
        lines += [
            _text(LABEL_WIDTH - 12, y + BAR * 0.68, label, colour=INK, extra=' text-anchor="end"'),
            f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3" fill="{colour}"/>',
            _text(LABEL_WIDTH + length + 8, y + BAR * 0.68, f"{per_second:,.0f}", colour=INK),
        ]
    lines += [_text(16, height - 12, footnote, colour=FAINT, extra=' font-size="12"'), "</svg>"]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, text: str, *, colour: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{extra}>{escape(text)}</text>'
