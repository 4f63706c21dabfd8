"""What all suites share: one real broker and one real Redis for the session, the order of the suites, and skips that count.

A test that lacks something of the machine skips and names it (`program("prometheus")`). Where everything is installed (CI sets
SLA_NO_SKIP=1) a skip fails the run: what is not tested there is tested nowhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from worker.local import Kafka, Valkey
from worker.local.valkey import binary as valkey_binary

# Judging a mutant (tests/mutation.py) asks whether a property fails, not for its smallest failure.
MUTANT = os.environ.get("SLA_TESTS")
settings.register_profile("mutant", phases=[Phase.explicit, Phase.generate], database=None)
if MUTANT is not None:
    settings.load_profile("mutant")

# What is quick and tells most comes first; what needs a broker comes last. A folder that isn't named comes in between.
SUITES = ("sla", "rules", "stories", "oracles", "contract", "wire", "*", "shell", "e2e")


@dataclass(frozen=True)
class BrokerElsewhere:
    """The broker of KAFKA_URL: it has an address, and it is not ours to stop."""

    url: str


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka | BrokerElsewhere]:
    """A broker for the whole session: `.url` is `host:port`. Tests name their topics apart, and don't stop it."""
    if url := os.environ.get("KAFKA_URL"):
        yield BrokerElsewhere(url)
        return
    with Kafka(tmp_path_factory.mktemp("kafka"), say=print) as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker for one test, to be killed and started again."""
    with Kafka(tmp_path / "kafka", say=print) as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis for the whole session. Tests name their keys apart."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    if valkey_binary() is None:
        pytest.skip("needs a Redis: this platform has no embedded one, and REDIS_URL is not set")
    with Valkey(tmp_path_factory.mktemp("valkey"), say=print) as server:
        yield server.url


@pytest.fixture(scope="session")
def program() -> Callable[..., str]:
    """`program("prometheus")`: its path, or a skip that names it. Of several names the first that is there."""

    def find(*names: str) -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        pytest.skip(f"needs {' or '.join(names)}, which is not installed")

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        suite = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else "*"
        return SUITES.index(suite) if suite in SUITES else SUITES.index("*")

    items.sort(key=rank)  # stable: inside a suite the order stays
    if MUTANT is not None:  # examples before properties, hundreds of cases last
        items.sort(key=lambda item: (item.path.parent.name == "oracles", "hypothesis" in item.keywords))
    if MUTANT == "quick":
        items[:] = [item for item in items if "random.jsonl" not in item.name]


_SKIPPED = pytest.StashKey[list[str]]()


def _skips(config: pytest.Config) -> list[str]:
    return config.stash.setdefault(_SKIPPED, [])


class _SkipsCount:
    """Notes each skip, of a test or of a whole module; at the end they fail the run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _skips(self._config).append(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if _skips(self._config) and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if skipped := _skips(self._config):
            terminalreporter.section("SLA_NO_SKIP=1: nothing may be skipped here", red=True)
            for line in skipped:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("SLA_NO_SKIP") == "1":
        config.pluginmanager.register(_SkipsCount(config), "skips-count")
