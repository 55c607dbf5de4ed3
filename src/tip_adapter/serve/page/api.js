// Requests to the service's public API. Those that can be repeated without harm are repeated until it answers: ids are made
// here, so that a photo that arrived twice is kept once.

import { t } from "./i18n.js";

const LONGEST_PAUSE_MS = 4000;
/** Statuses that say, before anything is done, that the same request may be accepted a little later. */
const BUSY = [429, 503];
const watchers = new Set();
let trouble = "";

/** An answer that says no: `code` is stable, `message` says what was found and what to do. */
export class Problem extends Error {
  constructor(status, { code = "unknown", detail = `HTTP ${status}` } = {}) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** A UUID; crypto.randomUUID is missing on pages that came over plain HTTP from another machine. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The address of a path with a query; undefined values are left out. */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return `/v1${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** watchConnection(f): f("", "disconnected" or "not_stored") is called when the service works again, or no longer. */
export function watchConnection(watcher) {
  watchers.add(watcher);
}

function setTrouble(value) {
  if (trouble === value) return;
  trouble = value;
  for (const watcher of watchers) watcher(value);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * The JSON of an answer, null if it has none.
 *
 * `json` or `body` is what is sent. While the service cannot be reached, the request is repeated if `repeatable`; while it
 * is too busy (which it says before it does anything), always. Any other error throws Problem.
 */
export async function request(method, path, { query, json, body, repeatable = method !== "POST" } = {}) {
  const options = { method, body: json === undefined ? body : JSON.stringify(json), credentials: "same-origin" };
  if (json !== undefined) options.headers = { "content-type": "application/json" };
  else if (body instanceof Blob) options.headers = { "content-type": "application/octet-stream" };
  for (let wait = 250; ; wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
    let response, text;
    try {
      response = await fetch(address(path, query), options);
      text = await response.text();
    } catch {
      if (!(await canBeRead(body))) throw new Problem(0, { code: "unreadable_file", detail: t("unreadable_file") });
      setTrouble("disconnected");
      if (!repeatable) throw new Problem(0, { code: "unreachable", detail: t("unreachable") });
      await pause(wait);
      continue;
    }
    const isJson = /[/+]json/.test(response.headers.get("content-type") ?? "");
    if (BUSY.includes(response.status)) {
      // A database may be read-only for hours: whoever waits for a photo is to know why.
      if (isJson && JSON.parse(text).code === "database_unavailable") setTrouble("not_stored");
      await pause(1000 * Number(response.headers.get("retry-after") ?? wait / 1000));
      continue;
    }
    // Reading may work while nothing can be stored.
    if (trouble === "disconnected" || method !== "GET") setTrouble("");
    if (!response.ok) throw new Problem(response.status, isJson ? JSON.parse(text) : {});
    return isJson ? JSON.parse(text) : null;
  }
}

/** A file that was moved or changed since it was chosen fails like a lost connection, and would be sent without end. */
async function canBeRead(body) {
  if (!(body instanceof Blob)) return true;
  try {
    await body.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
