"""What a due costs one process, without a broker: `python benchmarks/fires.py [DUES]`.

One lane's desk is filled with tickets that are due in one millisecond, as in a storm. It fires them as a lane does, fifty at a
time, and five hundred make a flush: rows are packed, signals and rows are put into batches, metrics are counted. What is
missing is the broker: requests, transactions. Each figure is CPU time, the median of five rounds. The digest is of all that was
said and of all rows: a change that is meant to be faster only leaves it as it is.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import hashlib
import math
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks import preload
from benchmarks.stage import LANES
from worker.rules import rulebook
from worker.settings import KafkaAccess, Settings
from worker.sla.policies import Rules
from worker.sla.rows import wake_of
from worker.sla.zones import tzdata_digest, tzdata_version
from worker.stream.desk import Desk
from worker.stream.gate import Gate
from worker.stream.outbox import Record, place
from worker.stream.shop import Flush, Shop
from worker.stream.topics import Layout
from worker.stream.wire import Door
from worker.views.metrics import Metrics

ROUNDS = 5
SLICE, FLUSH = 50, 500
#: A Wednesday's noon, UTC: the same dues in each run.
DUE = 1_778_673_600_000


def a_desk(rules: Rules, dues: int) -> Desk:
    """A lane's desk with so many tickets, each with one timer that is due at `DUE`."""
    settings = Settings(kafka=KafkaAccess("127.0.0.1:1"))
    topics = settings.topics
    metrics = Metrics(
        topics=topics.sources,
        reasons=("ignored",),
        rules=rules,
        tzdata=tzdata_digest(),
        tzdata_version=tzdata_version(),
    )
    desk = Desk(
        Shop(
            settings, rules, Layout(LANES, {}), Door(topics.created, topics.updated, b""), Gate(settings.kafka, lambda: 0),
            metrics, lambda: DUE - 5, lambda _: None, lambda _: None,
        )
    )  # fmt: skip
    for rows in preload.due(rules, [DUE] * dues):
        for key, row in rows:
            desk.rows[key] = row
            desk.agenda.put(key, wake_of(row, ""))
    return desk


def storm(desk: Desk, *, ahead: bool) -> dict[str, float]:
    """Microseconds a due, by what they are spent on."""
    spent = dict.fromkeys(("ahead", "fire", "rows", "batches", "metrics"), 0.0)
    dues, said, began = len(desk.rows), hashlib.sha256(), time.process_time()
    if ahead and desk.foresees():
        desk.foresee(math.inf)
    spent["ahead"] = time.process_time() - began
    left = True
    while left:
        flush, began = Flush(), time.process_time()
        for _ in range(FLUSH // SLICE):
            left = desk.fire(flush, DUE + 5, SLICE) == SLICE
        fired = time.process_time()
        rows = desk.changes(flush)
        packed = time.process_time()
        batched(rows)
        spread: dict[int, list[Record]] = {}
        for record in flush.spoken:
            spread.setdefault(place(record[0], LANES), []).append(record)
        for share in spread.values():
            batched(share)
        sent = time.process_time()
        desk.shop.watcher.committed(flush.signals, flush.handoffs, [5 for _ in flush.signals], 0, 0.01)
        counted = time.process_time()
        for what, took in zip(
            ("fire", "rows", "batches", "metrics"),
            (fired - began, packed - fired, sent - packed, counted - sent),
            strict=True,
        ):
            spent[what] += took
        for _, value, headers in flush.spoken:
            said.update(value or b"")
            said.update(repr(headers).encode())
        for _, row, _ in rows[:-1]:
            said.update(row or b"")
    print(f"  digest of {dues} dues: {said.hexdigest()[:16]}", file=sys.stderr)
    return {what: took / dues * 1e6 for what, took in spent.items()}


def batched(records: list[Record]) -> None:
    """As the outbox does it."""
    batch = BatchBuilder(512 << 10, 0, is_transactional=1)
    for key, value, headers in records:
        if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
            batch._build()
            batch = BatchBuilder(512 << 10, 0, is_transactional=1)
            batch.append(timestamp=None, key=key, value=value, headers=headers)
    batch._build()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dues", type=int, nargs="?", default=20_000)
    parser.add_argument("--ahead", action="store_true", help="judged ahead, as by a lane that has the time")
    parser.add_argument("--profile", action="store_true", help="where one round's time goes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(preload.POLICY)
        rules = rulebook.load([policy])
    gc.set_threshold(50_000, 20, 50)  # as the worker does
    if asked.profile:
        desk, profile = a_desk(rules, asked.dues), cProfile.Profile()
        profile.enable()
        storm(desk, ahead=asked.ahead)
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    rounds = []
    for _ in range(ROUNDS):
        desk = a_desk(rules, asked.dues)
        gc.collect()
        gc.freeze()
        rounds.append(storm(desk, ahead=asked.ahead))
    print(f"{'a due costs':12} {'us':>8} {'least':>8} {'most':>8}")
    for what in rounds[0]:
        figures = [one[what] for one in rounds]
        print(f"{what:12} {statistics.median(figures):8.1f} {min(figures):8.1f} {max(figures):8.1f}")
    whole = [sum(one.values()) - one["ahead"] for one in rounds]
    print(f"{'at the due':12} {statistics.median(whole):8.1f} {min(whole):8.1f} {max(whole):8.1f}")


if __name__ == "__main__":
    main()
