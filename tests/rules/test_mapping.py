"""A helpdesk's records become our events by a file; what the file does not know is named."""

import csv
import gzip
import json
from pathlib import Path

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from worker.rules import mapping
from worker.rules.getters import path, template
from worker.rules.mapping import Mapped, Passed, Unmapped

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = ROOT / "examples"
FILES = [*sorted((EXAMPLES / "mappings").glob("*.yaml")), EXAMPLES / "servicenow" / "mapping.yaml"]


def payload(name):
    return json.loads((HERE / "payloads" / f"{name}.json").read_text(encoding="utf-8"))


def read(name, record, memory=None):
    return list(mapping.load(EXAMPLES / "mappings" / f"{name}.yaml").read(record, {} if memory is None else memory))


def written(tmp_path, text):
    file = tmp_path / "mapping.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def faults_of(tmp_path, text):
    with pytest.raises(mapping.MappingError) as caught:
        mapping.load(written(tmp_path, text))
    return caught.value.faults


EXPECTED = {
    "jira-issue_created": (
        "ticket-created",
        {
            "event_id": "jira:TES-41/created",
            "ticket_id": "jira:TES-41",
            "occurred_at": "2019-02-16T03:01:52.971Z",
            "severity": "L2",
            "product": "TES",
            "status": "new",
            "opened_by": {"role": "agent"},
        },
    ),
    "jira-issue_updated-priority-raised": (
        "ticket-updated",
        {
            "event_id": "jira:TES-41/change/10235",
            "ticket_id": "jira:TES-41",
            "occurred_at": "2019-02-16T21:15:16.037Z",
            "severity": "L2",
        },
    ),
    "jira-issue_updated-resolved": (
        "ticket-updated",
        {
            "event_id": "jira:TES-41/change/10228",
            "ticket_id": "jira:TES-41",
            "occurred_at": "2019-02-16T03:15:40.477Z",
            "status": "resolved",
        },
    ),
    "jira-cloud-comment_created": (
        "ticket-updated",
        {
            "event_id": "jira:TES-41/comment/10019",
            "ticket_id": "jira:TES-41",
            "occurred_at": "2019-02-16T03:11:18.321Z",
            "message": {"role": "agent", "public": True},
        },
    ),
    "zendesk-ticket.created": (
        "ticket-created",
        {
            "event_id": "zendesk:cbe4028c-7239-495d-b020-f22348516046",
            "ticket_id": "zendesk:5158",
            "occurred_at": "2025-01-08T10:12:07.672Z",
            "severity": "L4",
            "customer": "8447346622462",
            "status": "open",
            "assigned_to": "8447388090494",
            "assigned_group": "8447320466430",
            "opened_by": {"role": "customer"},
        },
    ),
    "zendesk-ticket.status_changed": (
        "ticket-updated",
        {
            "event_id": "zendesk:a8b9c1d2-3e4f-5a6b-7c8d-9e0f1a2b3c4d",
            "ticket_id": "zendesk:5158",
            "occurred_at": "2025-01-08T16:45:20.987Z",
            "status": "resolved",
        },
    ),
    "zendesk-ticket.comment_added-private": (
        "ticket-updated",
        {
            "event_id": "zendesk:d8551ba3-4243-433c-8629-aa79dc3e7182",
            "ticket_id": "zendesk:71447",
            "occurred_at": "2026-06-09T08:36:44.304Z",
            "message": {"role": "customer", "public": False},
        },
    ),
    "freshdesk-ticket_created": (
        "ticket-created",
        {
            "event_id": "freshdesk:11/created",
            "ticket_id": "freshdesk:11",
            "severity": "L2",
            "status": "waiting-for-customer",
        },
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_webhook_becomes_the_event_that_it_tells_of(name):
    kind, body = EXPECTED[name]
    assert read(name.split("-")[0], payload(name)) == [Mapped(kind, body)]


def test_a_polled_incident_is_opened_when_it_was_opened_and_closed_when_it_was_closed():
    said = read("servicenow", payload("servicenow-incident-table-api"))
    opened = {
        "event_id": "servicenow:INC0000060/opened",
        "ticket_id": "servicenow:INC0000060",
        "occurred_at": "2016-12-12T15:19:57.000Z",
        "severity": "L3",
        "customer": "31bea3d53790200044e0bfc8bcbe5dec",
        "opened_by": {"role": "customer"},
    }
    closed = {
        "event_id": "servicenow:INC0000060/000015",
        "ticket_id": "servicenow:INC0000060",
        "occurred_at": "2016-12-14T02:46:44.000Z",
        "status": "closed",
        "assigned_to": "5137153cc611227c000bbd1bd8cd2007",
        "assigned_group": "287ebd7da9fe198100f92cc8d1d2154e",
    }
    assert said == [Mapped("ticket-created", opened), Mapped("ticket-updated", closed)]


def test_polling_the_same_incident_again_says_nothing_new():
    memory = {}
    read("servicenow", payload("servicenow-incident-table-api"), memory)
    assert read("servicenow", payload("servicenow-incident-table-api"), memory) == [Passed("nothing_changed")]


def test_an_assignee_who_is_taken_away_is_cleared_in_a_polled_incident():
    memory = {}
    read("servicenow", payload("servicenow-incident-table-api"), memory)
    later = payload("servicenow-incident-table-api")
    later["result"][0] |= {"assigned_to": "", "sys_mod_count": "16"}
    (said,) = read("servicenow", later, memory)
    assert said.body["assigned_to"] is None
    assert "status" not in said.body


@pytest.mark.parametrize(
    ("helpdesk", "name", "change", "field", "value"),
    [
        ("jira", "jira-issue_created", lambda p: p["issue"]["fields"]["priority"].update(name="Blocker"), "severity", '"Blocker"'),
        ("jira", "jira-issue_created", lambda p: p["issue"]["fields"]["status"].update(name="Limbo"), "status", '"Limbo"'),
        ("jira", "jira-issue_created", lambda p: p.update(webhookEvent="sprint_started"), "type", '"sprint_started"'),
        ("jira", "jira-cloud-comment_created", lambda p: p["comment"]["author"].update(accountId="someone"), "message.role", '"someone"'),
        ("jira", "jira-cloud-comment_created", lambda p: p["comment"].pop("jsdPublic"), "message.public", '"nothing"'),
        ("zendesk", "zendesk-ticket.created", lambda p: p["detail"].update(priority="SEVERE"), "severity", '"SEVERE"'),
        ("zendesk", "zendesk-ticket.status_changed", lambda p: p.update(type="zen:event-type:ticket.merged"), "type", '"zen:event-type:ticket.merged"'),
        ("zendesk", "zendesk-ticket.status_changed", lambda p: p.update(time="yesterday"), "occurred_at", '"yesterday"'),
        ("zendesk", "zendesk-ticket.status_changed", lambda p: p.update(time="2025-01-08T16:45:20"), "occurred_at", '"2025-01-08T16:45:20"'),
        ("zendesk", "zendesk-ticket.created", lambda p: p["detail"].pop("id"), "ticket_id", '"nothing"'),
        ("freshdesk", "freshdesk-ticket_created", lambda p: p["freshdesk_webhook"].update(triggered_event="{note_type:public}"), "type", '"{note_type:public}"'),
        ("servicenow", "servicenow-incident-table-api", lambda p: p["result"][0].update(state="9"), "status", '"9"'),
    ],
)  # fmt: skip
def test_what_a_mapping_does_not_know_is_named_and_never_guessed(helpdesk, name, change, field, value):
    record = payload(name)
    change(record)
    (unmapped,) = [said for said in read(helpdesk, record) if isinstance(said, Unmapped)]
    assert (unmapped.field, unmapped.value) == (field, value)


def test_a_field_that_became_empty_is_cleared_and_one_that_is_not_mentioned_did_not_change():
    record = payload("jira-issue_updated-priority-raised")
    record["changelog"]["items"] = [{"field": "assignee", "from": "x", "to": None}]
    (said,) = read("jira", record)
    assert said.body["assigned_to"] is None
    assert "severity" not in said.body


def test_a_known_type_without_a_meaning_for_promises_is_passed_over_with_its_reason():
    record = payload("jira-cloud-comment_created") | {"webhookEvent": "comment_updated"}
    assert read("jira", record) == [Passed("an edited comment is no new message")]


def test_two_records_in_one_delivery_do_not_spoil_each_other():
    record = payload("servicenow-incident-table-api")
    good = record["result"][0]
    record["result"] = [good | {"priority": "none"}, good | {"number": "INC0000061"}]
    first, *rest = read("servicenow", record)
    assert isinstance(first, Unmapped)
    assert [said.body["ticket_id"] for said in rest] == ["servicenow:INC0000061"] * 2


def log_rows():
    with gzip.open(EXAMPLES / "servicenow" / "servicenow-incident-log.csv.gz", "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_shipped_log_is_mapped_to_the_last_row():
    rules, memory = mapping.load(EXAMPLES / "servicenow" / "mapping.yaml"), {}
    said = [event for row in log_rows() for event in rules.read(row, memory)]
    assert not [s for s in said if isinstance(s, Unmapped)]
    events = [s for s in said if isinstance(s, Mapped)]
    assert sum(e.type == "ticket-created" for e in events) == 537 == len(memory)
    assert len({e.body["event_id"] for e in events}) == len(events)


def test_a_row_that_does_not_know_the_assignee_takes_nobodys_ticket_away():
    rules, memory = mapping.load(EXAMPLES / "servicenow" / "mapping.yaml"), {}
    row = log_rows()[0] | {"assigned_to": "Resolver 13", "sys_updated_at": "01-03-2016 10:00"}
    opened, update = rules.read(row, memory)
    assert "assigned_to" not in opened.body  # who owns it is a fact of the row's time, not of the opening
    assert update.body["assigned_to"] == "Resolver 13"
    assert list(rules.read(row | {"assigned_to": "?"}, memory)) == [Passed("nothing_changed")]


def test_a_raised_priority_is_an_update_of_the_severity_alone():
    rules, memory = mapping.load(EXAMPLES / "servicenow" / "mapping.yaml"), {}
    row = log_rows()[0]
    list(rules.read(row, memory))
    (raised,) = rules.read(row | {"priority": "1 - Critical", "sys_updated_at": "29-02-2016 02:00"}, memory)
    assert raised.body == {
        "event_id": "INC0000045/0001",
        "ticket_id": "INC0000045",
        "occurred_at": "2016-02-29T02:00:00.000Z",
        "severity": "L1",
    }


def test_the_tenth_row_of_an_incident_sorts_after_its_ninth():
    rules, memory = mapping.load(EXAMPLES / "servicenow" / "mapping.yaml"), {}
    rows = [log_rows()[0] | {"incident_state": state} for state in ["New", "Active"] * 6]
    ids = [e.body["event_id"] for row in rows for e in rules.read(row, memory) if e.type == "ticket-updated"]
    assert ids == sorted(ids)


def test_wall_times_of_a_zone_are_read_as_its_clock_showed_them(tmp_path):
    text = (
        (EXAMPLES / "servicenow" / "mapping.yaml").read_text(encoding="utf-8").replace("zone: UTC", "zone: Europe/Rome")
    )
    rules = mapping.load(written(tmp_path, text))
    row = log_rows()[0]
    winter, _ = rules.read(row | {"opened_at": "29-02-2016 01:16"}, {})
    skipped, _ = rules.read(row | {"opened_at": "27-03-2016 02:30"}, {})
    assert winter.body["occurred_at"] == "2016-02-29T00:16:00.000Z"
    assert skipped.body["occurred_at"] == "2016-03-27T01:30:00.000Z"  # 02:30 did not exist: it is 03:30 there


PLANTED = """\
kind: maping
name: planted
reads: payloads
tiem: iso8601
prefix: "x:"
tables:
  severity: {High: L9, Low: L4}
  unused: {a: b}
type: event
common:
  ticket_id: id
  occurred_at: {path: at, time: {form: "%d-%m-%Y", zone: Mars/Olympus}}
events:
  created:
    becomes: ticket-create
    event_id: {text: "no place"}
    severity: {path: priority, table: severity}
    statuss: state
  commented:
    becomes: ticket-updated
    event_id: id
    status: {path: state, table: state}
    message: {role: author.role}
  opened:
    becomes: ticket-created
    customer: "a..b"
    plan: {path: p, when: {path: q}}
"""


def test_every_fault_of_a_file_is_told_at_once_with_its_line_and_the_nearest_right_name(tmp_path):
    told = [(fault.line, fault.message.split(" is ")[0], fault.hint) for fault in faults_of(tmp_path, PLANTED)]
    assert [(line, message) for line, message, _ in told] == [
        (1, 'is a file of kind "maping", not a mapping'),
        (4, 'field "tiem"'),
        (8, 'the table "unused"'),
        (12, '"Mars/Olympus"'),
        (15, 'becomes "ticket-create"'),
        (16, '"no place" names no path: write "{path}" where a value belongs'),
        (17, 'severity of the table "L9"'),
        (18, 'field "statuss"'),
        (22, 'table "state"'),
        (23, '"public"'),
        (24, '"opened" has no event_id'),
        (26, '"a..b"'),
        (27, "a condition wants a path, and one of equals, in, present, same_as"),
    ]
    hints = {line: hint for line, _, hint in told}
    assert hints[4] == 'did you mean "time"?'
    assert hints[15] == 'did you mean "ticket-created"?'
    assert hints[18] == 'did you mean "status"?'
    assert hints[22] == "one of severity, unused"


def test_a_fault_names_its_file(tmp_path):
    assert str(faults_of(tmp_path, "kind: mapping\n")[0]).startswith(f"{tmp_path / 'mapping.yaml'}:1: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a: [", "is no YAML"),
        ("- a\n", "is empty, or no table"),
        ("kind: mapping\nname: a\nname: b\n", "is no YAML"),
        ("kind: policy\nname: a\nreads: payloads\n", 'kind "policy"'),
        ("kind: mapping\nname: a\nreads: everything\n", 'reads "everything" is not known'),
        ("kind: mapping\nname: a\nreads: payloads\n", '"events" is missing'),
        ("kind: mapping\nname: a\nreads: snapshots\n", '"snapshots" is missing'),
    ],
)
def test_a_file_that_is_no_mapping_says_why(tmp_path, text, message):
    assert any(message in str(fault) for fault in faults_of(tmp_path, text))


def test_a_pattern_without_a_zone_is_refused_rather_than_guessed(tmp_path):
    text = (EXAMPLES / "servicenow" / "mapping.yaml").read_text(encoding="utf-8").replace(", zone: UTC", "")
    (fault,) = faults_of(tmp_path, text)
    assert "name no zone" in fault.message


def test_a_missing_file_is_a_fault_and_no_traceback(tmp_path):
    with pytest.raises(mapping.MappingError, match="cannot be read"):
        mapping.load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_shipped_mappings_are_right_by_their_schema_too(file):
    schema = json.loads((ROOT / "schemas" / "files" / "mapping.schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.validator_for(schema).validate(as_json(YAML(typ="safe").load(file)))


def test_the_schema_refuses_the_planted_faults_too():
    schema = json.loads((ROOT / "schemas" / "files" / "mapping.schema.json").read_text(encoding="utf-8"))
    assert not jsonschema_rs.validator_for(schema).is_valid(as_json(YAML(typ="safe").load(PLANTED)))


def as_json(node):
    """YAML's keys may be numbers and booleans, JSON's are words."""
    if isinstance(node, dict):
        return {str(key).lower() if isinstance(key, bool) else str(key): as_json(value) for key, value in node.items()}
    return [as_json(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b", 1),
        ("list.1.n", "two"),
        ("list[n=one].m", 10),
        ("list[n=two].m", 20),
        ("list[n=three].m", None),
        ("a b", "with a space"),
    ],
)
def test_a_path_finds_its_value(text, value):
    record = {"a": {"b": 1}, "a b": "with a space", "list": [{"n": "one", "m": 10}, {"n": "two", "m": 20}]}
    found = path(text)(record)
    assert found == value or (value is None and not isinstance(found, (int, str)))


def test_a_template_pads_a_number_and_refuses_an_empty_place():
    made = template("{n}/{row:4}")
    assert made({"n": "INC1", "row": 7}) == "INC1/0007"
    with pytest.raises(Unmapped):
        made({"n": "INC1"})
