"""Every CLIP that open_clip knows, on torch: ``open_clip:ARCH/PRETRAINED``, ``hf-hub:ORG/REPO`` or ``ARCH/FILE``.

This module interprets the source; `towers`, which imports torch, is imported when an encoder is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.encoders.base import Encoder, EncoderIdentity, EncoderRecord, rows_of
from tip_adapter.encoders.prompts import template_sets
from tip_adapter.errors import CheckpointError, DownloadError, MissingExtra, UnknownName, UsageError, causes, warn
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import parse_json
from tip_adapter.plugins import require_extra, unknown_name
from tip_adapter.text import printable, suggestion
from tip_adapter.vectors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from tip_adapter.encoders.open_clip.learnable_towers import FineTunedTowers, PromptedTextTower
    from tip_adapter.encoders.open_clip.towers import Towers

_HUB = "hf-hub:"
#: The file that open_clip publishes with weights; it states how images are prepared.
_CONFIG = "open_clip_config.json"
_MAX_CONFIG_BYTES = 2**20
_LONGEST_REASON = 200
_IMAGES_PER_RUN = 32
#: Key of `preprocess_cfg` in that file → parameter of `create_model_and_transforms`.
_PREPROCESSING = {
    "mean": "image_mean",
    "std": "image_std",
    "interpolation": "image_interpolation",
    "resize_mode": "image_resize_mode",
}
#: An architecture or repository whose name contains one of these is multilingual.
_MULTILINGUAL = ("i18n", "mt5", "multilingual", "nllb", "siglip2", "worldwide", "xlm")
_SCRIPTS = (
    *("LATIN", "ARABIC", "ARMENIAN", "BENGALI", "CJK", "CYRILLIC", "DEVANAGARI", "GEORGIAN", "GREEK", "GUJARATI"),
    *("HANGUL", "HEBREW", "HIRAGANA", "KANNADA", "KATAKANA", "MALAYALAM", "TAMIL", "TELUGU", "THAI"),
)


@dataclass(frozen=True)
class Source:
    """The source after ``open_clip:``, parsed.

    Parameters
    ----------
    model : ``ARCH``, or ``hf-hub:ORG/REPO``
    pretrained : the tag of published weights, or the absolute path of a file; None for a repository, which has them
    is_file : whether `pretrained` is a file
    """

    model: str
    pretrained: str | None = None
    is_file: bool = False

    @property
    def name(self) -> str:
        """The name that loads it again."""
        return f"open_clip:{self.model}" + (f"/{self.pretrained}" if self.pretrained else "")

    @property
    def is_multilingual(self) -> bool:
        """Whether the text tower reads many languages, judged by the name: open_clip does not state it."""
        return any(part in self.model.lower() for part in _MULTILINGUAL)


class OpenClipEncoder(Encoder):
    """A CLIP of open_clip, with its own preprocessing, tokenizer and logit scale.

    Parameters
    ----------
    source : ``ARCH/PRETRAINED`` of open_clip's list (downloaded at first use), ``hf-hub:ORG/REPO``, or ``ARCH/FILE``: a
        safetensors file or a PyTorch archive of tensors. The
        ``open_clip_config.json`` in a file's folder states how images are prepared; without it, open_clip's default is used.
    device : None or ``cpu`` (float32), or ``cuda`` (float16 by autocast)
    threads : int, processor threads of torch, for the whole process; None for no change

    Raises
    ------
    MissingExtra
        torch, torchvision or open_clip is not installed, or their versions are incompatible.
    UnknownName
        open_clip has no such architecture or weights; the nearest is suggested.
    UsageError
        The source names no weights, or the device is not available.
    DownloadError
        The weights are not on this machine and cannot be downloaded.
    CheckpointError
        They contain more than tensors, or do not fit the architecture.

    Notes
    -----
    Published weights that were trained with QuickGELU are loaded with it: ``ViT-B-32/openai`` is
    ``ViT-B-32-quickgelu/openai``. For a file, name such an architecture.
    """

    gives_raw = True

    def __init__(self, source: str, *, device: str | None = None, threads: int | None = None) -> None:
        torch_side = _import_torch_side()
        self._source = find_source(source, torch_side.published())
        torch_side.set_up(device or "cpu", threads)
        self._towers = _open_towers(torch_side, self._source, device or "cpu")
        self.logit_scale = self._towers.logit_scale
        many = self._source.is_multilingual
        self.record = EncoderRecord(
            description=f"{self._source.model} of open_clip, on torch",
            width=self._towers.width,
            logit_scale=self.logit_scale,
            templates=template_sets()["caltech101"],
            scale_free_ratio=0.1,
            languages=("mul",) if many else ("en",),
            licence="see its model card",
            size_mib=self._towers.size_mib,
            needs=("open-clip-torch", "torch", "torchvision"),
            scripts=_SCRIPTS if many else ("LATIN",),
        )
        fingerprint = self._towers.fingerprint(self._source.model)
        self.identity = EncoderIdentity(self._source.name, fingerprint, self._towers.width)

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """(3, height, width) float32: the model's own preprocessing of an upright RGB image."""
        return self._towers.prepare(image)

    def encode_prepared(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, height, width) float32 → (n, width) float32 unit rows."""
        return unit_rows(self.encode_raw(prepared))

    def encode_raw(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, height, width) float32 → (n, width) float32, not normalised."""
        runs = range(0, len(prepared), _IMAGES_PER_RUN)
        return rows_of(
            [self._towers.encode_images(prepared[i : i + _IMAGES_PER_RUN]) for i in runs], self.identity.width
        )

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts → (n, width) float32 unit rows.

        Raises
        ------
        MissingExtra
            Its tokenizer needs a package that is not installed.
        DownloadError
            Its tokenizer cannot be downloaded.
        """
        vectors = [self._towers.encode_tokens(self._tokenizer([text])) for text in texts]
        return unit_rows(rows_of(vectors, self.identity.width))

    def prompt_tower(self) -> PromptedTextTower:
        """The text tower with a learnable context, for CoOp."""
        side = require_extra("tip_adapter.encoders.open_clip.learnable_towers", "torch", "torch")
        tower: PromptedTextTower = side.PromptedTextTower(self._towers.network, self._tokenizer, self._towers.device)
        return tower

    def towers(self) -> FineTunedTowers:
        """Copies of both towers, to be fine-tuned."""
        side = require_extra("tip_adapter.encoders.open_clip.learnable_towers", "torch", "torch")
        towers: FineTunedTowers = side.FineTunedTowers(self._towers.network, self._tokenizer, self._towers.device)
        return towers

    @cached_property
    def _tokenizer(self) -> Any:
        """Loaded at first use: prediction needs no text."""
        try:
            return _import_torch_side().tokenizer_of(self._source.model)
        except ModuleNotFoundError as error:
            package = printable(str(error.name))
            raise MissingExtra(
                f"the tokenizer of {self._source.model} needs {package}: pip install {package}"
            ) from error
        except Exception as error:  # of open_clip or the hub
            raise _unloadable(self._source, error) from error


def find_source(text: str, published: Collection[tuple[str, str]]) -> Source:
    """Parse the source after ``open_clip:``.

    Parameters
    ----------
    text : ``ARCH/PRETRAINED``, ``hf-hub:ORG/REPO`` or ``ARCH/FILE``
    published : (architecture, tag) of all published weights

    Raises
    ------
    UnknownName
        No such architecture, or no such weights of it; the nearest is suggested.
    UsageError
        It names no weights.
    CheckpointError
        There is no such file.
    """
    if text.startswith(_HUB):
        return Source(text)
    model, _, weights = text.partition("/")
    if (model, weights) in published:
        # open_clip only warns, and runs them with another activation than in training.
        quick = f"{model}-quickgelu"
        return Source(quick if (quick, weights) in published else model, weights)
    if weights and Path(weights).is_file():
        return Source(model, str(Path(weights).absolute()), is_file=True)
    if weights and (os.sep in weights or Path(weights).suffix):
        is_absolute = Path("/", weights).is_file()
        hint = f"; a full path has two slashes: open_clip:{model}//{weights}" if is_absolute else ""
        raise CheckpointError(f"cannot read {printable(weights + hint)}: no such file; check the path")
    tags = [tag for architecture, tag in published if architecture == model]
    if not tags:
        raise _unknown_architecture(model, published)
    if not weights:
        raise UsageError(f"open_clip:{model} needs weights: one of {', '.join(tags)}, or a file: {model}/path/to/file")
    raise unknown_name(f"weights of open_clip's {model}", weights, tags)


def absent_repository(text: str) -> str | None:
    """The repository that loading would download, None for a tag, a file, or one in the cache."""
    if not text.startswith(_HUB):
        return None
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second

    repository, _, revision = text.removeprefix(_HUB).partition("@")
    there = try_to_load_from_cache(repository, _CONFIG, revision=revision or None)
    return None if isinstance(there, str) else repository


def _unknown_architecture(model: str, published: Collection[tuple[str, str]]) -> UnknownName:
    hint = suggestion(model, {architecture for architecture, _ in published})
    listed = "open_clip.list_pretrained() lists them"
    return UnknownName(f"unknown open_clip architecture {model!r}: {hint}{listed}; for a file: ARCH/path/to/file")


def _import_torch_side() -> Any:
    """The module that imports torch and open_clip."""
    try:
        return require_extra("tip_adapter.encoders.open_clip.towers", "open_clip", "torch")
    except MissingExtra:
        raise
    except Exception as error:  # such as RuntimeError: operator torchvision::nms does not exist
        raise MissingExtra(
            f"torch {_version('torch')} and torchvision {_version('torchvision')} do not fit each other "
            f"({_first_line(error)}); install both in one command: pip install --upgrade torch torchvision"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _open_towers(torch_side: Any, source: Source, device: str) -> Towers:
    """Load a source, and warn where a file's preprocessing is not stated and likely wrong."""
    preprocessing = _read_preprocessing(source)
    try:
        if source.is_file:
            torch_side.refuse_code(source.pretrained)
        towers: Towers = torch_side.load_towers(source.model, source.pretrained, device, preprocessing)
    except Exception as error:  # of open_clip, torch or the hub: they document none
        if f"'{source.model}' not found" in str(error):  # not every architecture has published weights
            raise _unknown_architecture(source.model, torch_side.published()) from error
        raise _unloadable(source, error) from error
    if source.is_file and not preprocessing and towers.was_made_for_other_images():
        warn(
            f"no {_CONFIG} states how images are prepared for {printable(source.name)}; open_clip's default is used, but the "
            f"image tower was trained with another; put the {_CONFIG} of these weights into their folder"
        )
    return towers


