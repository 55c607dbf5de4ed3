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
  return html`<div class="panel fine-tuning" aria-live="polite">
    <h3>${t("fine_tuning")}</h3>
    <${View} job=${job} />
  </div>`;
}

function Start({ job }) {
  return html`
    <p class="note">${t("fine_tuning_hint")}</p>
    ${job.state === "outdated" && html`<p>${t("training_outdated")}</p>`}
    ${job.state === "cancelled" && html`<p>${t("training_cancelled")}</p>`}
    ${job.state === "failed" && html`<p class="is-error">${t("training_failed")} <small>${job.note}</small></p>`}
    <button type="button" class="button" onClick=${start}>${t("fine_tune")}</button>`;
}

function Running({ job: { epoch, epochs } }) {
  return html`
    <label class="training">${t("training", epoch, epochs)}<progress max=${epochs} value=${epoch}></progress></label>
    <p class="note">${t("training_hint")}</p>
    <button type="button" class="button" onClick=${drop}>${t("cancel")}</button>`;
}

function Done({ job }) {
  const helps = job.verdict === "better";
  return html`
    <${Comparison} job=${job} />
    <div class="row">
      <button type="button" class=${helps ? "button is-main" : "button"} onClick=${accept}>${t("use_fine_tuned")}</button>
      <button type="button" class="button" onClick=${drop}>${t("dismiss")}</button>
    </div>`;
}

function Accepted({ job }) {
  return html`
    <p><strong>${t("training_accepted")}</strong></p>
    <${Comparison} job=${job} />
    <button type="button" class="button" onClick=${drop}>${t("stop_using")}</button>`;
}

function Comparison({ job }) {
  const bar = (key, { accuracy, low, high }, strong) => html`<${Bar} label=${t(key)} share=${accuracy} low=${low} high=${high}
    strong=${strong} text=${t("with_interval", percent(accuracy, 1), percent(low), percent(high))} />`;
  return html`
    <p>${t(`verdict_${job.verdict}`, job.n_better, job.n_worse)}</p>
    <ul class="bars">${bar("before", job.before, false)}${bar("after", job.after, true)}</ul>
    <p class="note">${t("compared_on", job.after.n)}</p>`;
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
