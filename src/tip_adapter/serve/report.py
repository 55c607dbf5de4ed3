"""How good a project is: accuracy on photos that are left out, and what a person should review."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.metrics import accuracy_interval, accuracy_of
from tip_adapter.model.label_issues import check_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tip_adapter.model.head import Head
    from tip_adapter.serve.state import State

_FEW = 2


def report_of(state: State) -> dict[str, Any]:
    """The report of a state, as GET /v1/projects/{p}/report answers; its photos are those of the last fit to all.

    Likely wrong labels are those of the default method.
    """
    head, fine_tuned = (state.learned.head if state.learned else None), state.fine_tuned
    ids = {row.label: row.id for row in state.classes.values()}
    report: dict[str, Any] = {
        "version": state.version,
        "n_examples": len(state.examples),
        "accuracy": None,
        "per_class": [],
        "confusion": {"labels": [], "counts": []},
        "suspicious": [],
        "near_duplicates": [],
        "needs_photos": [row.id for row in state.classes.values() if state.n_examples[row.id] < _FEW],
        "note": "no class has two photos yet that differ; then each can be left out, and predicted by the others",
    }
    if head is None or not len(head.support):
        return report
    issues = check_images(head)
    report |= {
        "suspicious": [
            {
                "example_id": entry["image"],
                "class_id": ids[entry["label"]],
                "suggested_class_id": ids[entry["called"]],
                "score": entry["probability"],
            }
            for entry in issues["likely_wrong"]
        ],
        "near_duplicates": [entry["images"] for entry in issues["near_duplicates"]],
        "needs_photos": [ids[entry["label"]] for entry in issues["need_images"]],
    }
    if fine_tuned is not None:
        head, rows, predicted = fine_tuned.head, fine_tuned.rows, fine_tuned.predicted
    else:
        rows, logits = head.left_out_logits
        predicted = head.classes[logits.argmax(axis=1)]
    return report | _measured(head, head.support.labels[rows], predicted, ids) if len(rows) else report


def _measured(head: Head, truth: NDArray[Any], predicted: NDArray[Any], ids: dict[str, str]) -> dict[str, Any]:
    """Accuracy overall and by class, with 95 % intervals, and how often each class is predicted as each other.

    `truth` and `predicted` are the labels of photos that were left out.
    """
    counts = np.zeros((len(head.classes), len(head.classes)), np.intp)
    np.add.at(counts, (np.searchsorted(head.classes, truth), np.searchsorted(head.classes, predicted)), 1)
    accuracy = accuracy_of(truth, predicted)
    low, high = accuracy.interval
    per_class = []
    for position, label in enumerate(head.classes.tolist()):
        n, right = int(counts[position].sum()), int(counts[position, position])
        if n:
            least, most = accuracy_interval(right, n)
            per_class.append({"class_id": ids[label], "n": n, "right": right, "low": least, "high": most})
    n_skipped = len(head.support) - len(truth)
    return {
        "accuracy": {"value": accuracy.accuracy, "low": low, "high": high, "n": len(truth)},
        "per_class": per_class,
        "confusion": {"labels": head.classes.tolist(), "counts": counts.tolist()},
        "note": f"{n_skipped} photos cannot be left out, since no other photo of their class differs from them"
        if n_skipped
        else "",
    }
