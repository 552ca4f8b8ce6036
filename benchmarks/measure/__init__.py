"""Side-by-side measurement: competitors take turns, and the median counts.

Turns make a busy machine hit all competitors alike. Times are CPU seconds of this process, all
threads together, with one BLAS thread unless a script says otherwise, and seconds on the clock;
memory is the peak of the resident set above what was resident before the call (Linux; elsewhere it
stays empty).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from threadpoolctl import threadpool_limits

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def parse_arguments(description: str) -> argparse.Namespace:
    """Read the flags that all benchmarks share."""
    return make_parser(description).parse_args()


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that all benchmarks share, to add others to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small data, for a first look")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    return parser


def side_by_side(
    competitors: Mapping[str, Callable[[], object]], *, repeats: int, threads: int = 1
) -> dict[str, dict[str, float | None]]:
    """Let every competitor run ``repeats`` times in turn, with ``threads`` BLAS threads.

    Returns
    -------
    dict
        Name to ``cpu_s`` (median), ``wall_s`` (median), ``ratio`` and ``wall_ratio`` (of CPU and
        wall time to the first competitor), ``memory_mb`` (largest).
    """
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    clock: dict[str, list[float]] = {name: [] for name in competitors}
    memory: dict[str, list[float]] = {name: [] for name in competitors}
    for _ in range(repeats):
        for name, call in competitors.items():
            gc.collect()
            before = _reset_peak()
            with threadpool_limits(threads):
                start, begin = time.process_time(), time.perf_counter()
                result = call()
                clock[name].append(time.perf_counter() - begin)
                seconds[name].append(time.process_time() - start)
            if before is not None:
                memory[name].append((_status_kb("VmHWM") - before) / 1024)
            del result
    first = statistics.median(next(iter(seconds.values())))
    first_wall = statistics.median(next(iter(clock.values())))
    return {
        name: {
            "cpu_s": statistics.median(seconds[name]),
            "wall_s": statistics.median(clock[name]),
            "ratio": statistics.median(seconds[name]) / first,
            "wall_ratio": statistics.median(clock[name]) / first_wall,
            "memory_mb": max(memory[name]) if memory[name] else None,
        }
        for name in competitors
    }


def measured(call: Callable[[], object]) -> dict[str, float | None]:
    """Run a call once: ``cpu_s``, ``wall_s``, ``memory_mb`` above what was resident before."""
    gc.collect()
    before = _reset_peak()
    start, begin = time.process_time(), time.perf_counter()
    call()
    return {
        "cpu_s": time.process_time() - start,
        "wall_s": time.perf_counter() - begin,
        "memory_mb": None if before is None else (_status_kb("VmHWM") - before) / 1024,
    }


def print_table(title: str, figures: Mapping[str, Mapping[str, float | None]]) -> None:
    """Print one line for each competitor."""
    print(f"\n{title}")
    width = max(map(len, figures))
    head = f"{'CPU s':>9}  {'wall s':>9}  {'ratio':>8}  {'wall ratio':>10}  {'memory MB':>9}"
    print(f"{'':{width}}  {head}")
    for name, row in figures.items():
        memory = "" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
        times = f"{row['cpu_s']:9.3f}  {row['wall_s']:9.3f}"
        ratios = f"{row['ratio']:8.1f}  {row['wall_ratio']:10.1f}"
        print(f"{name:{width}}  {times}  {ratios}  {memory:>9}")


def write_figures(path: Path | None, content: object) -> None:
    """Write the figures as JSON where a file was named."""
    if path is not None:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _reset_peak() -> int | None:
    """Reset the peak of the resident set; return what is resident now, in kB."""
    # What earlier calls freed but the allocator holds would hide the memory of this one.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")
        return _status_kb("VmRSS")
    except OSError:
        return None


def _status_kb(key: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])
