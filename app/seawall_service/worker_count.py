"""How many workers fit: the smaller of the CPUs this process may use and its cgroup's quota."""

import os
from pathlib import Path

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
MIN_WORKERS = 2
MAX_WORKERS = 4


def quota_from_v2(text: str) -> float | None:
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def quota_from_v1(quota: str, period: str) -> float | None:
    return None if int(quota) <= 0 else int(quota) / int(period)


def cgroup_quota() -> float | None:
    try:
        return quota_from_v2(CGROUP_V2.read_text(encoding="ascii"))
    except OSError:
        pass
    try:
        return quota_from_v1(
            (CGROUP_V1 / "cpu.cfs_quota_us").read_text(encoding="ascii"),
            (CGROUP_V1 / "cpu.cfs_period_us").read_text(encoding="ascii"),
        )
    except OSError:
        return None


def default_worker_count() -> int:
    cpus = float(os.process_cpu_count() or 1)
    quota = cgroup_quota()
    usable = cpus if quota is None else min(cpus, quota)
    return min(MAX_WORKERS, max(MIN_WORKERS, int(usable)))
