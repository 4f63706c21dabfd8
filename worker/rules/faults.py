"""What is wrong with a file: file, line, message, and the nearest right name; all faults, not the first.

Every kind of file that people write is read here, as YAML 1.2 with its lines: `17:30` stays a time, `NO` stays Norway.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a file; `line` counts from 1, `hint` is the nearest right name, or what to do."""

    file: str
    line: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Faults:
    """The faults of one file, as they are found."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, line: int, message: str, hint: str | None = None) -> None:
        """Note one fault, once."""
        fault = Fault(self.file, line, message, hint)
        if fault not in self.found:
            self.found.append(fault)

    def unknown(self, line: int, what: str, name: object, right: Iterable[str]) -> None:
        """Note a name that is not among the right ones, with the nearest of them."""
        choice = sorted(right)
        near = difflib.get_close_matches(str(name), choice, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else "one of " + ", ".join(choice) if choice else None
        self.add(line, f'{what} "{name}" is not known', hint)


def read_yaml(file: Path, faults: Faults) -> Any:
    """The file's tree with its line numbers; None, and a fault, where it cannot be read."""
    yaml = YAML(typ="rt")
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.add(1 if mark is None else mark.line + 1, f"is no YAML: {error.problem or error.context}")
    except (YAMLError, UnicodeDecodeError) as error:
        faults.add(1, f"is no YAML: {error}")
    except OSError as error:
        faults.add(1, f"cannot be read: {error.strerror}")
    else:
        if isinstance(tree, dict):
            return tree
        faults.add(1, "is empty, or no table of names and values")
    return None
