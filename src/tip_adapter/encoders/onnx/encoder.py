"""CLIPs and image-only encoders as ONNX files, from a folder or the Hugging Face hub: ONNX Runtime and tokenizers, no torch.

The files determine everything: the layout of the folder, the shape, type and batch size of a graph's inputs, whether its
output is normalised, the size and scaling of images, the length and cleaning of texts. No graph runs before it is
inspected.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from onnx.compose import add_prefix

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord, rows_of
from tip_adapter.encoders.onnx.catalogue import Clip, known_clip, named_clips, unknown_record
from tip_adapter.encoders.onnx.inspection import whole_model
from tip_adapter.encoders.onnx.layouts import HALF, layout_in, read_settings
from tip_adapter.encoders.onnx.tokenizer import TextTokenizer, is_siglip
from tip_adapter.encoders.onnx.tower import Tower, provider
from tip_adapter.encoders.onnx.writer import MOST_BYTES, GraphWriter
from tip_adapter.errors import CheckpointError, ExportError, UsageError
from tip_adapter.io.files import file_digest, is_folder
from tip_adapter.text import printable
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto
    from PIL.Image import Image

    from tip_adapter.encoders.onnx.inspection import Tensor
    from tip_adapter.encoders.onnx.layouts import Layout

#: The number increases when the same files give other vectors.
_DEFINITION = "onnx 1"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
#: The name of a large file in the hub's cache: its SHA-256.
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Images per run where the graph takes any number: their activations fit into a core's cache.
_IMAGES_PER_RUN = 8
#: Prefix of each name of a file's graph, in a graph that has nodes of ours as well.
_THEIRS = "clip/"
#: Tolerance of the squared length of a normalised vector, which may be of half precision.
_ROUNDING = 5e-3


def load_named(name: str, *, device: str | None = None, threads: int | None = None) -> OnnxClipEncoder:
    """The CLIP of a short name, from the hub; raises as `load_source`."""
    return _from_hub(named_clips()[name], name.removesuffix(HALF), device, threads)


def load_source(source: str, *, device: str | None = None, threads: int | None = None) -> OnnxClipEncoder:
    """The CLIP of a folder, or of a repository ``OWNER/NAME`` on the hub; with ``@half`` after it, in half precision.

    Raises
    ------
    CheckpointError
        There is no such folder, or it contains no CLIP that can be used.
    DownloadError
        It is not in the hub's cache, and cannot be downloaded.
    UsageError
        The device is not available, or the folder's name has unprintable characters.
    """
    place, half = _place_and_precision(source)
    if is_folder(Path(place)):
        path = Path(place).resolve()
        if not str(path).isprintable():
            raise UsageError(f"the name of {printable(path)} has unprintable characters; rename the folder")
        provider(device)
        record = unknown_record(f"an encoder in {path.name}")
        return OnnxClipEncoder(f"onnx:{path}", path, path, record, half=half, device=device, threads=threads)
    if _REPOSITORY.fullmatch(place):
        return _from_hub(known_clip(place, half) or _unknown_clip(place, half), f"onnx:{place}", device, threads)
    raise CheckpointError(
        f"there is no folder {printable(place)}; if it was moved, pass its new path: --encoder onnx:FOLDER, "
        "or FewShotClassifier.load(MODEL_DIR, encoder='onnx:FOLDER')"
    )


def absent_repository(source: str) -> str | None:
    """The repository that `load_source` would download, None for a folder, a known CLIP, or one in the cache."""
    place, half = _place_and_precision(source)
    if is_folder(Path(place)) or known_clip(place, half) or not _REPOSITORY.fullmatch(place):
        return None
    from tip_adapter.encoders.onnx.download import cached  # as below

    return None if cached(_unknown_clip(place, half)) else place


def _place_and_precision(source: str) -> tuple[str, bool]:
    """The folder or repository of a source, and whether half precision is asked for; a folder's name may end like that."""
    half = source.endswith(HALF) and not is_folder(Path(source))
    return source.removesuffix(HALF) if half else source, half


def _unknown_clip(repository: str, half: bool) -> Clip:
    return Clip(repository, "main", unknown_record(f"the CLIP {repository} on the Hugging Face hub"), half=half)


