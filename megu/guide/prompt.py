"""What a multimodal LLM is asked, in which words, and what its answers cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from megu.guide.questions import Pixels, Question
from megu.settings.files import hash_bytes, hash_file

PROMPT = 'Does this image show a photo of "{label}"? Answer True or False.'
PROMPT_VERSION = 1  # goes up with every change of these words


def image_of(pixels: Pixels) -> Image.Image:
    """An RGB image; grey becomes RGB."""
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0).squeeze())).convert("RGB")


def conversation(question: Question) -> tuple[list[dict], list[Image.Image]]:
    """The chat of a question as (messages, images): worked examples first, each an image, the question about the same
    label, True or False.  Source: arXiv 2602.17088 section 4.1."""
    asked = {"type": "text", "text": PROMPT.format(label=question.label)}
    messages, images = [], []
    for image, holds in (*question.shots, (question.image, None)):
        messages.append({"role": "user", "content": [{"type": "image"}, asked]})
        images.append(image_of(image))
        if holds is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": str(holds)}]})
    return messages, images


def characters(question: Question) -> int:
    """Of the text of a `conversation`."""
    holds = sum(len(str(holds)) for _, holds in question.shots)
    return len(PROMPT.format(label=question.label)) * (1 + len(question.shots)) + holds


def files_digest(paths: Iterable[Path]) -> str:
    """Eight hex digits over the names and contents of files."""
    return hash_bytes(*(path.name.encode() + bytes.fromhex(hash_file(path)) for path in paths))[:8]


@dataclass
class Cost:
    """What the answers took: passes over what stands before the cut, answers, tokens seen and spared; ``mass``: sum of
    the probabilities of True or False."""

    prefills: int = 0
    answers: int = 0
    tokens: int = 0
    spared: int = 0
    mass: float = 0.0

    def add(self, **more: float):
        """Add to these."""
        for name, value in more.items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self):
        out = f"{self.prefills} prefills, {self.answers} answers, {self.tokens} tokens"
        if self.spared:
            out += f", {self.spared / (self.tokens + self.spared):.0%} of all cached"
        if self.mass:
            out += f", True or False had {self.mass / max(self.answers, 1):.0%} of the probability"
        return out
