"""A service in Go as a peer: one call of a bare counting script for each heartbeat.

It checks no token, decides nothing and flushes nothing.
"""

from app.lab.bench.baselines import go_service
from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import baseline_part
from app.lab.bench.service_processes import Program


def _program(stage: BenchEnvironment) -> Program:
    with stage.view.doing("building the Go service"):
        built = go_service.build(stage.folder / "go-service")
    return Program(name="go_service", command=(str(built),), is_threaded=True)


PART = baseline_part(name="go_service", what="a Go service", program=_program, processes=("api", "valkey"))
