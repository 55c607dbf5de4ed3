"""Faults of photos: docs/reference/faults.md numbers them."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import unicodedata
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter import FewShotClassifier
from tip_adapter.errors import ImageError, ImageTooLarge, LabelError, NothingReadable, TipAdapterWarning
from tip_adapter.features.encode import encode_photos
from tip_adapter.features.sources import encode_labelled, found_source
from tip_adapter.images import decoding_pool
from tip_adapter.images.decode import MAX_PIXELS, decode_image
from tip_adapter.images.decoding_pool import DecodingPool
from tip_adapter.images.find import find_images, find_labelled
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
#: Format → mode, size, options, and whether 512 MiB are enough.
LARGEST = (9450, 9460)
NEAR_THE_LIMIT = {
    "JPEG": ("RGB", LARGEST, {}, True),
    "progressive JPEG": ("RGB", LARGEST, {"progressive": True}, True),
    "full-colour progressive JPEG": ("RGB", LARGEST, {"progressive": True, "subsampling": 0}, False),
    "CMYK JPEG": ("CMYK", LARGEST, {}, True),
    "PNG": ("RGBA", LARGEST, {"compress_level": 1}, True),
    "GIF": ("P", LARGEST, {}, True),
    "packed TIFF": ("RGB", LARGEST, {"compression": "tiff_lzw"}, True),
    "plain TIFF": ("RGB", (9000, 8900), {}, False),
    "WEBP": ("RGB", (5300, 5300), {"method": 0}, True),
    "large WEBP": ("RGB", LARGEST, {"method": 0}, False),
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces limits on memory")
strange = pytest.mark.parametrize("name", STRANGE_NAMES.values(), ids=STRANGE_NAMES.keys())


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind.split()[-1], **options)
    return file.getvalue()


def readable(text: str) -> bool:
    """Whether a terminal shows it as it stands."""
    return text.isprintable()


@pytest.fixture(autouse=True)
def decoded_in_processes() -> None:
    """Yes."""


@pytest.fixture
def model(paint: Callable[..., Image.Image]) -> FewShotClassifier:
    labels = ["red", "red", "blue", "blue"]
    return FewShotClassifier(encoder="toy").fit([paint(label, n) for n, label in enumerate(labels)], labels)


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
    with pytest.warns(TipAdapterWarning, match=r"left out 1 of 5 images: .*bad\.jpg: the file is empty"):
        model = FewShotClassifier(encoder="toy").fit_folder(folder)
    assert len(model.support_) == 4


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_fault_02_cut_file_is_an_error_or_the_whole_photo(kind):
    content = encoded(NOISE, kind, **FORMATS[kind])
    whole = decode_image(content, name="photo")
    step = 64 if SOAK else max(1, len(content) // 40)
    cuts = {*range(1, len(content), step), *range(len(content) - 4, len(content))}
    refused = 0
    for cut in cuts:
        try:
            part = decode_image(content[:cut], name="photo")
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(part, whole, err_msg=f"cut at {cut} of {len(content)}")
    assert refused > len(cuts) // 2


def test_fault_02_cut_file_is_a_row_with_its_reason(model, new):
    content = encoded(NOISE, "JPEG")
    (new / "red" / "bad.jpg").write_bytes(content[: len(content) // 2])
    assert_one_bad(model, new, "truncated")


def test_fault_03_flipped_bits_are_an_error_or_a_photo(tmp_path):
    each = 10_000 if SOAK else 20
    rng = np.random.default_rng(3)
    with DecodingPool() as decoders:
        for kind, options in FORMATS.items():
            content = np.frombuffer(encoded(NOISE, kind, **options), np.uint8)
            for _ in range(each // (len(FORMATS) if SOAK else 1)):
                damaged = content.copy()
                places = rng.integers(0, len(content), rng.integers(1, 9))
                damaged[places] ^= 1 << rng.integers(0, 8, len(places)).astype(np.uint8)
                (tmp_path / "photo").write_bytes(damaged.tobytes())
                with suppress(ImageError):
                    assert decoders.decode(tmp_path / "photo")[0].shape[2] == 3


def test_fault_04_wrong_ending_is_read_by_its_content(model, new):
    shutil.move(new / "red" / "5.png", new / "red" / "5.jpg")
    assert errors_of(model, new) == {"red/5.jpg": None, "blue/5.png": None}


def test_fault_04_text_that_is_called_a_photo(model, new):
    (new / "red" / "bad.jpg").write_text("a cat\n")
    assert_one_bad(model, new, "not an image in a known format")


def bitmap(width: int, height: int) -> bytes:
    return b"P4 %d %d\n" % (width, height)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A gray PNG with these chunks before the end."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def squeezed(n: int, block: bytes = bytes(2**20)) -> bytes:
    """`n` MiB of the same, which zlib makes a thousandth of."""
    squeeze = zlib.compressobj(9)
    return b"".join(squeeze.compress(block) for _ in range(n)) + squeeze.flush()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_fault_05_png_bomb_is_a_row_with_its_reason(model, new):
    (new / "red" / "bad.jpg").write_bytes(png(50_000, 50_000, chunk(b"IDAT", squeezed(50))))
    assert_one_bad(model, new, "limit of 89,478,485 pixels")


@pytest.mark.parametrize("height", [17_895_696, 17_895_697])
def test_fault_06_up_to_the_pixel_limit_the_size_is_no_reason_to_refuse(height):
    assert 5 * height <= MAX_PIXELS
    with pytest.raises(ImageError) as caught:  # for there are no pixels in it
        decode_image(bitmap(5, height), name="photo")
    assert not isinstance(caught.value, ImageTooLarge)


@pytest.mark.slow
def test_fault_06_at_the_pixel_limit_a_photo_is_read():
    photo = decode_image(bitmap(5, MAX_PIXELS // 5) + bytes(MAX_PIXELS // 5), name="photo")
    assert photo.min() == 255
    assert photo.shape == (32_717, 5, 3)  # reduced, for it is huge


@linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", NEAR_THE_LIMIT)
def test_fault_06_near_the_limit_a_photo_takes_at_most_512_mib(tmp_path, kind, monkeypatch):
    # A process that has decoded nothing: its peak is that of this photo.
    monkeypatch.setattr(decoding_pool, "_spares", decoding_pool._IdleProcesses(limit=1))
    mode, size, options, is_read = NEAR_THE_LIMIT[kind]
    Image.new(mode, size, "tomato").save(tmp_path / "photo", kind.split()[-1], **options)
    with DecodingPool() as decoders:
        assert_refused(decoders, tmp_path / "nowhere", ImageError)
        idle = peak_mib()
        if is_read:
            pixels, _ = decoders.decode(tmp_path / "photo")
            assert 2_000_000 <= pixels.shape[0] * pixels.shape[1] <= 32_000_000
        else:
            assert_refused(decoders, tmp_path / "photo", ImageTooLarge)
        assert peak_mib() - idle <= 512
    for process in decoding_pool._spares.close():
        process.end()


def assert_refused(decoders: DecodingPool, path: Path, kind: type[ImageError]) -> None:
    with pytest.raises(ImageError) as caught:
        decoders.decode(path)
    assert type(caught.value) is kind


def peak_mib() -> float:
    """The most memory that the one decoding process had so far."""
    (decoding,) = decoding_pool._spares._processes
    status = Path(f"/proc/{decoding._process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(MAX_PIXELS + 1, 1), (9_460, 9_460), (60_000, 3_000), (50_000, 50_000)])
def test_fault_06_above_the_pixel_limit_a_photo_is_refused_unread(size):
    with pytest.raises(ImageTooLarge, match="limit of 89,478,485 pixels") as caught:
        decode_image(bitmap(*size), name="photo")
    assert caught.value.code == "image_too_large"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_fault_06_photo_above_the_limit_is_a_row_with_its_reason(model, new):
    (new / "red" / "bad.jpg").write_bytes(bitmap(9_460, 9_460))
    assert_one_bad(model, new, "above the limit of 89,478,485 pixels")


FRAMES = 100_000 if SOAK else 5_000
LITTLE = {"lossless": True, "method": 0}


def gif_of(frames: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\2\2\x84\x51\0"
    palette = b"\xff\xff\xff" + bytes(3)
    return b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + palette + frame * frames + b"\x3b"


def webp_of(frames: int) -> bytes:
    still = encoded(np.full((2, 2, 3), 255, np.uint8), "WEBP", **LITTLE)[12:]
    place = bytes(6) + b"\1\0\0" + b"\1\0\0" + b"\1\0\0\0"
    frame = b"ANMF" + struct.pack("<I", len(place) + len(still)) + place + still
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + b"\1\0\0" + b"\1\0\0"
    body = b"WEBP" + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6) + frame * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def apng_of(frames: int) -> bytes:
    pixels = zlib.compress(b"\0\xff\xff" * 2)
    chunks = [chunk(b"acTL", struct.pack(">II", frames, 0))]
    for number in range(frames):
        place = struct.pack(">IIIIIHHBB", max(0, 2 * number - 1), 2, 2, 0, 0, 1, 1, 0, 0)
        first = chunk(b"IDAT", pixels)
        data = chunk(b"fdAT", struct.pack(">I", 2 * number) + pixels) if number else first
        chunks += [chunk(b"fcTL", place), data]
    return png(2, 2, *chunks)


@pytest.mark.parametrize("animation", [gif_of, webp_of, apng_of])
def test_fault_08_of_very_many_frames_one_is_decoded(tmp_path, animation):
    (tmp_path / "photo").write_bytes(animation(FRAMES))
    (one,) = encode_photos([tmp_path / "photo"], FakeEncoder()).vectors
    np.testing.assert_array_equal(one, FakeEncoder().encode_images([np.full((2, 2, 3), 255, np.uint8)])[0])


def test_fault_09_tiff_whose_pages_go_in_a_circle_is_its_first_page():
    content = bytearray(encoded(NOISE, "TIFF"))
    (start,) = struct.unpack_from("<I", content, 4)
    (n_tags,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * n_tags, start)
    np.testing.assert_array_equal(decode_image(bytes(content), name="photo"), NOISE)


def test_fault_09_big_tiff_is_a_tiff():
    np.testing.assert_array_equal(decode_image(encoded(NOISE, "TIFF", big_tiff=True), name="photo"), NOISE)


@pytest.mark.parametrize("start", [b"II*\0\x08\0\0\0", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0"])
def test_fault_09_tiff_that_states_what_is_not_there_is_an_error(start):
    with pytest.raises(ImageError):
        decode_image(start + b"\xff" * 1000, name="photo")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "before"), [(b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")])
def test_fault_10_text_that_unpacks_to_a_gigabyte_is_a_row_with_its_reason(model, new, kind, before):
    pixels = chunk(b"IDAT", zlib.compress(b"\0\xff\xff" * 2))
    (new / "red" / "bad.jpg").write_bytes(png(2, 2, chunk(kind, before + squeezed(1024 if SOAK else 64)), pixels))
    assert_one_bad(model, new, "too large")


OTHER_FORMATS = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ls) run showpage\n",
    "EPS with preview": b"\xc5\xd0\xd3\xc6" + bytes(60),
    "PS": b"%!PS\n/pwn { (id) (r) file } def showpage\n",
    "PDF": b"%PDF-1.7\n1 0 obj\n<</Type/Catalog>>\nendobj\n%%EOF\n",
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(999),
    "ICO": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + struct.pack("<II", 1000, 22) + bytes(1000),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "TGA": bytes([0, 0, 2]) + bytes(9) + b"\4\0\4\0\x18\0" + bytes(48),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHER_FORMATS)
def test_fault_11_other_formats_are_a_row_with_the_known_ones(model, new, kind):
    (new / "red" / "bad.jpg").write_bytes(OTHER_FORMATS[kind])
    assert_one_bad(model, new, "not an image in a known format (JPEG, PNG, ")


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
    np.testing.assert_allclose(decode_image(file.getvalue(), name="photo")[8, 8], [255, 0, 0], atol=3)


@pytest.mark.parametrize(("mode", "colour"), [("L", 255), ("1", 1), ("I;16", 65535), ("LA", (0, 0)), ("P", 0)])
def test_fault_12_a_white_photo_is_white_however_it_is_stored(mode, colour):
    file = io.BytesIO()
    options = {"transparency": b"\0"} if mode == "P" else {}
    Image.new(mode, (16, 16), colour).save(file, "PNG", **options)
    assert decode_image(file.getvalue(), name="photo")[8, 8].tolist() == [255, 255, 255]


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


def test_fault_14_photo_of_a_thousand_scans_is_a_row_with_its_reason(model, new):
    content = encoded(NOISE, "progressive JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    (new / "red" / "bad.jpg").write_bytes(content[:last] + content[last:-2] * 1000 + content[-2:])
    assert_one_bad(model, new, "more than 100 scans")


@pytest.mark.slow
def test_fault_14_photo_that_takes_too_long_is_a_row_with_its_reason(model, new, monkeypatch):
    content = encoded(NOISE, "JPEG")
    (new / "red" / "bad.jpg").write_bytes(content[:2] + b"\xff" * 2**24 + content[2:])
    monkeypatch.setattr(decoding_pool, "SECONDS", 0.5)
    assert_one_bad(model, new, "took longer than 0.5 s")


def test_fault_15_photo_that_is_also_a_page_is_the_photo(model, new):
    page = b"<html><script>alert(1)</script></html>"
    photo = (new / "red" / "5.png").read_bytes()
    as_jpeg = encoded(np.asarray(Image.open(io.BytesIO(photo))), "JPEG", comment=page, quality=95)
    (new / "red" / "page.html.jpg").write_bytes(as_jpeg + page)
    assert set(errors_of(model, new).values()) == {None}
    (new / "red" / "bad.jpg").write_bytes(page + as_jpeg)
    assert "a web page instead of the photo" in (errors_of(model, new)["red/bad.jpg"] or "")


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*read as :tip_adapter.errors.TipAdapterWarning")
@strange
def test_fault_16_strange_class_names_are_labels(make_photos, new, name):
    folder = make_photos("taught", red=2, blue=2)
    (folder / "red").rename(folder / name)
    model = FewShotClassifier(encoder="toy").fit_folder(folder)
    assert model.classes_.tolist() == sorted([name, "blue"])
    assert model.predict(find_images(new / "red")).tolist() == [name]


@strange
def test_fault_16_strange_class_names_do_no_harm_in_a_note(make_photos, name):
    folder = make_photos("taught", red=2)
    (folder / name).mkdir()
    notes = find_labelled(folder, part="train").notes
    assert notes
    assert all(map(readable, notes))


@strange
def test_fault_16_strange_names_do_no_harm_in_a_warning(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / "red").mkdir()
    for label in (name, "red"):
        Image.fromarray(NOISE).save(tmp_path / label / f"{name}.png")
    photos = find_labelled(tmp_path, part="train")
    with pytest.warns(TipAdapterWarning, match="the same image is in two classes") as caught:
        encode_labelled(found_source(photos), FakeEncoder())
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
    ((position, error),) = encode_photos(find_images(name), FakeEncoder()).errors.items()
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


def test_fault_17_same_photo_twice_in_a_class_is_learned_from_once(make_photos):
    folder = make_photos("taught", red=2, blue=2)
    shutil.copy(folder / "red" / "0.png", folder / "red" / "copy.png")
    with pytest.warns(TipAdapterWarning, match="skipped 1 image identical to another of the same class"):
        assert len(FewShotClassifier(encoder="toy").fit_folder(folder).support_) == 4


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


@pytest.mark.slow
def test_faults_of_photos_on_the_command_line_are_rows(model, new):
    """fault_01 to fault_14, all at once: one row each, and nothing but rows."""
    model.save(new.parent / "model")
    content = encoded(NOISE, "JPEG")
    bad = {
        "empty": b"",
        "cut": content[:500],
        "text": b"a cat\n",
        "bomb": png(50_000, 50_000, chunk(b"IDAT", squeezed(1))),
        "no pixels": bitmap(0, 9),
        "packed text": png(2, 2, chunk(b"zTXt", b"k\0\0" + squeezed(64))),
        **OTHER_FORMATS,
    }
    for name, data in bad.items():
        (new / "red" / f"{name}.jpg").write_bytes(data)
    command = [sys.executable, "-m", "tip_adapter", "predict", str(new.parent / "model"), str(new), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = {Path(row["image"]).stem: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert {name for name, row in rows.items() if row["error"]} == set(bad)
    assert done.stderr == f"note: {len(bad)} of {len(bad) + 2} images could not be read\n"
