"""What is trained of the tiny MLLM: its connector, and a low-rank addition to its language model."""

import torch
from torch import nn
from torch.nn import functional as F

from megu.guide.prompt import PROMPT
from megu.guide.tiny import ATTENTION, CHAT, IMAGE, TOKENS, smollm2

BEGINNINGS = (" A photo of a", " This is a", " The image shows a")
RANK = 8


class Connector(nn.Module):
    """`LlavaMultiModalProjector` after a standardisation of its input, which is folded into the first layer when it is
    saved."""

    def __init__(self, tokens, scale):
        super().__init__()
        flat = tokens.flatten(0, 1).float()
        self.mean, self.std, self.scale = flat.mean(0), flat.std(0) + 1e-3, scale
        self.linear_1, self.linear_2 = nn.Linear(flat.shape[1], 576), nn.Linear(576, 576)
        nn.init.normal_(
            self.linear_2.weight, std=2.5 * scale / 576**0.5
        )  # outputs start at the size of word embeddings

    def forward(self, tokens):
        x = F.dropout((tokens.float() - self.mean) / self.std, 0.1, self.training)
        return self.linear_2(F.gelu(self.linear_1(x)))

    @torch.no_grad()
    def rescale(self, tokens):
        """Outputs of the size of word embeddings; the first stage looks at directions only."""
        factor = self.scale / self(tokens).std()
        self.linear_2.weight *= factor
        self.linear_2.bias *= factor

    def folded(self):
        weight = self.linear_1.weight / self.std
        state = {"linear_1.weight": weight, "linear_1.bias": self.linear_1.bias - weight @ self.mean}
        return state | {f"linear_2.{name}": value for name, value in self.linear_2.state_dict().items()}


class LowRank(nn.Module):
    """A frozen linear layer with a trained addition of low rank (Hu et al. 2021, arXiv 2106.09685)."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.randn(RANK, linear.in_features) / linear.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))


class Speaker:
    """The language model with its addition; what it says after visual tokens and a text."""

    def __init__(self):
        self.tokenizer, model = smollm2()
        self.model, self.added = model.bfloat16().requires_grad_(False), nn.ModuleDict()
        for i, layer in enumerate(self.model.model.layers):
            for name in ATTENTION:
                self.added[f"{i}-{name}"] = LowRank(getattr(layer.self_attn, name))
                setattr(layer.self_attn, name, self.added[f"{i}-{name}"])
        self.embed, self.head = self.model.get_input_embeddings(), self.model.lm_head
        self.begin, self.rest = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}],
            chat_template=CHAT,
            add_generation_prompt=True,
            tokenize=False,
        ).split(IMAGE)
        self.answers = [self.tokenizer.encode(word)[0] for word in ("False", "True")]

    def addition(self):
        return {f"{name}.{part}": getattr(one, part) for name, one in self.added.items() for part in ("down", "up")}

    def ids(self, texts):
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def states(self, visual, before, after):
        """Last hidden states ``(n, T, d)`` of ``before``, the visual tokens and ``after`` (padded on the right), and
        where ``after`` starts."""
        longest = max(map(len, after))
        padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in after])
        mask = torch.tensor(
            [[1] * (len(before) + visual.shape[1] + len(ids)) + [0] * (longest - len(ids)) for ids in after]
        )
        parts = [
            self.embed(torch.tensor([before] * len(after), dtype=torch.int64)),
            visual.bfloat16(),
            self.embed(padded),
        ]
        return (
            self.model.model(inputs_embeds=torch.cat(parts, 1), attention_mask=mask).last_hidden_state,
            len(before) + visual.shape[1],
        )

    def in_words(self, labels):
        """Embeddings of labels in place of visual tokens ``(n, 5, d)``: their words, repeated, with a third as much
        noise."""
        found = self.embed(
            torch.tensor([(ids * TOKENS)[:TOKENS] for ids in self.ids([f" {label.lower()}" for label in labels])])
        ).float()
        return found + 0.3 * found.std() * torch.randn_like(found)

    def directions(self, labels):
        """Unit vectors ``(n, d)``: mean word embedding of each label, less the mean over all words."""
        every = self.embed.weight.float()
        found = torch.stack([every[ids].mean(0) for ids in self.ids([f" {label.lower()}" for label in labels])])
        return F.normalize(found - every.mean(0), dim=1), every.mean(0)

    def caption_loss(self, visual, labels, rng):
        beginning = self.ids([BEGINNINGS[rng.integers(len(BEGINNINGS))]])[0]
        labels = self.ids([f" {label.lower()}" for label in labels])
        states, start = self.states(visual, [], [beginning + ids for ids in labels])
        rows, places, words = zip(
            *((i, start + len(beginning) + j - 1, w) for i, ids in enumerate(labels) for j, w in enumerate(ids)),
            strict=True,
        )
        return F.cross_entropy(self.head(states[list(rows), list(places)]).float(), torch.tensor(words))

    def answer_logits(self, visual, labels):
        """Logits of the whole vocabulary after the question about each label."""
        after = self.ids([self.rest.format(label=label) for label in labels])
        states, start = self.states(visual, self.ids([self.begin])[0], after)
        return self.head(states[range(len(after)), [start + len(ids) - 1 for ids in after]]).float()

    def question_loss(self, visual, labels, holds):
        return F.cross_entropy(self.answer_logits(visual, labels), torch.tensor([self.answers[h] for h in holds]))
