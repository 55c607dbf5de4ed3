// The page: what surrounds its views, and how it starts.

import { render } from "./vendor/preact.mjs";
import { request, watchConnection } from "./api.js";
import { attempt, html, state, update, whenChanged } from "./store.js";
import { Icon, IconButton, Said } from "./parts.js";
import { addPhotos, keepUpToDate, openProject, readProjects, undo } from "./project.js";
import { ask } from "./answer.js";
import { addToCollection, Collection, readCollection } from "./collection.js";
import { Projects } from "./projects.js";
import { Quality, readReport } from "./quality.js";
import { Classes } from "./classes.js";
import { Use } from "./use.js";
import { dismissFailed, isUploading, photosOf, retryFailed } from "./uploads.js";
import { chooseLanguage, explained, LANGUAGES, t } from "./i18n.js";

const VIEWS = { classes: Classes, collection: Collection, quality: Quality, use: Use };
const SHOWN_FAILURES = 5;

function App() {
  const View = VIEWS[state.view];
  return html`
    <a class="skip" href="#main">${t("skip")}</a>
    <${Header} />
    <${Notices} />
    <main id="main" tabindex="-1"><${View} /></main>
    <${Uploads} />
    <div class="toast" role="status">${state.message && html`<div>
      <span><${Said} what=${state.message.said} /></span>
      ${state.message.undo && html`<button type="button" class="plain" onClick=${undo}>${t("undo")}</button>`}
    </div>`}</div>
    ${state.dialog === "projects" && html`<${Projects} />`}
  `;
}

function Header() {
  const showProjects = () => attempt(async () => {
    await readProjects();
    update({ dialog: "projects" });
  });
  return html`<header class="top">
    <h1><button type="button" class="project-name" aria-haspopup="dialog" onClick=${showProjects}><img src="/static/icon.svg" alt="" /><span>${state.project.name}</span><span aria-hidden="true">▾</span><span class="unseen">, ${t("projects")}</span></button></h1>
    <nav aria-label=${t("views")}>
      ${Object.keys(VIEWS).map((view) => html`<a href=${hashOf(view)} aria-current=${state.view === view ? "page" : undefined}>${t(view)}</a>`)}
    </nav>
    <div class="tools">
      <${IconButton} name="undo" label=${t("undo_keys")} disabled=${!state.project.can_undo} onClick=${undo} />
      <label class="unseen" for="language">${t("language")}</label>
      <select id="language" value=${state.language} onChange=${(event) => chooseLanguage(event.target.value)}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} lang=${code}>${name}</option>`)}
      </select>
    </div>
  </header>`;
}

function Notices() {
  return html`<div class="notices" role="status">
    ${state.expired && html`<p class="is-error">${t("expired")}</p>`}
    ${state.trouble && html`<p class="is-error">${t(state.trouble)}</p>`}
    ${!state.trouble && state.restarted && html`<p>${t("restarted")} <button type="button" class="plain" onClick=${() => update({ restarted: false })}>${t("close")}</button></p>`}
  </div>`;
}

function Uploads() {
  const { total, done, failed } = state.uploads;
  if (!failed.length && done === total) return null;
  const nEnded = done + failed.length;
  return html`<aside class="uploads" aria-label=${t("uploads")}>
    ${nEnded < total && html`<label>${t("uploading", nEnded, total)}<progress max=${total} value=${nEnded}></progress></label>`}
    ${failed.length > 0 && html`<div role="alert">
      <p>${t("failed", failed.length)}</p>
      <ul>${failed.slice(0, SHOWN_FAILURES).map(({ job, reason }) => html`<li><b>${job.name}</b>: <${Said} what=${reason} /></li>`)}</ul>
      ${failed.length > SHOWN_FAILURES && html`<p class="note">${t("more_failed", failed.length - SHOWN_FAILURES)}</p>`}
      <div class="row">
        <button type="button" class="button" onClick=${retryFailed}>${t("try_again")}</button>
        <button type="button" class="button" onClick=${dismissFailed}>${t("close")}</button>
      </div>
    </div>`}
  </aside>`;
}

// ---- the address: #/PROJECT/VIEW -------------------------------------------------------------------------------------

const hashOf = (view) => `#/${state.project.draft ? "" : state.project.id}/${view}`;

async function followAddress() {
  const [, id, view] = location.hash.split("/");
  if (!(view in VIEWS)) return;
  update({ view, camera: null, selected: null });
  if (id && id !== state.project.id) await attempt(() => openProject(id));
  readCollection();
  readReport();
}

// ---- keys, paste, drops ----------------------------------------------------------------------------------------------

function undoKey(event) {
  const isTyping = event.target.matches("input, textarea, select");
  if (!isTyping && (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
  }
}

/** Pasted photos go to the class that has the focus, to the collection if it is seen, else to the test area. */
function paste(event) {
  const photos = photosOf(event.clipboardData.files);
  if (!photos.length) return;
  event.preventDefault();
  const classId = document.activeElement?.closest("[data-class]")?.dataset.class;
  if (classId) addPhotos(classId, photos);
  else if (state.view === "collection") addToCollection(photos);
  else ask(photos[0]);
}

/** Without this, a photo that misses a target replaces the page. */
const keepPage = (event) => event.preventDefault();

async function start() {
  chooseLanguage();
  watchConnection((trouble) => update({ trouble }));
  const [info] = await Promise.all([request("GET", "/info"), readProjects()]);
  update({ info });
  const [, inAddress, view] = location.hash.split("/");
  const known = (id) => state.projects.some((project) => project.id === id);
  const id = [inAddress, localStorage.getItem("project")].find(known) ?? state.projects[0]?.id ?? null;
  update({ view: view in VIEWS ? view : "classes" });
  await openProject(id);
  whenChanged(() => render(html`<${App} />`, document.getElementById("app")));
  history.replaceState(null, "", hashOf(state.view));
  update();
  readCollection();
  readReport();
  addEventListener("hashchange", followAddress);
  addEventListener("keydown", undoKey);
  addEventListener("paste", paste);
  addEventListener("dragover", keepPage);
  addEventListener("drop", keepPage);
  addEventListener("beforeunload", (event) => isUploading() && event.preventDefault());
  keepUpToDate();
}

start().catch((error) => {
  document.getElementById("app").textContent = error.status === 401 ? t("expired") : explained(error).text;
});
