from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tip_adapter.errors import ImageError, ImageTooLarge
from tip_adapter.images import decode, limits
from tip_adapter.images.decode import decode_image, open_image, read_image
from tip_adapter.text import printable

RNG = np.random.default_rng(0)
#: Smooth enough that lossy formats keep it, and no two of its corners are alike.
UPRIGHT = np.kron(RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))
NOISE = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)

#: Orientation tag → what is stored, so that the photo is upright when seen.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT.transpose(1, 0, 2)[::-1],
    7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
    8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
}
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "BMP": {}, "PPM": {}}
LOSSY = {"JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    image = Image.fromarray(decode_image(content, name="the photo"))
    assert image.mode == "RGB"
    return np.asarray(image)


def pixel(content: bytes) -> list[int]:
    return pixels(content)[0, 0].tolist()


def png(
    width: int, height: int, *, depth: int = 1, colour: int = 0, data: bytes = b"", transparent: bytes = b""
) -> bytes:
    """A PNG of any stated size, with any or no image data; `transparent` is the value that is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + (chunk(b"tRNS", transparent) if transparent else b"")
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiff(depth: int, values: bytes, width: int, *, photometric: int = 1) -> bytes:
    """A gray TIFF of one row; photometric 0 says that white is zero."""
    tags = [(256, width), (257, 1), (258, depth), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 1)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(values))]]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + values


# ---- formats


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_pixels_they_hold(kind):
    np.testing.assert_array_equal(pixels(encoded(NOISE, kind, **LOSSLESS[kind])), NOISE)


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_formats_give_nearly_the_pixels_they_were_made_of(kind):
    np.testing.assert_allclose(pixels(encoded(UPRIGHT, kind, **LOSSY[kind])).astype(int), UPRIGHT, atol=4)


@pytest.mark.parametrize("kind", ["JPEG2000", "ICO", "PCX", "TGA", "SGI", "EPS", "PDF", "ICNS", "DDS"])
def test_other_formats_are_refused(kind):
    with pytest.raises(ImageError, match="not an image in a known format"):
        pixels(encoded(UPRIGHT, kind))


def test_two_photos_in_one_file_are_the_first_of_them():
    content = encoded(UPRIGHT, "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))], quality=100)
    assert Image.open(io.BytesIO(content)).format == "MPO"
    np.testing.assert_array_equal(pixels(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})])
def test_of_an_animation_the_first_frame_counts(kind, options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 3
    assert pixel(content) == [255, 0, 0]


@pytest.mark.parametrize("ending", [".jpg", ".png", ".txt", ""])
def test_the_content_says_what_a_file_is_not_its_ending(tmp_path, ending):
    (tmp_path / f"photo{ending}").write_bytes(encoded(NOISE, "PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / f"photo{ending}")), NOISE)


@pytest.mark.parametrize(
    "content", [b"a cat\n", b"<html></html>", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\0" * 100, b"GIF89a"]
)
def test_what_is_no_photo_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"cannot read .*cat\.jpg: "):
        open_image(tmp_path / "cat.jpg")


# ---- JPEG


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"progressive": True},
        {"optimize": True},
        {"keep_rgb": True},
        {"restart_marker_blocks": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_both_jpeg_decoders_give_the_same_pixels(monkeypatch, quality, options):
    content = encoded(NOISE, "JPEG", quality=quality, **options)
    fast = pixels(content)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    np.testing.assert_array_equal(pixels(content), fast)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), fast)


def refuse(*_: Any, **__: Any) -> None:
    raise ValueError("simplejpeg does not want to")


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 1), (1, 17), (33, 31)])
def test_both_jpeg_decoders_agree_on_gray_photos_and_odd_sizes(monkeypatch, shape):
    content = encoded(RNG.integers(0, 256, shape, dtype=np.uint8), "JPEG")
    fast = pixels(content)
    assert fast.shape == (*shape, 3)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    np.testing.assert_array_equal(pixels(content), fast)


def test_a_huge_jpeg_is_a_quarter_of_itself_in_each_direction(monkeypatch):
    monkeypatch.setattr(limits, "_HUGE_PIXELS", 1)
    monkeypatch.setattr(limits, "_SIDE_LEFT", 1)
    content = encoded(UPRIGHT, "JPEG", **LOSSY["JPEG"])
    whole = np.asarray(Image.open(io.BytesIO(content)).reduce(4))
    np.testing.assert_allclose(pixels(content).astype(int), whole, atol=8)


def test_a_huge_jpeg_is_put_upright(monkeypatch):
    monkeypatch.setattr(limits, "_HUGE_PIXELS", 1)
    monkeypatch.setattr(limits, "_SIDE_LEFT", 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pixels(encoded(STORED[6], "JPEG", exif=exif, **LOSSY["JPEG"]))
    np.testing.assert_allclose(turned.astype(int), Image.fromarray(UPRIGHT).reduce(4), atol=8)


def test_bytes_after_a_jpeg_do_no_harm():
    content = encoded(NOISE, "JPEG")
    np.testing.assert_array_equal(pixels(content + b"<html>trailing</html>"), pixels(content))


def test_cmyk_and_ycck_jpegs_are_what_their_inks_look_like():
    inks = Image.new("CMYK", (16, 16), (200, 30, 60, 40))
    expected = inks.convert("RGB").getpixel((0, 0))
    np.testing.assert_allclose(pixel(encoded(inks, "JPEG", quality=100)), expected, atol=3)
    # The same inks as YCCK: the coloured ones as luma and chroma, and the Adobe marker says so.
    y, cb, cr = Image.new("RGB", (1, 1), (200, 30, 60)).convert("YCbCr").getpixel((0, 0))
    stored = Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, 40))
    cmyk = encoded(stored, "JPEG", quality=100)
    marker = cmyk.index(b"Adobe") + 11
    assert cmyk[marker] == 0
    np.testing.assert_allclose(pixel(cmyk[:marker] + b"\x02" + cmyk[marker + 1 :]), expected, atol=4)


# ---- orientation


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", LOSSY["JPEG"]), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_a_turned_photo_is_put_upright(orientation, kind, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = pixels(encoded(STORED[orientation], kind, exif=exif, **options))
    np.testing.assert_array_equal(turned, pixels(encoded(UPRIGHT, kind, **options)))


@pytest.mark.parametrize("orientation", STORED)
def test_a_turned_pil_image_is_put_upright(orientation):
    image = Image.fromarray(STORED[orientation])
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(np.asarray(open_image(image)), UPRIGHT)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(encoded(NOISE, "PNG", exif=exif)), NOISE)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [b"garbage", b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\xff\xff\xff\xff"],
    ids=["no EXIF", "no TIFF", "cut", "beyond the end"],
)
def test_damaged_exif_does_no_harm_to_a_photo(kind, exif):
    options = {"lossless": True} if kind == "WEBP" else {}
    plain = encoded(NOISE, kind, **options)
    np.testing.assert_array_equal(pixels(encoded(NOISE, kind, exif=exif, **options)), pixels(plain))


# ---- kinds of pixels


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("mode", "colour", "expected"), [("L", 7, [7] * 3), ("1", 1, [255] * 3), ("1", 0, [0] * 3)])
def test_gray_and_black_and_white_are_three_equal_channels(kind, mode, colour, expected):
    assert pixel(encoded(Image.new(mode, (3, 3), colour), kind)) == expected


@pytest.mark.parametrize("value", [0x0000, 0x00FF, 0x1234, 0xFF00, 0xFFFF])
def test_16_bit_gray_keeps_its_upper_8_bits(value):
    row = np.full((2, 2), value, np.uint16)
    upper = [value >> 8] * 3
    assert pixel(encoded(Image.fromarray(row), "PNG")) == upper
    assert pixel(encoded(Image.fromarray(row), "TIFF")) == upper
    assert pixel(encoded(Image.fromarray(row.astype(">u2")), "TIFF")) == upper


def test_16_bit_gray_of_a_pgm_keeps_its_upper_8_bits():
    assert pixel(b"P5 1 1 65535\n\x12\x34") == [0x12] * 3


def test_16_bit_colour_keeps_its_upper_8_bits():
    row = b"\0" + np.array([0x12FF, 0x3400, 0xFFFF], ">u2").tobytes()
    assert pixel(png(1, 1, depth=16, colour=2, data=row)) == [0x12, 0x34, 0xFF]


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_fault_12_of_gray_only_the_transparent_value_is_white(depth):
    one, two = 1, 2
    values = np.array([one, two], ">u2" if depth == 16 else np.uint8).tobytes() if depth >= 8 else bytes([0b01100000])
    values = bytes([one << 4 | two]) if depth == 4 else values
    photo = pixels(png(2, 1, depth=depth, data=b"\0" + values, transparent=struct.pack(">H", one)))
    shown = {2: 170, 4: 34, 8: 2, 16: 0}[depth]
    assert photo[0].tolist() == [[255] * 3, [shown] * 3]


def test_fault_12_16_bit_gray_with_a_transparent_value_keeps_its_upper_8_bits():
    row = np.array([0x1234, 0x1235, 0xFF00], ">u2").tobytes()
    photo = pixels(png(3, 1, depth=16, data=b"\0" + row, transparent=b"\x12\x34"))
    assert photo[0, :, 0].tolist() == [255, 0x12, 0xFF]


def test_fault_12_16_bit_colours_with_a_transparent_one_are_refused():
    row = np.array([0x1234] * 3 + [0x1235] * 3, ">u2").tobytes()
    with pytest.raises(ImageError, match=r"the photo: one of its 16-bit colours is transparent.*convert it to 8 bits"):
        pixels(png(2, 1, depth=16, colour=2, data=b"\0" + row, transparent=b"\x12\x34" * 3))


def test_fault_12_gray_that_runs_from_white_to_black_is_turned():
    row = np.array([0x0000, 0x1234, 0xFFFF], "<u2").tobytes()
    assert pixels(tiff(16, row, 3, photometric=0))[0, :, 0].tolist() == [255, 255 - 0x12, 0]
    assert pixels(tiff(16, row, 3))[0, :, 0].tolist() == [0, 0x12, 255]
    assert pixels(tiff(8, b"\0\x12\xff", 3, photometric=0))[0, :, 0].tolist() == [255, 255 - 0x12, 0]


def test_fault_12_12_bit_gray_keeps_its_upper_8_bits():
    assert pixels(tiff(12, bytes([0x12, 0x3F, 0xFF]), 2))[0, :, 0].tolist() == [0x12, 0xFF]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_values_are_refused(mode):
    with pytest.raises(ImageError, match="32-bit"):
        pixels(encoded(Image.new(mode, (2, 2)), "TIFF"))


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), {}),
        (Image.new("LA", (2, 2), (0, 0)), {}),
        (Image.new("P", (2, 2)), {"transparency": 0}),
        (Image.new("P", (2, 2)), {"transparency": b"\0"}),
        (Image.new("L", (2, 2), 9), {"transparency": 9}),
        (Image.new("1", (2, 2), 0), {"transparency": 0}),
        (Image.new("RGB", (2, 2), (1, 2, 3)), {"transparency": (1, 2, 3)}),
    ],
    ids=["RGBA", "LA", "palette", "palette with alpha", "gray", "black and white", "RGB"],
)
def test_what_is_transparent_is_white(image, options):
    assert pixel(encoded(image, "PNG", **options)) == [255, 255, 255]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_half_transparency_is_half_white(kind, options):
    content = encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 51)), kind, **options)
    np.testing.assert_allclose(pixel(content), [255, 204, 204], atol=1)


def test_a_palette_is_its_colours():
    image = Image.fromarray(UPRIGHT).quantize(6)
    np.testing.assert_array_equal(pixels(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


# ---- limits


def test_the_pixel_limit_is_that_of_pillow():
    assert Image.MAX_IMAGE_PIXELS == decode.MAX_PIXELS == 89_478_485


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
@pytest.mark.parametrize("spare", [1, 0])
def test_at_the_pixel_limit_a_photo_is_read(monkeypatch, kind, spare):
    monkeypatch.setattr(decode, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1] + spare)
    assert pixels(encoded(NOISE, kind)).shape == NOISE.shape


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_above_the_pixel_limit_a_photo_is_refused_with_its_size(monkeypatch, kind):
    monkeypatch.setattr(decode, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1] - 1)
    with pytest.raises(ImageTooLarge, match="the photo: 53 x 37 is above the limit of 1,960 pixels"):
        pixels(encoded(NOISE, kind))


def test_images_and_arrays_have_the_same_limit(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", NOISE.shape[0] * NOISE.shape[1] - 1)
    for photo in (NOISE, Image.fromarray(NOISE)):
        with pytest.raises(ImageTooLarge):
            open_image(photo)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height"), [(89_478_486, 1), (9_460, 9_460), (50_000, 50_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_photo_is_refused_by_the_size_it_states(width, height):
    with pytest.raises(ImageTooLarge, match="limit of 89,478,485 pixels"):
        pixels(png(width, height))


@pytest.mark.parametrize("spare", [1, 0])
def test_the_file_size_limit_lets_a_file_of_that_size_through(tmp_path, monkeypatch, spare):
    (tmp_path / "a.png").write_bytes(encoded(NOISE, "PNG"))
    monkeypatch.setattr(decode, "MAX_BYTES", (tmp_path / "a.png").stat().st_size + spare)
    assert open_image(tmp_path / "a.png").size == (53, 37)


def test_a_file_above_the_size_limit_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(decode.MAX_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ImageTooLarge, match=r"above the limit of 256 MiB"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_photo_without_pixels_is_refused(size):
    with pytest.raises(ImageError):
        pixels(png(*size))
    with pytest.raises(ImageError):
        pixels(b"P5 %d %d 255\n" % size)
    with pytest.raises(ImageError, match="has no pixels"):
        open_image(Image.new("RGB", size))
    with pytest.raises(ImageError, match="has no pixels"):
        open_image(np.zeros((*size, 3), np.uint8))


# ---- files


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImageError, match=r"a\.jpg: the file is empty"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.jpg", "No such file"),
        ("x" * 5000, "File name too long"),
        ("a\0b.jpg", "null byte"),
        (".", "directory"),
    ],
    ids=["missing", "too long", "NUL", "folder"],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path, name, reason):
    with pytest.raises(ImageError, match=f"(?i)cannot read .*{reason}"):
        open_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_photo_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    caught: list[Exception] = []
    reader = threading.Thread(target=lambda: caught.append(failure_of(tmp_path / "a.jpg")), daemon=True)
    reader.start()
    reader.join(timeout=5)
    waits = reader.is_alive()
    if waits:
        os.close(os.open(tmp_path / "a.jpg", os.O_WRONLY | os.O_NONBLOCK))  # lets it go
        reader.join()
    assert not waits
    assert isinstance(caught[0], ImageError)


def failure_of(photo: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        read_image(photo)
    return caught.value


# ---- images and arrays


def test_a_pil_image_of_any_mode_is_taken():
    np.testing.assert_array_equal(np.asarray(open_image(Image.fromarray(NOISE))), NOISE)
    assert open_image(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(Image.new("L", (1, 1), 5)).getpixel((0, 0)) == (5, 5, 5)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_damaged_pil_image_that_is_not_loaded_yet_is_refused(kind):
    image = Image.open(io.BytesIO(encoded(NOISE, kind)[:800]))
    with pytest.raises(ImageError, match=r"cannot read an image: .*truncated"):
        open_image(image)


def test_a_closed_pil_image_is_refused():
    image = Image.open(io.BytesIO(encoded(NOISE, "PNG")))
    image.close()
    with pytest.raises(ImageError, match="cannot read an image"):
        open_image(image)


def test_arrays_are_gray_colour_or_colour_with_alpha():
    np.testing.assert_array_equal(np.asarray(open_image(NOISE)), NOISE)
    np.testing.assert_array_equal(np.asarray(open_image(NOISE[::-1, ::2])), NOISE[::-1, ::2])
    gray = np.repeat(NOISE[:, :, :1], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(open_image(NOISE[:, :, 0])), gray)
    np.testing.assert_array_equal(np.asarray(open_image(NOISE[:, :, :1])), gray)
    assert open_image(np.zeros((1, 1, 4), np.uint8)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 3)),
        np.zeros((2, 2, 3), np.int64),
        np.zeros(4, np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
    ],
    ids=["float", "int64", "1-D", "2 channels", "4-D"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ImageError, match=r"an image array is uint8 of shape \(h, w\)"):
        open_image(array)


# ---- names as they can be printed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a cat.jpg", "a cat.jpg"),
        ("猫.jpg", "猫.jpg"),
        ("🐈.jpg", "🐈.jpg"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_a_name_is_printed_without_what_a_terminal_would_obey(name, shown):
    assert printable(name) == shown


def test_text_about_a_photo_is_no_photo():
    text = PngInfo()
    text.add_text("Description", "a cat", zip=True)
    np.testing.assert_array_equal(pixels(encoded(NOISE, "PNG", pnginfo=text)), NOISE)


def test_fault_80_masked_pixels_are_refused():
    image = np.full((8, 8, 3), 9, np.uint8)
    with pytest.raises(ImageError, match=r"masked pixels; fill them: array.filled\(0\)"):
        open_image(np.ma.array(image, mask=image > 0))
    assert open_image(np.ma.array(image)).size == (8, 8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a Git LFS pointer instead of the photo; run git lfs pull",
        ),
        (b"\n<!DOCTYPE html>\n<html></html>", "a web page instead of the photo; download it again"),
        (b"<html><body>404</body></html>", "a web page instead of the photo; download it again"),
    ],
)
def test_fault_79_what_was_saved_instead_of_a_photo_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(content, name="1.jpg")
