"""Stories as people in support tell them: TOML in, events, rules and expectations out.

Wall times are those of the story's `zone`. Who does what is written as in `happens = "customer writes"`; any other
name of an entry is a field of the event. A `policy` is the body of a policy file.
"""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from worker.sla.zones import utc_to_wall, wall_to_utc

FOLDER = Path(__file__).parent

#: What somebody does -> the fields of its event.
DOES: dict[str, dict[str, Any]] = {
    "customer opens": {"type": "ticket-created", "opened_by": {"role": "customer"}},
    "agent opens": {"type": "ticket-created", "opened_by": {"role": "agent"}},
    "customer writes": {"message": {"role": "customer", "public": True}},
    "agent replies": {"message": {"role": "agent", "public": True}},
    "agent notes": {"message": {"role": "agent", "public": False}},
    "bot replies": {"message": {"role": "bot", "public": True}},
    "ticket waits": {"status": "waiting"},
    "ticket goes on": {"status": "open"},
    "ticket is resolved": {"status": "resolved"},
    "ticket is reopened": {"status": "open"},
    "somebody takes it": {"assigned_to": "ann"},
    "ticket is merged": {"merged_into": "another"},
    "ticket changes": {},
}


class Story(NamedTuple):
    """One story: `steps` are its `happens` and `then` entries in the order of the file, instants as UTC ms under "at"."""

    id: str
    tells: str
    complaint: list[str]
    zone: str
    policy: dict[str, Any]
    rota: dict[str, Any] | None
    steps: list[dict[str, Any]]

    def utc(self, wall: str) -> int:
        """A wall time of the story's zone as UTC ms."""
        return wall_to_utc(self.zone, datetime.fromisoformat(wall))

    def events(self) -> list[dict[str, Any]]:
        """What happens, as events of SPEC section 8."""
        found = []
        for number, step in enumerate(self.steps):
            if "happens" not in step:
                continue
            more = {name: value for name, value in step.items() if name not in ("happens", "at")}
            if "handoff" in more:
                more["handoff"] = more["handoff"] | {"boundary": rfc3339(self.utc(more["handoff"]["boundary"]))}
            found.append(
                {
                    "type": "ticket-updated",
                    "event_id": f"{self.id}-{number:02}",
                    "ticket_id": self.id,
                    "occurred_at": rfc3339(step["at"]),
                }
                | DOES[step["happens"]]
                | more
                | ({"plan": self.id} if "opens" in step["happens"] else {})
            )
        return found

    def policy_file(self, policy: dict[str, Any] | None = None) -> str:
        """The story's policy as a file of its own (JSON is YAML)."""
        body = {
            "kind": "policy",
            "name": self.id,
            "version": "1",
            "plans": [self.id],
            "handoffs": self.rota is not None,
        }
        return json.dumps(body | (policy or self.policy))


def rfc3339(at: int) -> str:
    """UTC ms as an instant on the wire."""
    return utc_to_wall("UTC", at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stories() -> list[Story]:
    """Every story of every file."""
    found = []
    for file in sorted(FOLDER.glob("*.toml")):
        for told in tomllib.loads(file.read_text())["story"]:
            zone = told.get("zone", "UTC")
            steps = [step | {"at": wall_to_utc(zone, datetime.fromisoformat(step["at"]))} for step in told["steps"]]
            found.append(
                Story(told["id"], told["tells"], told["complaint"], zone, told["policy"], told.get("rota"), steps)
            )
    return found
