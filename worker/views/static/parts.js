// What both halves of the page use: text into elements, instants and lengths into words.
export const TOKEN = "sla-token";

export const headers = () => {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
};

export const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

const moment = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const local = (text) => moment.format(new Date(text));
export const words = (name) => name.replaceAll("_", " ");

export const length = (ms) => {
  const all = Math.floor(Math.abs(ms) / 1000), days = Math.floor(all / 86400), hours = Math.floor(all / 3600) % 24;
  const two = (part) => String(part).padStart(2, "0"), minutes = Math.floor(all / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${two(minutes)} min`;
  return minutes >= 10 ? `${minutes} min` : `${minutes}:${two(all % 60)} min`;
};
