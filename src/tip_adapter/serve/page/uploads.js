// Photos on their way to the service: read from drops, pickers and the clipboard, and sent as they are, a few at once.

import { Problem } from "./api.js";
import { state, update } from "./store.js";
import { t } from "./i18n.js";

const AT_ONCE = 4;
const IMAGE_NAME = /\.(avif|bmp|gif|heic|heif|jpe?g|jfif|png|tiff?|webp)$/i;

// Photos of classes go before those of a collection, which can be thousands.
const waiting = { first: [], later: [] };
let nSending = 0;

/**
 * Send files; `first`: before those of a collection that wait already.
 *
 * Each job is {name, size, send}; `send()` is called again, with the same ids, if the person tries a failed one again.
 */
export function upload(jobs, { first = false } = {}) {
  const { uploads } = state;
  const isOver = uploads.done + uploads.failed.length === uploads.total;
  const before = isOver ? { total: uploads.failed.length, done: 0, failed: uploads.failed } : uploads;
  update({ uploads: { ...before, total: before.total + jobs.length } });
  waiting[first ? "first" : "later"].push(...jobs);
  sendNext();
}

/** Send those again that failed. */
export function retryFailed() {
  const { uploads } = state;
  const jobs = uploads.failed.map(({ job }) => job);
  update({ uploads: { ...uploads, total: uploads.total - jobs.length, failed: [] } });
  upload(jobs);
}

/** Whether photos would be lost if the page were closed now. */
export const isUploading = () => nSending + waiting.first.length + waiting.later.length > 0;

/** Forget those that failed. */
export function dismissFailed() {
  const { uploads } = state;
  update({ uploads: { ...uploads, total: uploads.total - uploads.failed.length, failed: [] } });
}

function sendNext() {
  while (nSending < AT_ONCE) {
    const job = waiting.first.shift() ?? waiting.later.shift();
    if (!job) return;
    nSending += 1;
    send(job).finally(() => {
      nSending -= 1;
      sendNext();
    });
  }
}

async function send(job) {
  try {
    const most = state.info?.max_body_bytes ?? Infinity;
    if (job.size === 0) throw new Problem(422, { code: "empty_file", detail: t("empty_file") });
    if (job.size > most) throw new Problem(413, { code: "too_large", detail: t("too_large", job.size, most) });
    await job.send();
    update({ uploads: { ...state.uploads, done: state.uploads.done + 1 } });
  } catch (error) {
    update({ uploads: { ...state.uploads, failed: [...state.uploads.failed, { job, reason: error }] } });
  }
}

/** The photos of a list of files: folders chosen as a whole have other files, too. */
export function photosOf(files) {
  return [...files].filter((file) => file.type.startsWith("image/") || IMAGE_NAME.test(file.name));
}

/** The name of a file with the folders that it came in. */
export function pathOf(file) {
  return file.pathInDrop || file.webkitRelativePath || file.name;
}

/** The photos of a drop, those in folders too. The browser forgets the drop as soon as the event is over, so call it there. */
export async function droppedPhotos(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return photosOf(transfer.files);
  return photosOf((await Promise.all(entries.map(filesUnder))).flat());
}

async function filesUnder(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.pathInDrop = entry.fullPath.replace(/^\//, "");
    return [file];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100
    if (!some.length) break;
    inside.push(...some);
  }
  inside.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const files = [];
  for (const child of inside) files.push(...(await filesUnder(child)));
  return files;
}
