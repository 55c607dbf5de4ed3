"""Photos by their content: identical ones are left out, and a model is compared with what a folder holds now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.errors import warn
from tip_adapter.features.sources import warn_of_conflicts
from tip_adapter.text import counted, first_three, printable

if TYPE_CHECKING:
    from collections.abc import Collection

    from tip_adapter.model.head import Head
    from tip_adapter.vectors import SupportSet


def distinct(photos: SupportSet, known: SupportSet) -> SupportSet:
    """The photos without those whose content and class an earlier one has, or one of `known`; a warning counts them.

    A photo of a content that `known` has in another class stays, and a warning names both. Photos of unknown content stay.
    """
    seen = {(digest, label): name for digest, label, name in _rows(known) if digest}
    labels = {digest: label for digest, label, _ in _rows(known)}
    kept, identical, conflicts = [], [], []
    for row, (digest, label, name) in enumerate(_rows(photos)):
        earlier = seen.setdefault((digest, label), name) if digest else name
        if earlier is not name:
            identical.append(f"{printable(name)} is the same as {printable(earlier)}")
            continue
        kept.append(row)
        other = labels.get(digest, label) if digest else label
        if other != label and seen[digest, other] != name:
            conflicts.append(((seen[digest, other], other), (name, label)))
    if identical:
        found = counted(len(identical), "image identical to another", "images identical to others")
        warn(f"skipped {found} of the same class: {first_three(identical)}")
    warn_of_conflicts(
        conflicts, "remove one (tip-adapter remove --photo), or relabel the first (tip-adapter relabel-photo)"
    )
    return photos.take(np.array(kept, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Changes:
    """How the photos and classes of a folder differ from those of a model.

    Parameters
    ----------
    support : SupportSet, the photos of the folder
    classes : its labels, in order
    new : ids of photos whose content the model does not have
    moved : (id in the folder, label in the model, label in the folder) of photos that are in another class now
    renamed : (id in the model, id in the folder) of photos that have another path in the same class
    removed : ids of photos of the model whose content the folder does not have
    new_classes, removed_classes : labels
    """

    support: SupportSet
    classes: tuple[str, ...]
    new: tuple[str, ...]
    moved: tuple[tuple[str, str, str], ...]
    renamed: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    new_classes: tuple[str, ...]
    removed_classes: tuple[str, ...]

    def __bool__(self) -> bool:
        return any((self.new, self.moved, self.renamed, self.removed, self.new_classes, self.removed_classes))

    @classmethod
    def between(cls, head: Head, support: SupportSet, classes: Collection[str]) -> Changes:
        """From the photos and classes of a head to others.

        Photos are the same if their content is; where the head does not know that, if their ids are.
        """
        before = head.support
        waiting: dict[str, list[int]] = {}  # content, or id where that is unknown → rows of the head
        for row, (digest, _, name) in enumerate(_rows(before)):
            waiting.setdefault(digest or name, []).append(row)
        earlier: dict[int, int] = {}  # row of `support` → row of the head
        for alike in (("labels", "ids"), ("labels",), ()):
            for row, (digest, _, name) in enumerate(_rows(support)):
                candidates = waiting.get(digest if digest in waiting else name, [])
                agreeing = (
                    old for old in candidates if all(getattr(before, c)[old] == getattr(support, c)[row] for c in alike)
                )
                if row not in earlier and (old := next(agreeing, None)) is not None:
                    earlier[row] = old
                    candidates.remove(old)
        pairs, found = sorted(earlier.items()), {*earlier.values()}
        labels, ids, old_labels, old_ids = (
            c.tolist() for c in (support.labels, support.ids, before.labels, before.ids)
        )
        return cls(
            support,
            tuple(classes),
            new=tuple(name for row, name in enumerate(ids) if row not in earlier),
            moved=tuple((ids[r], old_labels[o], labels[r]) for r, o in pairs if old_labels[o] != labels[r]),
            renamed=tuple(
                (old_ids[o], ids[r]) for r, o in pairs if old_labels[o] == labels[r] and old_ids[o] != ids[r]
            ),
            removed=tuple(name for row, name in enumerate(old_ids) if row not in found),
            new_classes=tuple(label for label in classes if label not in head.names),
            removed_classes=tuple(label for label in head.names if label not in classes),
        )


def _rows(photos: SupportSet) -> list[tuple[str, str, str]]:
    """Digest, label and id of each photo."""
    return list(zip(photos.digests.tolist(), photos.labels.tolist(), photos.ids.tolist(), strict=True))
