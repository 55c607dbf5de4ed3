from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tip_adapter.errors import ImageError
from tip_adapter.images import decode
from tip_adapter.images.decode import open_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def heic(tmp_path: Path) -> Path:
    """A photo as phones make them: red above, blue below."""
    pixels = np.zeros((64, 48, 3), np.uint8)
    pixels[:32, :, 0], pixels[32:, :, 2] = 255, 255
    path = tmp_path / "IMG_0001.HEIC"
    Image.fromarray(pixels).save(path, format="HEIF", quality=90)
    return path


def test_a_heic_photo_decodes_where_the_extra_is_installed(heic: Path) -> None:
    image = open_image(heic)
    assert (image.mode, image.size) == ("RGB", (48, 64))
    np.testing.assert_allclose(np.asarray(image)[[8, 56], 24], [[255, 0, 0], [0, 0, 255]], atol=12)


def test_a_heic_photo_names_the_extra_where_it_is_not_installed(heic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "FORMATS", [kind for kind in decode.FORMATS if kind != "HEIF"])
    with pytest.raises(
        ImageError, match=r'IMG_0001\.HEIC: HEIC images need pillow-heif: pip install "pillow-heif>=1\.6"'
    ):
        open_image(heic)


def test_fault_02_a_cut_heic_photo_is_refused(heic: Path) -> None:
    content = heic.read_bytes()
    for cut in np.linspace(1, len(content) - 1, 40, dtype=int):
        heic.write_bytes(content[:cut])
        with pytest.raises(ImageError, match="IMG_0001"):
            open_image(heic)
