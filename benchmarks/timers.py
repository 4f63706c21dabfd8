"""Timers of a worker that has a million of them: how late they fire, what a storm does, what they cost in memory and CPU.

    python benchmarks/timers.py steady [--rate 300] [--live 1000000] [--seconds 60]
    python benchmarks/timers.py live   [--rate 300] [--seconds 30]    3,000,000 live beside 100,000
    python benchmarks/timers.py ramp   [--rates 100,...] [--seconds 20] more and more dues a second
    python benchmarks/timers.py storm  [--due 100000] [--kill]        all due in one millisecond
    python benchmarks/timers.py memory                                bytes a ticket with two timers, by slope
    python benchmarks/timers.py idle   [--live 1000000] [--seconds 60]
    python benchmarks/timers.py peers  [--only heap_timers,...] [--kill] the same for others, in turns with the worker

The embedded broker, one worker with 16 lanes, and an outside read_committed consumer in a process of its own, on one machine. A
live timer is that of a ticket of its own. Tickets are written to the changelog as the worker would have, and read by it at its
start. Lateness is from the due to the consumer's clock, in ms, over the whole window; the first three seconds are left out
of it, but not of what is lost, double or early. Medians of `--runs`, and from which to which they went; as noise the p99 of
how much a bare sleep of 2 ms took too long in the same seconds. `--results FILE` keeps the runs, and takes those that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import preload
from benchmarks.contestants import Ours, Peer
from benchmarks.figures import Run, between, keep, kept, lateness, machine, median, same, table
from benchmarks.listener import Heard, Listener
from benchmarks.stage import cpu_of, memory_of, noise, opened_after, percentile, say
from tests.e2e.brokers import TunedKafka
from tests.e2e.world import now_ms

WARM_S = 3
Contestant = Ours | Peer


async def steady(one: Contestant, folder: Path, broker: int, rate: int, live: int, seconds: int) -> Run:
    """Dues spread evenly, so many a second."""
    tickets = rate * (WARM_S + seconds)
    first = now_ms() + round(one.lead_s(tickets, live) * 1000)
    dues = [first + number * 1000 // rate for number in range(tickets)]
    with one:
        heard, more = await _measured(one, folder, broker, dues, live, seconds)
    since = first + WARM_S * 1000
    figures = lateness(heard, dues, since, since + seconds * 1000, strictly=isinstance(one, Ours)) | more
    return {"what": "steady", "who": one.name, "rate": rate, "live": live, "seconds": seconds, "figures": figures}


async def _measured(
    one: Contestant, folder: Path, broker: int, dues: Sequence[int], live: int, seconds: int
) -> tuple[Heard, dict[str, float]]:
    await one.fill(dues, live)
    with Listener(one_url(one), one.topic, folder / "heard") as listener:
        one.start()
        await one.ready()
        left = dues[0] / 1000 - time.time()
        say(f"{one.name}: ready, {left:.1f} s before the first due")
        if left < 0.5:
            raise SystemExit(f"{one.name} was not ready in time: this machine needs a longer lead")
        await asyncio.sleep(left + WARM_S)
        known = {"cores": one.pids(), "broker_cores": [broker], "listener_cores": [listener.process.pid]}
        before = {name: sum(cpu_of(pid)[0] for pid in pids) for name, pids in known.items()}
        began = time.monotonic()
        with noise() as late:
            await asyncio.sleep(seconds)
        took = time.monotonic() - began
        more = {name: (sum(cpu_of(pid)[0] for pid in pids) - before[name]) / took for name, pids in known.items()}
        more |= {"noise": percentile(late, 0.99), "rss": float(sum(memory_of(pid) for pid in one.pids()))}
        await listener.until(len(dues), 60)
        return listener.stop(), more


def one_url(one: Contestant) -> str:
    return one.stage.bus.url if isinstance(one, Ours) else one.bus.url


async def storm(one: Contestant, folder: Path, due: int, live: int, *, kill: bool) -> Run:
    """So many due in one millisecond; `kill`: the process is killed when a fifth is on the topic, and started again."""
    at = now_ms() + round((one.lead_s(due, live) + one.ahead_s(due)) * 1000)
    dues, had = [at] * due, 0
    with one:
        await one.fill(dues, live)
        with Listener(one_url(one), one.topic, folder / "heard") as listener:
            one.start()
            await one.ready()
            left = at / 1000 - time.time()
            if left < 0.5:
                raise SystemExit(f"{one.name} was not ready in time: this machine needs a longer lead")
            with noise() as late:
                await asyncio.sleep(max(0.0, left - 0.2))
                if kill:
                    await listener.until(due // 5, 30)
                    one.kill()
                    had = listener.tickets
                    one.start()
                await listener.until(due, 90)
            await asyncio.sleep(2 if kill else 0.5)  # what is said twice comes later
            heard = listener.stop()
    figures = lateness(heard, dues, at, at + 1, strictly=isinstance(one, Ours))
    figures |= {"noise": percentile(late, 0.99), "had": had}
    return {"what": "storm", "who": one.name, "due": due, "live": live, "kill": kill, "figures": figures}


async def idle(one: Ours, live: int, seconds: int) -> Run:
    """Nothing is due, nothing comes in; its metrics are scraped every 15 seconds."""
    with one:
        await one.fill([], live)
        one.start()
        await one.ready()
        await asyncio.sleep(10)
        before, began = cpu_of(one.pids()[0])[0], time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 15))
            await asyncio.to_thread(one.worker.get, "/metrics")
        share = (cpu_of(one.pids()[0])[0] - before) / (time.monotonic() - began)
    return {"what": "idle", "who": one.name, "live": live, "seconds": seconds, "figures": {"percent": share * 100}}


async def memory(url: str, folder: Path, counts: Sequence[int]) -> Run:
    """Resident memory of workers with more and more tickets of two timers: bytes a ticket, by least squares."""
    held, most, opened = [], [], []
    for tickets in counts:
        one = Ours(url, folder / str(tickets))
        with one:
            await one.stage.topics()
            await one.stage.write(preload.far(one.stage.rules, tickets, timers=2))
            one.start()
            await one.ready()
            await asyncio.sleep(5)
            held.append(memory_of(one.pids()[0]))
            most.append(memory_of(one.pids()[0], "VmHWM"))
            opened.append(opened_after(one.worker.log.read_text()))
        say(f"{tickets} tickets: {held[-1] / 2**20:.0f} MiB, at most {most[-1] / 2**20:.0f} MiB")
    line, peak = statistics.linear_regression(counts, held), statistics.linear_regression(counts, most)
    figures = {"bytes": line.slope, "peak_bytes": peak.slope, "empty_mb": line.intercept / 2**20, "held": held}
    figures["rows_a_second"] = 1 / statistics.linear_regression(counts, opened).slope
    return {"what": "memory", "who": Ours.name, "counts": list(counts), "figures": figures}


def show(runs: Sequence[Run]) -> None:
    """All tables that these runs have something for."""
    print(machine())
    for what, render in TABLES.items():
        found = [run for run in runs if run["what"] == what]
        if found:
            print(f"\n{render(found)}", flush=True)


def _steady_table(runs: Sequence[Run]) -> str:
    head = ("who", "fires/s", "live", "s", "p50 ms", "p99 ms", "(from-to)", "p99.9", "max", "early", "lost", "twice",
            "cores: it", "broker", "noise p99", "runs")  # fmt: skip
    return table(head, (_steady_row(*key, found) for key, found in same(runs, "who", "rate", "live", "seconds")))


def _steady_row(who: str, rate: int, live: int, seconds: int, found: list[Run]) -> list[str]:
    times = [f"{median(found, 'p50'):.1f}", f"{median(found, 'p99'):.0f}", between(found, "p99")]
    times += [f"{median(found, 'p99.9'):.0f}", f"{max(run['figures']['max'] for run in found):.0f}"]
    counts = [str(sum(run["figures"][name] for run in found)) for name in ("early", "lost", "twice")]
    cores = [f"{median(found, name):.2f}" for name in ("cores", "broker_cores")]
    return [
        who,
        f"{rate:,}",
        f"{live:,}",
        str(seconds),
        *times,
        *counts,
        *cores,
        f"{median(found, 'noise'):.1f}",
        str(len(found)),
    ]


def _storm_table(runs: Sequence[Run]) -> str:
    head = (
        "who",
        "due in one ms",
        "live",
        "killed at",
        "half after s",
        "last after s",
        "(from-to)",
        "early",
        "lost",
        "twice",
        "runs",
    )
    rows = []
    for (who, due, live, kill), found in same(runs, "who", "due", "live", "kill"):
        for run in found:
            run["figures"] |= {"last_s": run["figures"]["max"] / 1000, "half_s": run["figures"]["p50"] / 1000}
        rows.append([
            who, f"{due:,}", f"{live:,}", between(found, "had") if kill else "-", f"{median(found, 'half_s'):.2f}",
            f"{median(found, 'last_s'):.2f}", between(found, "last_s", ".2f"),
            *(str(sum(run["figures"][name] for run in found)) for name in ("early", "lost", "twice")), str(len(found)),
        ])  # fmt: skip
    return table(head, rows)


def _idle_table(runs: Sequence[Run]) -> str:
    return table(
        ("idle with", "% of a core", "(from-to)", "s", "runs"),
        (
            [
                f"{live:,} live",
                f"{median(found, 'percent'):.2f}",
                between(found, "percent", ".2f"),
                str(seconds),
                str(len(found)),
            ]
            for (live, seconds), found in same(runs, "live", "seconds")
        ),
    )


def _memory_table(runs: Sequence[Run]) -> str:
    head = (
        "a ticket with two timers, 3 facts",
        "bytes",
        "(from-to)",
        "at the height",
        "a worker without tickets",
        "runs",
    )
    rows = []
    for tickets in sorted({tuple(run["counts"]) for run in runs}):
        found = [run for run in runs if tuple(run["counts"]) == tickets]
        rows.append([
            f"slope over {tickets[0]:,} to {tickets[-1]:,} tickets", f"{median(found, 'bytes'):.0f}", between(found, "bytes"),
            f"{median(found, 'peak_bytes'):.0f}", f"{median(found, 'empty_mb'):.0f} MiB", str(len(found)),
        ])  # fmt: skip
    return table(head, rows)


#: Where how fast the broker is matters. It has all compilers of its Java there, as one that runs for months, and their work
#: behind it.
WARMED = ("steady", "live", "ramp", "storm", "peers")
WARM_BROKER_S = 75

TABLES: dict[str, Callable[[Sequence[Run]], str]] = {
    "steady": _steady_table,
    "storm": _storm_table,
    "idle": _idle_table,
    "memory": _memory_table,
}


async def run_all(asked: argparse.Namespace, kafka: TunedKafka, folder: Path) -> list[Run]:
    """The runs of one call, in turns where there are several kinds."""
    made: list[Run] = []

    def note(run: Run) -> None:
        figures = {name: value for name, value in run["figures"].items() if name != "distribution"}
        say(f"{run['what']}, {run['who']}: " + ", ".join(
            f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}" for n, v in figures.items()
        ))  # fmt: skip
        made.append(keep(asked.results, run))

    for number in range(asked.runs):
        here = folder / f"run{number}"
        if asked.part == "steady":
            note(
                await steady(
                    Ours(kafka.url, here, asked.workers), here, kafka.pid, asked.rate, asked.live, asked.seconds
                )
            )
        elif asked.part == "live":
            for live in (asked.few, asked.many):
                one = Ours(kafka.url, here / str(live))
                note(await steady(one, here, kafka.pid, asked.rate, live, asked.seconds) | {"compared": True})
        elif asked.part == "ramp":
            for rate in asked.rates[:: -1 if number % 2 else 1]:  # the broker's cleaner goes on after a run
                one = Ours(kafka.url, here / str(rate))
                note(await steady(one, here, kafka.pid, rate, asked.live, asked.seconds) | {"ramp": True})
        elif asked.part == "storm":
            note(await storm(Ours(kafka.url, here, asked.workers), here, asked.due, asked.live, kill=asked.kill))
        elif asked.part == "idle":
            note(await idle(Ours(kafka.url, here), asked.live, asked.seconds))
        elif asked.part == "memory":
            note(await memory(kafka.url, here, asked.counts))
        else:
            for name in asked.only:
                for what in asked.what:
                    one = _contestant(name, kafka.url, here / f"{name}-{what}")
                    if what == "steady":
                        run = await steady(one, here, kafka.pid, asked.rate, asked.live, asked.seconds)
                    else:
                        run = await storm(one, here, asked.due, asked.live, kill=what == "kill")
                    note(run | {"beside": True})
    return made


def _contestant(name: str, url: str, folder: Path) -> Contestant:
    if name == Ours.name:
        return Ours(url, folder)
    return Peer(
        name,
        url,
        folder,
        os.environ.get("BYTEWAX_PYTHON", sys.executable) if name == "bytewax_timers" else sys.executable,
    )


def _listed(kind: Callable[[str], object]) -> Callable[[str], list[object]]:
    return lambda given: [kind(one) for one in given.split(",")]


def main() -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    every = ("steady", "live", "ramp", "storm", "memory", "idle", "peers", "table")
    made = {name: parts.add_parser(name) for name in every}
    for name, part in made.items():
        part.add_argument("--results", type=Path, help="a file of runs to add to; the table is over all of it")
        part.add_argument("--runs", type=int, default=5)
        if name in WARMED:
            part.add_argument("--warm", type=int, default=WARM_BROKER_S, help="seconds of work behind the broker")
        if name in ("steady", "live", "peers"):
            part.add_argument("--rate", type=int, default=300, help="fires a second")
        if name in ("steady", "live", "ramp", "peers", "idle"):
            part.add_argument("--seconds", type=int, default=20 if name == "ramp" else 60)
        if name in ("steady", "ramp", "storm", "peers", "idle"):
            default = {"storm": 0, "peers": 100_000}.get(name, 1_000_000)
            part.add_argument("--live", type=int, default=default, help="tickets beside them that are not due")
        if name in ("storm", "peers"):
            part.add_argument("--due", type=int, default=100_000)
    made["storm"].add_argument("--kill", action="store_true", help="kill -9 when a fifth is on the topic")
    for name in ("steady", "storm"):
        made[name].add_argument("--workers", type=int, default=1, help="processes that share the lanes")
    made["ramp"].add_argument(
        "--rates", type=_listed(int), default=[100, 300, 1000, 3000, 10_000], help="fires a second"
    )
    made["live"].add_argument("--few", type=int, default=100_000)
    made["live"].add_argument("--many", type=int, default=3_000_000)
    made["memory"].add_argument("--counts", type=_listed(int), default=[100_000, 400_000, 700_000, 1_000_000])
    made["peers"].add_argument("--only", type=_listed(str), default=[Ours.name, *Peer.KNOWN])
    made["peers"].add_argument("--what", type=_listed(str), default=["steady", "storm"], help="steady, storm, kill")
    asked = parser.parse_args()
    earlier = kept(asked.results)
    if asked.part == "table":
        show(earlier)
        return
    with tempfile.TemporaryDirectory() as name:
        more = {"log.cleaner.dedupe.buffer.size": str(64 << 20)}
        lasting = asked.part in WARMED
        with TunedKafka(Path(name) / "kafka", say=say, more=more, lasting=lasting) as kafka:
            if lasting:
                say("warming the broker up: a run that does not count")
                here = Path(name) / "warm"
                asyncio.run(steady(Ours(kafka.url, here), here, kafka.pid, 300, 20_000, asked.warm))
            show(earlier + asyncio.run(run_all(asked, kafka, Path(name))))


if __name__ == "__main__":
    main()
