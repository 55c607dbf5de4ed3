// The project that is open: its classes and photos, and what is asked again after each change.

import { newId, request } from "./api.js";
import { attempt, coalesced, say, state, update } from "./store.js";
import { pathOf, upload } from "./uploads.js";
import { t, undoneText } from "./i18n.js";

const POLL_MS = 2000;
/** Photos of classes that are drawn at once, all classes together; a page of one opened class comes in addition. */
const SHOWN_PHOTOS = 168;
const SHOWN_OF_CLASS = 12;
export const PAGE = 60;

const followers = [];

/** afterChange(f): f() is called when the answers of the project may have changed. */
export function afterChange(follower) {
  followers.push(follower);
}

/** The path of the open project, or of a thing in it. */
export function pathIn(...parts) {
  return ["/projects", state.project.id, ...parts].join("/");
}

export const classOf = (id) => state.project.classes.find((one) => one.id === id);
export const labelOf = (one) => (one.is_none ? t("none_of_these") : one.label);

// ---- reading ---------------------------------------------------------------------------------------------------------

/** Open the project of this id; null opens an empty one, which the service hears of when something is added. */
export async function openProject(id) {
  if (state.asked) URL.revokeObjectURL(state.asked.url);
  const collection = { ...state.collection, classId: null, offset: 0, page: null, uncertain: [], selected: null };
  const empty = { photos: {}, opened: null, selected: null, editing: null, asked: null, report: null, collection };
  if (id === null) {
    const project = { id: newId(), name: t("new_project"), classes: [], version: 0, settings: {}, draft: true };
    update({ ...empty, project });
    return;
  }
  const project = await request("GET", `/projects/${id}`);
  update({ ...empty, project });
  localStorage.setItem("project", id);
  follow();
  // The page is drawn before its photos are there.
  attempt(() => Promise.all(project.classes.map((one) => readPhotos(one.id))));
}

export async function readProjects() {
  const { projects } = await request("GET", "/projects");
  update({ projects });
}

/** How many photos of each class are drawn while none is opened. */
function shownPerClass() {
  return Math.min(SHOWN_OF_CLASS, Math.floor(SHOWN_PHOTOS / Math.max(1, state.project.classes.length)));
}

/** Read the photos of a class that are to be drawn: its newest, or if it is opened, the page from `offset` on. */
export async function readPhotos(classId, offset = 0) {
  const limit = state.opened === classId ? PAGE : shownPerClass();
  if (!limit) return undefined;
  const query = { class_id: classId, offset, limit };
  const { total, examples } = await request("GET", pathIn("examples"), { query });
  if (!examples.length && offset) return readPhotos(classId, offset - limit); // the last page became empty
  return update({ photos: { ...state.photos, [classId]: { total, offset, items: examples } } });
}

/** Read the project again, then what follows from it. */
export const refresh = coalesced(readProject);

async function readProject() {
  if (state.project.draft) return;
  const { id, version } = state.project;
  const project = await request("GET", `/projects/${id}`).catch((error) => leaveDeleted(id, error));
  if (!project || state.project.id !== id || project.version < state.project.version) return; // an answer that was overtaken
  const known = new Map(state.project.classes.map((one) => [one.id, one.n_examples]));
  update({ project });
  const changed = project.classes.filter((one) => known.get(one.id) !== one.n_examples || !state.photos[one.id]);
  await Promise.all(changed.map((one) => readPhotos(one.id, state.photos[one.id]?.offset)));
  if (project.version !== version) follow();
}

/** Open another project where the open one was deleted elsewhere; other errors are thrown again. */
async function leaveDeleted(id, error) {
  if (error.status !== 404) throw error;
  if (state.project.id !== id) return;
  const { name } = state.project;
  await readProjects();
  await openProject(state.projects[0]?.id ?? null);
  location.hash = `#/${state.project.draft ? "" : state.project.id}/${state.view}`;
  say(t("project_gone", name));
}

function follow() {
  for (const follower of followers) follower();
}

/** After a change made here: ask for the new answers at once, and for the project. */
export function changed() {
  follow();
  refresh();
}

