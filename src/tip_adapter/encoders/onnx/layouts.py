"""Layouts of folders that contain an encoder as ONNX files: one `Layout` each, recognised by the files that exist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta
from PIL import Image

from tip_adapter.encoders.onnx.preprocessing import Preprocessing
from tip_adapter.errors import CheckpointError
from tip_adapter.io.files import read_bounded
from tip_adapter.io.json_schema import convert, parse_json
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Set
    from pathlib import Path

    from tip_adapter.encoders.onnx.preprocessing import Sides

T = TypeVar("T")

#: What the name of an encoder, and of a layout, ends with where its files are those in half precision.
HALF = "@half"
#: Bytes of a JSON file of settings.
_MAX_SETTINGS = 2**20

_Side = Annotated[int, Meta(ge=1, le=4096)]
_Mean = Annotated[float, Meta(ge=-1e3, le=1e3)]
_Deviation = Annotated[float, Meta(gt=0, le=1e3)]


class _SizeObject(msgspec.Struct, frozen=True):
    """A size by the names that transformers uses."""

    shortest_edge: _Side | None = None
    height: _Side | None = None
    width: _Side | None = None

    def __post_init__(self) -> None:
        if self.shortest_edge is None and (self.height is None or self.width is None):
            raise ValueError("Expected shortest_edge, or height and width")


#: A number, a list of one or two, or an object.
_Size = _Side | Annotated[tuple[_Side, ...], Meta(min_length=1, max_length=2)] | _SizeObject


class OpenClipPixels(msgspec.Struct, frozen=True):
    """The content of open_clip's preprocess_cfg.json."""

    size: _Size
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Deviation, _Deviation, _Deviation]
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: Annotated[int, Meta(ge=0, le=255)] = 0

    def preprocessing(self) -> Preprocessing:
        """The same as Preprocessing."""
        size, resample = _sides(self.size), Image.Resampling[self.interpolation.upper()]
        return Preprocessing(size, size, self.resize_mode, resample, self.mean, self.std, self.fill_color)


class TransformersPixels(msgspec.Struct, frozen=True):
    """The content of transformers' preprocessor_config.json."""

    size: _Size
    image_mean: tuple[_Mean, _Mean, _Mean]
    image_std: tuple[_Deviation, _Deviation, _Deviation]
    crop_size: _Size | None = None
    do_center_crop: bool | msgspec.UnsetType | None = msgspec.UNSET
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def preprocessing(self) -> Preprocessing:
        """The same as Preprocessing; by default, an image resized to a given height and width is not cropped."""
        squashed = isinstance(self.size, _SizeObject) and self.size.shortest_edge is None
        is_cropped = not squashed if self.do_center_crop is msgspec.UNSET else self.do_center_crop
        target = _sides(self.size)
        crop = _sides(self.crop_size or self.size) if is_cropped else target
        mode = "squash" if squashed else "shortest"
        return Preprocessing(crop, target, mode, self.resample, self.image_mean, self.image_std)


def _sides(size: _Size) -> Sides:
    """(height, width) of a size."""
    if isinstance(size, _SizeObject):
        return (size.shortest_edge or size.height or 0), (size.shortest_edge or size.width or 0)
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


@dataclass(frozen=True)
class TextSide:
    """Which file of a folder contains what of the text tower.

    Parameters
    ----------
    graph : ONNX file of the tower
    tokenizer : tokenizer.json
    tokenizer_config : file that names the padding token
    config : file that describes the model
    context_length : path in `config` to the number of tokens of a text
    """

    graph: str
    tokenizer: str
    tokenizer_config: str
    config: str
    context_length: Literal["text_cfg.context_length", "text_config.max_position_embeddings"]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a folder must contain."""
        return (self.graph, self.tokenizer, self.tokenizer_config, self.config)


@dataclass(frozen=True)
class Layout:
    """Which file of a folder contains what.

    Parameters
    ----------
    name : str, for messages
    image : ONNX file of the image tower
    preprocessing : file that states how images are prepared
    pixels : type of the content of `preprocessing`
    text : TextSide, or None for an encoder of images only
    outputs : names of the vectors, for towers with several outputs; the first row of one of three dimensions is the class
        token of a vision transformer
    data : patterns of the files that contain the weights of graphs of more than 2 GB
    half : what the names of the same graphs in half precision end with, before ``.onnx``; empty if there are none
    """

    name: str
    image: str
    preprocessing: str
    pixels: type[OpenClipPixels | TransformersPixels]
    text: TextSide | None
    outputs: tuple[str, ...]
    data: tuple[str, ...]
    half: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a folder must contain."""
        return (self.image, self.preprocessing, *(self.text.files if self.text else ()))

    @property
    def patterns(self) -> list[str]:
        """Patterns of the files that are needed of a repository."""
        return [*self.files, *self.data]

    def in_half(self) -> Layout:
        """The layout of the same graphs in half precision."""
        image, *data = (name.replace(".onnx", f"{self.half}.onnx") for name in (self.image, *self.data))
        text = self.text and replace(self.text, graph=self.text.graph.replace(".onnx", f"{self.half}.onnx"))
        return replace(self, name=f"{self.name}{HALF}", image=image, text=text, data=tuple(data))


