"""How much memory this process may use: the machine's, or less where a container or service is limited."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def memory_bytes(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Of the machine, or the lowest limit of the control groups (both versions of Linux's) that the process is in."""
    total: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_limits_bytes(cgroups, own_groups)])


def _limits_bytes(cgroups: Path, own_groups: Path) -> list[int]:
    limits = []
    for file in _limit_files(cgroups, own_groups):
        # Not there outside a container; "max" without a limit.
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text()))
    return limits


def _limit_files(cgroups: Path, own_groups: Path) -> list[Path]:
    """Of the groups and of all above them, whose limits hold too; in a container the topmost is its own."""
    files = [cgroups / "memory.max"]
    try:
        lines = own_groups.read_bytes().splitlines()
    except OSError:
        return files
    for line in lines:
        _, _, controllers_and_group = os.fsdecode(line).partition(":")
        controllers, _, group = controllers_and_group.partition(":")
        if not group.startswith("/"):
            continue
        groups = [PurePosixPath(group), *PurePosixPath(group).parents]
        if not controllers:
            files += [cgroups / each.relative_to("/") / "memory.max" for each in groups]
        elif "memory" in controllers.split(","):
            files += [cgroups / "memory" / each.relative_to("/") / "memory.limit_in_bytes" for each in groups]
    return files
