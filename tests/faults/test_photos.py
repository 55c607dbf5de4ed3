"""Faults of photos: docs/reference/faults.md numbers them."""

from __future__ import annotations

import io
import os
import shutil
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.errors import LabelError, NothingReadable, PhotoError, PhotoTooLarge, TipAdapterWarning
from tip_adapter.features import encode_labelled, encode_photos
from tip_adapter.photos.decode import MAX_PIXELS, decode_photo
from tip_adapter.photos.find import find_labelled, find_photos
from tip_adapter.testing import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Callable

SOAK = "TIP_ADAPTER_SOAK" in os.environ
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (90, 110, 3), dtype=np.uint8)
FORMATS = {
    "JPEG": {},
    "progressive JPEG": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "lossless WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "packed TIFF": {"compression": "tiff_lzw"},
    "AVIF": {},
    "PPM": {},
}
STRANGE_NAMES = {
    "newline": "a\nb",
    "right to left": "a\u202ebc",
    "emoji": "🐈",
    "200 bytes": "x" * 200,
    "markup": "<script>alert(1)<",
    "formula": "=cmd()|' '!A1",
    "a device of Windows": "CON",
    "dots": "a..b",
    "a terminal's command": "a\x1b[2Jb",
    "a quote": "\"a', ;b",
    "a backslash": "a\\..\\b",
}
strange = pytest.mark.parametrize("name", STRANGE_NAMES.values(), ids=STRANGE_NAMES.keys())


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind.split()[-1], **options)
    return file.getvalue()


def readable(text: str) -> bool:
    """Whether a terminal shows it as it stands."""
    return text.isprintable()


@pytest.fixture
def model(make_photos: Callable[..., Path]) -> FewShotClassifier:
    return FewShotClassifier(encoder="toy").fit_folder(make_photos("taught", red=2, blue=2))


@pytest.fixture
def new(make_photos: Callable[..., Path]) -> Path:
    """A folder of two good photos to be named; a test adds what is bad."""
    return make_photos("new", 5, red=1, blue=1)


def errors_of(model: FewShotClassifier, folder: Path) -> dict[str, str | None]:
    """Class folder and file name → error, for each photo that is named; the good ones must be right."""
    records = model.predict_folder(folder)
    good = [record for record in records if record["error"] is None]
    assert [record["label"] for record in good] == [Path(record["image"]).parent.name for record in good]
    return {"/".join(Path(record["image"]).parts[-2:]): record["error"] for record in records}


def assert_one_bad(model: FewShotClassifier, folder: Path, reason: str) -> None:
    errors = errors_of(model, folder)
    assert len(errors) == 3
    assert reason in (errors.pop("red/bad.jpg") or "")
    assert set(errors.values()) == {None}


def test_fault_01_empty_file(model, new):
    (new / "red" / "bad.jpg").touch()
    assert_one_bad(model, new, "the file is empty")


