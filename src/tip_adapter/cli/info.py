"""`tip-adapter info`: classes, encoder and settings of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tip_adapter.cli._options import Json, ModelDir
from tip_adapter.cli._output import print_json, print_line, print_table
from tip_adapter.cli._words import near_repeats_in_words, outcome_in_words, threshold_in_words
from tip_adapter.model.head import load_head
from tip_adapter.text import counted

if TYPE_CHECKING:
    from tip_adapter.model.head import Head


def info(model_dir: ModelDir, json: Json = False) -> None:
    """Describe a classifier: classes, encoder, settings."""
    head, config = load_head(model_dir)
    if json:
        print_json(_record(config, head))
        return
    print_table(["label", "images", "name"], [[c["label"], str(c["n_images"]), c["name"]] for c in config["classes"]])
    encoder = config["encoder"]
    classes, images = counted(len(head.names), "class", "classes"), counted(len(head.support), "image", "images")
    print_line(f"{head.method}, {classes}, {images}.")
    templates = f"templates: {'; '.join(config['templates'])}" if head.class_embeddings else "which reads no names"
    print_line(f"Encoder {encoder['name']} ({encoder['fingerprint'][:12]}…), {templates}")
    print_line(outcome_in_words(head))
    if head.choice:
        temperature = head.choice.temperature
        how = "plain softmax values, not calibrated" if temperature == 1 else "calibrated"
        print_line(f"Scores are {how}: temperature {temperature:.4g}.")
    for line in filter(None, [near_repeats_in_words(head), threshold_in_words(head)]):
        print_line(line)
    if head.finetune_with:
        print_line(
            f"Not trained since images were added or removed; to train with {head.finetune_with}: tip-adapter retune {model_dir}"
        )
    print_line(f"Made with tip-adapter {config['tip_adapter']}, seed {config['seed']}.")


def _record(config: dict[str, Any], head: Head) -> dict[str, Any]:
    left_out = config["left_out"] or dict.fromkeys(("threshold", "kept", "refused", "near_repeats"))
    choice = config["choice"] or dict.fromkeys(("alpha", "beta", "temperature", "accuracy", "rule", "n_rows"))
    return {
        **{key: config[key] for key in ("method", "encoder", "classes")},
        "n_classes": len(config["classes"]),
        "n_images": len(config["images"]),
        "protocol": choice["rule"],
        **{key: choice[key] for key in ("alpha", "beta", "temperature")},
        "left_out_accuracy": None if choice["rule"] == "validation" else choice["accuracy"],
        "validation_accuracy": choice["accuracy"] if choice["rule"] == "validation" else None,
        "left_out_interval": list(head.left_out.accuracy.mean_interval) if head.left_out else None,
        "threshold": left_out["threshold"],
        "kept": left_out["kept"],
        "refused": left_out.get("refused"),
        "near_repeats": left_out.get("near_repeats"),
        "training": dict(head.training),
        **{
            key: config[key]
            for key in ("finetune_with", "templates", "logit_scale", "parameters", "seed", "tip_adapter")
        },
    }
