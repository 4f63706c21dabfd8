"""Mutants of the core, one at a time, against the core's own tests: `python -m tests.mutation --seed 7 --count 400`.

A mutant changes one thing of worker/sla: a comparison, a boundary, an operator, a constant, a condition, a returned value,
a statement. It is killed when a test fails or hangs. Survivors are printed with their line, to be argued about: is the
change one that nobody can see, or is a test missing?
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path.cwd()
MODULES = sorted((ROOT / "worker" / "sla").glob("*.py"))
#: Those that tell most in least time come first; a module's own come before all.
JUDGES = [
    "tests/sla/test_tickets.py",
    "tests/stories",
    "tests/sla/test_machine.py",
    "tests/sla/test_proofs.py",
    "tests/sla/test_orders.py",
    "tests/sla/test_rota.py",
    "tests/rules/test_rulebook.py",
    "tests/rules/test_rota_file.py",
    "tests/replay/test_what_if.py",
    "tests/sla/test_calendars.py",
    "tests/oracles",
]
OWN = {
    "calendars": ["tests/sla/test_calendars.py"],
    "rota": ["tests/sla/test_rota.py", "tests/rules/test_rota_file.py"],
    "handoffs": ["tests/sla/test_rota.py"],
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


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    """(line, what was changed, the changed tree) for everything that can be changed in a module."""
    nodes = list(ast.walk(tree))
    skipped = {id(inner) for node in nodes for part in _declared(node) for inner in ast.walk(part)}
    for index, node in enumerate(nodes):
        if id(node) in skipped:
            continue
        for what, change in _changes(node):
            changed = copy.deepcopy(tree)
            change(list(ast.walk(changed))[index])
            yield node.lineno, what, ast.fix_missing_locations(changed)  # type: ignore[attr-defined]


def _declared(node: ast.AST) -> list[ast.AST]:
    """What declares and does not decide: asserts, fields, the options of a class (frozen, gc) and of a cache's size."""
    if isinstance(node, (ast.Assert, ast.AnnAssign)):
        return [node]
    if isinstance(node, ast.ClassDef):
        return [*node.keywords]
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


def is_killed(module: Path, source: str) -> bool:
    """Does any test fail, or hang, with this source in place of the module's?"""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(ROOT / "worker", place / "worker", ignore=shutil.ignore_patterns("__pycache__"))
        # A link would be followed back to the source tree, whose core has no mutant in it.
        shutil.copytree(ROOT / "tests", place / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("examples", "schemas", "pyproject.toml"):
            (place / name).symlink_to(ROOT / name)
        (place / module.relative_to(ROOT)).write_text(source)
        environment = {
            **os.environ,
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
            "SLA_NO_SKIP": "",
            "SLA_TESTS": "quick",
        }
        judges = list(dict.fromkeys([*OWN.get(module.stem, []), *JUDGES]))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *judges]
        try:
            ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=240, check=False)
        except subprocess.TimeoutExpired:
            return True
        return ran.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    every = []
    for module in MODULES:
        tree = ast.parse(module.read_text())
        every += [(module, line, what, changed) for line, what, changed in mutants(tree)]
    sample = random.Random(arguments.seed).sample(every, min(arguments.count, len(every)))
    print(f"{len(every)} mutants, {len(sample)} tried, seed {arguments.seed}", flush=True)
    survivors, done = [], 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        judged = pool.map(lambda mutant: is_killed(mutant[0], ast.unparse(mutant[3])), sample)
        for (module, line, what, _), killed in zip(sample, judged, strict=True):
            done += 1
            if not killed:
                survivors.append(f"{module.relative_to(ROOT)}:{line}: {what}")
                print(f"survived {survivors[-1]}", flush=True)
            if done % 20 == 0:
                print(f"{done}/{len(sample)}, {done - len(survivors)} killed", flush=True)
    print(f"{len(sample) - len(survivors)} of {len(sample)} killed: {100 * (1 - len(survivors) / len(sample)):.1f} %")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
