"""The towers of an open_clip model, on torch; imported only when such an encoder is loaded.

It uses `create_model_and_transforms`, `get_tokenizer` and `list_pretrained` of open_clip, which are stable over releases.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Normalize

from tip_adapter.encoders.base import centre_crop_sides
from tip_adapter.errors import UsageError
from tip_adapter.io.hub_errors import without_log
from tip_adapter.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_DEVICES = ("cpu", "cuda")


def published() -> list[tuple[str, str]]:
    """(architecture, tag) of all weights that open_clip can download."""
    return list(open_clip.list_pretrained())


def tokenizer_of(model: str) -> Any:
    """Texts → (n, context length) int tensor."""
    with _without_its_log():
        return open_clip.get_tokenizer(model)


def set_up(device: str, threads: int | None) -> None:
    """Raise UsageError unless this torch has the device; set its processor threads, for the whole process."""
    if device not in _DEVICES:
        raise UsageError(f"unknown device '{printable(device)}': known are {', '.join(_DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device cuda is not available in this torch: it sees no GPU, or was built without CUDA; use cpu"
        )
    if threads:
        torch.set_num_threads(threads)


def refuse_code(path: str) -> None:
    """Raise, before open_clip opens it, if a PyTorch archive contains more than tensors and plain values, or is damaged.

    The error is torch's: pickle.UnpicklingError or RuntimeError.
    """
    if not path.endswith(".safetensors"):
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def load_towers(model: str, pretrained: str | None, device: str, preprocessing: Mapping[str, Any]) -> Towers:
    """Create a model with its weights; raises what open_clip, torch or the hub raise.

    Parameters
    ----------
    model, pretrained : as in open_clip
    device : ``cpu`` or ``cuda``
    preprocessing : changes to open_clip's default, as parameters of `create_model_and_transforms`
    """
    with _without_its_log():
        network, _, preprocess = open_clip.create_model_and_transforms(
            model,
            pretrained,
            precision="fp32",
            device=device,
            weights_only=True,
            require_pretrained=True,  # otherwise missing weights are random ones
            **preprocessing,
        )
    return Towers(network.eval().requires_grad_(False), preprocess, device)


@contextmanager
def _without_its_log() -> Iterator[None]:
    """Silence open_clip, which logs to the root logger, and the hub's library; errors are raised.

    A root logger without a handler prints.
    """
    listener = logging.NullHandler()
    logging.root.addHandler(listener)
    try:
        with without_log():
            yield
    finally:
        logging.root.removeHandler(listener)


@dataclass(frozen=True)
class Towers:
    """A network and the preparation of its images, with arrays as inputs and outputs.

    Parameters
    ----------
    network : open_clip's model, in evaluation mode
    preprocess : an upright RGB image → (3, height, width) float tensor; stateless, so that threads may share it
    device : ``cpu`` or ``cuda``
    """

    network: Any
    preprocess: Any
    device: str

    @property
    def logit_scale(self) -> float:
        """Factor of the text logits; the network stores its logarithm."""
        return float(self.network.logit_scale.exp())

    @cached_property
    def width(self) -> int:
        """Length of a vector."""
        return self.encode_images(self.prepare(Image.new("RGB", (1, 1)))[None]).shape[1]

    @property
    def size_mib(self) -> int:
        """Size of the weights."""
        tensors = self.network.state_dict().values()
        return sum(tensor.nelement() * tensor.element_size() for tensor in tensors) // 2**20

    def fingerprint(self, model: str) -> str:
        """SHA-256 of the weights, the architecture's name and the preparation of images."""
        digest = hashlib.sha256(f"{model}\n{self.preprocess}\n".encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().reshape(-1).numpy().data)
        return digest.hexdigest()

    def was_made_for_other_images(self) -> bool:
        """Whether timm's record of the image tower states another mean than the one images are normalised with."""
        stated = getattr(getattr(self.network.visual, "trunk", None), "pretrained_cfg", {}).get("mean")
        used = [step.mean for step in self.preprocess.transforms if isinstance(step, Normalize)]
        return stated is not None and not all(np.allclose(mean, stated) for mean in used)

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        """An upright RGB image → (3, height, width) float32."""
        if any(isinstance(step, CenterCrop) for step in self.preprocess.transforms):
            image = centre_crop_sides(image)
        prepared: NDArray[np.float32] = self.preprocess(image).numpy()
        return prepared

    def encode_images(self, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 3, height, width) float32, n > 0 → (n, width) float32, not normalised."""
        return self._run(self.network.encode_image, torch.from_numpy(prepared))

    def encode_tokens(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        """(n, context length) int tensor → (n, width) float32, not normalised."""
        return self._run(self.network.encode_text, tokens)

    def _run(self, tower: Any, batch: torch.Tensor) -> NDArray[np.float32]:
        precision = torch.autocast("cuda", torch.float16) if self.device == "cuda" else nullcontext()
        with torch.inference_mode(), precision:
            vectors: NDArray[np.float32] = tower(batch.to(self.device), normalize=False).float().cpu().numpy()
        return vectors
