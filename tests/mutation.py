"""Mutants of the core, one at a time, against the core's own tests: `python -m tests.mutation --seed 7 --count 400`.

A mutant changes one thing of worker/sla: a comparison, a boundary, an operator, a constant, a condition, a returned value,
a statement. It is killed when a test fails or hangs. Survivors are printed with their line, to be argued about: is the
change one that nobody can see, or is a test missing?
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import signal
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

# What every judge needs, and nothing that knows the core.
import hypothesis.stateful
import hypothesis.strategies
import icalendar
import jsonschema_rs
import msgspec
import orjson
import pytest
import recurring_ical_events
import ruamel.yaml

import worker.local

assert not [name for name in sys.modules if name.startswith("worker.sla")]
LOADED = (hypothesis, icalendar, jsonschema_rs, msgspec, orjson, recurring_ical_events, ruamel.yaml, worker.local)
ROOT = Path.cwd()
MODULES = sorted((ROOT / "worker" / "sla").glob("*.py"))
#: Those that tell most in least time come first; a module's own come before all.
JUDGES = [
    "tests/sla/test_tickets.py",
    "tests/sla/test_corners.py",
    "tests/stories",
    "tests/sla/test_machine.py",
    "tests/sla/test_proofs.py",
    "tests/sla/test_orders.py",
    "tests/sla/test_rota.py",
    "tests/sla/test_packets.py",
    "tests/rules/test_rulebook.py",
    "tests/rules/test_rota_file.py",
    "tests/replay/test_what_if.py",
    "tests/sla/test_calendars.py",
    "tests/oracles",
]
OWN = {
    "calendars": ["tests/sla/test_calendars.py"],
    "windows": ["tests/sla/test_calendars.py"],
    "zones": ["tests/sla/test_calendars.py"],
    "rota": ["tests/sla/test_rota.py", "tests/rules/test_rota_file.py"],
    "handoffs": ["tests/sla/test_rota.py"],
    "packets": ["tests/sla/test_packets.py"],
    "telling": ["tests/sla/test_packets.py"],
    "proofs": ["tests/sla/test_proofs.py"],
    "policies": ["tests/rules/test_rulebook.py"],
}
COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}


class Mutant(NamedTuple):
    """One change: the `number`th that is possible at the `index`th node of a module's tree."""

    module: Path
    index: int
    number: int
    where: str

    def tree(self) -> ast.Module:
        """The changed module; unchanged for the control, which must live."""
        changed = ast.parse(self.module.read_text())
        if self.number < 0:
            return changed
        node = list(ast.walk(changed))[self.index]
        list(_changes(node))[self.number][1](node)  # type: ignore[operator]
        return ast.fix_missing_locations(changed)


def mutants(module: Path) -> Iterator[Mutant]:
    """Everything that can be changed in a module."""
    nodes = list(ast.walk(ast.parse(module.read_text())))
    skipped = {id(inner) for node in nodes for part in _declared(node) for inner in ast.walk(part)}
    for index, node in enumerate(nodes):
        if id(node) in skipped:
            continue
        for number, (what, _) in enumerate(_changes(node)):
            yield Mutant(module, index, number, f"{module.relative_to(ROOT)}:{node.lineno}: {what}")  # type: ignore[attr-defined]


def _declared(node: ast.AST) -> list[ast.AST]:
    """What declares and does not decide: asserts, fields, the options of a class (frozen, gc) and of a cache's size."""
    if isinstance(node, (ast.Assert, ast.AnnAssign)):
        return [node]
    if isinstance(node, ast.ClassDef):
        return [*node.keywords]
    if isinstance(node, ast.Call):
        return [keyword for keyword in node.keywords if keyword.arg == "strict"]  # of a zip: a check, like an assert
    return [*node.decorator_list] if isinstance(node, ast.FunctionDef) else []


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        other = COMPARED[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {other.__name__}", lambda n: n.ops.__setitem__(0, other())
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATED:
        swapped = OPERATED[type(node.op)]
        yield f"{type(node.op).__name__} -> {swapped.__name__}", lambda n: setattr(n, "op", swapped())
    elif isinstance(node, ast.BoolOp):
        flipped = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{type(node.op).__name__} -> {flipped.__name__}", lambda n: setattr(n, "op", flipped())
    elif isinstance(node, ast.If | ast.IfExp):
        yield "condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    elif isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) < 10_000:
        yield f"{node.value} -> {node.value + 1}", lambda n: setattr(n, "value", n.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield f"{node.value} -> {not node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield "returns None", lambda n: setattr(n, "value", ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "call left out", lambda n: setattr(n, "value", ast.Constant(None))


def start(mutant: Mutant, how: str) -> int:
    """Judge a mutant in a process of its own, which has pytest and the libraries already; its process id."""
    child = os.fork()
    if child:
        return child
    os.environ["SLA_TESTS"] = how  # read by the tests
    signal.alarm(60 if how == "quick" else 200)  # what hangs is killed
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    name = mutant.module.stem
    sys.meta_path.insert(0, Mutated(f"worker.sla.{name}", mutant.module, mutant.tree()))
    judges = list(dict.fromkeys([JUDGES[0], *OWN.get(name, []), *JUDGES]))
    os._exit(int(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *judges])))


class Mutated(MetaPathFinder, Loader):
    """Gives the mutant in place of its module."""

    def __init__(self, name: str, file: Path, tree: ast.Module) -> None:
        self.name, self.file, self.tree = name, file, tree

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, origin=str(self.file)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.tree, str(self.file), "exec"), module.__dict__)


def judged(sample: list[Mutant], jobs: int, how: str) -> Iterator[tuple[Mutant, bool]]:
    """(mutant, is it killed) of each, as they come to their end."""
    waiting, running = list(reversed(sample)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[start(mutant, how)] = mutant
        child, status = os.wait()
        yield running.pop(child), status != 0


def _survivors(sample: list[Mutant], jobs: int, how: str) -> list[Mutant]:
    left = []
    for done, (mutant, killed) in enumerate(judged(sample, jobs, how), 1):
        if not killed:
            left.append(mutant)
            print(f"{how}: lives: {mutant.where}", flush=True)
        if done % 20 == 0:
            print(f"{how}: {done}/{len(sample)}, {done - len(left)} killed", flush=True)
    return left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    every = [mutant for module in MODULES for mutant in mutants(module)]
    sample = random.Random(arguments.seed).sample(every, min(arguments.count, len(every)))
    print(f"{len(every)} mutants, {len(sample)} tried, seed {arguments.seed}", flush=True)
    control = Mutant(MODULES[0], 0, -1, "the core as it is")
    if any(killed for _, killed in judged([control], 1, "thorough")):
        print("the core as it is does not pass its tests: nothing can be said of mutants", file=sys.stderr)
        return 1
    # Most die of a few examples; only those that live are shown everything.
    left = _survivors(sample, arguments.jobs, "quick")
    left = _survivors(left, arguments.jobs, "thorough")
    for mutant in sorted(left):
        print(f"survived {mutant.where}")
    print(f"{len(sample) - len(left)} of {len(sample)} killed: {100 * (1 - len(left) / len(sample)):.1f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
