"""Real vision-language classes with tiny random weights, saved as folders that transformers' Auto classes read."""

import numpy as np
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE{% else %}{{"
    " c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
WORDS = (("True", "False"), ("true", "false"))
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2}
_VISION = {**_LAYERS, "hidden_size": 32, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
_TEXT = {**_LAYERS, "hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 2}
_TEXT |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _tokenizer(special, words=("True", "False", " True", " False"), **more):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    about = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "padding_side": "left", **more}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **about)
    fast.add_tokens(list(words))
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def _save(path, config, processor, image="<image>"):
    # Random weights are near 0 and so are all answers: larger ones make them differ.
    model = hf.AutoModelForImageTextToText.from_config(config)
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(std=0.15) if weight.ndim > 1 else None
    # And the two words have more than a hundredth of the probability, wherever the rest of it is.
    known, head = processor.tokenizer.get_vocab(), model.get_output_embeddings().weight.data
    pairs = [[known.get(form + word) for word in words] for form in ("", "Ġ", " ") for words in WORDS]
    head *= 0.1
    for true, false in (pair for pair in pairs if None not in pair):
        head[true] *= 10
        head[false] = -head[true]
    model.save_pretrained(path)
    processor.chat_template = CHAT.replace("IMAGE", image)
    processor.save_pretrained(path)


def llava(path, words=("True", "False", " True", " False"), side=32, patch=8, vision=None, text=None):
    """(side / patch)^2 visual tokens an image, 16 unless told otherwise."""
    tokenizer = _tokenizer(["<image>"], words, extra_special_tokens={"image_token": "<image>"})
    select = {"vision_feature_select_strategy": "default"}
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**{**_VISION, "image_size": side, "patch_size": patch, **(vision or {})}),
        text_config=hf.LlamaConfig(**{"vocab_size": len(tokenizer), **_TEXT, **(text or {})}),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-1,
        **select,
    )
    images = hf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    how = {"patch_size": patch, "num_additional_image_tokens": 1, **select}
    _save(path, config, hf.LlavaProcessor(images, tokenizer, **how))


def idefics3(path):
    """SmolVLM's architecture; images between tokens of their own."""
    tokenizer = _tokenizer(["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"])
    config = hf.Idefics3Config(
        vision_config=_VISION,
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **_TEXT},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    sizes = dict.fromkeys(("size", "max_image_size"), {"longest_edge": 32})
    images = hf.Idefics3ImageProcessor(**sizes, do_image_splitting=False)
    _save(path, config, hf.Idefics3Processor(images, tokenizer, image_seq_len=4))


def qwen2_5_vl(path):
    """Positions with three axes."""
    names = {f"{kind}_token_id": f"<|{kind}|>" for kind in ("vision_start", "vision_end")}
    names |= {f"{kind}_token_id": f"<|{kind}_pad|>" for kind in ("image", "video")}
    tokenizer = _tokenizer(sorted(names.values()))
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56}
    rope = {"type": "mrope", "mrope_section": [4, 6, 6], "rope_type": "default"}
    config = hf.Qwen2_5_VLConfig(
        text_config={"vocab_size": len(tokenizer), **_TEXT, "rope_scaling": rope},
        vision_config=vision,
        **{key: tokenizer.convert_tokens_to_ids(name) for key, name in names.items()},
    )
    images = hf.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56)
    processor = hf.Qwen2_5_VLProcessor(images, tokenizer, hf.Qwen2VLVideoProcessor())
    _save(path, config, processor, "<|vision_start|><|image_pad|><|vision_end|>")


FAMILIES = {"llava": llava, "idefics3": idefics3, "qwen2.5-vl": qwen2_5_vl}


def decided(path, text):
    """LLaVA that says nothing but True and False, each for some images, where a server lets it speak by chance.

    ``text`` is a prompt with one image: what the model is asked, up to the label.
    """
    llava(path)
    model, processor = hf.LlavaForConditionalGeneration.from_pretrained(path), hf.LlavaProcessor.from_pretrained(path)
    # With the space, so that a second word leaves the first one as it is.
    said = processor.tokenizer.convert_tokens_to_ids([" True", " False"])
    inner, head = model.model, model.lm_head.weight
    images = np.random.default_rng(1).integers(0, 255, (16, 28, 28, 1), dtype=np.uint8).repeat(3, axis=3)
    with torch.no_grad():
        # One direction of the hidden state is the same for every token; through it the head lifts only the two words.
        inner.language_model.embed_tokens.weight[:, 0] = 4.0
        inner.multi_modal_projector.linear_2.weight[0], inner.multi_modal_projector.linear_2.bias[0] = 0.0, 4.0
        for layer in inner.language_model.layers:
            layer.self_attn.o_proj.weight[0], layer.mlp.down_proj.weight[0] = 0.0, 0.0
        given = processor(text=[text] * 16, images=list(images), return_tensors="pt")
        hidden = inner(**given).last_hidden_state[:, -1]
        # The direction in which images differ tells the words apart, from log-odds of -3 to 3 or so.
        mean, (_, spread, axes) = hidden.mean(0), torch.linalg.svd(hidden - hidden.mean(0), full_matrices=False)
        apart = axes[0] * 2 * 4 / spread[0]
        apart[0] -= mean @ apart / mean[0]
        head[:, 0] = -20.0
        head[said] = torch.stack([apart, -apart]) / 2
    model.generation_config.update(do_sample=True, top_k=0)
    model.save_pretrained(path)
