"""The interface of encoders: images, and texts where there is a text tower, to unit vectors of one space; with a record."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from tip_adapter.errors import UsageError
from tip_adapter.text import printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto


#: Letters of one script; modifiers, such as the Japanese long-vowel mark, belong to several.
_LETTERS = ("Lu", "Ll", "Lt", "Lo")


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder that made a vector. Vectors of different fingerprints are never combined.

    Parameters
    ----------
    name : str
    fingerprint : str, SHA-256 of the weights and of the definition of the vectors
    width : int, length of a vector
    """

    name: str
    fingerprint: str
    width: int


@dataclass(frozen=True)
class EncoderRecord:
    """Description of an encoder, with its constants.

    Parameters
    ----------
    description : str, one line
    width : int, length of a vector
    logit_scale : float, factor of the text logits
    templates : its default templates, with ``{}`` for the class name
    scale_free_ratio : float, ratio of the spread of the cache logits to that of the text logits in the scale-free rule
    languages : language codes in which class names are understood
    licence : str, of the weights
    size_mib : int, of the weights
    needs : pip requirements beyond the base install, empty if none
    scripts : Unicode's names of the scripts in which class names are understood
    keeps_templates : whether its own templates are used instead of those of a data set, because prompts cost it accuracy
    support_views : augmented views of a support image that the paper's experiments average; 0 for the image itself
    logit_scale_assumed : whether `logit_scale` is a default, as no file states it
    reads_names : whether it has a text tower; without one, classes are known by their photos alone
    """

    description: str
    width: int
    logit_scale: float
    templates: tuple[str, ...]
    scale_free_ratio: float
    languages: tuple[str, ...]
    licence: str
    size_mib: int
    needs: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ("LATIN",)
    keeps_templates: bool = False
    support_views: int = 10
    logit_scale_assumed: bool = False
    reads_names: bool = True

    def image_only(self) -> EncoderRecord:
        """The same for an encoder without a text tower: there is nothing to scale, and no language or template."""
        return replace(self, reads_names=False, logit_scale_assumed=False, languages=(), scripts=(), templates=())

    def reads(self, name: str) -> bool:
        """Whether every letter of `name` is of a script that the text tower supports."""
        letters = [c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) in _LETTERS]
        return all(unicodedata.name(c, "").split(" ")[0] in self.scripts for c in letters)


class Encoder(Protocol):
    """A frozen image tower and, where `record.reads_names`, a text tower.

    An encoder has a record and implements `prepare`, `encode_prepared` and, with a text tower, `encode_texts`; it inherits
    `encode_images`.
    Where the network gives vectors before normalisation, it sets `gives_raw` and implements `encode_raw`; where the image
    tower can be exported as an ONNX graph, it implements `image_graph`. For methods that need more
    (`Capabilities.encoder_parts`), it has a method of each part's name: ``prompt_tower()`` returns a `methods.coop.PromptTower`.
    `tip_adapter.testing.check_encoder` checks an implementation against this contract.
    """

    record: EncoderRecord
    identity: EncoderIdentity
    logit_scale: float
    gives_raw: bool = False

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """One upright RGB image → the array that `encode_prepared` takes a stack of. Runs in worker threads."""
        ...

    def encode_prepared(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """A stack of prepared images → (n, width) float32 unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts → (n, width) float32 unit rows; only where `record.reads_names`."""
        raise UsageError(f"{printable(self.identity.name)} encodes photos only: it has no text tower to read names")

    def encode_raw(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """`encode_prepared` before normalisation; only where `gives_raw`."""
        raise UsageError(f"{self.identity.name} gives unit rows only; leave out normalize=False")

    def image_graph(self) -> ModelProto | None:
        """`encode_prepared` as an ONNX graph, for programs without this package; None if it cannot be exported.

        Returns
        -------
        a model of one input, ``pixels`` (a stack of prepared images), and one output, ``vectors`` ((n, width) float32,
            of any length); ``preprocessing`` in its metadata describes `prepare` in words. It is new at each call: the
            caller may change it

        Raises
        ------
        ExportError
            The graph is too large for a file.
        """
        return None

    def encode_images(
        self, images: Sequence[Image.Image | NDArray[np.uint8]], *, normalize: bool = True
    ) -> NDArray[np.float32]:
        """Encode decoded images; `features.encode_photos` takes files.

        Parameters
        ----------
        images : upright RGB: PIL images, or (h, w, 3) uint8 arrays
        normalize : bool, whether rows are scaled to unit length

        Returns
        -------
        (n, width) float32 array; unit rows if `normalize`

        Raises
        ------
        UsageError
            An image is something else, or `normalize` is false and the encoder gives unit rows only (`gives_raw` is
            false).
        """
        encode = self.encode_prepared if normalize else self.encode_raw
        vectors = [encode(self.prepare(_rgb_image(image))[None]) for image in images]
        return rows_of(vectors, self.identity.width)


def _rgb_image(image: Any) -> Image.Image:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return Image.fromarray(image)
    if isinstance(image, Image.Image) and image.mode == "RGB":
        return image
    raise UsageError(
        f"encode_images takes RGB images (PIL) or (h, w, 3) uint8 arrays, not {shown(image)}; "
        "features.encode_photos reads files and other kinds of images"
    )


def rows_of(runs: Iterable[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    """The rows of all runs of a network, also of none: (n, width) float32.

    Texts are encoded one per run: in a batch the last bits depend on the others, and a class that comes later must be as
    if it had been there from the beginning.
    """
    return np.concatenate([np.zeros((0, width), np.float32), *runs])


def centre_crop_sides(image: Image.Image) -> Image.Image:
    """Crop the long side to at most 16 short ones around the centre.

    A centre crop contains no ends of a long strip, and resizing all of it would fill the memory.
    """
    left, top = (max(side - 16 * min(image.size), 0) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image
