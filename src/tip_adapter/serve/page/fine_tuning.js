// The panel "Fine-tuning": a training in the background, what it would change, and the choice of a person.

import { request } from "./api.js";
import { attempt, coalesced, html, state } from "./store.js";
import { Bar, percent } from "./parts.js";
import { changed, pathIn, refresh } from "./project.js";
import { t } from "./i18n.js";

const POLL_MS = 500;
const path = (...parts) => pathIn("fine-tune", ...parts);

export function FineTuning() {
  const job = state.project.jobs?.fine_tuning ?? { state: "none" };
  const View = { running: Running, done: Done, accepted: Accepted }[job.state] ?? Start;
  return html`<div class="panel fine-tuning">
    <h3>${t("fine_tuning")}</h3>
    <p role="status" class=${job.state === "failed" ? "is-error" : undefined}>${outcome(job)}</p>
    <${View} job=${job} />
  </div>`;
}

/** What became of a job, in a sentence or two; nothing while there is none, or it runs. */
function outcome({ state: name, verdict, n_better: better, n_worse: worse, note, code }) {
  const compared = () => t(`verdict_${verdict}`, better, worse);
  if (name === "done") return compared();
  if (name === "accepted") return html`<strong>${t("training_accepted")}</strong> ${compared()}`;
  if (code === "interrupted") return t("training_interrupted");
  if (name === "failed") return html`${t("training_failed")} <small lang="en">${note}</small>`;
  if (name === "outdated") return t("training_outdated");
  return name === "cancelled" ? t("training_cancelled") : "";
}

function Start() {
  return html`
    <p class="note">${t("fine_tuning_hint")}</p>
    <button type="button" class="button" onClick=${start}>${t("fine_tune")}</button>`;
}

function Running({ job: { epoch, epochs } }) {
  return html`
    <label class="training">${t("training", epoch, epochs)}<progress max=${epochs} value=${epoch}></progress></label>
    <p class="note">${t("training_hint")}</p>
    <button type="button" class="button" onClick=${drop}>${t("cancel")}</button>`;
}

function Done({ job }) {
  const main = job.verdict === "better" ? "button is-main" : "button";
  return html`
    <${Comparison} job=${job} />
    <div class="row">
      <button type="button" class=${main} onClick=${accept}>${t("use_fine_tuned")}</button>
      <button type="button" class="button" onClick=${drop}>${t("dismiss")}</button>
    </div>`;
}

function Accepted({ job }) {
  return html`
    <${Comparison} job=${job} />
    <button type="button" class="button" onClick=${drop}>${t("stop_using")}</button>`;
}

function Comparison({ job: { before, after } }) {
  const bar = (key, { accuracy, low, high }, strong) => html`<${Bar} label=${t(key)} share=${accuracy} low=${low} high=${high}
    strong=${strong} text=${t("with_interval", percent(accuracy, 1), percent(low), percent(high))} />`;
  return html`
    <ul class="bars">${bar("before", before, false)}${bar("after", after, true)}</ul>
    <p class="note">${t("compared_on", after.n)}</p>`;
}

// ---- changing --------------------------------------------------------------------------------------------------------

const start = () => attempt(async () => {
  await request("POST", path(), { json: {} });
  watch();
});

const accept = () => attempt(async () => {
  await request("POST", path("accept"));
  changed();
});

/** Cancel a training, dismiss its result, or use it no longer. */
const drop = () => attempt(async () => {
  await request("DELETE", path());
  changed();
});

/** Read the project often while it is trained. */
const watch = coalesced(async () => {
  do {
    await refresh();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  } while (state.project.jobs?.fine_tuning?.state === "running");
});
