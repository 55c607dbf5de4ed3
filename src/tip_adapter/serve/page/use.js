// The view "Use it": files to take along, and lines to run.

import { address } from "./api.js";
import { html, say, state } from "./store.js";
import { Icon } from "./parts.js";
import { pathIn } from "./project.js";
import { t } from "./i18n.js";

export function Use() {
  if (state.project.draft || !state.project.classes.length) return html`<p class="drop-hint">${t("use_empty")}</p>`;
  return html`<section class="use" aria-labelledby="use-title">
    <h2 id="use-title" class="unseen">${t("use")}</h2>
    <div class="panel">
      <h3>${t("take_along")}</h3>
      <ul class="downloads">
        ${["project", "model", "onnx"].map((format) => html`<li>
          <a class="button" href=${address(pathIn("export"), { format })} download><${Icon} name="download" /><span>${t(`export_${format}`)}</span></a>
          <p class="note">${t(`export_${format}_hint`)}</p>
        </li>`)}
        ${state.project.n_collection > 0 && html`<li>
          <a class="button" href=${address(pathIn("collection.csv"))} download><${Icon} name="download" /><span>${t("csv")}</span></a>
          <p class="note">${t("csv_hint")}</p>
        </li>`}
      </ul>
    </div>
    ${Object.entries(snippets()).map(([title, lines]) => html`<${Snippet} key=${title} title=${title} lines=${lines} />`)}
  </section>`;
}

/** Lines that run as they are, next to a photo.jpg, after the download that they name. */
function snippets() {
  const url = new URL(address(pathIn("predict"), { top: 3 }), location.href).href;
  const token = state.info.needs_token ? ' -H "Authorization: Bearer $TIP_ADAPTER_TOKEN"' : "";
  return {
    [t("snippet_shell")]: "python -m zipfile -e model.zip .\ntip-adapter predict model photo.jpg",
    [t("snippet_sort")]: "python -m zipfile -e model.zip .\ntip-adapter predict model photos --sort-into sorted --min-score auto",
    [t("snippet_python")]:
      'from tip_adapter import FewShotClassifier\n\nmodel = FewShotClassifier.load("model")\nprint(model.predict(["photo.jpg"])[0])',
    [t("snippet_curl")]: `curl${token} -F images=@photo.jpg \\\n  "${url}"`,
  };
}

function Snippet({ title, lines }) {
  const copy = async () => {
    await navigator.clipboard?.writeText(lines);
    say(t("copied"));
  };
  return html`<div class="panel">
    <h3>${title}</h3>
    <pre tabindex="0"><code>${lines}</code></pre>
    ${navigator.clipboard && html`<button type="button" class="button" onClick=${copy}>${t("copy")}</button>`}
  </div>`;
}
