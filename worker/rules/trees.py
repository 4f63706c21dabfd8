"""A file's tree with lines: reading names and values of it, noting every fault and going on.

Faults are noted in the file's `Faults`; a faulty value reads as None, and the file is refused at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from worker.rules.faults import Faults

T = TypeVar("T")


class Branch:
    """One table of names and values in a file; `path` is where it stands, for messages."""

    def __init__(self, tree: Any, faults: Faults, path: str = "", line: int = 1) -> None:
        self.tree = tree if isinstance(tree, dict) else {}
        self.faults, self.path = faults, path
        self.line = line
        if not isinstance(tree, dict):
            faults.add(line, f"{path or 'the file'} must be a table of names and values")

    def names(self, allowed: Iterable[str], needed: Iterable[str] = ()) -> None:
        """Every name is one of `allowed`; every one of `needed` is there."""
        known = tuple(allowed)
        for name in self.tree:
            if str(name) not in known:
                self.faults.unknown(self.line_of(name), self.where("field"), name, known)
        for name in needed:
            if name not in self.tree:
                self.faults.add(self.line, f"{self.where('field')} {name} is missing")

    def where(self, what: str) -> str:
        """`what`, and in which table."""
        return f"{what} of {self.path}" if self.path else what

    def line_of(self, name: Any) -> int:
        """The line on which a name of this table stands."""
        try:
            return int(getattr(self.tree, "lc").key(name)[0]) + 1  # noqa: B009 - ruamel's, on its own kind of dict
        except (AttributeError, KeyError, TypeError):
            return self.line

    def wrong(self, name: Any, message: str, hint: str | None = None) -> None:
        """Note a fault at a name."""
        self.faults.add(self.line_of(name), f"{self._at(name)}: {message}", hint)

    def text(self, name: str) -> str | None:
        """A scalar as text, None where it is absent."""
        value = self.tree.get(name)
        if value is None:
            return None
        if isinstance(value, (dict, list)):
            self.wrong(name, "must be a single value")
            return None
        return str(value)

    def flag(self, name: str) -> bool:
        """True or false; false where it is absent."""
        value = self.tree.get(name, False)
        if not isinstance(value, bool):
            self.wrong(name, "must be true or false")
            return False
        return value

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        """A scalar through `parse`, whose ValueError is the fault."""
        text = self.text(name)
        return None if text is None else self._parsed(name, text, parse)

    def items(self, name: str) -> list[str]:
        """A list of scalars as texts; one scalar is a list of one."""
        value = self.tree.get(name)
        if value is None:
            return []
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, (dict, list)) for v in values):
            self.wrong(name, "must be a list of single values")
            return []
        return [str(v) for v in values]

    def all_parsed(self, name: str, parse: Callable[[str], T]) -> list[T]:
        """A list of scalars through `parse`."""
        found = (self._parsed(name, text, parse) for text in self.items(name))
        return [value for value in found if value is not None]

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """One of `choices`."""
        text = self.text(name)
        known = tuple(choices)
        if text is None:
            return default
        if text not in known:
            self.faults.unknown(self.line_of(name), self._at(name), text, known)
            return default
        return text

    def branch(self, name: str) -> Branch | None:
        """A table inside this one, None where it is absent."""
        value = self.tree.get(name)
        return None if value is None else Branch(value, self.faults, self._at(name), self.line_of(name))

    def branches(self) -> list[tuple[str, Branch]]:
        """Every name with its table."""
        return [(str(n), Branch(v, self.faults, self._at(n), self.line_of(n))) for n, v in self.tree.items()]

    def _parsed(self, name: str, text: str, parse: Callable[[str], T]) -> T | None:
        try:
            return parse(text)
        except ValueError as error:
            self.wrong(name, str(error))
            return None

    def _at(self, name: Any) -> str:
        return f"{self.path}.{name}" if self.path else str(name)
