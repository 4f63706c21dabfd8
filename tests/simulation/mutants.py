"""Workers with one thing wrong, to see that the simulation would notice: each must be caught.

A mutant is a change of one line of a module's source; a line that is no longer there fails the test, so that the list
cannot rot. `HARMLESS` are changes that look as bad and must not matter, because the design stands on something else.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from worker.stream import desk, gaps, inbox, lane, lanes, ledger, opening, reporting


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `module`, whose `names` are put in the place of those that `user` has imported.

    `seed`: where to begin to look; a run that catches it is near.
    """

    name: str
    module: ModuleType
    old: str
    new: str
    user: ModuleType
    names: tuple[str, ...]
    seed: int = 0

    def __str__(self) -> str:
        return self.name


def _lane(name: str, old: str, new: str, seed: int = 0) -> Mutant:
    return Mutant(name, lane, old, new, lanes, ("Lane",), seed)


def _gaps(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, gaps, old, new, lane, ("Gaps",))


def _inbox(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, inbox, old, new, lane, ("Inbox",))


def _desk(name: str, old: str, new: str, seed: int = 0) -> Mutant:
    return Mutant(name, desk, old, new, lane, ("Desk",), seed)


def _reporting(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, reporting, old, new, desk, ("Collector", "shares"))


def _opening(name: str, old: str, new: str) -> Mutant:
    return Mutant(name, opening, old, new, lane, ("load",))


_SAY = "self.end = await self._say(rows, others)"
_RECORD = "if record.offset <= offset:"

MUTANTS = (
    _lane("acknowledges before the commit", _SAY, f"await self._say(rows, {{}}); {_SAY.replace('rows,', 'rows[-1:],')}"),
    _lane("no gate", 'if self.shop.settings.clock == "event":\n            return', "if True:\n            return"),
    _lane("fires up to now", "        return until\n\n    async def _commit", "        return until and self.desk.clock() + 1000\n\n    async def _commit"),
    _lane("goes on after a failed commit", "self._open = self._settled = False\n        self._ahead", "self._ahead"),
    _lane("fences nobody", '-lane-{self.number}"', '-lane-{self.number}-{id(self._wake)}"'),
    _gaps("reads no gaps", "if until <= stands or (", "if until >= 0 or ("),
    _lane("leaves dead letters out now and then", "(topics.dead, flush.dead),", "(topics.dead, flush.dead[1:]),"),
    _desk("random ids", "encode_signal(signal,", "encode_signal(replace(signal, id=__import__('os').urandom(16).hex()),"),
    _desk("dates what it foresaw by the due", "stamped(one, until) for one in foreseen.spoken", "stamped(one, foreseen.at) for one in foreseen.spoken"),
    _desk("drops one", _RECORD, "if record.offset <= offset or record.offset % 10 == 9:"),
    _desk("applies again what it has", _RECORD, "if False:"),
    _desk("writes not every row", "        return rows\n", "        return [r for r in rows if r[0] not in flush.tickets or r[0][-1] % 5]\n"),
    _desk("writes not every row that it judged anew", "[*flush.judged, *(", "[*flush.judged[::2], *("),
    _lane("parks what it judged ahead", "self._settled = not self._ahead", "self._settled, self._ahead = True, Flush()"),
    _desk("dates what it says by the due", "encode_signal(signal, at,", "encode_signal(signal, signal.due,"),
    _desk("says parts of shift reports again", "position.pack(self.position)",
          "position.pack(replace(self.position, reported=(self.position.reported or 0) - 300_000))"),
    _desk("forgets which shifts it told of", "position.pack(self.position)", "position.pack(replace(self.position, reported=None))"),
    _desk("takes a part twice", "if record.offset > before.offset:", "if True:", 70),
    _desk("forgets the parts that it has", "        rows += flush.notes\n", "", 150),
    _lane("tells of a shift before it is over", "say_parts(flush, self.number, until)", "say_parts(flush, self.number, until + 9000)", 45),
    _desk("says what it foresaw of a row that has changed", "self._foresight.take(key, self.rows.get(key), until)",
          "self._foresight.take(key, self._foresight._found.get(key, (None,))[0], until)"),
    _desk("says what it foresaw before it is due", "elif until < foreseen.at:", "elif False:"),
    _reporting("waits for one part only", "if not missing or (is_late", "if one.lanes or (is_late"),
    _reporting("adds a part to itself", "total([known.part, share.part])", "total([known.part, share.part, share.part])"),
    _opening(
        "forgets the position",
        "        _complete(shop, number, loaded)",
        "        loaded.position = replace(loaded.position, sources={}, tickets=-1)",
    ),
    _opening("begins with reports anew", "await begin(loaded.position)", "await begin(replace(loaded.position, reported=None))"),
    _opening("trusts what it parked", "    for key, row in pages.rows.items():", "    for key, row in ():"),
    _opening("forgets who needs a look", "in looks if at is not None]", "in looks if at is None]"),
    Mutant("waits for a farewell", ledger, "await let_go(consumer.stop)", "await consumer.stop()", ledger, ("_consumer",), seed=80),
)  # fmt: skip

HARMLESS = (
    # The position row is the authority: what the group has committed only says where Faust begins to read.
    _lane(
        "tells Faust early",
        "        if flush or self.shop.monotonic()",
        "        for chunk in list(self._inbox._chunks)[: self._inbox._begun]:\n            chunk.ack()\n        if flush or self.shop.monotonic()",
    ),
    _inbox("tells Faust never", "popleft().ack()", "popleft()"),
    # What it passes over was not applied: it is read from the source, as any gap is.
    _inbox(
        "reads on where it lost a flush",
        "    def begin_again(self) -> None:\n",
        "    def begin_again(self) -> None:\n        return\n",
    ),
)


@contextmanager
def in_force(mutant: Mutant) -> Iterator[None]:
    """The worker with that one thing wrong."""
    source = inspect.getsource(mutant.module)
    assert source.count(mutant.old) == 1, f"{mutant.module.__name__} no longer has one {mutant.old!r}"
    changed = ModuleType(mutant.module.__name__)
    exec(compile(source.replace(mutant.old, mutant.new), str(mutant.module.__file__), "exec"), changed.__dict__)
    kept = {name: getattr(mutant.user, name) for name in mutant.names}
    for name in mutant.names:
        setattr(mutant.user, name, getattr(changed, name))
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(mutant.user, name, value)
