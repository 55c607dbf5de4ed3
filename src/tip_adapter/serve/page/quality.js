// The view "How good is it": what leaving photos out shows, and what to do next.

import { request } from "./api.js";
import { coalesced, html, state, update } from "./store.js";
import { Bar, IconButton, percent, thumbnail } from "./parts.js";
import { afterChange, classOf, deletePhoto, labelOf, movePhoto, pathIn } from "./project.js";
import { FineTuning } from "./fine_tuning.js";
import { t } from "./i18n.js";

/** Pairs and doubtful labels that are listed at once: the next ones follow when these are dealt with. */
const MOST_LISTED = 20;

/** Read the report again, if it is seen. */
export const readReport = coalesced(async () => {
  if (state.view !== "quality" || state.project.draft) return;
  const { id } = state.project;
  const report = await request("GET", pathIn("report"));
  if (state.project.id === id) update({ report });
});

afterChange(readReport);

export function Quality() {
  const { report } = state;
  if (state.project.draft || !state.project.n_examples) return html`<p class="drop-hint">${t("report_empty")}</p>`;
  if (!report) return html`<p class="drop-hint" role="status">${t("report_waiting")}</p>`;
  return html`<section class="quality" aria-labelledby="quality-title">
    <h2 id="quality-title" class="unseen">${t("quality")}</h2>
    <${Accuracy} report=${report} />
    <${NextSteps} report=${report} />
    <${FineTuning} />
    ${report.confusion?.labels.length > 0 && html`<${Confusion} confusion=${report.confusion} />`}
    ${report.suspicious.length > 0 && html`<${Suspicious} entries=${report.suspicious} />`}
    ${report.near_duplicates.length > 0 && html`<${Duplicates} pairs=${report.near_duplicates} />`}
  </section>`;
}

function Accuracy({ report: { accuracy, per_class: perClass } }) {
  const n = state.project.classes.reduce((sum, one) => sum + (one.enabled ? one.n_examples : 0), 0);
  const classes = perClass.filter((one) => classOf(one.class_id));
  return html`<div class="panel is-tall">
    <h3>${t("accuracy")}</h3>
    ${accuracy
      ? html`<p class="figure" aria-live="polite">${percent(accuracy.value, 1)}</p>
        <p class="note">${t("interval", percent(accuracy.low, 1), percent(accuracy.high, 1), accuracy.n)}</p>
        ${accuracy.n < n && html`<p class="note">${t("not_left_out", n - accuracy.n)}</p>`}`
      : html`<p class="note">${t("no_accuracy")}</p>`}
    <ul class="bars">
      ${classes.map((one) => html`<${Bar} key=${one.class_id} label=${labelOf(classOf(one.class_id))} share=${one.n ? one.right / one.n : 0}
        text=${t("right_of", one.right, one.n)} low=${one.n ? one.low : null} high=${one.high} />`)}
    </ul>
  </div>`;
}

function NextSteps({ report }) {
  const poor = report.needs_photos.map(classOf).filter((one) => one && !one.is_none);
  return html`<div class="panel">
    <h3>${t("next_steps")}</h3>
    ${poor.length ? html`<p>${t("needs_photos")}</p><ul class="tags">${poor.map((one) => html`<li key=${one.id}>${labelOf(one)}</li>`)}</ul>` : html`<p class="note">${t("enough_photos")}</p>`}
  </div>`;
}

/** Rows: what a photo is; columns: what it is answered to be. */
function Confusion({ confusion: { labels, counts } }) {
  const shownLabel = (label) => {
    const one = state.project.classes.find((each) => each.label === label);
    return one ? labelOf(one) : label;
  };
  const sums = counts.map((row) => Math.max(1, row.reduce((sum, n) => sum + n, 0)));
  return html`<div class="panel is-wide">
    <h3>${t("confusion")}</h3>
    <p class="note">${t("confusion_hint")}</p>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("confusion")}>
      <table class="matrix">
        <thead><tr><td></td>${labels.map((label) => html`<th scope="col"><span>${shownLabel(label)}</span></th>`)}</tr></thead>
        <tbody>${labels.map((label, row) => html`<tr>
          <th scope="row">${shownLabel(label)}</th>
          ${counts[row].map((n, column) => html`<td class=${row === column ? "is-right" : "is-wrong"} style=${{ "--share": n / sums[row] }}>${n || ""}</td>`)}
        </tr>`)}</tbody>
      </table>
    </div>
  </div>`;
}

function Suspicious({ entries }) {
  return html`<div class="panel is-wide">
    <h3>${t("suspicious")}</h3>
    <p class="note">${t("suspicious_hint")}</p>
    <ul class="findings">
      ${entries.filter((entry) => classOf(entry.class_id) && classOf(entry.suggested_class_id)).slice(0, MOST_LISTED).map((entry) => {
        const photo = { id: entry.example_id, class_id: entry.class_id };
        const [is, looks] = [classOf(entry.class_id), classOf(entry.suggested_class_id)].map(labelOf);
        return html`<li key=${entry.example_id}>
          <img src=${thumbnail("examples", entry.example_id)} alt="" />
          <p>${t("looks_like", is, looks, percent(entry.score, 1))}</p>
          <button type="button" class="button" onClick=${() => movePhoto(photo, entry.suggested_class_id)}>${t("move_to_class", looks)}</button>
        </li>`;
      })}
    </ul>
  </div>`;
}

function Duplicates({ pairs }) {
  return html`<div class="panel is-wide">
    <h3>${t("duplicates")}</h3>
    <p class="note">${t("duplicates_hint")}</p>
    <ul class="findings">
      ${pairs.slice(0, MOST_LISTED).map(([first, second]) => html`<li key=${`${first} ${second}`}>
        <img src=${thumbnail("examples", first)} alt="" /><img src=${thumbnail("examples", second)} alt="" />
        <${IconButton} name="delete" label=${t("delete_second")} onClick=${() => deletePhoto({ id: second, filename: t("second_photo") })} />
      </li>`)}
    </ul>
  </div>`;
}
