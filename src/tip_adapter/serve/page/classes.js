// The view "Classes": classes and their photos on one side, the test area on the other.

import { html, state, update } from "./store.js";
import { dropTarget, Icon, IconButton, Pages, Picker, thumbnail } from "./parts.js";
import {
  addClass, addFolders, addPhotos, changeClass, deleteClass, deletePhoto, labelOf, movePhoto, PAGE, readPhotos,
} from "./project.js";
import { Answer, ToTest } from "./answer.js";
import { Camera } from "./camera.js";
import { t } from "./i18n.js";

const MOVED_PHOTO = "application/x-photo";

export function Classes() {
  return html`<div class="workbench">
    <section class="classes" aria-labelledby="classes-title">
      <h2 id="classes-title" class="unseen">${t("classes")}</h2>
      <${NewClass} />
      ${state.project.classes.map((one) => html`<${ClassCard} key=${one.id} one=${one} />`)}
    </section>
    <${Answer} />
    ${state.project.classes.length > 0 && html`<${ToTest} />`}
  </div>`;
}

function NewClass() {
  const isFirst = !state.project.classes.length;
  const add = async (event) => {
    event.preventDefault();
    const field = event.target.elements.label;
    const label = field.value.trim();
    if (label && (await addClass(label))) field.value = "";
    field.focus();
  };
  return html`<div class=${isFirst ? "new-class is-first" : "new-class"} ...${dropTarget(addFolders)}>
    ${isFirst && html`<h3>${t("welcome")}</h3><p>${t("welcome_more")}</p>`}
    <form onSubmit=${add}>
      <label class="unseen" for="new-label">${t("class_name")}</label>
      <input id="new-label" name="label" maxlength="200" autocomplete="off" placeholder=${t(isFirst ? "first_class" : "next_class")} />
      <button class="button is-main" type="submit"><${Icon} name="add" /><span>${t("add_class")}</span></button>
    </form>
    <p class="note">${t("folders_hint")} <${Picker} label=${t("choose_folder")} icon="folder" folder onPhotos=${addFolders} /></p>
  </div>`;
}

function ClassCard({ one }) {
  const shown = state.photos[one.id] ?? { total: one.n_examples, offset: 0, items: [] };
  const isOpened = state.opened === one.id;
  const photosDropped = dropTarget((files) => addPhotos(one.id, files));
  const onDrop = (event) => {
    const moved = event.dataTransfer.getData(MOVED_PHOTO);
    if (!moved) return photosDropped.onDrop(event);
    event.preventDefault();
    event.currentTarget.classList.remove("is-over");
    return movePhoto(JSON.parse(moved), one.id);
  };
  return html`<article class=${one.enabled ? "class-card" : "class-card is-disabled"} data-class=${one.id} tabindex="-1"
      aria-label=${labelOf(one)} ...${photosDropped} onDrop=${onDrop}>
    ${state.editing === one.id ? html`<${ClassNames} one=${one} />` : html`<${ClassHead} one=${one} />`}
    <ul class="photos">
      ${!one.is_none && html`<li class="adders">
        <${Picker} label=${t("photos")} onPhotos=${(files) => addPhotos(one.id, files)} />
        <button type="button" class="button" onClick=${() => update({ camera: one.id })}><${Icon} name="camera" /><span>${t("camera")}</span></button>
      </li>`}
      ${shown.items.map((photo) => html`<${Photo} key=${photo.id} photo=${photo} />`)}
    </ul>
    ${state.camera === one.id && html`<${Camera} onPhoto=${(file) => addPhotos(one.id, [file])} />`}
    ${shown.items.some(({ id }) => id === state.selected) && html`<${SelectedPhoto} photo=${shown.items.find(({ id }) => id === state.selected)} />`}
    ${isOpened && html`<${Pages} total=${shown.total} offset=${shown.offset} size=${PAGE} onOffset=${(offset) => readPhotos(one.id, offset)} />`}
    ${(isOpened || shown.total > shown.items.length) && html`<button type="button" class="plain" aria-expanded=${isOpened} onClick=${() => openClass(one.id)}>
      ${isOpened ? t("show_fewer") : t("show_all", shown.total)}
    </button>`}
  </article>`;
}

