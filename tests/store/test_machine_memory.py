from __future__ import annotations

from pathlib import Path

import pytest

from ivsearch.store.machine_memory import memory_bytes

MB = 1 << 20


def machine_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) * 1024


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": f"{300 * MB}"}, 300),
        ("0::/user/one.service", {"user/one.service/memory.max": f"{200 * MB}"}, 200),
        (
            "0::/user/one.service",
            {"user/memory.max": f"{100 * MB}", "user/one.service/memory.max": f"{200 * MB}"},
            100,
        ),
        ("4:memory:/box\n0::/", {"memory/box/memory.limit_in_bytes": f"{150 * MB}"}, 150),
        ("4:memory:/box\n0::/", {"memory/memory.limit_in_bytes": f"{1 << 62}"}, None),
        ("3:cpu,memory:/a:b", {"memory/a:b/memory.limit_in_bytes": f"{50 * MB}"}, 50),
        ("no line of groups\n0::/box", {"box/memory.max": f"{50 * MB}"}, 50),
        ("2:cpu:/box", {"memory/box/memory.limit_in_bytes": f"{50 * MB}"}, None),
    ],
)
def test_the_lowest_limit_counts(groups: str, limits: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(groups + "\n")
    for name, limit in limits.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(limit + "\n")
    found = memory_bytes(tmp_path, tmp_path / "own")
    assert found == expected * MB if expected else abs(found - machine_bytes()) < 0.01 * found


def test_without_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert abs(memory_bytes(tmp_path, tmp_path / "none") - machine_bytes()) < 0.01 * machine_bytes()
