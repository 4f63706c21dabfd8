"""A helpdesk's mixed day as records: creations, messages of both sides, assignments, statuses, raised severities.

About one record in five creates a ticket; each ticket then has four more on average, spread among `open` tickets that are open
at the same time, so that most updates find a ticket that nobody has looked at for a while. Plans, products and regions are the
shipped ones: the law is the shipped presets with the shipped rota. The same seed makes the same records.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from tests.e2e.world import text

#: What a record is: (creates a ticket, key, value).
Made = tuple[bool, bytes, bytes]

PLANS = (("select", 35), ("cloud", 30), ("priority", 15), ("premier", 15), ("partner-sla-2", 5))
SEVERITIES = (("L1", 4), ("L2", 21), ("L3", 50), ("L4", 25))
PRODUCTS = ("jira", "confluence", "bitbucket-server", "bamboo", "jira-service-desk")
REGIONS = ("AU", "IN", "NL", "BR", "US")
#: What an update says, and how often.
UPDATES = (
    ("agent answers", 26),
    ("customer writes", 20),
    ("private note", 16),
    ("assigned", 16),
    ("waiting", 8),
    ("resolved", 10),
    ("severity", 3),
    ("group and status", 1),
)


def records(events: int, open_tickets: int, since: int, until: int, seed: int = 1) -> Iterator[Made]:
    """`events` records in the order of their instants, spread over [since, until) (UTC ms)."""
    dice, encode = random.Random(seed), msgspec.json.encode
    names: list[str] = []
    made = 0
    for number in range(events):
        at = since + (until - since) * number // events
        body: dict[str, object] = {"event_id": f"e{seed}-{number:09d}", "ticket_id": "", "occurred_at": text(at)}
        if not names or dice.random() < 0.2:
            name = f"BENCH-{seed}-{made}"
            made += 1
            if len(names) < open_tickets:
                names.append(name)
            else:
                names[dice.randrange(open_tickets)] = name
            body |= {"ticket_id": name, **_creation(dice)}
            yield True, name.encode(), encode(body)
        else:
            name = names[dice.randrange(len(names))]
            body |= {"ticket_id": name, **_update(dice, number)}
            yield False, name.encode(), encode(body)


def _creation(dice: random.Random) -> dict[str, object]:
    return {
        "severity": _one(dice, SEVERITIES),
        "plan": _one(dice, PLANS),
        "customer": f"customer-{dice.randrange(500)}",
        "product": dice.choice(PRODUCTS),
        "environment": "production",
        "region": dice.choice(REGIONS),
        "status": "open",
        "opened_by": {"role": "customer", "address": f"somebody{dice.randrange(2000)}@example.com"},
    }


def _update(dice: random.Random, number: int) -> dict[str, object]:
    what = _one(dice, UPDATES)
    if what == "agent answers":
        return {"message": {"role": "agent", "public": True}, "status": "in-progress"}
    if what == "customer writes":
        return {"message": {"role": "customer", "public": True}}
    if what == "private note":
        return {"message": {"role": "agent", "public": False}}
    if what == "assigned":
        return {"assigned_to": f"agent-{number % 300}"}
    if what == "waiting":
        return {"status": "waiting-for-customer"}
    if what == "resolved":
        return {"status": "resolved"}
    if what == "severity":
        return {"severity": _one(dice, SEVERITIES)}
    return {"assigned_group": "second-line", "status": "in-progress"}


def _one(dice: random.Random, weighed: tuple[tuple[str, int], ...]) -> str:
    return dice.choices([what for what, _ in weighed], [weight for _, weight in weighed])[0]
