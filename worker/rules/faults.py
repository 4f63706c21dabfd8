"""What is wrong with a file: file, line, message, and the nearest right name; all faults, not the first.

Every kind of file that people write is read here, as YAML 1.2 with its lines: `17:30` stays a time, `NO` stays Norway.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

#: What may stand for half of a surrogate pair; a file without it need not be searched.
_ESCAPED = re.compile(r"\\[uU]0*[dD][89a-fA-F]").search


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
    yaml.composer.warn_double_anchors = False  # YAML 1.2 lets an anchor be set anew
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.load(text)
        if _ESCAPED(text) and not _is_text(tree):
            faults.add(1, "has half of a surrogate pair (\\ud800 to \\udfff), which is no letter")
            return None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.add(1 if mark is None else mark.line + 1, f"is no YAML: {error.problem or error.context}")
    except OSError as error:
        faults.add(1, f"cannot be read: {error.strerror}")
    except RecursionError:
        faults.add(1, "is nested too deep")
    except Exception as error:  # noqa: BLE001 - the library raises many kinds: a 30 February is a ValueError
        faults.add(1, f"is no YAML: {error}")
    else:
        if isinstance(tree, dict):
            return tree
        faults.add(1, "is empty, or no table of names and values")
    return None


def _is_text(node: Any, seen: frozenset[int] = frozenset()) -> bool:
    """Can every text in a tree be written as UTF-8? An alias may stand inside of what it names."""
    if isinstance(node, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in node)
    if not isinstance(node, (dict, list)) or id(node) in seen:
        return True
    seen |= {id(node)}
    inner = [*node, *node.values()] if isinstance(node, dict) else node
    return all(_is_text(one, seen) for one in inner)