/** See changes that are made elsewhere, and restarts of the service, as long as the page is open. */
export async function keepUpToDate() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (document.hidden) continue;
    const info = await attempt(() => request("GET", "/info"));
    if (!info) continue;
    if (state.expired) update({ expired: false });
    if (info.instance !== state.info.instance) {
      update({ info, restarted: true });
      follow();
    }
    await refresh();
  }
}

// ---- changing --------------------------------------------------------------------------------------------------------

/** Make the open project known to the service, if it is not yet. */
async function ensureProject() {
  if (!state.project.draft) return;
  const { id, name } = state.project;
  const project = await request("PUT", `/projects/${id}`, { json: { name } });
  update({ project });
  localStorage.setItem("project", id);
  history.replaceState(null, "", `#/${id}/${state.view}`);
}

/** Add a class; the class, or undefined after an error. */
export function addClass(label) {
  return attempt(async () => {
    await ensureProject();
    const { class: added } = await request("PUT", pathIn("classes", newId()), { json: { label } });
    update({ project: { ...state.project, classes: [...state.project.classes, added] } });
    changed();
    return added;
  });
}

/** Change a class: {label, name, enabled}. */
export function changeClass(id, json) {
  return attempt(async () => {
    await request("PATCH", pathIn("classes", id), { json });
    changed();
  });
}

export function deleteClass(one) {
  return attempt(async () => {
    await request("DELETE", pathIn("classes", one.id));
    say(t("class_deleted", labelOf(one)), { undo: true });
    if (state.opened === one.id) update({ opened: null });
    changed();
  });
}

export function undo() {
  if (!state.project.can_undo) return say(t("nothing_to_undo"));
  return attempt(async () => {
    const { undone } = await request("POST", pathIn("undo"));
    say(t("undone", undoneText(undone)));
    await readProject();
    await Promise.all(state.project.classes.map((one) => readPhotos(one.id)));
  });
}

/** Add photos to a class; each is sent as it is. */
export function addPhotos(classId, files) {
  const jobs = files.map((file) => {
    const id = newId();
    return { name: pathOf(file), size: file.size, send: () => sendPhoto(classId, id, file) };
  });
  upload(jobs, { first: true });
}

async function sendPhoto(classId, id, file) {
  const query = { class_id: classId, filename: pathOf(file) };
  const { example, duplicate_of: known } = await request("PUT", pathIn("examples", id), { query, body: file });
  if (known) say(t("duplicate", pathOf(file)));
  else showPhoto(example);
  changed();
}

/** Draw a photo before the photos of its class are read again. */
function showPhoto(example) {
  const shown = state.photos[example.class_id] ?? { total: 0, offset: 0, items: [] };
  if (shown.offset || shown.items.some(({ id }) => id === example.id)) return;
  const most = state.opened === example.class_id ? PAGE : shownPerClass();
  const items = [example, ...shown.items].slice(0, most);
  update({ photos: { ...state.photos, [example.class_id]: { ...shown, total: shown.total + 1, items } } });
}

/** Add files as classes: the photos of each folder to the class of its name, which is made if there is none. */
export async function addFolders(files) {
  const folders = Map.groupBy(files, (file) => pathOf(file).split("/").at(-2) ?? "");
  folders.delete("");
  if (!folders.size) say(t("no_folders"));
  for (const [label, photos] of folders) {
    const one = state.project.classes.find((known) => known.label === label) ?? (await addClass(label));
    if (one) addPhotos(one.id, photos);
  }
}

export function movePhoto(photo, classId) {
  return attempt(async () => {
    await request("PATCH", pathIn("examples", photo.id), { json: { class_id: classId } });
    hidePhoto(photo);
    changed();
  });
}

export function deletePhoto(photo) {
  return attempt(async () => {
    await request("DELETE", pathIn("examples", photo.id));
    hidePhoto(photo);
    say(t("photo_deleted", photo.filename), { undo: true });
    changed();
  });
}

/** Draw a photo no longer, before the photos of its class are read again. */
function hidePhoto({ id }) {
  const without = ([classId, shown]) => [classId, { ...shown, items: shown.items.filter((photo) => photo.id !== id) }];
  update({ selected: null, photos: Object.fromEntries(Object.entries(state.photos).map(without)) });
}
