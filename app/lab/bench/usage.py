"""CPU time and memory by process."""

import time
from collections.abc import Mapping, Sequence

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

BENCH, MACHINE, OTHERS, STOLEN = "bench", "machine", "others", "stolen"


class Processes:
    """Processes by name. ``families`` are counted with all their children, including ended ones."""

    def __init__(self, groups: Mapping[str, Sequence[int]], *, families: Mapping[str, int]) -> None:
        self._groups = {name: [psutil.Process(pid) for pid in pids] for name, pids in groups.items()}
        self._families = {name: psutil.Process(pid) for name, pid in families.items()}

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time so far: of these processes, of this process, and of the whole machine."""
        used = {name: sum(map(_own, processes)) for name, processes in self._groups.items() if processes}
        used |= {name: _family(head) for name, head in self._families.items()}
        return used | {BENCH: time.process_time(), MACHINE: _machine(), STOLEN: float(psutil.cpu_times().steal)}

    def used_since(self, before: Mapping[str, float], **generators: float) -> dict[str, float]:
        """CPU time since an earlier reading: of each process, of ended load generators, and of other processes.

        ``others`` is the time of the rest of the machine, ``stolen`` the time that the host took away. If one of them
        is large, the figures of the run are too low.
        """
        used = {name: seconds - before[name] for name, seconds in self.cpu_seconds().items()} | generators
        machine, stolen = used.pop(MACHINE), used.pop(STOLEN)
        used |= {OTHERS: max(0.0, machine - sum(used.values())), STOLEN: stolen}
        return {name: round(seconds, 3) for name, seconds in used.items()}

    def private_bytes(self, name: str) -> list[int]:
        """Private memory of each process of a group."""
        return [int(process.memory_full_info().uss) for process in self._groups[name]]


def _machine() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:7]) - times.idle - times.iowait)  # without stolen time, and without counting guests twice


def _own(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _family(head: psutil.Process) -> float:
    try:
        times = head.cpu_times()
        ended = float(times.children_user + times.children_system)
        return ended + sum(map(_own, [head, *head.children(recursive=True)]))
    except psutil.NoSuchProcess:
        return 0.0
