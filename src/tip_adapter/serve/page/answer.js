// The test area: a photo, what is answered, and why. It is asked again after each change of the project.

import { request } from "./api.js";
import { coalesced, html, state, update } from "./store.js";
import { Bar, dropTarget, Icon, IconButton, percent, Picker, Said, thumbnail } from "./parts.js";
import { addPhotos, afterChange, labelOf, pathIn } from "./project.js";
import { Camera } from "./camera.js";
import { t } from "./i18n.js";

/** More bars than these are hard to follow; then only the likeliest classes have one. */
const MOST_BARS = 10;

/** Show what is answered for a photo. */
export function ask(file) {
  if (state.asked) URL.revokeObjectURL(state.asked.url);
  // The answer before it stays, paler, until there is a new one: the camera asks several times a second.
  update({ asked: { file, url: URL.createObjectURL(file), prediction: state.asked?.prediction ?? null, error: null, isWaiting: true } });
  askAgain();
}

/** Ask for the photo of the test area. */
const askAgain = coalesced(askOnce);

async function askOnce() {
  const { asked } = state;
  if (!asked || !state.project.classes.length) return;
  const form = new FormData();
  form.append("images", asked.file, asked.file.name);
  const query = { explain: 1, top: Math.max(1, state.project.classes.length) };
  let changes;
  try {
    const { predictions } = await request("POST", pathIn("predict"), { query, body: form, repeatable: true });
    changes = { prediction: predictions[0].error ? null : predictions[0], error: predictions[0].error };
  } catch (error) {
    changes = { prediction: null, error };
  }
  if (state.asked?.file === asked.file) update({ asked: { ...state.asked, ...changes, isWaiting: false } });
}

afterChange(askAgain);

export function Answer() {
  const { asked } = state;
  const isFilming = state.camera === "answer";
  return html`<section class="answer" id="answer" aria-labelledby="answer-title" ...${dropTarget(([file]) => ask(file))}>
    <header class="class-head">
      <h2 id="answer-title">${t("test")}</h2>
      <span class="actions">
        <${Picker} label=${t("photo")} many=${false} onPhotos=${([file]) => ask(file)} />
        <button type="button" class="button" aria-pressed=${isFilming} onClick=${() => update({ camera: isFilming ? null : "answer" })}>
          <${Icon} name="camera" /><span>${t("camera")}</span>
        </button>
      </span>
    </header>
    ${isFilming && html`<${Camera} live onPhoto=${ask} />`}
    ${asked && !isFilming && html`<figure class="asked">
      <img src=${asked.url} alt=${asked.file.name} />
      <${IconButton} name="close" label=${t("clear")} onClick=${() => update({ asked: null })} />
    </figure>`}
    ${!asked && !isFilming && html`<p class="drop-hint"><${Icon} name="photos" />${t("test_hint")}</p>`}
    <div aria-live=${isFilming ? "off" : "polite"} aria-atomic="true">${asked && html`<${Headline} asked=${asked} />`}</div>
    ${asked?.prediction && html`<div class=${asked.isWaiting ? "is-waiting" : ""}>
      <${Bars} prediction=${asked.prediction} /><${AddTo} file=${asked.file} /><${Why} prediction=${asked.prediction} />
    </div>`}
  </section>`;
}

/** The class of a label in an answer; undefined just after it was renamed or deleted. */
function classLabelled(label) {
  return state.project.classes.find((one) => one.label === label);
}

function labelShown(label) {
  const one = classLabelled(label);
  return one ? labelOf(one) : label;
}

/** The class that a prediction names; "none of these" below the threshold of the project. */
function answerOf(prediction) {
  const { threshold } = state.project.settings;
  const [best] = prediction.top;
  const isNone = threshold != null && best.score < threshold;
  return { best, threshold, isNone, label: isNone ? t("none_of_these") : labelShown(best.label) };
}

function Headline({ asked: { prediction, error } }) {
  if (error) return html`<p class="headline is-error"><${Said} what=${error} /></p>`;
  if (!prediction) return html`<p class="headline is-waiting">${t(state.project.classes.length ? "asking" : "needs_class")}</p>`;
  const { best, threshold, isNone, label } = answerOf(prediction);
  if (!isNone) return html`<p class="headline">${label} <span class="score">${percent(best.score, 1)}</span></p>`;
  return html`<p class="headline">${label}</p>
    <p class="note">${t("below_threshold", labelShown(best.label), percent(best.score, 1), percent(threshold, 1))}</p>`;
}

/** On phones, where the test area is below the classes: a button with the answer that goes there. */
export function ToTest() {
  const show = () => document.getElementById("answer").scrollIntoView({ behavior: "smooth" });
  const prediction = state.asked?.prediction;
  return html`<button type="button" class="to-test button is-main" onClick=${show}>${t("test")}${prediction && `: ${answerOf(prediction).label}`}</button>`;
}

function Bars({ prediction }) {
  const { threshold = null } = state.project.settings;
  const { classes } = state.project;
  const scores = new Map(prediction.top.map(({ label, score }) => [label, score]));
  // In the order of the classes, so that a bar does not change its place while it changes its length.
  const shown = classes.length <= MOST_BARS ? classes.map(({ label }) => label) : prediction.top.slice(0, MOST_BARS).map(({ label }) => label);
  return html`<ul class="bars" aria-label=${t("scores")}>
      ${shown.filter((label) => scores.has(label)).map((label) => html`<${Bar} key=${label} label=${labelShown(label)} share=${scores.get(label)}
        text=${percent(scores.get(label), 1)} mark=${threshold} strong=${label === prediction.top[0].label} />`)}
    </ul>
    ${threshold !== null && html`<p class="note legend"><span class="legend-mark" aria-hidden="true"></span>${t("threshold_line", percent(threshold, 1))}</p>`}`;
}

function AddTo({ file }) {
  const classes = state.project.classes.filter((one) => !one.is_none);
  const add = ({ target }) => {
    addPhotos(target.value, [file]);
    target.value = "";
  };
  return html`<label class="add-to">${t("add_to")}
    <select value="" onChange=${add}>
      <option value="">${t("choose_class")}</option>
      ${classes.map((one) => html`<option value=${one.id}>${one.label}</option>`)}
    </select>
  </label>`;
}

/** What the answer rests on: the terms of the logit of its class, each as its share of the logit. */
function Why({ prediction }) {
  const evidence = prediction.explanation?.[0];
  if (!evidence) return null;
  const { logit, images, text, others, n_others: nOthers } = evidence;
  const share = (part) => (logit ? part / logit : 0);
  const exact = (part) => percent(share(part), 1);
  return html`<details class="why" open>
    <summary>${t("why", labelShown(evidence.label))}</summary>
    ${images.length > 0 && html`<ul class="evidence">
      ${images.map(({ id, part }) => html`<li key=${id}>
        <img src=${thumbnail("examples", id)} alt=${t("evidence_photo", exact(part))} /><span title=${part}>${exact(part)}</span>
      </li>`)}
    </ul>`}
    <ul class="bars">
      ${images.length > 0 && html`<${Bar} label=${t("these_photos", images.length)} share=${share(images.reduce((sum, { part }) => sum + part, 0))}
        text=${exact(images.reduce((sum, { part }) => sum + part, 0))} />`}
      ${nOthers > 0 && html`<${Bar} label=${t("other_photos", nOthers)} share=${share(others)} text=${exact(others)} />`}
      <${Bar} label=${t("its_name", evidence.name ?? evidence.label)} share=${share(text)} text=${exact(text)} />
    </ul>
  </details>`;
}
