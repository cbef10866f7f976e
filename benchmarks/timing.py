"""Fair timings on a noisy machine: jobs take turns, medians count, memory is measured in a process of its own."""

import gc
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import torch


def interleaved(
    jobs: Mapping[str, Callable[[], object]],
    runs: int = 7,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each job; in every round each job runs once, so that slow minutes hit all alike.

    Args:
        clock: ``time.process_time`` counts the processor's seconds alone, for jobs that differ by a few per cent.
    """
    for _ in range(warmup):
        for job in jobs.values():
            job()
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(runs):
        for name, job in jobs.items():
            gc.collect()
            start = clock()
            job()
            taken[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def peak_memory(setup_and_run: Callable[[], Callable[[], object]]) -> float:
    """MiB by which a job raises the peak of a fresh process over what it holds once all is set up.

    Args:
        setup_and_run: importable function that loads what is needed and returns the job.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(setup_and_run, send))
    process.start()
    peak = receive.recv()
    process.join()
    return peak


def _measured(setup_and_run: Callable[[], Callable[[], object]], send: Connection) -> None:
    job = setup_and_run()
    gc.collect()
    # forget the peak of the set-up; getrusage would tell even the parent's, which outlives fork and exec
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    job()
    send.send(_status("VmHWM") - before)


def _status(key: str) -> float:
    """MiB, from the kernel's own account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def machine() -> str:
    """The line under every table: what it was measured on, and when."""
    return (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{date.today().isoformat()}; medians of interleaved runs"
    )


def table(title: str, rows: list[tuple[str, ...]], heads: tuple[str, ...]) -> str:
    """A Markdown table under its title."""
    lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), "", machine(), ""])
