// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** What stands where there is nothing to say. */
export const NONE = "–";

export const count = (value) => (value === null || value === undefined ? NONE : value < 100000 ? whole.format(value) : compact.format(value));

/** Requests per second. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0/s";
  if (value < 0.1) return "<0.1/s";
  return `${value < 10 ? one.format(value) : value < 10000 ? whole.format(value) : compact.format(value)}/s`;
}

/** Of requests that did not fail. Never rounded up to all of them. */
export function success(requests, failures) {
  if (!requests) return NONE;
  if (!failures) return "100 %";
  const part = (100 * (requests - failures)) / requests;
  const digits = part > 99.9 ? 100 : 10;
  return `${(digits === 100 ? two : one).format(Math.floor(part * digits) / digits)} %`;
}

export const percent = (value) => (value === null || value === undefined ? NONE : `${value === 0 || value >= 99.95 ? whole.format(value) : one.format(value)} %`);

export function millis(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 1) return `${two.format(value)} ms`;
  if (value < 10) return `${one.format(value)} ms`;
  if (value < 1000) return `${whole.format(value)} ms`;
  return `${one.format(value / 1000)} s`;
}

/** A time span. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 1) return "<1 s";
  if (seconds < 90) return `${whole.format(seconds)} s`;
  if (seconds < 5400) return `${whole.format(seconds / 60)} min`;
  if (seconds < 129600) return `${whole.format(seconds / 3600)} h`;
  return `${whole.format(seconds / 86400)} d`;
}

export const ago = (seconds) => (seconds === null || seconds === undefined ? NONE : `${span(seconds)} ago`);

/** An RFC 3339 time in the reader's time zone; the day only when it is another. */
export function time(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return String(text);
  const clock = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? clock : `${at.toLocaleDateString("sv-SE")} ${clock}`;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? one.format(value) : whole.format(value)} ${units[unit]}`;
}

/** `1 endpoint`, `2 endpoints`. */
export const several = (number, name) => `${count(number)} ${name}${number === 1 ? "" : "s"}`;
