// One ticket: what is promised, and each due explained interval by interval, as `sla-worker explain` does it.
import { element, headers, length, local, words } from "./parts.js";

const at = (id) => document.getElementById(id);
let asked = "";

export const close = () => at("ticket").close();

export const show = async (id) => {
  asked = id;
  at("ticket-title").textContent = id;
  at("ticket-body").replaceChildren(element("p", "asking the worker that has it", "quiet"));
  if (!at("ticket").open) at("ticket").showModal();
  let parts;
  try {
    const response = await fetch(`/api/tickets/${encodeURIComponent(id)}`, { headers: headers(), cache: "no-store" });
    const found = await response.json();
    parts = response.ok ? drawn(found) : elsewhere(found, id);
  } catch (error) {
    parts = [element("p", `no answer: ${error.message}`)];
  }
  if (asked === id) at("ticket-body").replaceChildren(...parts);
};

const elsewhere = (found, id) => {
  const said = element("p", `${found.error}. `);
  if (found.owner) {
    const link = element("a", `Open it on ${found.owner.host} (${found.owner.url})`);
    if (/^https?:\/\//.test(found.owner.url)) link.href = `${found.owner.url}?ticket=${encodeURIComponent(id)}`;
    said.append(link);
  }
  return [said];
};

const drawn = (found) => {
  if (!found.created) return [element("p", "Its creation has not come: nothing is promised yet.")];
  const severity = found.severity === found.reported_severity ? found.severity : `${found.severity ?? "none"}, reported as ${found.reported_severity ?? "nothing"}`;
  const facts = element("dl", undefined, "facts");
  const every = [
    ["Opened", local(found.opened_at)], ["Status", found.status], ["Severity", severity], ["Plan", `${found.plan_applied ?? "none"} (${words(found.plan_reason)})`],
    ["Policy", `${found.policy.name} ${found.policy.version}`], ["Owner", found.office], ["Customer", found.customer], ["Product", found.product], ["Region", found.region],
    ["Notes", found.notes.map(words).join(", ")],
  ];
  for (const [name, value] of every) {
    if (!value) continue;
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    facts.append(pair);
  }
  const promises = found.timers.toReversed().map(promise);
  if (!promises.length) promises.push(element("p", "No timer: nothing is promised for this ticket."));
  return [facts, ...promises, ...handoffs(found.handoffs)];
};

const promise = (timer) => {
  const box = element("section", undefined, "promise");
  const state = timer.ended_at ? `${timer.state} ${local(timer.ended_at)}` : timer.state;
  box.append(element("h3", `${words(timer.metric)} ${timer.cycle}: ${timer.target} on ${timer.calendar}, ${state}`));
  const due = element("p", timer.due ? `Due ${local(timer.due)} (${timer.due})` : `No due while it is ${timer.state}`);
  if (timer.breached) due.append(element("strong", " – broken", "broken-word"));
  box.append(due, element("p", `Promised by: ${timer.clause ?? "the policy"}`, "quiet"));
  if (!timer.proof.length) return box;
  box.append(strip(timer.proof), proof(timer.proof));
  return box;
};

const strip = (steps) => {
  const made = element("div", undefined, "strip");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", "The whole span: filled parts count, hatched ones do not; the table says why");
  for (const step of steps) {
    const part = element("i", undefined, step.counted ? "counts" : "");
    part.style.flexGrow = step.seconds;
    part.title = step.why;
    made.append(part);
  }
  return made;
};

const proof = (steps) => {
  const table = element("table", undefined, "proof");
  const head = table.createTHead().insertRow();
  for (const text of ["From", "To", "Length", "Counts", "Why", "Together"]) {
    const cell = element("th", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const step of steps) {
    const row = body.insertRow();
    if (step.counted) row.className = "counts";
    const cells = [
      ["from", local(step.from)], ["to", local(step.to)], ["length", length(step.seconds * 1000)], ["counts", step.counted ? "yes" : "no"],
      ["", step.why], ["together", step.counted ? length(step.total_seconds * 1000) : ""],
    ];
    for (const [label, text] of cells) {
      const cell = element("td", text);
      if (label && text) cell.dataset.label = label;
      row.append(cell);
    }
  }
  return table;
};

const handoffs = (found) => {
  if (!found.length) return [];
  const box = element("section", undefined, "promise");
  box.append(element("h3", "Handoffs"));
  for (const one of found) {
    const taken = one.taken_by ? `, taken by ${one.taken_by}` : "", why = one.reason ? ` (${words(one.reason)})` : "";
    box.append(element("p", `${local(one.boundary)}: ${one.from} to ${one.to}, ${words(one.state)}${taken}${why}`));
  }
  return [box];
};
