// The dialog of projects: open, new, rename, delete, reopen a file.

import { address, request } from "./api.js";
import { attempt, html, say, state, update } from "./store.js";
import { Icon, IconButton, Picker } from "./parts.js";
import { openProject, readProjects } from "./project.js";
import { t } from "./i18n.js";

/** Open a project and show it in the address, so that reloading the page comes back to it. */
export function goTo(id) {
  update({ dialog: null });
  return attempt(async () => {
    await openProject(id);
    location.hash = `#/${id ?? ""}/${state.view}`;
  });
}

/** Open the project of a file that was downloaded here or elsewhere. */
function reopen([file]) {
  return attempt(async () => {
    const project = await request("POST", "/projects/import", { body: file });
    say(t("imported", project.name));
    await goTo(project.id);
  });
}

function rename(project, name) {
  return attempt(async () => {
    if (!name || name === project.name) return;
    await request("PATCH", `/projects/${project.id}`, { json: { name } });
    if (state.project.id === project.id) update({ project: { ...state.project, name } });
    await readProjects();
  });
}

function remove(project) {
  if (!confirm(t("delete_project_sure", project.name))) return undefined;
  return attempt(async () => {
    await request("DELETE", `/projects/${project.id}`);
    await readProjects();
    if (state.project.id === project.id) await openProject(state.projects[0]?.id ?? null);
  });
}

export function Projects() {
  const opened = (dialog) => dialog && !dialog.open && dialog.showModal();
  return html`<dialog ref=${opened} aria-labelledby="projects-title" onClose=${() => update({ dialog: null })}>
    <header class="class-head">
      <h2 id="projects-title">${t("projects")}</h2>
      <span class="actions"><${IconButton} name="close" label=${t("close")} onClick=${() => update({ dialog: null })} /></span>
    </header>
    <ul class="projects">
      ${state.projects.map((project) => html`<${Project} key=${project.id} project=${project} />`)}
      ${!state.projects.length && html`<li class="note">${t("no_projects")}</li>`}
    </ul>
    <div class="row">
      <button type="button" class="button is-main" onClick=${() => goTo(null)}><${Icon} name="add" /><span>${t("new_project")}</span></button>
      <${Picker} label=${t("open_file")} icon="folder" accept=".zip,application/zip" many=${false} onPhotos=${reopen} />
    </div>
  </dialog>`;
}

function Project({ project }) {
  const isOpen = project.id === state.project.id;
  return html`<li class=${isOpen ? "is-open" : ""}>
    <div>
      <input aria-label=${t("rename_project", project.name)} defaultValue=${project.name} maxlength="200" onChange=${(event) => rename(project, event.target.value.trim())} />
      <p class="note">${t("project_size", project.n_classes, project.n_examples, project.n_collection)}</p>
    </div>
    <button type="button" class="button" aria-current=${isOpen} onClick=${() => goTo(project.id)}>${t(isOpen ? "opened" : "open")}</button>
    <a class="icon-button" href=${address(`/projects/${project.id}/export`, { format: "project" })} download aria-label=${t("save_project", project.name)} title=${t("save_project", project.name)}><${Icon} name="download" /></a>
    <${IconButton} name="delete" label=${t("delete_project", project.name)} onClick=${() => remove(project)} />
  </li>`;
}
