"""What uvicorn makes of the machine: the same requests, answers and server options, without the service."""

from app.lab.bench.parts.part import baseline_part
from app.lab.bench.service_processes import baseline

PART = baseline_part(name="asgi", what="plain ASGI", program=lambda _: baseline("asgi"), processes=("api",))
