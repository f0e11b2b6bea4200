"""atheris searches for input that reaches new code: `python -m tests.fuzz.coverage beat -max_total_time=60`.

Needs the extra `fuzz`. Options after the name of the target are libFuzzer's.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["app", "jose", "tests.fuzz.targets"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.coverage {'|'.join(TARGETS)} [libFuzzer options]")
    target, seeds = TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, *sys.argv[2:]], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
