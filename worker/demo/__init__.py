"""The demo: a real helpdesk's log through a real Kafka, in event time, and its verdicts.

The worker is a process of its own, started as anybody would start it; the log is mapped and fed as a helpdesk would feed
it; what the worker said is read back from the topic as an outside reader would, and compared with `replay`. Nothing
is waited for by sleeping a guessed while: the demo is over when every lane's committed position has passed the last
watermark and nothing that was due before it is left.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import orjson

from worker import replay
from worker.demo.crew import Crew
from worker.demo.figures import Timers, figures, made_sla
from worker.demo.progress import Bar
from worker.demo.summary import as_words, summary, where_next
from worker.local import LocalError, Stack
from worker.rules import mapping, rulebook
from worker.sla.events import Event
from worker.sla.zones import tzdata_digest
from worker.stream import wire
from worker.stream.feeder import Feed, feeding
from worker.stream.reader import read_all

Say = Callable[[str], None]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "servicenow"
#: An hour of the log at a time: after each, every partition hears how far time has come.
WATERMARK_EVERY_MS = 3_600_000


class Script(msgspec.Struct, frozen=True):
    """What is played: events in their order, each with the record it is fed as, and what replay says of them."""

    events: list[Event]
    fed: list[tuple[str, bytes, bytes]]
    expected: list[dict[str, Any]]
    timers: Timers
    rules_digest: str


class Times(msgspec.Struct):
    """Seconds since the demo began."""

    started: float = 0.0
    first_verdict: float | None = None
    streaming: float = 0.0
    done: float = 0.0


def run(folder: Path, environ: dict[str, str], *, say: Say, as_json: bool = False, keep: bool = False) -> int:
    """The whole demo under `folder`; 0, or 1 where a signal differs or something did not start.

    `environ` is what the worker's process inherits; `keep` leaves everything running until ctrl-C.
    """
    began = time.monotonic()
    if not EXAMPLE.is_dir():
        say(f"The demo plays the log in the repository's examples; {EXAMPLE} is not there. Run it from a clone.")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context((folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"Another demo is running in {folder}.")
            return 1
        shutil.rmtree(folder / "data", ignore_errors=True)
        try:
            servers = stack.enter_context(Stack(folder / "data", say=say))
        except LocalError as error:
            say(str(error))
            return 1
        crew = Crew(folder, environ, servers.kafka_url, servers.redis_url, rules_files(EXAMPLE))
        stack.enter_context(crew)
        say("The worker starts; meanwhile the log is mapped and replayed without a broker.")
        script = written(EXAMPLE)
        say(f"{len(script.events)} events of {len({e.ticket_id for e in script.events})} incidents.")
        times = Times(started=began)
        topic = asyncio.run(_streamed(crew, script, times, say))
        if topic is None:
            say(f"The worker did not get to the end. Its log: {crew.log}")
            return 1
        code = _told(folder, crew, script, topic, times, say, as_json=as_json)
        if keep:
            say(
                f"Everything keeps running until ctrl-C: KAFKA_URL={servers.kafka_url}, {crew.page}/metrics, the board {crew.page}/"
            )
            crew.wait()
        return code


def rules_files(example: Path) -> list[Path]:
    """What is promised, where a ticket is at home, and who is on duty when."""
    return [example / name for name in ("policy.yaml", "regions.yaml", "rota.yaml")]


def written(example: Path) -> Script:
    """Map the log in `example`, put it in its order, and replay it."""
    rules, how = rulebook.load(rules_files(example)), mapping.load(example / "mapping.yaml")
    memory: mapping.Memory = {}
    events: list[Event] = []
    bodies: dict[str, bytes] = {}
    for _, record in replay.records(example / "servicenow-incident-log.csv.gz", decoded=True):
        for found in how.read(record, memory):
            if isinstance(found, mapping.Mapped):
                heard = wire.decode_line(orjson.dumps({"type": found.type, **found.body}), salt=b"")
                assert isinstance(heard, Event), heard  # the log is shipped: a test reads it to the last row
                events.append(heard)
                bodies[heard.event_id] = orjson.dumps(found.body)
    events = replay.in_time(events)
    fed = [
        ("created" if event.created else "updated", event.ticket_id.encode(), bodies[event.event_id])
        for event in events
    ]
    timers, tzdata = Timers(rules), tzdata_digest()
    expected = [orjson.loads(replay.published(said, rules, tzdata)) for said in timers.played(events)]
    return Script(events, fed, expected, timers, rules.digest)


async def _streamed(crew: Crew, script: Script, times: Times, say: Say) -> list[dict[str, Any]] | None:
    """Feed all of it, wait for the last verdict, read the topic; None where the worker gave up."""
    if not await crew.ready():
        return None
    say(f"The worker is ready after {time.monotonic() - times.started:.1f} s: {crew.page}")
    settings = crew.settings
    watch = asyncio.ensure_future(_first_verdict(crew, times))
    fed_from = time.monotonic()
    async with feeding(settings) as feed:
        await _fed(feed, script)
    last = script.events[-1].occurred_at
    bar = Bar("judged ", settings.partitions)
    finished = await crew.finished(last, script.rules_digest, bar.at)
    times.streaming = time.monotonic() - fed_from
    if not finished:
        watch.cancel()
        return None
    bar.end()
    await watch
    times.done = time.monotonic() - times.started
    assert settings.kafka is not None  # Crew made them
    records = await read_all(settings.kafka, settings.topics.signals)
    records += await read_all(settings.kafka, settings.topics.handoffs)
    return [orjson.loads(record.value) for record in records if record.value is not None]


async def _fed(feed: Feed, script: Script) -> None:
    bar = Bar("streamed", len(script.fed))
    told = script.events[0].occurred_at
    for number, (event, (kind, key, value)) in enumerate(zip(script.events, script.fed, strict=True)):
        if event.occurred_at >= told + WATERMARK_EVERY_MS:
            told = event.occurred_at
            await feed.watermark(told)
        await feed.send(kind, key, value)  # type: ignore[arg-type]
        bar.at(number)
    await feed.watermark(script.events[-1].occurred_at)
    await feed.flush()
    bar.end()


async def _first_verdict(crew: Crew, times: Times) -> None:
    await crew.spoken()
    times.first_verdict = time.monotonic() - times.started


def differing(topic: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]]) -> list[str]:
    """What one says and the other does not, or says otherwise or twice; `detected_at` may differ (SPEC 6)."""
    mine, theirs = _by_id(topic), _by_id(expected)
    faults = []
    for key in sorted(mine.keys() | theirs.keys()):
        ours, replayed = mine.get(key, []), theirs.get(key, [])
        if ours != replayed:
            told = f"{len(ours)} on the topic, {len(replayed)} in replay"
            if len(ours) == len(replayed) == 1:
                names = [n for n in ours[0].keys() | replayed[0].keys() if ours[0].get(n) != replayed[0].get(n)]
                told = "; ".join(f"{n}: {ours[0].get(n)!r} and {replayed[0].get(n)!r}" for n in sorted(names))
            faults.append(f"{key} {(ours or replayed)[0].get('ticket_id')}: {told}")
    return faults


def _by_id(signals: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for signal in signals:
        found.setdefault(signal["id"], []).append({k: v for k, v in signal.items() if k != "detected_at"})
    return found


def _told(
    folder: Path, crew: Crew, script: Script, topic: list[dict[str, Any]], times: Times, say: Say, *, as_json: bool
) -> int:
    kept = folder / "signals.jsonl"
    kept.write_bytes(b"".join(orjson.dumps(signal) + b"\n" for signal in topic))
    faults = differing(topic, script.expected)
    shown = figures(script.events, topic, script.timers.latest, made_sla(EXAMPLE / "servicenow-incident-log.csv.gz"))
    rate = round(len(script.events) / times.streaming) if times.streaming else 0
    first = None if times.first_verdict is None else round(times.first_verdict, 1)
    verdict = f"topic == replay: {len(topic)} signals, {len(faults)} differ"
    if as_json:
        ran = {"signals": len(topic), "differ": len(faults), "first_verdict_seconds": first, "events_per_second": rate}
        sys.stdout.write(json.dumps(as_words(shown) | ran, indent=2) + "\n")
    else:
        told = [
            "",
            *summary(shown),
            "",
            f"first verdict {first} s after the start, the last one after {times.done:.1f} s",
            f"{rate} events/s from the feeder to the last commit",
            "",
            *where_next(folder, crew.settings.topics, crew.page),
            "",
        ]
        sys.stdout.write("\n".join(told) + "\n")
    for fault in faults[:20]:
        say(f"differs: {fault}")
    if not topic:
        say("There is no signal on the topic: that cannot be.")
    if as_json:
        say(verdict)
    else:
        sys.stdout.write(verdict + "\n")
    sys.stdout.flush()
    return 0 if topic and not faults else 1
