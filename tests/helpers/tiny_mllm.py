"""Real vision-language classes with tiny random weights, saved as folders that transformers' Auto classes read."""

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{"
    " c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def _tokenizer(special, words=("True", "False", " True", " False"), **more):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left", **more
    )
    fast.add_tokens(list(words))
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def _text(tokenizer, **more):
    size = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    return {"vocab_size": len(tokenizer), **size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **more}


_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def llava(path, words=("True", "False", " True", " False"), side=32, patch=8, vision=None, text=None):
    """(side / patch)^2 visual tokens an image, 16 unless told otherwise."""
    tokenizer = _tokenizer(["<image>"], words, extra_special_tokens={"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{**_VISION, "image_size": side, "patch_size": patch, **(vision or {})}),
        text_config=LlamaConfig(**_text(tokenizer, **(text or {}))),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>"),
    )
    _save(LlavaForConditionalGeneration(config), processor, path)


def idefics3(path):
    """SmolVLM's architecture; images between tokens of their own."""
    tokenizer = _tokenizer(["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"])
    config = Idefics3Config(
        vision_config=_VISION,
        text_config={"model_type": "llama", **_text(tokenizer)},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    _save(
        Idefics3ForConditionalGeneration(config),
        Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>")),
        path,
    )


def qwen2_5_vl(path):
    """Positions with three axes."""
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = _tokenizer(names)
    ids = dict(
        zip(
            ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"),
            tokenizer.convert_tokens_to_ids(names),
            strict=True,
        )
    )
    rope = {"type": "mrope", "mrope_section": [4, 6, 6], "rope_type": "default"}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 14,
    }
    config = Qwen2_5_VLConfig(
        text_config=_text(tokenizer, rope_scaling=rope),
        vision_config={**vision, "fullatt_block_indexes": [1], "window_size": 56},
        **ids,
    )
    chat = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56)
    _save(
        Qwen2_5_VLForConditionalGeneration(config),
        Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=chat),
        path,
    )


def _save(model, processor, path):
    # Random weights are near 0 and so are all answers: larger ones make them differ.
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(std=0.15) if weight.ndim > 1 else None
    model.save_pretrained(path)
    processor.save_pretrained(path)


FAMILIES = {"llava": llava, "idefics3": idefics3, "qwen2.5-vl": qwen2_5_vl}


def decided(path, text):
    """LLaVA that says nothing but True and False, each for some images, where a server lets it speak by chance.

    ``text`` is a prompt with one image: what the model is asked, up to the label.
    """
    llava(path)
    model, processor = LlavaForConditionalGeneration.from_pretrained(path), LlavaProcessor.from_pretrained(path)
    said = processor.tokenizer.convert_tokens_to_ids(
        [" True", " False"]
    )  # with the space, so that a second word leaves the first one as it is
    inner, head = model.model, model.lm_head.weight
    with torch.no_grad():
        # One direction of the hidden state is the same for every token; through it the head lifts both words and
        # nothing else.
        inner.language_model.embed_tokens.weight[:, 0] = 4.0
        inner.multi_modal_projector.linear_2.weight[0], inner.multi_modal_projector.linear_2.bias[0] = 0.0, 4.0
        for layer in inner.language_model.layers:
            layer.self_attn.o_proj.weight[0], layer.mlp.down_proj.weight[0] = 0.0, 0.0
        images = [
            Image.fromarray(pixels).convert("RGB")
            for pixels in np.random.default_rng(1).integers(0, 255, (16, 28, 28), dtype=np.uint8)
        ]
        hidden = inner(**processor(text=[text] * 16, images=images, return_tensors="pt")).last_hidden_state[:, -1]
        # The direction in which images differ tells the words apart, from log-odds of -3 to 3 or so.
        mean, (_, spread, axes) = hidden.mean(0), torch.linalg.svd(hidden - hidden.mean(0), full_matrices=False)
        apart = axes[0] * 2 * 4 / spread[0]
        apart[0] -= mean @ apart / mean[0]
        head[:, 0] = -20.0
        head[said] = torch.stack([apart, -apart]) / 2
    model.generation_config.update(do_sample=True, top_k=0)
    model.save_pretrained(path)
