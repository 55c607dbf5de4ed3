// The view "Collection": photos without labels, sorted by a class.

import { Component } from "./vendor/preact.mjs";
import { address, newId, request } from "./api.js";
import { attempt, coalesced, html, state, update } from "./store.js";
import { dropTarget, Icon, IconButton, Pages, percent, Picker, thumbnail } from "./parts.js";
import { afterChange, classOf, labelOf, PAGE, pathIn, refresh } from "./project.js";
import { pathOf, upload } from "./uploads.js";
import { t } from "./i18n.js";

const N_UNCERTAIN = 8;
const PENDING_MS = 1000;

let timer = 0;

/** The class that the photos are sorted by. */
function chosenClass() {
  const named = state.project.classes.filter((one) => !one.is_none);
  return named.find(({ id }) => id === state.collection.classId) ?? named[0];
}

const change = (changes) => update({ collection: { ...state.collection, ...changes } });

/** Read the page of photos that is shown, and those least certain, if they are seen. */
export const readCollection = coalesced(readOnce);

async function readOnce() {
  if (state.view !== "collection" || state.project.draft) return;
  const { id } = state.project;
  const { shown, offset } = state.collection;
  const query = { class_id: chosenClass()?.id, order: "certain", state: shown, offset, limit: PAGE };
  const least = { class_id: query.class_id, order: "uncertain", state: "open", limit: N_UNCERTAIN };
  const [page, uncertain] = await Promise.all([
    request("GET", pathIn("collection"), { query }),
    request("GET", pathIn("collection"), { query: least }),
  ]);
  if (state.project.id !== id) return;
  change({ page, uncertain: uncertain.photos });
  if (page.n_pending) readSoon();
}

afterChange(readCollection);

export function addToCollection(files) {
  upload(files.map((file) => {
    const id = newId();
    const send = () => request("PUT", pathIn("collection", id), { query: { filename: pathOf(file) }, body: file });
    return { name: pathOf(file), size: file.size, send: () => send().then(readSoon) };
  }));
}

/** Thousands arrive one after the other: the list is read again about once a second. */
function readSoon() {
  timer ||= setTimeout(() => {
    timer = 0;
    readCollection();
  }, PENDING_MS);
}

// ---- labels ----------------------------------------------------------------------------------------------------------

/** Label a photo, {class_id} or {not_class_id}; null takes its label back. The next photo is selected then. */
function label(photo, json) {
  return attempt(async () => {
    const place = document.activeElement?.closest("[data-photo]");
    const list = place?.closest("ul");
    const index = place ? [...list.children].indexOf(place) : -1;
    await request(json ? "POST" : "DELETE", pathIn("collection", photo.id, "label"), { json: json ?? undefined, repeatable: true });
    await readCollection();
    refresh();
    if (index >= 0) requestAnimationFrame(() => focusPhoto(list, index));
  });
}

function focusPhoto(list, index) {
  const next = list.children[Math.min(Math.max(index, 0), list.children.length - 1)];
  next?.querySelector(".photo").focus();
}

function remove(photo) {
  return attempt(async () => {
    await request("DELETE", pathIn("collection", photo.id));
    change({ selected: null });
    await readCollection();
  });
}

/** Y and N answer for the photo that has the focus; the arrows go to another one. */
function photoKeys(event, photo) {
  const one = chosenClass();
  const key = event.key.toLowerCase();
  const steps = { arrowright: 1, arrowleft: -1 };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "y" && isEncoded(photo)) label(photo, { class_id: one.id });
  else if (key === "n" && isEncoded(photo)) label(photo, { not_class_id: one.id });
  else if (key in steps) {
    const list = event.currentTarget.closest("ul");
    focusPhoto(list, [...list.children].indexOf(event.currentTarget.closest("li")) + steps[key]);
  } else return;
  event.preventDefault();
}

// ---- view ------------------------------------------------------------------------------------------------------------