def test_fault_01_empty_file_among_photos_to_learn_from(make_photos):
    folder = make_photos("taught", red=2, blue=2)
    (folder / "red" / "bad.jpg").touch()
    with pytest.warns(TipAdapterWarning, match=r"1 of 5 photos are left out: .*bad\.jpg: the file is empty"):
        model = FewShotClassifier(encoder="toy").fit_folder(folder)
    assert len(model.support_) == 4


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_fault_02_cut_file_is_an_error_or_the_whole_photo(kind):
    content = encoded(NOISE, kind, **FORMATS[kind])
    whole = np.asarray(decode_photo(content, name="photo"))
    step = 64 if SOAK else max(1, len(content) // 40)
    cuts = {*range(1, len(content), step), *range(len(content) - 4, len(content))}
    refused = 0
    for cut in cuts:
        try:
            part = np.asarray(decode_photo(content[:cut], name="photo"))
        except PhotoError:
            refused += 1
        else:
            np.testing.assert_array_equal(part, whole, err_msg=f"cut at {cut} of {len(content)}")
    assert refused > len(cuts) // 2


def test_fault_02_cut_file_is_a_row_with_its_reason(model, new):
    content = encoded(NOISE, "JPEG")
    (new / "red" / "bad.jpg").write_bytes(content[: len(content) // 2])
    assert_one_bad(model, new, "truncated")


def test_fault_04_wrong_ending_is_read_by_its_content(model, new):
    shutil.move(new / "red" / "5.png", new / "red" / "5.jpg")
    assert errors_of(model, new) == {"red/5.jpg": None, "blue/5.png": None}


def test_fault_04_text_that_is_called_a_photo(model, new):
    (new / "red" / "bad.jpg").write_text("a cat\n")
    assert_one_bad(model, new, "not a photo in a known format")


def bitmap(width: int, height: int) -> bytes:
    return b"P4 %d %d\n" % (width, height)


@pytest.mark.parametrize("height", [17_895_696, 17_895_697])
def test_fault_06_up_to_the_pixel_limit_the_size_is_no_reason_to_refuse(height):
    assert 5 * height <= MAX_PIXELS
    with pytest.raises(PhotoError) as caught:  # for there are no pixels in it
        decode_photo(bitmap(5, height), name="photo")
    assert not isinstance(caught.value, PhotoTooLarge)


@pytest.mark.slow
def test_fault_06_at_the_pixel_limit_a_photo_is_read():
    photo = decode_photo(bitmap(5, MAX_PIXELS // 5) + bytes(MAX_PIXELS // 5), name="photo")
    assert photo.width * photo.height == MAX_PIXELS


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(MAX_PIXELS + 1, 1), (9_460, 9_460), (60_000, 3_000), (50_000, 50_000)])
def test_fault_06_above_the_pixel_limit_a_photo_is_refused_unread(size):
    with pytest.raises(PhotoTooLarge, match="limit of 89,478,485 pixels") as caught:
        decode_photo(bitmap(*size), name="photo")
    assert caught.value.code == "photo_too_large"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_fault_06_photo_above_the_limit_is_a_row_with_its_reason(model, new):
    (new / "red" / "bad.jpg").write_bytes(bitmap(9_460, 9_460))
    assert_one_bad(model, new, "above the limit of 89,478,485 pixels")


@pytest.mark.parametrize(
    ("mode", "colour", "kind"),
    [
        ("CMYK", (0, 255, 255, 0), "JPEG"),
        ("CMYK", (0, 255, 255, 0), "TIFF"),
        ("RGB", (255, 0, 0), "JPEG"),
        ("RGBA", (255, 0, 0, 255), "PNG"),
        ("RGBA", (255, 0, 0, 255), "WEBP"),
        ("YCbCr", (76, 85, 255), "JPEG"),
        ("YCbCr", (76, 85, 255), "TIFF"),
    ],
)
def test_fault_12_a_red_photo_is_red_however_it_is_stored(mode, colour, kind):
    file = io.BytesIO()
    Image.new(mode, (16, 16), colour).save(file, kind)
    np.testing.assert_allclose(decode_photo(file.getvalue(), name="photo").getpixel((8, 8)), [255, 0, 0], atol=3)


@pytest.mark.parametrize(("mode", "colour"), [("L", 255), ("1", 1), ("I;16", 65535), ("LA", (0, 0)), ("P", 0)])
def test_fault_12_a_white_photo_is_white_however_it_is_stored(mode, colour):
    file = io.BytesIO()
    options = {"transparency": b"\0"} if mode == "P" else {}
    Image.new(mode, (16, 16), colour).save(file, "PNG", **options)
    assert decode_photo(file.getvalue(), name="photo").getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_fault_13_all_eight_orientations_give_the_same_vector(tmp_path, kind):
    upright = np.kron(RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
    turned = upright.transpose(1, 0, 2)
    stored = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    stored += [turned, turned[::-1], turned[::-1, ::-1], turned[:, ::-1]]
    options = {"JPEG": {"subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    paths = []
    for orientation, pixels in enumerate(stored, start=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        paths.append(tmp_path / f"{orientation}.{kind.lower()}")
        paths[-1].write_bytes(encoded(pixels, kind, exif=exif, **options))
    vectors = encode_photos(paths, FakeEncoder()).vectors
    assert len({vector.tobytes() for vector in vectors}) == 1


@strange
def test_fault_16_strange_file_names_are_names(model, new, name):
    (new / "red" / "5.png").rename(new / "red" / f"{name}.png")
    errors = errors_of(model, new)
    assert errors == {f"red/{name}.png": None, "blue/5.png": None}


@strange
def test_fault_16_strange_file_names_do_no_harm_in_an_error(model, new, name):
    (new / "red" / f"{name}.jpg").touch()
    error = errors_of(model, new)[f"red/{name}.jpg"]
    assert error is not None
    assert readable(error)


@strange
def test_fault_16_strange_class_names_are_labels(make_photos, new, name):
    folder = make_photos("taught", red=2, blue=2)
    (folder / "red").rename(folder / name)
    model = FewShotClassifier(encoder="toy").fit_folder(folder)
    assert model.classes_.tolist() == sorted([name, "blue"])
    assert model.predict(find_photos(new / "red")).tolist() == [name]


@strange
def test_fault_16_strange_class_names_do_no_harm_in_a_note(make_photos, name):
    folder = make_photos("taught", red=2)
    (folder / name).mkdir()
    (note,) = find_labelled(folder, part="train").notes
    assert readable(note)


@strange
def test_fault_16_strange_names_do_no_harm_in_a_warning(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "red").mkdir()
    for label in (name, "red"):
        Image.fromarray(NOISE).save(tmp_path / label / f"{name}.png")
    photos = find_labelled(tmp_path, part="train")
    with pytest.warns(TipAdapterWarning, match="the same photo is in two classes") as caught:
        encode_labelled(photos.paths, photos.labels, photos.ids(), FakeEncoder())
    assert readable(str(caught[0].message))


@pytest.mark.parametrize("name", ["../red/5.png", "a\0b.jpg", "x" * 4096 + ".jpg"], ids=["above", "NUL", "4 KB"])
def test_fault_16_names_in_a_list(model, new, name):
    (new / "list.csv").write_text(f"file_name\nblue/5.png\nblue/{name}\n")
    good, other = model.predict_folder(new / "list.csv")
    assert good["label"] == "blue"
    if name.startswith(".."):
        assert other["label"] == "red"
    else:
        assert readable(other["error"])


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 4096 + ".jpg"], ids=["NUL", "4 KB"])
def test_fault_16_names_that_no_file_can_have(model, name):
    ((position, error),) = encode_photos(find_photos(name), FakeEncoder()).errors.items()
    assert position == 0
    assert readable(str(error))


def test_fault_16_class_name_with_nul_is_refused(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"file_name": "a.jpg", "label": "cat\\u0000"}\n')
    with pytest.raises(LabelError, match=r"cat\\x00"):
        find_labelled(tmp_path / "list.jsonl", part="train")


def test_fault_16_names_that_are_not_utf_8(model, new):
    (new / "red" / "5.png").rename(new / "red" / os.fsdecode(b"\xe9.png"))
    (new / "red" / os.fsdecode(b"\xff.jpg")).touch()
    assert {name: error is None for name, error in errors_of(model, new).items()} == {
        "blue/5.png": True,
        r"red/\xe9.png": True,
        r"red/\xff.jpg": False,
    }
    (new / os.fsdecode(b"\xe9")).mkdir()
    with pytest.raises(LabelError, match="not UTF-8"):
        find_labelled(new, part="train")


def test_fault_16_file_names_that_are_twins_in_unicode_are_two_files(model, new):
    for form in ("NFC", "NFD"):
        shutil.copy(new / "red" / "5.png", new / "red" / unicodedata.normalize(form, "é.png"))
    if len(os.listdir(new / "red")) < 3:
        pytest.skip("this file system takes both for one name")
    assert set(errors_of(model, new).values()) == {None}


def test_fault_16_class_names_that_are_twins_in_unicode_are_refused(tmp_path):
    (tmp_path / "list.jsonl").write_text(
        '{"file_name": "a.jpg", "label": "caf\\u00e9"}\n{"file_name": "b.jpg", "label": "cafe\\u0301"}\n'
    )
    with pytest.raises(LabelError, match="differ only by Unicode form"):
        find_labelled(tmp_path / "list.jsonl", part="train")


def test_fault_16_ten_thousand_classes(tmp_path):
    rows = "".join(f"{number}.jpg,class {number}\n" for number in range(10_000))
    (tmp_path / "list.csv").write_text(f"file_name,label\n{rows}")
    assert len(find_labelled(tmp_path / "list.csv", part="train").classes) == 10_000


def test_fault_17_same_photo_twice_in_a_class_is_learned_from_twice(make_photos):
    folder = make_photos("taught", red=2, blue=2)
    shutil.copy(folder / "red" / "0.png", folder / "red" / "copy.png")
    assert len(FewShotClassifier(encoder="toy").fit_folder(folder).support_) == 5


def test_fault_17_same_photo_in_two_classes_is_warned_about(make_photos):
    folder = make_photos("taught", red=2, blue=2)
    shutil.copy(folder / "red" / "0.png", folder / "blue" / "copy.png")
    with pytest.warns(TipAdapterWarning, match=r"in two classes: blue/copy\.png \(blue\) and red/0\.png \(red\)"):
        FewShotClassifier(encoder="toy").fit_folder(folder)


@pytest.mark.parametrize("colour", [0, 127, 128, 255])
def test_fault_18_photo_of_one_colour_has_a_vector(model, colour):
    batch = encode_photos([np.full((9, 9, 3), colour, np.uint8)], FakeEncoder())
    np.testing.assert_allclose(np.linalg.norm(batch.vectors, axis=1), 1, rtol=1e-5)
    assert np.isfinite(model.predict_proba([np.full((9, 9, 3), colour, np.uint8)])).all()


class Blind(FakeEncoder):
    """An encoder that gives the same number for everything it sees."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def encode_prepared(self, prepared: Any) -> Any:
        return np.full_like(super().encode_prepared(prepared), self.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_fault_18_vectors_that_say_nothing_are_not_learned_from(value):
    with pytest.raises(NothingReadable, match="zero, NaN or infinite"):
        FewShotClassifier(encoder=Blind(value)).fit([NOISE, NOISE[::-1]], ["a", "b"])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_fault_18_vectors_that_say_nothing_are_not_answered(model, value):
    model.encoder_ = Blind(value)
    with pytest.raises(ValueError, match=r"(?i)nan|infinity|zero"):
        model.predict([NOISE])