LAYOUTS = (
    Layout(
        name="open_clip",
        image="visual/model.onnx",
        preprocessing="visual/preprocess_cfg.json",
        pixels=OpenClipPixels,
        text=TextSide(
            graph="textual/model.onnx",
            tokenizer="textual/tokenizer.json",
            tokenizer_config="textual/tokenizer_config.json",
            config="config.json",
            context_length="text_cfg.context_length",
        ),
        outputs=(),
        data=("visual/*", "textual/*"),
    ),
    Layout(
        name="transformers.js",
        image="onnx/vision_model.onnx",
        preprocessing="preprocessor_config.json",
        pixels=TransformersPixels,
        text=TextSide(
            graph="onnx/text_model.onnx",
            tokenizer="tokenizer.json",
            tokenizer_config="tokenizer_config.json",
            config="config.json",
            context_length="text_config.max_position_embeddings",
        ),
        outputs=("image_embeds", "text_embeds", "pooler_output"),
        data=("onnx/vision_model.onnx_data*", "onnx/text_model.onnx_data*"),
        half="_fp16",
    ),
    Layout(
        name="transformers.js, images only",
        image="onnx/model.onnx",
        preprocessing="preprocessor_config.json",
        pixels=TransformersPixels,
        text=None,
        outputs=("image_embeds", "pooler_output", "last_hidden_state"),
        data=("onnx/model.onnx_data*",),
        half="_fp16",
    ),
)
HALF_LAYOUTS = tuple(layout.in_half() for layout in LAYOUTS if layout.half)


def layout_of(names: Collection[str], layouts: Iterable[Layout]) -> Layout | None:
    """The layout that these files fit, given relative to their folder; None without one."""
    return next((layout for layout in layouts if set(layout.files) <= set(names)), None)


def layout_in(folder: Path, *, half: bool) -> Layout:
    """The layout of a folder; without its text side if that has no file of its own there.

    It is one in half precision if `half`, or if the folder has no graphs in full precision.

    Raises
    ------
    CheckpointError
        It fits none; the message names the files that the nearest layout lacks.
    """
    layouts = HALF_LAYOUTS if half else LAYOUTS + HALF_LAYOUTS
    found = {name for layout in layouts for name in layout.files if (folder / name).is_file()}
    layout = layout_of(found, layouts) or next(filter(None, (_image_side(layout, found) for layout in layouts)), None)
    if layout is None:
        nearest = max(layouts, key=lambda layout: (len(found & set(layout.files)), -len(layout.files)))
        missing = ", ".join(name for name in nearest.files if name not in found)
        raise CheckpointError(
            f"{printable(folder)} contains no encoder as ONNX files: the layout of {nearest.name} lacks {missing}; "
            "see docs/reference/encoders.md"
        )
    return layout


def _image_side(layout: Layout, found: Set[str]) -> Layout | None:
    """The layout without its text side, where `found` fits it; None where a file of the text side is left: others are missing."""
    if layout.text is None or found & {*layout.text.files} - {layout.text.config}:
        return None
    return layout_of(found, [replace(layout, name=f"{layout.name}, images only", text=None)])


def read_settings(path: Path, kind: type[T]) -> T:
    """Read a JSON file as a msgspec type; raises CheckpointError if it cannot be read, or does not fit."""
    try:
        return convert(parse_json(read_bounded(path, _MAX_SETTINGS)), kind)
    except (OSError, ValueError, RecursionError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is not what its layout says."""
    reason = getattr(error, "strerror", None) or error
    return CheckpointError(f"cannot use {printable(path)}: {printable(str(reason))}; get it again")