/** Show all photos of a class, or again its newest; only one class is opened at once, which bounds the photos drawn. */
async function openClass(id) {
  const before = state.opened;
  update({ opened: before === id ? null : id });
  await Promise.all([before, state.opened].filter(Boolean).map((one) => readPhotos(one)));
}

function ClassHead({ one }) {
  const label = labelOf(one);
  const count = one.n_examples ? t("n_photos", one.n_examples) : t("by_name");
  return html`<header class="class-head">
    <h3 dir="auto">${label}</h3>
    <span class="note">${one.enabled ? count : t("disabled")}</span>
    <span class="actions">
      ${!one.is_none && html`<${IconButton} name="edit" label=${t("edit_class", label)} onClick=${() => update({ editing: one.id })} />`}
      <${IconButton} name="switch" label=${t(one.enabled ? "disable_class" : "enable_class", label)} aria-pressed=${!one.enabled}
        onClick=${() => changeClass(one.id, { enabled: !one.enabled })} />
      <${IconButton} name="delete" label=${t("delete_class", label)} onClick=${() => deleteClass(one)} />
    </span>
  </header>`;
}

function ClassNames({ one }) {
  const save = async (event) => {
    event.preventDefault();
    const { label, spoken } = event.target.elements;
    const names = { label: label.value.trim(), name: spoken.value.trim() || label.value.trim() };
    update({ editing: null });
    await changeClass(one.id, names);
  };
  const stop = (event) => event.key === "Escape" && update({ editing: null });
  return html`<form class="class-names" onSubmit=${save} onKeyDown=${stop}>
    <label>${t("class_name")}<input name="label" required maxlength="200" defaultValue=${one.label} ref=${focusOnce} /></label>
    <label>${t("read_name")}<input name="spoken" maxlength="200" placeholder=${one.label} defaultValue=${one.name === one.label ? "" : one.name} /></label>
    <p class="note">${t("read_name_hint")}</p>
    <div class="row">
      <button class="button is-main" type="submit">${t("save")}</button>
      <button class="button" type="button" onClick=${() => update({ editing: null })}>${t("cancel")}</button>
    </div>
  </form>`;
}

function focusOnce(element) {
  if (element && !element.dataset.focused) {
    element.dataset.focused = "yes";
    element.focus();
  }
}

function Photo({ photo }) {
  const isSelected = state.selected === photo.id;
  const drag = (event) => event.dataTransfer.setData(MOVED_PHOTO, JSON.stringify({ id: photo.id, class_id: photo.class_id }));
  const keys = (event) => {
    if (event.key === "Delete" || event.key === "Backspace") deletePhoto(photo);
  };
  return html`<li>
    <button type="button" class=${isSelected ? "photo is-selected" : "photo"} draggable="true" aria-pressed=${isSelected} title=${photo.filename}
        aria-label=${photo.filename} onClick=${() => update({ selected: isSelected ? null : photo.id })} onDragStart=${drag} onKeyDown=${keys}>
      <img src=${thumbnail("examples", photo.id)} alt="" decoding="async" draggable="false" />
    </button>
  </li>`;
}

function SelectedPhoto({ photo }) {
  return html`<div class="selected">
    <img src=${thumbnail("examples", photo.id)} alt="" />
    <div>
      <p class="file-name">${photo.filename}</p>
      <div class="row">
        <label class="unseen" for="move-to">${t("move_to")}</label>
        <select id="move-to" onChange=${(event) => movePhoto(photo, event.target.value)}>
          <option value="">${t("move_to")}</option>
          ${state.project.classes.filter(({ id }) => id !== photo.class_id).map((one) => html`<option value=${one.id}>${labelOf(one)}</option>`)}
        </select>
        <button type="button" class="button" onClick=${() => deletePhoto(photo)}><${Icon} name="delete" /><span>${t("delete_photo")}</span></button>
      </div>
    </div>
  </div>`;
}
