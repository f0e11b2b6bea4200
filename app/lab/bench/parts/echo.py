"""The limit of the machine: the same requests and answers on a bare event loop."""

from app.lab.bench.parts.part import baseline_part
from app.lab.bench.service_processes import baseline

PART = baseline_part(name="echo", what="a bare echo", program=lambda _: baseline("echo"), processes=("api",))
