"""How folders of CLIPs as ONNX files are laid out: one record a layout, told apart by the files that are there."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from PIL import Image

from tip_adapter.encoders.onnx.preprocessing import Preprocessing
from tip_adapter.errors import CheckpointError
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from tip_adapter.encoders.onnx.preprocessing import Sides

#: Of a file of settings, in bytes.
_MOST_SETTINGS = 2**20
#: Of a tokenizer, in bytes: those of 256,000 words take 35 MiB.
MOST_TOKENIZER = 2**27


@dataclass(frozen=True)
class Layout:
    """Where a folder keeps what.

    Parameters
    ----------
    name : str, what a person calls it
    image, text : ONNX files of the two towers
    preprocessing : how photos are prepared
    tokenizer : tokenizer.json
    tokenizer_config : where the padding token is named
    config : what the model is
    read : the content of `preprocessing` → Preprocessing
    context_length : keys in `config` that lead to the number of tokens of a sentence
    outputs : of the image tower and of the text tower, where there are several
    data : patterns of files beside the graphs, where those of more than 2 GB keep their weights
    """

    name: str
    image: str
    text: str
    preprocessing: str
    tokenizer: str
    tokenizer_config: str
    config: str
    read: Callable[[dict[str, Any]], Preprocessing]
    context_length: tuple[str, ...]
    outputs: tuple[str, ...]
    data: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """What a folder must hold."""
        return (self.image, self.text, self.preprocessing, self.tokenizer, self.tokenizer_config, self.config)

    @property
    def patterns(self) -> list[str]:
        """What of a repository is needed."""
        return [*self.files, *self.data]

    def fits(self, names: Collection[str]) -> bool:
        """Whether these files are all that it needs."""
        return set(self.files) <= set(names)

    def wants(self, name: str) -> bool:
        """Whether a file of a repository is needed."""
        return _matches(name, self.patterns) and not _matches(name, FOR_OTHER_CHIPS)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


#: The same weights again, for chips that ONNX Runtime does not run on.
FOR_OTHER_CHIPS = ["*.armnn", "*.rknn"]

_Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Sides = Annotated[list[_Side], msgspec.Meta(min_length=1, max_length=2)]
_Mean = Annotated[float, msgspec.Meta(ge=-1e3, le=1e3)]
_Deviation = Annotated[float, msgspec.Meta(gt=0, le=1e3)]
_INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class _OpenClipModes(msgspec.Struct):
    """The optional keys of open_clip's preprocess_cfg, with its defaults."""

    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


class _Scaling(msgspec.Struct):
    """Per channel: subtracted from the pixels, then divided by."""

    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]


def _open_clip_pixels(stated: dict[str, Any]) -> Preprocessing:
    """What open_clip calls a preprocess_cfg."""
    modes = convert(stated, _OpenClipModes)
    size, resample = _sides(stated["size"]), _INTERPOLATIONS[modes.interpolation]
    scaling = _scaling(stated["mean"], stated["std"])
    return Preprocessing(size, size, modes.resize_mode, resample, *scaling, fill=modes.fill_color)


def _transformers_pixels(stated: dict[str, Any]) -> Preprocessing:
    """What transformers calls a preprocessor_config; its `resample` is Pillow's number."""
    size = stated["size"]
    whole_photo = isinstance(size, dict) and "shortest_edge" not in size
    target = _sides(size)
    crop = _sides(stated.get("crop_size", size)) if stated.get("do_center_crop", not whole_photo) else target
    resample = Image.Resampling(stated.get("resample", Image.Resampling.BICUBIC))
    mode = "squash" if whole_photo else "shortest"
    return Preprocessing(crop, target, mode, resample, *_scaling(stated["image_mean"], stated["image_std"]))


def _sides(stated: Any) -> Sides:
    """A number, a pair, or an object of height and width or of the shortest edge, as (height, width)."""
    if isinstance(stated, dict):
        stated = [stated["shortest_edge"]] if "shortest_edge" in stated else [stated["height"], stated["width"]]
    sides = stated if isinstance(stated, list) else [stated]
    sides = convert({"size": sides}, dict[str, _Sides])["size"]
    return sides[0], sides[-1]


def _scaling(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    convert({"mean": mean, "std": std}, _Scaling)
    return tuple(mean), tuple(std)  # as stated: the fingerprint may depend on how a number is written


LAYOUTS = (
    Layout(
        name="open_clip",
        image="visual/model.onnx",
        text="textual/model.onnx",
        preprocessing="visual/preprocess_cfg.json",
        tokenizer="textual/tokenizer.json",
        tokenizer_config="textual/tokenizer_config.json",
        config="config.json",
        read=_open_clip_pixels,
        context_length=("text_cfg", "context_length"),
        outputs=(),
        data=("visual/*", "textual/*"),
    ),
    Layout(
        name="transformers.js",
        image="onnx/vision_model.onnx",
        text="onnx/text_model.onnx",
        preprocessing="preprocessor_config.json",
        tokenizer="tokenizer.json",
        tokenizer_config="tokenizer_config.json",
        config="config.json",
        read=_transformers_pixels,
        context_length=("text_config", "max_position_embeddings"),
        outputs=("image_embeds", "text_embeds", "pooler_output"),
        data=("onnx/vision_model.onnx_data*", "onnx/text_model.onnx_data*"),
    ),
)


def layout_of(names: Collection[str]) -> Layout | None:
    """The layout that these files, relative to their folder, are in."""
    return next((layout for layout in LAYOUTS if layout.fits(names)), None)


def layout_in(folder: Path) -> Layout:
    """The layout that a folder is in.

    Raises
    ------
    CheckpointError
        It is in none; the message names what is missing of the nearest.
    """
    there = {name for layout in LAYOUTS for name in layout.files if (folder / name).is_file()}
    layout = layout_of(there)
    if layout is None:
        nearest = max(LAYOUTS, key=lambda layout: len(there & set(layout.files)))
        missing = ", ".join(name for name in nearest.files if name not in there)
        raise CheckpointError(
            f"{printable(folder)} holds no CLIP as ONNX files: in the layout of {nearest.name} {missing} is missing; "
            "see docs/reference/encoders.md"
        )
    return layout


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    CheckpointError
        It cannot be read as that.
    """
    try:
        content = parse_json(read_bounded(path, _MOST_SETTINGS))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise unusable(path, error) from error
    return content


def read_preprocessing(layout: Layout, folder: Path) -> Preprocessing:
    """How photos are prepared; raises CheckpointError where that is not stated, or nothing that we know."""
    path = folder / layout.preprocessing
    try:
        return layout.read(read_settings(path))
    except KeyError as error:
        raise unusable(path, ValueError(f"it states no {error}")) from error
    except (TypeError, ValueError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is not what its layout says."""
    reason = getattr(error, "strerror", None) or error
    return CheckpointError(f"cannot use {printable(path)}: {printable(str(reason))}; get it again")
