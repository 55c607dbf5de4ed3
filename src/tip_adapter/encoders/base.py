"""What every encoder is: images and sentences in, unit vectors of one space out, and a record that says what it is."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from tip_adapter.errors import UsageError
from tip_adapter.text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto


#: Letters of one script; modifiers, such as the Japanese long-vowel mark, belong to several.
_LETTERS = ("Lu", "Ll", "Lt", "Lo")


@dataclass(frozen=True)
class EncoderIdentity:
    """Which encoder made a vector. Vectors of different fingerprints never mix.

    Parameters
    ----------
    name : str
    fingerprint : str, SHA-256 over the weights and over the definition of the vectors
    width : int, length of a vector
    """

    name: str
    fingerprint: str
    width: int


@dataclass(frozen=True)
class EncoderRecord:
    """What an encoder is made of and which numbers belong to it.

    Parameters
    ----------
    description : str, one line
    width : int, length of a vector
    logit_scale : float, what text logits are multiplied by
    templates : its default templates, ``{}`` stands for the name
    scale_free_ratio : float, ratio of the cache's spread to the text's in the scale-free rule
    languages : language codes in which class names are understood
    licence : str, of the weights
    size_mib : int, of the weights
    needs : pip requirements beyond the base install, empty if none
    scripts : Unicode's names of the scripts in which class names are understood
    keeps_templates : whether its own templates go before those of a data set, as sentences cost it accuracy
    support_views : augmented views that the paper's experiments average for a support photo; 0 for the photo itself
    logit_scale_assumed : whether `logit_scale` is a guess, since nothing states it
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

    def reads(self, name: str) -> bool:
        """Whether every letter of `name` is of a script that the text side knows."""
        letters = [c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) in _LETTERS]
        return all(unicodedata.name(c, "").split(" ")[0] in self.scripts for c in letters)


class Encoder(Protocol):
    """A frozen pair of towers.

    An encoder states its record and implements `prepare`, `encode_prepared` and `encode_texts`; subclassing gives
    `encode_images`. One whose network gives vectors of any length says so by `gives_raw` and implements `encode_raw`; one
    whose image side can leave this program as an ONNX graph implements `image_graph`. It may offer more to methods that
    need it (`Capabilities.encoder_parts`), each by a method of that name: ``prompt_tower()`` gives a `methods.coop.PromptTower`.
    `tip_adapter.testing.check_encoder` holds an implementation to this contract.
    """

    record: EncoderRecord
    identity: EncoderIdentity
    logit_scale: float
    gives_raw: bool = False

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """One upright RGB photo → what `encode_prepared` takes one of. Runs in worker threads."""
        ...

    def encode_prepared(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """A stack of prepared photos → (n, width) float32 unit rows."""
        ...

    def encode_texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Sentences → (n, width) float32 unit rows."""
        ...

    def encode_raw(self, prepared: NDArray[Any]) -> NDArray[np.float32]:
        """`encode_prepared` before it is normalised; only where `gives_raw`."""
        raise UsageError(f"{self.identity.name} gives unit rows only; leave out normalize=False")

    def image_graph(self) -> ModelProto | None:
        """`encode_prepared` as an ONNX graph, for programs without this package; None where there is none.

        Returns
        -------
        a model of one input, ``pixels`` (a stack of prepared photos), and one output, ``vectors`` ((n, width) float32,
            of any length); ``preprocessing`` in its metadata says in words what `prepare` does. Made anew: the caller
            may change it

        Raises
        ------
        ExportError
            There is one, and it is too large for a file.
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
        return np.concatenate([np.zeros((0, self.identity.width), np.float32), *vectors])


def _rgb_image(image: Any) -> Image.Image:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return Image.fromarray(image)
    if isinstance(image, Image.Image) and image.mode == "RGB":
        return image
    raise UsageError(
        f"encode_images takes RGB images (PIL) or (h, w, 3) uint8 arrays, not {shown(image)}; "
        "features.encode_photos reads files and other kinds of images"
    )


def centre_crop_sides(image: Image.Image, longest: int) -> Image.Image:
    """Crop each side to at most `longest` pixels around the centre.

    No centre crop sees the ends of a strip, and resizing all of it would fill the memory.
    """
    left, top = (max(side - longest, 0) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image
