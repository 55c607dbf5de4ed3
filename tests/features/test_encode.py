from __future__ import annotations

import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tip_adapter.errors import ImageError, NothingReadable, TipAdapterWarning
from tip_adapter.features import encode
from tip_adapter.features.encode import encode_photos, stream_vectors
from tip_adapter.features.sources import encode_labelled, listed_source
from tip_adapter.testing import FakeEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RNG = np.random.default_rng(0)
BROKEN = np.zeros(3, np.uint8)


def noise(n: int) -> list[np.ndarray]:
    return list(RNG.integers(0, 256, (n, 6, 5, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def decoded_in_processes() -> None:
    """Yes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five photos and, third among them, a text that is called one."""
    for number, pixels in enumerate(noise(6)):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("a cat")
    return tmp_path


@pytest.fixture(params=[1, 3, 7, 1000])
def batch_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(encode, "BATCH", request.param)
    return request.param


def decoders() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


class Watched(list[Any]):
    """A list that knows how far it was read."""

    read = 0

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            self.read = max(self.read, min(key.stop, len(self)))
        return super().__getitem__(key)


# ---- the stream


def test_vectors_are_the_encoders_own_in_the_photos_order(batch_size):
    photos = noise(20)
    batch = encode_photos(photos, FakeEncoder(), threads=4)
    np.testing.assert_array_equal(batch.vectors, FakeEncoder().encode_images(photos))
    assert batch.positions.tolist() == list(range(20))
    assert batch.errors == {}
    assert len(set(batch.digests)) == 20


def test_batches_come_in_order_however_long_each_photo_takes(monkeypatch):
    monkeypatch.setattr(encode, "BATCH", 4)

    class Uneven(FakeEncoder):
        def prepare(self, image: Image.Image) -> Any:
            time.sleep(0.002 * (image.getpixel((0, 0))[0] % 3))
            return super().prepare(image)

    photos = noise(30)
    batches = list(stream_vectors(photos, Uneven(), threads=4))
    assert [batch.positions.tolist() for batch in batches] == [list(range(i, min(i + 4, 30))) for i in range(0, 30, 4)]
    np.testing.assert_array_equal(np.concatenate([b.vectors for b in batches]), FakeEncoder().encode_images(photos))


def test_errors_stand_at_their_positions(batch_size):
    photos = noise(20)
    for position in (0, 7, 8, 19):
        photos[position] = BROKEN
    batch = encode_photos(photos, FakeEncoder())
    assert sorted(batch.errors) == [0, 7, 8, 19]
    assert all(isinstance(error, ImageError) for error in batch.errors.values())
    good = [position for position in range(20) if position not in batch.errors]
    assert batch.positions.tolist() == good
    np.testing.assert_array_equal(batch.vectors, FakeEncoder().encode_images([photos[position] for position in good]))
    assert len(batch.digests) == len(good)


def test_a_batch_of_errors_only_has_no_vectors(batch_size):
    batch = encode_photos([BROKEN] * 5, FakeEncoder())
    assert batch.vectors.shape == (0, FakeEncoder().identity.width)
    assert sorted(batch.errors) == list(range(5))


def test_no_photos_are_no_vectors():
    batch = encode_photos([], FakeEncoder())
    assert batch.vectors.shape == (0, FakeEncoder().identity.width)
    assert batch.vectors.dtype == np.float32
    assert list(stream_vectors([], FakeEncoder())) == []


def test_paths_images_and_arrays_give_the_same_vectors(folder):
    paths = [folder / "0.png", folder / "1.png"]
    images = [Image.open(path) for path in paths]
    arrays = [np.asarray(image) for image in images]
    expected = encode_photos(paths, FakeEncoder()).vectors
    for photos in ([str(path) for path in paths], images, arrays, np.stack(arrays)):
        np.testing.assert_array_equal(encode_photos(photos, FakeEncoder()).vectors, expected)


@pytest.mark.parametrize("n_images", [400, 40])
def test_no_more_than_a_few_batches_are_taken_ahead(n_images):
    photos = Watched(noise(n_images))
    stream = stream_vectors(photos, FakeEncoder(), threads=2)
    ahead = [photos.read - int(batch.positions[-1]) - 1 for batch in stream]
    assert max(ahead) <= 3 * encode.BATCH
    assert photos.read == n_images


def test_a_stream_that_is_closed_early_leaves_no_threads_and_decodes_no_more():
    photos = Watched(noise(400))
    stream = stream_vectors(photos, FakeEncoder(), threads=3)
    next(stream)
    assert decoders()
    read = photos.read
    stream.close()
    assert decoders() == []
    assert photos.read == read < len(photos)


def test_a_stream_that_is_finished_leaves_no_threads():
    encode_photos(noise(40), FakeEncoder(), threads=3)
    assert decoders() == []


def test_an_encoder_that_fails_fails_the_stream_and_leaves_no_threads():
    class Failing(FakeEncoder):
        def encode_prepared(self, prepared: Any) -> Any:
            raise RuntimeError("no memory on the device")

    with pytest.raises(RuntimeError, match="no memory on the device"):
        encode_photos(noise(200), Failing(), threads=3)
    assert decoders() == []


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError("a strange\nphoto")])
def test_what_an_encoder_cannot_prepare_is_that_photos_error(trouble):
    class Picky(FakeEncoder):
        def prepare(self, image: Image.Image) -> Any:
            if image.width == 7:
                raise trouble
            return super().prepare(image)

    batch = encode_photos([*noise(3), np.zeros((2, 7, 3), np.uint8)], Picky())
    assert batch.positions.tolist() == [0, 1, 2]
    reason = "MemoryError" if isinstance(trouble, MemoryError) else r"a strange\nphoto"
    assert str(batch.errors[3]) == f"cannot use photo 3: {reason}; remove the photo"


def test_progress_is_reported_after_each_batch(monkeypatch):
    monkeypatch.setattr(encode, "BATCH", 4)
    reported: list[tuple[int, int]] = []
    photos = listed_source([*noise(9), BROKEN], ["a"] * 10)
    with pytest.warns(TipAdapterWarning, match="left out 1 of 10 images"):
        encode_labelled(photos, FakeEncoder(), progress=lambda done, total: reported.append((done, total)))
    assert reported == [(4, 10), (8, 10), (10, 10)]


def test_a_damaged_pil_image_is_an_error_among_others(folder):
    content = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(folder / "0.png") as good, Image.open(folder / "cut.png") as cut:
        batch = encode_photos([good, cut], FakeEncoder())
    assert batch.positions.tolist() == [0]
    assert list(batch.errors) == [1]


# ---- labelled photos


def encode_folder(folder: Path, labels: list[str], **options: Any) -> Any:
    paths = sorted(folder.glob("*.png"))
    return encode_labelled(listed_source(paths, labels, [path.name for path in paths]), FakeEncoder(), **options)


@pytest.fixture
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_an_unreadable_photo_is_left_out_and_warned_about(folder):
    with pytest.warns(TipAdapterWarning, match=r"left out 1 of 6 images: cannot read .*2\.png") as caught:
        support, n_failed = encode_folder(folder, list("abcdef"))
    assert len(caught) == 1
    assert n_failed == 1
    assert support.labels.tolist() == list("abdef")
    assert support.ids.tolist() == ["0.png", "1.png", "3.png", "4.png", "5.png"]


def test_of_many_unreadable_photos_the_first_few_are_named(folder):
    for number in range(5):
        (folder / f"{number}.png").write_text("a cat")
    with pytest.warns(TipAdapterWarning, match=r"left out 5 of 6 images: .*0\.png.*1\.png.*2\.png.*\(and 2 more\)"):
        encode_folder(folder, list("abcdef"))


def test_where_no_photo_can_be_read_nothing_is_readable(folder):
    for number in range(6):
        (folder / f"{number}.png").write_text("a cat")
    with pytest.raises(NothingReadable, match=r"none of 6 photos can be read; the first: cannot read .*0\.png"):
        encode_folder(folder, list("abcdef"))


def test_the_same_photo_in_two_classes_is_warned_about(folder):
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.warns(TipAdapterWarning) as caught:
        support, _ = encode_folder(folder, list("abcdef"))
    assert [str(warning.message) for warning in caught] == [
        "the same image is in two classes: 0.png (a) and 2.png (c); remove one"
    ]
    assert len(support) == 6


@pytest.mark.usefixtures("no_warning")
def test_the_same_photo_twice_in_a_class_is_no_matter(folder):
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes())
    support, n_failed = encode_folder(folder, list("abadef"))
    assert (len(support), n_failed) == (6, 0)


@pytest.mark.usefixtures("no_warning")
def test_plain_arrays_of_other_shapes_are_other_photos():
    wide, high = np.zeros((2, 8, 3), np.uint8), np.zeros((8, 2, 3), np.uint8)
    support, _ = encode_labelled(listed_source([wide, high], ["a", "b"], ["1", "2"]), FakeEncoder())
    assert len(support) == 2


def test_no_labelled_photos_are_an_empty_support_set():
    support, n_failed = encode_labelled(listed_source([], [], []), FakeEncoder())
    assert (len(support), n_failed) == (0, 0)
    assert support.vectors.shape == (0, FakeEncoder().identity.width)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_photo_without_a_usable_vector_is_left_out_and_reported(value):
    class Blind(FakeEncoder):
        def encode_prepared(self, prepared: Any) -> Any:
            vectors = super().encode_prepared(prepared)
            vectors[1] = value
            return vectors

    with pytest.warns(TipAdapterWarning, match="left out 1 of 3 images: cannot use photo 1"):
        support, n_failed = encode_labelled(listed_source(noise(3), list("abc"), ["0", "1", "2"]), Blind())
    assert (support.ids.tolist(), n_failed) == (["0", "2"], 1)
