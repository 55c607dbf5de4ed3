"""Photos by their content: which photo of a model a file is, what is identical, and how a folder differs from a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from tip_adapter.errors import UnknownName, warn
from tip_adapter.features.encode import encode_photos
from tip_adapter.features.sources import warn_of_conflicts
from tip_adapter.images.decode import image_digest
from tip_adapter.images.labels import path_as_text
from tip_adapter.text import counted, first_of, first_three, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from tip_adapter.encoders import Encoder
    from tip_adapter.model.head import Head
    from tip_adapter.vectors import SupportSet


#: Cosine from which two vectors are of the same image, where the content of one is unknown.
_SAME = 1 - 1e-6


def id_of(name: str, known: SupportSet, encoder: Encoder) -> str:
    """The id that a name or path has among known photos; `name` itself if it is none of them. UnknownName if it could be several.

    It is an id, or a file: that of the only photo of the same content, or, of several, of the one whose id the path ends with.
    """
    path, ids = path_as_text(os.path.normpath(name)), known.ids.tolist()
    if name in ids or path in ids:
        return path if path in ids else name
    content = image_digest(name)
    same = [row for row, digest in enumerate(known.digests.tolist()) if digest and digest == content]
    ends = [row for row, other in enumerate(ids) if path.endswith(f"{os.sep}{other}")]
    if content and len(ends) == 1 and not known.digests[ends[0]]:
        vector = encode_photos([name], encoder).vectors
        same = ends if len(vector) == 1 and float(vector[0] @ known.vectors[ends[0]]) >= _SAME else []
    named = same if len(same) == 1 else [row for row in same if row in ends]
    if len(named) != 1 and len(same) > 1:
        found = first_of([f"{ids[row]} ({known.labels[row]})" for row in same])
        raise UnknownName(f"{printable(name)} is {len(same)} photos of the model: {found}; give the id of one of them")
    return ids[named[0]] if named else name


def distinct(photos: SupportSet, known: SupportSet) -> SupportSet:
    """The photos without those whose content and class an earlier one has, or one of `known`; a warning counts them.

    A photo of a content that `known` has in another class stays, and a warning names both. Photos of unknown content stay.
    """
    contents = set(filter(None, photos.digests.tolist()))
    present = [row for row, digest in enumerate(known.digests.tolist()) if digest in contents]
    same = _rows(known.take(np.array(present, dtype=np.intp)))
    seen = {(digest, label): name for digest, label, name in same}
    labels = {digest: label for digest, label, _ in same}
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


def warning_of_overlap(batches: Iterable[SupportSet], learned: SupportSet) -> Iterator[SupportSet]:
    """The same batches of photos that a model is measured on; after the last, warn of photos that make the figures wrong.

    These are photos of the same content as those that the model has `learned`, and those that are there more than once in one
    class. Photos of unknown content are none of these.
    """
    contents, seen = set(filter(None, learned.digests.tolist())), set[tuple[bytes, str]]()
    n = n_learned = n_again = 0
    for photos in batches:
        for digest, label, _ in filter(itemgetter(0), _rows(photos)):
            key = (bytes.fromhex(digest)[:16], label)
            n_learned += digest in contents
            n_again += key in seen
            seen.add(key)
        n += len(photos)
        yield photos
    if n_learned:
        warn(
            f"{n_learned:,} of {n:,} images are those that the model learns from: figures from them are too high; use others"
        )
    if n_again:
        found = counted(n_again, "image is identical to another", "images are identical to others")
        warn(f"{found} of the same class, and counted as well")


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
