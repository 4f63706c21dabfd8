// The board: one stream of answers, drawn into tables whose rows stay the same elements, so that focus stays where it is.
// Everything that comes from outside becomes text, never markup.
import { TOKEN, element, headers, length, local, words } from "./parts.js";
import { close, show } from "./ticket.js";

const SOON = 30 * 60_000, URGENT = 5 * 60_000, FEW = 3, QUIET = 40_000;
const number = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const hour = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const at = (id) => document.getElementById(id);
const filters = ["office", "severity", "plan"];
const limits = { broken: FEW, handoffs: FEW, coming: 100 };
let answer = null, ahead = 0, stream = null, wait = 1000, expires = 0;

// ---- asking

const asked = () => {
  const query = new URLSearchParams();
  for (const name of filters) if (at(name).value !== "*") query.set(name, at(name).value);
  return query;
};

const listen = async () => {
  stream?.abort();
  const mine = (stream = new AbortController());
  const query = asked();
  query.set("limit", Math.max(...Object.values(limits)));
  try {
    const response = await fetch(`/api/events?${query}`, { headers: headers(), signal: mine.signal, cache: "no-store" });
    if (response.status === 401) return login();
    if (!response.ok) throw new Error(`the worker answers ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error("the worker has ended the stream");
      alive(mine);
      text += value;
      const parts = text.split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("");
        if (data) take(JSON.parse(data));
      }
    }
  } catch (error) {
    if (stream !== mine || mine.signal.reason === "hidden") return;
    state("away", `no connection: ${error.message ?? error}; trying again`);
    setTimeout(() => stream === mine && listen(), wait);
    wait = Math.min(wait * 2, 10_000);
  }
};

const alive = (mine) => {
  clearTimeout(expires);
  expires = setTimeout(() => mine.abort(new Error("nothing came for a while")), QUIET);
};

const login = () => {
  state("away", "a token is needed");
  if (!at("login").open) at("login").showModal();
};

const state = (kind, text) => {
  at("lamp").className = `lamp ${kind}`;
  if (at("state").textContent !== text) at("state").textContent = text;
};

// ---- drawing

const take = (found) => {
  answer = found;
  ahead = found.ticks ? Date.parse(found.at) - Date.now() : 0;
  wait = 1000;
  const { of, silent } = found.lanes;
  state("live", found.source === "redis" ? `live, ${of - silent.length} of ${of} lanes` : "live, one worker only");
  draw();
};

const now = () => (answer?.ticks ? Date.now() + ahead : Date.parse(answer?.at ?? 0));

const draw = () => {
  const { totals, timers, broken, handoffs, reports, notes, lanes, source } = answer;
  const said = [...notes];
  if (source === "redis" && lanes.silent.length) said.push(`${lanes.silent.length} of ${lanes.of} lanes have not been heard of for a while: what they hold may be missing or old`);
  if (source === "redis" && lanes.filling.length) said.push(`${lanes.filling.length} of ${lanes.of} lanes are being read anew`);
  if (!answer.ticks) said.push("event time: the clock stands until the next event");
  at("notes").hidden = !said.length;
  at("notes").replaceChildren(...said.map((text) => element("li", text)));

  figure("broken", totals.broken);
  figure("coming", totals.live - totals.broken - totals.paused);
  figure("paused", totals.paused);
  figure("handoffs", answer.handoffs_open);
  choices("office", answer.offices);
  choices("severity", answer.severities);
  choices("plan", answer.plans);
  at("clear").hidden = filters.every((name) => at(name).value === "*");

  at("broken-section").hidden = !broken.length;
  fill("broken", ["Ticket", "Overdue", ...timers_head.slice(2)], broken.slice(0, limits.broken), timer_key, timer_row);
  more("broken", broken.length, totals.broken);
  fill("coming", timers_head, timers.slice(0, limits.coming), timer_key, timer_row);
  more("coming", timers.length, totals.live - totals.broken);
  at("no-coming").hidden = timers.length > 0;
  at("handoffs-section").hidden = !handoffs.length;
  const handoffs_head = ["Ticket", "Boundary", "State", "Severity", "From", "To", "Owner", "At"];
  fill("handoffs", handoffs_head, handoffs.slice(0, limits.handoffs), (one) => one.ticket_id, handoff_row);
  more("handoffs", handoffs.length, handoffs.length);
  fill("reports", ["Office", "Shift ended", "Open critical", "Breaches", "Warnings", "Due next shift", "Handed over", "Missed"], reports, (one) => one.office, report_row);
  at("reports-section").hidden = !reports.length;
  tick();
};

const figure = (name, value) => {
  const place = at(`total-${name}`), text = number.format(value);
  if (place.textContent !== text) place.textContent = text;
  place.parentElement.classList.toggle("some", value > 0);
};

const choices = (name, counts) => {
  const select = at(name), chosen = select.value;
  const wanted = [["*", "all"], ...counts.map((one) => [one[name], `${one[name] || "none"} (${number.format(one.live)})`])];
  if (chosen !== "*" && !counts.some((one) => one[name] === chosen)) wanted.push([chosen, `${chosen || "none"} (0)`]);
  const same = wanted.length === select.options.length && wanted.every(([value, text], n) => select.options[n].value === value && select.options[n].text === text);
  if (same) return;
  select.replaceChildren(...wanted.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
  select.value = chosen;
};

const more = (name, listed, all) => {
  const button = at(`more-${name}`), shown = Math.min(listed, limits[name]);
  button.hidden = shown >= all;
  button.disabled = limits[name] >= 500;
  button.textContent = button.disabled ? `${number.format(all - shown)} more; filter to see them` : `Show more (${number.format(all - shown)})`;
};

const timers_head = ["Ticket", "Left", "Promise", "Severity", "Plan", "Office", "Customer", "Due"];
const timer_key = (one) => `${one.ticket_id}\u001f${one.metric}\u001f${one.cycle}`;

const fill = (id, head, items, key, row) => {
  const table = at(id);
  table.hidden = !items.length;
  if (!table.tHead) {
    const line = table.createTHead().insertRow();
    line.setAttribute("role", "row");
    for (const text of head) {
      const cell = element("th", text);
      cell.scope = "col";
      cell.setAttribute("role", "columnheader");
      line.append(cell);
    }
    table.createTBody();
    table.tBodies[0].setAttribute("role", "rowgroup");
    table.tHead.setAttribute("role", "rowgroup");
  }
  const body = table.tBodies[0], had = new Map([...body.rows].map((one) => [one.dataset.key, one])), first = !had.size;
  let place = body.firstElementChild;
  for (const item of items) {
    const name = key(item), print = JSON.stringify(item);
    let line = had.get(name);
    had.delete(name);
    if (!line) {
      line = element("tr");
      line.setAttribute("role", "row");
      line.dataset.key = name;
      if (!first) line.classList.add("fresh");
    }
    if (line.print !== print) {
      line.print = print;
      const focused = line.contains(document.activeElement);
      line.replaceChildren(...row(item).map((cell) => (cell.setAttribute("role", "cell"), cell)));
      if (focused) line.querySelector("button")?.focus();
    }
    if (line === place) place = place.nextElementSibling;
    else body.insertBefore(line, place);
  }
  for (const line of had.values()) line.remove();
};

const cell = (text, kind, label) => {
  const made = element("td", text, kind);
  if (label) made.dataset.label = label;
  return made;
};

const ticket_cell = (id) => {
  const made = cell(undefined, "ticket"), button = element("button", id);
  button.type = "button";
  button.addEventListener("click", () => open(id));
  made.append(button);
  return made;
};

const severity_cell = (name) => {
  const made = cell();
  made.append(element("span", name ?? "none", `sev ${name ?? ""}`));
  return made;
};

const on_its_day = (text) => {
  const is_today = new Date(text).toDateString() === new Date(now()).toDateString();
  return is_today ? hour.format(new Date(text)) : local(text);
};

const when = (text, label) => {
  const made = cell(undefined, "at", label);
  if (!text) return made;
  const time = element("time", on_its_day(text));
  time.dateTime = time.title = text;
  made.append(time);
  return made;
};

const left = (due) => {
  const made = cell(undefined, "left");
  made.dataset.due = due ?? "";
  return made;
};

const timer_row = (one) => {
  const promise = cell(`${words(one.metric)}${one.cycle > 1 ? ` ${one.cycle}` : ""}, ${one.target}`);
  if (one.state === "paused") promise.append(element("span", "paused", "mark"));
  else if (one.breached) promise.append(element("span", "breach sent", "mark"));
  else if (one.warned) promise.append(element("span", `warned ${mark(one.warned)}`, "mark warned"));
  return [
    ticket_cell(one.ticket_id), left(one.due), promise, severity_cell(one.severity), cell(one.plan ?? "", "", "plan"),
    cell(one.office ?? "", "", "office"), cell(one.customer ?? "", "", "customer"), when(one.due, "due"),
  ];
};

const mark = (text) => (/^0?\.\d+$/.test(text) ? `at ${Math.round(Number(text) * 1000) / 10} %` : `${text} before`);

const handoff_row = (one) => [
  ticket_cell(one.ticket_id), left(one.boundary), cell(words(one.state), one.state === "missed" || one.state === "escalated" ? "broken-word" : ""),
  severity_cell(one.severity), cell(one.from, "", "from"), cell(one.to, "", "to"), cell(one.owner ?? "", "", "owner"), when(one.boundary, "at"),
];

const report_row = (one) => [
  cell(one.office, "ticket"), when(one.boundary, "ended"), cell(number.format(one.open_critical), "number", "open critical"),
  cell(number.format(one.breaches), "number", "breaches"), cell(number.format(one.warnings), "number", "warnings"),
  cell(number.format(one.dues_next_shift), "number", "due next shift"), cell(number.format(one.handoffs.completed), "number", "handed over"),
  cell(number.format(one.handoffs.missed), "number", "missed"),
];

// ---- every second

const tick = () => {
  if (!answer) return;
  const instant = now();
  at("clock").textContent = clock.format(new Date(instant));
  at("clock").dateTime = new Date(instant).toISOString();
  let soon = 0;
  for (const place of document.querySelectorAll("td.left")) {
    const { due } = place.dataset, rest = Date.parse(due) - instant, row = place.parentElement;
    const handoff = row.closest("#handoffs") !== null, timer = row.closest("#coming") !== null;
    const text = !due ? "no due" : rest >= 0 ? (handoff ? `in ${length(rest)}` : length(rest)) : `${length(rest)} ${handoff ? "ago" : "late"}`;
    if (place.textContent !== text) place.textContent = text;
    row.classList.toggle("broken", due !== "" && rest < 0);
    row.classList.toggle("soon", due !== "" && rest >= 0 && rest < SOON);
    row.classList.toggle("urgent", timer && due !== "" && rest >= 0 && rest < URGENT);
    if (timer && due !== "" && rest >= 0 && rest < SOON) soon += 1;
  }
  const all = soon >= limits.coming && answer.timers.length >= limits.coming;
  at("total-soon").textContent = number.format(soon) + (all ? "+" : "");
  at("total-soon").parentElement.classList.toggle("some", soon > 0);
};

// ---- people

const address = (ticket) => {
  const query = asked();
  if (ticket) query.set("ticket", ticket);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
};

const open = (id) => {
  address(id);
  show(id);
};

for (const name of filters) {
  at(name).addEventListener("change", () => {
    limits.coming = 100;
    address();
    listen();
  });
}
at("clear").addEventListener("click", () => {
  for (const name of filters) at(name).value = "*";
  address();
  listen();
});
for (const name of ["broken", "handoffs", "coming"]) {
  at(`more-${name}`).addEventListener("click", () => {
    limits[name] = Math.min(500, limits[name] === FEW ? 100 : limits[name] + 200);
    draw();
    listen();
  });
}
at("ticket").addEventListener("close", () => address());
at("close").addEventListener("click", close);
at("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value);
  at("token").value = "";
  at("login").close();
  listen();
});
document.addEventListener("visibilitychange", () => (document.hidden ? stream?.abort("hidden") : listen()));

const given = new URLSearchParams(location.search);
for (const name of filters) {
  if (!given.has(name)) continue;
  const option = element("option", given.get(name) || "none");
  option.value = given.get(name);
  at(name).append(option);
  at(name).value = given.get(name);
}
setInterval(tick, 1000);
listen();
if (given.get("ticket")) show(given.get("ticket"));
