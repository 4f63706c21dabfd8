"""A progress bar on stderr: a line that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO


class Bar:
    """`bar.at(120)` of `total`; `what` says of what. Where no terminal looks on, each tenth is a line of its own."""

    def __init__(self, what: str, total: int, out: TextIO | None = None) -> None:
        self._what, self._total = what, max(total, 1)
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()
        self._told = -1

    def at(self, done: int) -> None:
        """Show that `done` are done."""
        share = min(done / self._total, 1.0)
        step = int(share * (100 if self._live else 10))
        if step == self._told:
            return
        self._told = step
        if self._live:
            filled = int(share * 30)
            self._write(f"\r{self._what} [{'#' * filled}{'.' * (30 - filled)}] {done}/{self._total}")
        else:
            self._write(f"{self._what} {done}/{self._total}\n")

    def end(self) -> None:
        """Leave the line."""
        self.at(self._total)
        if self._live:
            self._write("\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
