"""The same heartbeats with PostgreSQL in the path: the service without counters in memory."""

from app.lab.bench.parts.part import baseline_part
from app.lab.bench.service_processes import baseline

PART = baseline_part(name="direct", what="directly to PostgreSQL", program=lambda _: baseline("direct"))
