"""Handoffs around the sun: for the leads of the offices, and for whoever answers for critical tickets between two of them.

A boundary is where one office's shift ends. Each open critical ticket is proposed to the next office before it; at the boundary
it is completed or missed. A late completion comes after a miss and does not undo it.
"""

from __future__ import annotations

from grafana.frame import Places, Row, framed
from grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    About,
    Query,
    bars,
    lines,
    listing,
    number,
    ranking,
    selected,
)

SERIES = "sla_handoffs_total"
#: What became of it -> (its word on the dashboard, its colour).
VERDICTS = {
    "proposed": ("proposed", SKY),
    "completed": ("in time", BLUE),
    "completed_late": ("late", ORANGE),
    "missed": ("missed", RED),
    "escalated": ("escalated", PURPLE),
    "cancelled": ("cancelled", GREY),
}
#: Those of the shipped rota; others get Grafana's own colours.
OFFICES = {
    "sydney": YELLOW,
    "bengaluru": ORANGE,
    "amsterdam": BLUE,
    "sao-paulo": GREEN,
    "san-francisco": PURPLE,
    "weekend": SKY,
    "standard": GREY,
}
PAIR = "outgoing, incoming"
WORRY = ((None, SKY), (0.5, ORANGE), (5, RED))
MISSES = ((None, SKY), (0.02, ORANGE), (0.1, RED))


def _over_range(kind: str, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (increase({selected(SERIES, kind=kind)}[$__range]))"


def _miss_ratio(by: str, over: str) -> str:
    missed = f"sum by ({by}) (increase({selected(SERIES, kind='missed')}[{over}]))"
    judged = f"sum by ({by}) (increase({selected(SERIES, kind='~completed|missed')}[{over}]))"
    return f"{missed} / ({judged} > 0)"


def _judged_pairs(kind: str) -> str:
    """Of the pairs that had a proposal in this range: with dozens of pairs, those that never meet are left out."""
    proposed = _over_range("proposed", PAIR)
    return f"round({_over_range(kind, PAIR)}) and ({proposed} > 0)"


def _numbers() -> Row:
    told = {
        "proposed": ("Proposed", "Handoffs proposed to the next office.", ((None, SKY),)),
        "completed": ("In time", "Acknowledged at or before the boundary.", ((None, SKY),)),
        "missed": ("Missed", "Nobody had acknowledged at the boundary. Both offices were told.", WORRY),
        "completed_late": ("Late", "Taken up after a miss. The miss stands.", ((None, SKY), (0.5, ORANGE))),
        "escalated": ("Escalated", "Still nobody 45 minutes after the boundary.", WORRY),
    }
    panels = [
        number(
            About(title, words, "short", 4, 4, decimals=0),
            Query(f"round({_over_range(kind)})", instant=True),
            steps=steps,
        )
        for kind, (title, words, steps) in told.items()
    ]
    everything = f"{_over_range('missed')} / ({_over_range('~completed|missed')} > 0)"
    words = "Missed, as a share of all boundaries that were judged (missed or completed in time)."
    panels.append(
        number(
            About("Miss ratio", words, "percentunit", 4, 4, decimals=1), Query(everything, instant=True), steps=MISSES
        )
    )
    return "In this range", panels


def _day() -> Row:
    def told(*kinds: str) -> list[Query]:
        return [
            Query(f"sum (increase({selected(SERIES, kind=kind)}[$__interval]))", VERDICTS[kind][0], bars=True)
            for kind in kinds
        ]

    at_boundary = bars(
        About(
            "At the boundary",
            "What became of what was proposed, when. Shifts end at the same local time every day: look for the hour that turns red.",
            "short",
            16,
            9,
        ),
        *told("completed", "missed", "cancelled"),
        colours=dict(VERDICTS.values()),
    )
    after = bars(
        About(
            "After a miss", "Taken up late, or escalated because still nobody had it 45 minutes later.", "short", 8, 9
        ),
        *told("completed_late", "escalated"),
        colours=dict(VERDICTS.values()),
    )
    by_office = lines(
        About(
            "Miss ratio by the office that hands over",
            "Share of its judged boundaries that nobody took, over the last 24 hours. High at one office: look at who comes after it.",
            "percentunit",
            decimals=0,
        ),
        Query(_miss_ratio("outgoing", "24h"), "{{outgoing}}"),
        colours=OFFICES,
        most=1,
    )
    by_taker = lines(
        About(
            "Miss ratio by the office that should take over",
            "The same misses, by the office that did not acknowledge. Its lead is the one to call.",
            "percentunit",
            decimals=0,
        ),
        Query(_miss_ratio("incoming", "24h"), "{{incoming}}"),
        colours=OFFICES,
        most=1,
    )
    return "Around the sun", [at_boundary, after, by_office, by_taker]


def _pairs() -> Row:
    kinds = list(VERDICTS)
    letters = {f"Value #{chr(ord('A') + place)}": VERDICTS[kind][0].capitalize() for place, kind in enumerate(kinds)}
    ratio = f"Value #{chr(ord('A') + len(kinds))}"
    table = listing(
        About(
            "By pair of offices",
            "Each pair that had a proposal in this range, most misses first.",
            "locale",
            16,
            10,
            decimals=0,
        ),
        *(Query(_judged_pairs(kind)) for kind in kinds),
        Query(_miss_ratio(PAIR, "$__range")),
        columns={"outgoing": "From", "incoming": "To", **letters, ratio: "Miss ratio"},
        units={"Miss ratio": "percentunit"},
        colours={"Missed": WORRY, "Escalated": WORRY, "Miss ratio": MISSES},
        sort=("Missed", True),
    )
    worst = ranking(
        About("Missed, by pair", "The ten pairs with the most misses in this range.", "locale", 8, 10, decimals=0),
        Query(f"sort_desc(topk(10, {_judged_pairs('missed')}))", "{{outgoing}} to {{incoming}}", instant=True),
        steps=WORRY,
    )
    return "Who hands over to whom", [table, worst]


def dashboard(places: Places) -> str:
    """The JSON."""
    words = "Critical tickets crossing shift boundaries: proposed, taken, missed, by pair of offices and over the day."
    rows = [_numbers(), _day(), _pairs()]
    return framed("sla-handoffs", "Handoffs around the sun", words, rows, places, since="24h")
