"""The page of a real worker, read by promtool and by a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.e2e.world import Bus, WorkerProcess, _free_port, now_ms, send, text, until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "prometheus" / "rules"
LIVE = 'sla_live_timers{metric="%s",severity="%s",state="%s"}'


def created(number: int, severity: str = "L1") -> dict[str, object]:
    return {
        "event_id": f"c-{number}",
        "ticket_id": f"T-{number}",
        "occurred_at": text(now_ms()),
        "severity": severity,
        "opened_by": {"role": "customer"},
    }


def replied(number: int) -> dict[str, object]:
    message = {"role": "agent", "public": True}
    return {"event_id": f"r-{number}", "ticket_id": f"T-{number}", "occurred_at": text(now_ms()), "message": message}


def test_live_timers_are_known_again_right_after_a_crash(kafka, tmp_path: Path) -> None:
    bus = Bus(kafka.url, tmp_path)
    known = {
        LIVE % ("first_response", "L1", "running"): 0,
        LIVE % ("first_response", "L1", "overdue"): 6,
        LIVE % ("first_response", "L4", "running"): 10,
        LIVE % ("resolution", "L1", "running"): 8,
        'sla_due_soon_tickets{within="15m"}': 0,
        'sla_due_soon_tickets{within="4h"}': 10,
        f'sla_committed_lag_records{{topic="{bus.created}"}}': 0,
        f'sla_committed_lag_records{{topic="{bus.updated}"}}': 0,
        "sla_live_tickets": 18,
        "sla_ready": 1,
        "sla_partitions": 4,
        "sla_owned_partitions": 4,
        "sla_shut_lanes": 0,
        "sla_stalled_lanes": 0,
        "sla_backlog_records": 0,
    }

    async def shows(worker: WorkerProcess, more: dict[str, float]) -> None:
        async def it_does() -> bool:
            return all([await asyncio.to_thread(worker.metric, name) == value for name, value in more.items()])

        try:
            await until(it_does)
        except AssertionError as error:
            raise AssertionError({name: worker.metric(name) for name in more}) from error

    async def story() -> None:
        with WorkerProcess(bus, "first") as first:
            await first.ready()
            desk = await bus.helpdesk()
            for number in range(8):
                await send(desk, bus.created, created(number))
            for number in range(8, 18):
                await send(desk, bus.created, created(number, "L4"))
            for number in range(2):
                await send(desk, bus.updated, replied(number))
            await desk.stop()
            kept = 'sla_timers_met_total{in_time="true",metric="first_response",severity="L1"}'
            await shows(first, {**known, kept: 2})
            first.kill()
        with WorkerProcess(bus, "second") as second:
            await second.ready()
            await shows(second, known)

    asyncio.run(story())


def test_promtool_has_nothing_to_say_about_the_page(kafka, tmp_path: Path, program: Callable[..., str]) -> None:
    promtool = program("promtool")

    async def story(worker: WorkerProcess) -> None:
        await worker.ready()
        page = worker.get("/metrics")[1]
        done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    with WorkerProcess(Bus(kafka.url, tmp_path)) as worker:
        asyncio.run(story(worker))


class Prometheus:
    """A real one, with the rules as they are shipped, and its clock a little faster."""

    def __init__(self, binary: str, folder: Path, target: str) -> None:
        self.url = f"http://127.0.0.1:{_free_port()}"
        config = YAML(typ="safe").load(ROOT / "prometheus" / "prometheus.yml")
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES / "*.yaml")]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        config["alerting"]["alertmanagers"] = []
        (folder / "prometheus.json").write_text(json.dumps(config))
        self.command = [
            binary,
            f"--config.file={folder / 'prometheus.json'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self.log = folder / "prometheus.log"

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        with self.log.open("wb") as log, subprocess.Popen(self.command, stdout=log, stderr=log) as process:
            try:
                yield self
            finally:
                process.kill()

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer; an empty dict while nobody answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}", timeout=10) as answer:  # fmt: skip
                return json.load(answer)["data"]
        except OSError:
            return {}

    def finds(self, query: str) -> bool:
        """Does this query give a series now?"""
        return bool(self.ask("query", query=query).get("result"))

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules").get("groups", ()) for rule in group["rules"]]


def test_every_rule_works_on_what_a_worker_shows(kafka, tmp_path: Path, program: Callable[..., str]) -> None:
    bus = Bus(kafka.url, tmp_path)
    binary = program("prometheus")

    async def load() -> None:
        desk = await bus.helpdesk()
        try:
            for number in count():
                await send(desk, bus.created, created(number))
                if number % 2:
                    await send(desk, bus.updated, replied(number))
                await asyncio.sleep(0.01)
        finally:
            await desk.stop()

    async def story(worker: WorkerProcess, prometheus: Prometheus) -> None:
        await worker.ready()
        loading = asyncio.create_task(load())
        missing: list[str] = []

        async def all_are_evaluated() -> bool:
            found = await asyncio.to_thread(prometheus.rules)
            return bool(found) and all(rule["health"] != "unknown" for rule in found)

        async def every_record_has_a_series() -> bool:
            records = [r["name"] for r in await asyncio.to_thread(prometheus.rules) if r["type"] == "recording"]
            missing[:] = [name for name in records if not await asyncio.to_thread(prometheus.finds, name)]
            return bool(records) and not missing

        async def breaches_are_counted() -> bool:
            return await asyncio.to_thread(prometheus.finds, "sum(job:sla_verdicts:rate5m) > 0")

        await until(breaches_are_counted, 60)
        await until(all_are_evaluated, 60)
        try:
            await until(every_record_has_a_series, 60)
        except AssertionError as error:
            raise AssertionError(f"no series: {missing}") from error
        rules = prometheus.rules()
        loading.cancel()
        await asyncio.wait([loading])
        assert {r["name"]: r["lastError"] for r in rules if r["health"] != "ok"} == {}
        assert len(rules) == sum(len(g["rules"]) for f in RULES.glob("*.yaml") for g in YAML(typ="safe").load(f)["groups"])  # fmt: skip
        # How late verdicts are is this machine's; everything else is well.
        firing = {a["labels"]["alertname"] for a in prometheus.ask("alerts")["alerts"] if a["state"] == "firing"}
        assert firing <= {"SlaErrorBudgetBurnsFast", "SlaErrorBudgetBurnsSlowly"}
        # And what is not: the only worker goes.
        worker.kill()

        async def somebody_is_told() -> bool:
            alerts = (await asyncio.to_thread(prometheus.ask, "alerts"))["alerts"]
            return {"SlaWorkerAbsent", "SlaWorkerDown"} <= {a["labels"]["alertname"] for a in alerts}

        await until(somebody_is_told, 60)

    worker = WorkerProcess(bus)
    with worker, Prometheus(binary, tmp_path, f"127.0.0.1:{worker.port}").running() as prometheus:
        asyncio.run(story(worker, prometheus))