def _read_preprocessing(source: Source) -> dict[str, Any]:
    """The stated preparation of images, as parameters of `create_model_and_transforms`; empty if none is stated."""
    path = Path(source.pretrained or "").with_name(_CONFIG) if source.is_file else None
    if path is None or not path.is_file():
        return {}
    try:
        stated: Mapping[str, Any] = parse_json(read_bounded(path, _MAX_CONFIG_BYTES))["preprocess_cfg"]
        return {ours: stated[theirs] for theirs, ours in _PREPROCESSING.items() if theirs in stated}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"it has no preprocess_cfg ({_first_line(error)})"
        raise CheckpointError(f"cannot read {printable(path)}: {reason}; repair or remove it") from error


def _unloadable(source: Source, error: Exception) -> CheckpointError | DownloadError:
    what = f"cannot load {printable(source.name)}: {_first_line(error)}"
    if source.is_file:
        return CheckpointError(f"{what}; is it a file of tensors, of {source.model}?")
    kind = DownloadError if any(isinstance(cause, OSError) for cause in causes(error)) else CheckpointError
    return kind(f"{what}; it is downloaded at first use: connect once, or pass a file: open_clip:ARCH/path/to/file")


def _first_line(error: Exception) -> str:
    text = printable(str(error).strip().split("\n")[0]) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
