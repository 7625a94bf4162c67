"""Step-3's language model in PyTorch, in F64, written from its published description for readability: the inputs of its linear layers
can be observed.  It shares nothing with the toolkit."""

import json
import re

import torch
from safetensors.torch import load_file


def weights_of(checkpoint):
    """All tensors of a plain checkpoint, by published name, in F64."""
    tensors = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        if file.name.startswith("model"):
            tensors |= load_file(file)
    return {name: tensor.double() for name, tensor in tensors.items()}


class Model:
    def __init__(self, checkpoint, weights=None):
        self.config = json.loads((checkpoint / "config.json").read_text())["text_config"]
        self.weights = weights_of(checkpoint) if weights is None else weights
        named = self.config.get("moe_layers_enum")
        self.moe = {int(n) for n in named.split(",")} if named else set(range(1, self.config["num_hidden_layers"]))

    def __call__(self, ids, seen=lambda weight, expert, rows: None):
        """ids [N, T] -> logits [N, T, V]; ``seen`` is called with each weight's name, the expert's number and the input rows."""
        c, w = self.config, self.weights
        self.seen = seen
        x = w["model.embed_tokens.weight"][ids]
        for layer in range(c["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            x = x + self.attention(at + "self_attn.", self.norm(x, at + "input_layernorm.weight"))
            y = self.norm(x, at + "post_attention_layernorm.weight")
            x = x + (self.experts(at, y) if layer in self.moe else self.swiglu(at + "mlp.", y.flatten(0, 1)).view(y.shape))
        head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
        return self.norm(x, "model.norm.weight") @ head.T

    def norm(self, x, name):
        return x / (x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]).sqrt() * self.weights[name]

    def linear(self, name, rows, expert=None):
        self.seen(name, expert, rows.reshape(-1, rows.shape[-1]))
        weight = self.weights[name]
        return rows @ (weight if expert is None else weight[expert]).T

    def attention(self, at, x):
        c = self.config
        heads, groups, size = c["num_attention_heads"], c["num_attention_groups"], c["head_dim"]
        rows, length = x.shape[:2]
        shared = self.norm(self.linear(at + "q_proj.weight", x), at + "inter_norm.weight")
        q = self.rotate(self.linear(at + "wq.weight", shared).view(rows, length, heads, size))
        k = self.rotate(self.linear(at + "k_proj.weight", x).view(rows, length, groups, size))
        v = self.linear(at + "v_proj.weight", x).view(rows, length, groups, size)
        k, v = (t.repeat_interleave(heads // groups, dim=2) for t in (k, v))
        scores = torch.einsum("nthd,nshd->nhts", q, k) / size**0.5
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = torch.einsum("nhts,nshd->nthd", scores.masked_fill(mask, -torch.inf).softmax(-1), v)
        return self.linear(at + "o_proj.weight", mixed.flatten(2))

    def rotate(self, x):
        half = x.shape[-1] // 2
        angles = torch.arange(x.shape[1]).double()[:, None] * self.config["rope_theta"] ** (-torch.arange(half).double() / half)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

    def swiglu(self, at, rows, expert=None):
        gate = self.linear(at + "gate_proj.weight", rows, expert)
        up = self.linear(at + "up_proj.weight", rows, expert)
        return self.linear(at + "down_proj.weight", gate * gate.sigmoid() * up, expert)

    def experts(self, at, x):
        c, rows = self.config, x.flatten(0, 1)
        shares = self.linear(at + "moe.gate.weight", rows).softmax(-1)
        chosen, experts = shares.topk(c["moe_top_k"], dim=-1)
        if c.get("norm_expert_weight"):
            chosen = chosen / chosen.sum(-1, keepdim=True)
        out = self.swiglu(at + "share_expert.", rows)
        for expert in range(c["moe_num_experts"]):
            token, slot = (experts == expert).nonzero(as_tuple=True)
            out[token] += chosen[token, slot, None] * self.swiglu(at + "moe.", rows[token], expert)
        return out.view(x.shape)


def is_quantised(name, scope):
    """Whether a scheme with that scope covers a weight."""
    if re.search(r"\.moe\.(gate|up|down)_proj\.weight$", name):
        return True
    return scope == "linear" and bool(re.search(r"\.(self_attn\.(wq|\w_proj)|(mlp|share_expert)\.\w+_proj)\.weight$", name))