export function Collection() {
  const { page, selected, shown } = state.collection;
  const uncertain = state.collection.uncertain.filter(isEncoded);
  const one = chosenClass();
  const isEmpty = !page || (!page.total && !page.n_pending && shown !== "labelled" && !state.project.n_collection);
  const photo = [...(page?.photos ?? []), ...uncertain].find(({ id }) => id === selected);
  return html`<section class="collection" aria-labelledby="collection-title" data-collection ...${dropTarget(addToCollection)}>
    <header class="section-head">
      <h2 id="collection-title">${t("collection")}</h2>
      <p class="note">${t("collection_hint")}</p>
      <div class="row">
        <${Picker} label=${t("choose_folder")} icon="folder" folder onPhotos=${addToCollection} />
        <${Picker} label=${t("photos")} onPhotos=${addToCollection} />
        ${!isEmpty && html`<a class="button" href=${address(pathIn("collection.csv"))} download><${Icon} name="download" /><span>${t("csv")}</span></a>`}
      </div>
    </header>
    ${isEmpty && html`<p class="drop-hint"><${Icon} name="folder" />${t("collection_empty")}</p>`}
    ${!isEmpty && !one && html`<p class="drop-hint">${t("needs_class")}</p>`}
    ${page?.n_pending > 0 && html`<p class="pending" role="status">${t("pending", page.n_pending)}</p>`}
    ${page?.n_failed > 0 && html`<p class="note">${t("unreadable", page.n_failed)}</p>`}
    ${!isEmpty && one && html`
      <${Choices} one=${one} />
      ${uncertain.length > 0 && html`<h3>${t("least_certain")}</h3>
        <p class="note">${t("least_certain_hint", labelOf(one))}</p>
        <${PhotoList} photos=${uncertain} one=${one} name=${t("least_certain")} kind="strip" />`}
      <h3 aria-live="polite">${t("sorted_by", labelOf(one), page.total)}</h3>
      <p class="note keys-hint">${t("keys_hint")}</p>
      ${photo && html`<${Selected} photo=${photo} one=${one} />`}
      <${PhotoList} photos=${page.photos} one=${one} name=${t("sorted_by", labelOf(one), page.total)} kind="grid" />
      <${Pages} total=${page.total} offset=${page.offset ?? state.collection.offset} size=${PAGE} onOffset=${(offset) => read({ offset })} />`}
  </section>`;
}

function read(changes) {
  change({ offset: 0, selected: null, ...changes });
  readCollection();
}

function Choices({ one }) {
  const { shown } = state.collection;
  return html`<div class="choices row">
    <label>${t("sorting_class")}
      <select value=${one.id} onChange=${(event) => read({ classId: event.target.value })}>
        ${state.project.classes.filter((each) => !each.is_none).map((each) => html`<option value=${each.id}>${each.label}</option>`)}
      </select>
    </label>
    <div class="segments" role="group" aria-label=${t("which_photos")}>
      ${["open", "labelled", "all"].map((name) => html`<button type="button" aria-pressed=${shown === name} onClick=${() => read({ shown: name })}>${t(`shown_${name}`)}</button>`)}
    </div>
  </div>`;
}

/** Photos that move to their new places when their order changes. */
class PhotoList extends Component {
  getSnapshotBeforeUpdate() {
    return new Map([...this.base.children].map((item) => [item.dataset.photo, item.getBoundingClientRect()]));
  }

  componentDidUpdate(before, _, places) {
    // Only a new order moves; another page or class is another list.
    if (before.one.id !== this.props.one.id || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const item of this.base.children) {
      const was = places.get(item.dataset.photo);
      const is = item.getBoundingClientRect();
      if (!was) item.animate([{ opacity: 0 }, { opacity: 1 }], 250);
      else if (was.left !== is.left || was.top !== is.top) {
        const from = `translate(${was.left - is.left}px, ${was.top - is.top}px)`;
        item.animate([{ transform: from }, { transform: "none" }], { duration: 350, easing: "ease-out" });
      }
    }
  }