def _from_hub(clip: Clip, name: str, device: str | None, threads: int | None) -> OnnxClipEncoder:
    provider(device)  # before anything is downloaded
    from tip_adapter.encoders.onnx.download import fetch  # a folder needs no hub

    path = fetch(clip)
    root = path.parents[1]  # the cache's folder of the repository
    return OnnxClipEncoder(name, path, root, clip.record, half=clip.half, device=device, threads=threads)


class OnnxClipEncoder(Encoder):
    """A CLIP whose towers are ONNX files, or an encoder of images only, whose one tower is.

    Parameters
    ----------
    name : str, that loads it again; without ``@half``, which is added where its files are those in half precision
    folder : path of the folder with its files
    root : folder that must contain the targets of their links
    record : EncoderRecord; its width is read from the graph, and whether there is a text tower from the folder
    half : whether its files must be those in half precision
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it
    threads : int, None for one per available processor

    Raises
    ------
    CheckpointError
        A file is missing, cannot be used, or is not safe to run.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        root: Path,
        record: EncoderRecord,
        *,
        half: bool,
        device: str | None,
        threads: int | None,
    ) -> None:
        self._folder, self._layout = folder, layout_in(folder, half=half)
        self._preprocessing = read_settings(folder / self._layout.preprocessing, self._layout.pixels).preprocessing()
        graphs = [self._layout.image, *([self._layout.text.graph] if self._layout.text else [])]
        towers = [Tower(folder / file, root, self._layout.outputs, device=device, threads=threads) for file in graphs]
        self._image, self._text = towers[0], towers[1] if self._layout.text else None
        self._pixels = _image_input(self._image)
        # Floats are scaled here, channels first; uint8 by the graph, channels last.
        self._takes_floats = self._pixels.dtype in _FLOATS
        width = self._image.output.shape[-1] or self._trial.shape[1]
        self.record = replace(record if self._text else record.image_only(), width=width)
        self.logit_scale = self.record.logit_scale
        if self._text and self._text.output.shape[1] not in (None, width):
            raise _unlike(self._text, f"texts to vectors of the width of photos, {width}")
        fingerprint = _fingerprint(self._layout, folder, towers)
        self.identity = EncoderIdentity(f"{name}{HALF}" if HALF in self._layout.name else name, fingerprint, width)

    @cached_property
    def gives_raw(self) -> bool:  # type: ignore[override]
        """Whether the image graph gives vectors that are not normalised: found by a trial."""
        return bool(abs(np.square(self._trial).sum() - 1) > _ROUNDING)

    def prepare(self, image: Image) -> NDArray[np.uint8]:
        """An upright RGB image → (height, width, 3) uint8."""
        return self._preprocessing.pixels(image)

    def encode_prepared(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, height, width, 3) uint8 → (n, width) float32 unit rows."""
        return unit_rows(self._encode(prepared))

    def encode_raw(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The output of the image graph; only where it does not normalise."""
        return self._encode(prepared) if self.gives_raw else super().encode_raw(prepared)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts → (n, width) float32 unit rows; UsageError without a text tower."""
        if self._text is None or self._tokenizer is None:
            return super().encode_texts(texts)
        vectors = []
        for text in texts:
            ids, mask = self._tokenizer(text)
            feeds = {
                tensor.name: (mask if "mask" in tensor.name else ids).astype(_INTEGERS[tensor.dtype])
                for tensor in self._text.graph.inputs
            }
            vectors.append(self._text.run(feeds))
        return unit_rows(rows_of(vectors, self.identity.width))

    def image_graph(self) -> ModelProto:
        """`encode_prepared` as an ONNX graph: pixels, (n, height, width, 3) uint8 → vectors, (n, width) float32.

        Raises ExportError as `Encoder.image_graph`, and CheckpointError if a file cannot be read any more.
        """
        files = (self._image.graph.path, *self._image.graph.data)
        if sum(path.stat().st_size for path in files) > MOST_BYTES:
            raise ExportError(
                f"the image side of {printable(self.identity.name)} does not fit into an ONNX file, which holds 2 GiB; export "
                "what follows: --input vectors"
            )
        # The names of the file's graph must differ from ours.
        model = add_prefix(whole_model(self._image.graph), _THEIRS, inplace=True)
        del model.graph.output[:], model.metadata_props[:]
        graph = GraphWriter(model, prefix="prepare/")
        n, (height, width) = self._image.rows_per_run or "n", self._preprocessing.size
        with graph.in_front():
            pixels = graph.input("pixels", TensorProto.UINT8, [n, height, width, 3])
            scaled = self._preprocessing.write_scaled(graph, pixels) if self._takes_floats else pixels
            if self._pixels.dtype == "FLOAT16":
                scaled = graph.node("Cast", scaled, to=TensorProto.FLOAT16)
            graph.feed(scaled, _THEIRS + self._pixels.name)
        rows = graph.to_float(_THEIRS + self._image.output.name)
        if len(self._image.output.shape) == 3:
            rows = graph.node("Gather", rows, graph.constant(np.int64(0)), axis=1)
        graph.output(rows, "vectors", [n, self.identity.width])
        graph.state({"preprocessing": self._preprocessing.in_words()})
        return graph.model

    def _encode(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        step = self._image.rows_per_run or _IMAGES_PER_RUN
        return rows_of([self._run(prepared[i : i + step]) for i in range(0, len(prepared), step)], self.identity.width)

    def _run(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._takes_floats:
            prepared = self._preprocessing.scaled(prepared).astype(_FLOATS[self._pixels.dtype], copy=False)
        return self._image.run({self._pixels.name: prepared})

    @cached_property
    def _trial(self) -> NDArray[np.float32]:
        """The vector of a grey image: it shows what the graph does not state."""
        return self._run(np.full((1, *self._preprocessing.size, 3), 128, np.uint8))

    @cached_property
    def _tokenizer(self) -> TextTokenizer | None:
        side, tower = self._layout.text, self._text
        return TextTokenizer(side, self._folder, _text_length(tower)) if side and tower else None


_FLOATS: dict[str, type[np.floating[Any]]] = {"FLOAT": np.float32, "FLOAT16": np.float16}
_INTEGERS = {"INT32": np.int32, "INT64": np.int64}


def _image_input(tower: Tower) -> Tensor:
    """The one input of an image graph."""
    inputs = tower.graph.inputs
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].dtype not in (*_FLOATS, "UINT8"):
        raise _unlike(tower, f"photos: one input of four dimensions, {', '.join(_FLOATS)} or UINT8")
    if inputs[0].shape[0] not in (None, 1):
        raise _unlike(tower, f"photos one by one or in any number, but {inputs[0].shape[0]} at once")
    return inputs[0]


def _text_length(tower: Tower) -> int | None:
    """Number of tokens of a text graph, None for any number."""
    inputs = tower.graph.inputs
    if not inputs or any(len(tensor.shape) != 2 or tensor.dtype not in _INTEGERS for tensor in inputs):
        raise _unlike(tower, "texts: inputs of two dimensions, INT32 or INT64")
    if any(tensor.shape[0] not in (None, 1) for tensor in inputs):
        raise _unlike(tower, "texts one by one")
    return inputs[0].shape[1]


def _unlike(tower: Tower, what: str) -> CheckpointError:
    path = printable(tower.graph.path)
    return CheckpointError(f"{path} does not take {what}; export it again as docs/reference/encoders.md says")


def _fingerprint(layout: Layout, folder: Path, towers: Iterable[Tower]) -> str:
    """SHA-256 of the content of every file that the vectors depend on."""
    # "onnx 1" left the texts of transformers' SigLIPs as they are.
    siglip = ["canonicalize"] if layout.text and is_siglip(layout.text, folder) else []
    data = [path.relative_to(folder).as_posix() for tower in towers for path in tower.graph.data]
    names = sorted({*layout.files, *data})
    with ThreadPoolExecutor(2, thread_name_prefix="hash") as pool:
        digests = pool.map(_digest, (folder / name for name in names))
        lines = [f"{digest} {name}" for digest, name in zip(digests, names, strict=True)]
    return hashlib.sha256("\n".join([" ".join([_DEFINITION, layout.name, *siglip]), *lines]).encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        digest = file_digest(path)
    except OSError as error:
        raise CheckpointError(f"cannot read {printable(path)}: {error.strerror or error}; get it again") from error
    stored = path.resolve().name
    if _SHA256.fullmatch(stored) and stored != digest:
        raise CheckpointError(
            f"{printable(path)} in the hub's cache is not what was downloaded; delete {printable(path.resolve())} and run again"
        )
    return digest
