// What the page shows, and when it is drawn again.

import { h } from "./vendor/preact.mjs";
import htm from "./vendor/htm.mjs";

/** html`<p>…</p>`: elements from a template. */
export const html = htm.bind(h);

/** The state of the whole page. It is changed only by `update`. */
export const state = {
  language: "en",
  view: "classes", // classes, collection, quality, use
  trouble: "", // why the service does not work at present: disconnected, not_stored
  restarted: false, // since this page was opened
  expired: false, // the service no longer knows this browser
  info: null, // GET /v1/info
  projects: [],
  project: null, // GET /v1/projects/{p}; `draft` while it is only here
  photos: {}, // class id → {total, offset, items} of the photos that are shown
  opened: null, // id of the class whose photos are all shown, page by page
  selected: null, // id of the photo that is to be moved or deleted
  editing: null, // id of the class whose names are edited
  uploads: { total: 0, done: 0, failed: [] },
  camera: null, // what is filmed for: a class id, "answer", or null
  asked: null, // the photo in the test area: {file, url, prediction, error}
  collection: { classId: null, shown: "open", offset: 0, page: null, uncertain: [], selected: null },
  report: null,
  message: null, // {said: a text or an error, undo: whether to offer it}
  dialog: null, // "projects"
};

let draw = () => {};
let isWaiting = false;

/** Call `f` after changes, once for all that happen before the next frame. */
export function whenChanged(f) {
  draw = f;
}

/** Change parts of the state, and draw the page again. */
export function update(changes = {}) {
  Object.assign(state, changes);
  if (isWaiting) return;
  isWaiting = true;
  queueMicrotask(() => {
    isWaiting = false;
    draw();
  });
}

let expiry = 0;

/** Show a message for some seconds; one with Undo stays longer. */
export function say(said, { undo = false } = {}) {
  clearTimeout(expiry);
  update({ message: { said, undo } });
  expiry = setTimeout(() => update({ message: null }), undo ? 10_000 : 6_000);
}

/** Run an action, and show its error instead of throwing it; the action's result, undefined after an error. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (error.status === 401) update({ expired: true });
    else say(error);
    return undefined;
  }
}

/** A function that runs `action`; calls during that become one further run after it, since what it reads may have changed. */
export function coalesced(action) {
  let running = null;
  let isStale = false;
  const run = async () => {
    do {
      isStale = false;
      await attempt(action);
    } while (isStale);
    running = null;
  };
  return () => {
    isStale = true;
    running ??= run();
    return running;
  };
}