  render({ photos, one, name, kind }) {
    const { selected } = state.collection;
    const entry = photos.some(({ id }) => id === selected) ? selected : photos[0]?.id; // the one that Tab goes to
    return html`<ul class=${`photo-list is-${kind}`} aria-label=${name}>
      ${photos.map((photo) => html`<li key=${photo.id} data-photo=${photo.id} class=${photo.class_id ? "is-labelled" : ""}>
        <button type="button" class=${selected === photo.id ? "photo is-selected" : "photo"} tabindex=${photo.id === entry ? 0 : -1}
            aria-label=${described(photo, one)} title=${photo.error ?? photo.filename} aria-keyshortcuts="Y N"
            onFocus=${() => change({ selected: photo.id })} onClick=${() => change({ selected: photo.id })} onKeyDown=${(event) => photoKeys(event, photo)}>
          ${isEncoded(photo) && html`<img src=${thumbnail("collection", photo.id)} alt="" decoding="async" loading="lazy" />`}
          <span class="photo-score">${mark(photo, one)}</span>
        </button>
        ${isEncoded(photo) && html`<span class="yes-no">
          <button type="button" tabindex="-1" aria-label=${t("yes_photo", photo.filename, labelOf(one))} onClick=${() => label(photo, { class_id: one.id })}>${t("yes")}</button>
          <button type="button" tabindex="-1" aria-label=${t("not_photo", photo.filename, labelOf(one))} onClick=${() => label(photo, { not_class_id: one.id })}>${t("not_this")}</button>
        </span>`}
      </li>`)}
    </ul>`;
  }
}

/** A photo that is not encoded, or not yet, has no answer and no thumbnail. */
const isEncoded = (photo) => photo.label !== null;

/** What is written on a photo: its label, else its score for the class. */
function mark(photo, one) {
  if (photo.class_id) return labelOf(classOf(photo.class_id) ?? one);
  if (photo.error) return t("unreadable_mark");
  return photo.score === null ? "…" : percent(photo.score, 1);
}

function described(photo, one) {
  return photo.error ? `${photo.filename}: ${photo.error}` : t("photo_described", photo.filename, labelOf(one), mark(photo, one));
}

/** What is known about a photo. */
function said(photo, one) {
  if (photo.class_id) return t("labelled_as", labelOf(classOf(photo.class_id) ?? one));
  if (photo.error) return html`${t("unreadable_photo")} <small lang="en">${photo.error}</small>`;
  return isEncoded(photo) ? t("answered_as", photo.label, percent(photo.label_score, 1)) : t("pending", 1);
}

function Selected({ photo, one }) {
  return html`<div class="selected">
    ${isEncoded(photo) && html`<img src=${thumbnail("collection", photo.id)} alt="" />`}
    <div>
      <p class="file-name">${photo.filename}</p>
      <p class="note">${said(photo, one)}</p>
      <div class="row">
        ${isEncoded(photo) && html`
          <button type="button" class="button is-main" onClick=${() => label(photo, { class_id: one.id })}>${t("yes")} <kbd>Y</kbd></button>
          <button type="button" class="button" onClick=${() => label(photo, { not_class_id: one.id })}>${t("not_this")} <kbd>N</kbd></button>
          <select aria-label=${t("it_is")} value="" onChange=${(event) => label(photo, { class_id: event.target.value })}>
            <option value="">${t("it_is")}</option>
            ${state.project.classes.filter(({ id }) => id !== one.id).map((each) => html`<option value=${each.id}>${labelOf(each)}</option>`)}
          </select>
        `}
        ${photo.class_id && html`<button type="button" class="button" onClick=${() => label(photo, null)}>${t("take_back")}</button>`}
        <${IconButton} name="delete" label=${t("delete_photo")} onClick=${() => remove(photo)} />
      </div>
    </div>
  </div>`;
}
