"""The model card: what a person wants to know of a model, in Markdown."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from tip_adapter.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Classes and confusions that a card lists by how hard they are.
_HARDEST = 10


def model_card(config: Mapping[str, Any], *, trained: bool = False) -> str:
    """The card of a model's configuration: YAML front matter, what it is, how to run it, how good it is, its classes.

    Parameters
    ----------
    config : as format.md says
    trained : whether its keys are learned
    """
    parts = [_front_matter(config), _summary(config, trained), _HOW_TO, _how_good(config), _classes(config)]
    return "\n\n".join(part for part in parts if part) + "\n"


_HOW_TO = """## How to run it

    pip install tip-adapter
    tip-adapter predict THIS_FOLDER photo.jpg

From Python, a folder or a repository of the Hugging Face hub:

    from tip_adapter import FewShotClassifier
    FewShotClassifier.from_pretrained("NAMESPACE/NAME").predict(["photo.jpg"])"""


def _front_matter(config: Mapping[str, Any]) -> str:
    lines = ["library_name: tip-adapter", "pipeline_tag: image-classification", "tags: [few-shot, tip-adapter]"]
    return "\n".join(["---", *lines, f"base_encoder: {json.dumps(config['encoder']['name'])}", "---"])


def _summary(config: Mapping[str, Any], trained: bool) -> str:
    choice, encoder = config["choice"], config["encoder"]
    pair = f"alpha {choice['alpha']:.4g}, beta {choice['beta']:.4g}" if choice else "none"
    rows = [
        ("method", _method(config)),
        ("encoder", f"{encoder['name']}, fingerprint {encoder['fingerprint'][:12]}…, width {encoder['width']}"),
        ("templates", _cell("; ".join(config["templates"]))),
        ("photos", str(sum(entry["n_images"] for entry in config["classes"]))),
        ("pair", pair),
        ("protocol", choice["rule"] if choice else "nothing to choose"),
        ("accuracy", _accuracy(config, trained)),
        ("made with", f"tip-adapter {config['tip_adapter']}, seed {config['seed']}"),
    ]
    title = f"# A few-shot classifier of {counted(len(config['classes']), 'class', 'classes')}"
    return "\n".join([title, "", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _method(config: Mapping[str, Any]) -> str:
    later = f"; taught since it was fine-tuned with {config['finetune_with']}" if config["finetune_with"] else ""
    return f"{config['method']}{later}"


def _accuracy(config: Mapping[str, Any], trained: bool) -> str:
    """What was measured without photos of its own; a learned key has seen its photo, so it is the untrained ones'."""
    choice, left_out = config["choice"], config["left_out"]
    if left_out:
        low, high = left_out["interval"]
        before = ", before the keys were fine-tuned" if trained else ""
        counts = counted(left_out["n_rows"], "photo", "photos")
        return f"{left_out['accuracy']:.1%} of {counts}, each left out{before} (95 % interval {low:.1%} to {high:.1%})"
    if choice and choice["accuracy"] is not None:
        since = "" if choice["rule"] == "validation" else ", before photos were added or removed"
        return f"{choice['accuracy']:.1%} of {counted(choice['n_rows'], 'photo', 'photos')} ({choice['rule']}{since})"
    return "not measured: no photos were left out"


def _how_good(config: Mapping[str, Any]) -> str:
    """The hardest classes, and what they are taken for, each photo left out in turn."""
    left_out = config["left_out"]
    if not left_out:
        return ""
    classes = sorted(left_out["per_class"], key=lambda entry: entry["accuracy"])[:_HARDEST]
    rows = [f"| {_cell(c['label'])} | {c['accuracy']:.1%} | {c['n_rows']} |" for c in classes]
    mistakes = [
        f"| {_cell(c['label'])} | {_cell(c['called'])} | {c['n_rows']} |" for c in left_out["confusions"][:_HARDEST]
    ]
    text = f"""## How good it is

Each photo named without its help: the classes that are hardest, and what they are taken for. A score of
{left_out["threshold"]:.3f} or more is reached by {left_out["kept"]:.0%} of the photos (`--min-score auto`: below it, none of these).

| class | right | photos |
| --- | --- | --- |
""" + "\n".join(rows)
    return "\n".join([text, "", "| class | called | photos |", "| --- | --- | --- |", *mistakes]) if mistakes else text


def _classes(config: Mapping[str, Any]) -> str:
    rows = [f"| {_cell(c['label'])} | {_cell(c['name'])} | {c['n_images']} |" for c in config["classes"]]
    return "\n".join(["## Classes", "", "| label | name | photos |", "| --- | --- | --- |", *rows])


_MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "|`[\\"}


def _cell(text: str) -> str:
    """Any text as a cell of a Markdown table, with nothing in it that a page would run."""
    escaped = html.escape(text, quote=False).translate(_MARKDOWN)
    return "".join(c if c.isprintable() else " " for c in escaped)
