// Parts that several views are made of.

import { html } from "./store.js";
import { droppedPhotos, photosOf } from "./uploads.js";
import { pathIn } from "./project.js";
import { explained, t } from "./i18n.js";

const ICONS = {
  add: "M12 5v14M5 12h14",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z",
  close: "M6 6l12 12M18 6L6 18",
  delete: "M5 7h14M10 4h4M7 7l1 13h8l1-13M10 11v5M14 11v5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  folder: "M3 6h6l2 2h10v11H3z",
  photos: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  switch: "M12 4v8M7 7a7 7 0 1 0 10 0",
  undo: "M9 7L4 12l5 5M4 12h10a5 5 0 0 1 0 10h-2",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

/** A text; or an error in the language of the page, with the service's own words in small print. */
export function Said({ what }) {
  if (!(what instanceof Error)) return what;
  const { text, detail } = explained(what);
  return html`${text}${detail && html` <small lang="en">${detail}</small>`}`;
}

/** A button with an icon only; `label` is its name for those who do not see it. */
export function IconButton({ name, label, ...rest }) {
  return html`<button type="button" class="icon-button" aria-label=${label} title=${label} ...${rest}><${Icon} name=${name} /></button>`;
}

/** A button that opens the browser's choice of photos, or of a folder. */
export function Picker({ label, icon = "photos", folder = false, onPhotos, accept = "image/*", many = true }) {
  const chosen = (event) => {
    const files = folder || accept === "image/*" ? photosOf(event.target.files) : [...event.target.files];
    event.target.value = ""; // so that choosing the same file again is a change
    if (files.length) onPhotos(files);
  };
  return html`<label class="button picker">
    <${Icon} name=${icon} /><span>${label}</span>
    <input type="file" class="unseen" accept=${accept} multiple=${many} webkitdirectory=${folder} onChange=${chosen} />
  </label>`;
}

/** The handlers of an element that photos can be dropped on. */
export function dropTarget(onPhotos) {
  const mark = (event, isOver) => event.currentTarget.classList.toggle("is-over", isOver);
  return {
    onDragOver: (event) => {
      event.preventDefault();
      mark(event, true);
    },
    onDragLeave: (event) => mark(event, false),
    onDrop: async (event) => {
      event.preventDefault();
      event.stopPropagation();
      mark(event, false);
      const photos = await droppedPhotos(event.dataTransfer);
      if (photos.length) onPhotos(photos);
    },
  };
}

/** The address of a small version of a photo; `kind` is "examples" or "collection". */
export function thumbnail(kind, id) {
  return `/v1${pathIn(kind, id, "thumbnail")}`;
}

export function percent(share, digits = 0) {
  return new Intl.NumberFormat(document.documentElement.lang, {
    style: "percent",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(share);
}

/** One labelled bar; `mark` draws a line at that share, `low` and `high` an interval. */
export function Bar({ label, share, text = percent(share), strong = false, mark = null, low = null, high = null }) {
  const width = (value) => `${100 * Math.max(0, Math.min(1, value))}%`;
  return html`<li class=${strong ? "bar is-strong" : "bar"} aria-label=${`${label}: ${text}`}>
    <span class="bar-label" dir="auto" title=${label}>${label}</span>
    <span class="bar-track" aria-hidden="true">
      <span class="bar-fill" style=${{ width: width(share) }}></span>
      ${low !== null && html`<span class="bar-interval" style=${{ left: width(low), width: width(high - low) }}></span>`}
      ${mark !== null && html`<span class="bar-mark" style=${{ left: width(mark) }}></span>`}
    </span>
    <span class="bar-value">${text}</span>
  </li>`;
}

/** Links to the other pages of a list of photos; nothing if one page has them all. */
export function Pages({ total, offset, size, onOffset }) {
  if (total <= size) return null;
  return html`<nav class="pages" aria-label=${t("pages")}>
    <button type="button" disabled=${!offset} onClick=${() => onOffset(Math.max(0, offset - size))}>${t("previous")}</button>
    <span>${t("range", offset + 1, Math.min(total, offset + size), total)}</span>
    <button type="button" disabled=${offset + size >= total} onClick=${() => onOffset(offset + size)}>${t("next")}</button>
  </nav>`;
}
