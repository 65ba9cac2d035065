"""Real vision-language classes with tiny random weights, saved as folders that transformers' Auto classes read."""

import torch
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
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)


def _tokenizer(special, words=("True", "False", " True", " False"), **more):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left", **more)
    fast.add_tokens(list(words))
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def _text(tokenizer, **more):
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    return {"vocab_size": len(tokenizer), **size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **more}


_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def llava(path, words=("True", "False", " True", " False")):
    """16 visual tokens an image."""
    tokenizer = _tokenizer(["<image>"], words, extra_special_tokens={"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION), text_config=LlamaConfig(**_text(tokenizer)), image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16, vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), tokenizer, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=CHAT.replace("IMAGE", "<image>"),
    )  # fmt: skip
    _save(LlavaForConditionalGeneration(config), processor, path)


def idefics3(path):
    """SmolVLM's architecture; images between tokens of their own."""
    tokenizer = _tokenizer(["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"])
    config = Idefics3Config(
        vision_config=_VISION, text_config={"model_type": "llama", **_text(tokenizer)}, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    images = Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False)
    _save(Idefics3ForConditionalGeneration(config), Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=CHAT.replace("IMAGE", "<image>")), path)


def qwen2_5_vl(path):
    """Positions with three axes."""
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = _tokenizer(names)
    ids = dict(zip(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"), tokenizer.convert_tokens_to_ids(names), strict=True))
    rope = {"type": "mrope", "mrope_section": [4, 6, 6], "rope_type": "default"}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, "patch_size": 14}
    config = Qwen2_5_VLConfig(text_config=_text(tokenizer, rope_scaling=rope), vision_config={**vision, "fullatt_block_indexes": [1], "window_size": 56}, **ids)
    chat = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56)
    _save(Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=chat), path)


def _save(model, processor, path):
    # Random weights are near 0 and so are all answers: larger ones make them differ.
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(std=0.15) if weight.ndim > 1 else None
    model.save_pretrained(path)
    processor.save_pretrained(path)


FAMILIES = {"llava": llava, "idefics3": idefics3, "qwen2.5-vl": qwen2_5_vl}
