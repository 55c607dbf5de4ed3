"""How the images of an experiment are drawn: nested, or as the few-shot literature draws them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from tip_adapter.images.sampling import draw_shots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Validation images a class that few-validation may see, at most.
FEW = 4
NESTED, LITERATURE = "nested", "literature"
#: Way of drawing → what it is, in a few words.
DRAWS = {
    NESTED: "a draw of fewer shots lies within one of more",
    LITERATURE: "the photos that CoOp's public code draws by the same seed",
}


def drawn_rows(
    draws: str, shots: int, seed: int, train: Sequence[Any] | NDArray[Any], val: Sequence[Any] | NDArray[Any] = ()
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`shots` images of each class of the training part, and as many of the validation part, at most four.

    Parameters
    ----------
    draws : a key of `DRAWS`
    shots, seed : int
    train, val : (n,) labels of the parts, in the order of the split

    Returns
    -------
    (m,) int arrays of sorted positions in `train` and in `val`; a class with fewer images gives all

    Notes
    -----
    The literature's: CoOp (IJCV 2022), `generate_fewshot_dataset` after `random.seed(seed)`; classes in the order of their first
    images, the validation part from the same generator after the training part.
    """
    few = min(shots, FEW)
    if draws == NESTED:
        return draw_shots(train, shots, seed), draw_shots(val, few, seed)
    generator = random.Random(seed)

    def sampled(labels: Sequence[Any] | NDArray[Any], number: int) -> NDArray[np.intp]:
        own: dict[Any, list[int]] = {}
        for row, label in enumerate(labels):
            own.setdefault(label, []).append(row)
        drawn = [generator.sample(rows, number) if len(rows) >= number else rows for rows in own.values()]
        return np.sort(np.array([row for rows in drawn for row in rows], dtype=np.intp))

    return sampled(train, shots), sampled(val, few)
