"""The forward pass of Step-3.5-Flash in float64, written from its published description and without the toolkit.

It takes the published tensors by name and config.json as StepFun spells it. `step5` adds nothing but dense attention in full
layers, which is what that model computes as long as its indexer leaves nothing out.
"""

import math

import torch


def rms(x, weight, epsilon):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + epsilon) * (1 + weight)


def frequencies(config, layer):
    """Angles per position, one for each pair of rotated elements."""
    rotary = round(config["head_dim"] * config["partial_rotary_factors"][layer])
    base = config["rope_theta"][layer]
    plain = [base ** (-2 * i / rotary) for i in range(rotary // 2)]
    scaling = config.get("rope_scaling")
    kind = config["layer_types"][layer]
    if not scaling or kind not in config["yarn_only_types"]:
        return torch.tensor(plain, dtype=torch.float64)
    length, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    result = []
    for f in plain:
        wavelength = 2 * math.pi / f
        if wavelength < length / high:
            result.append(f)
        elif wavelength > length / low:
            result.append(f / factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            result.append((1 - smooth) * f / factor + smooth * f)
    return torch.tensor(result, dtype=torch.float64)


def rotate(x, angles):
    """Rotates pairs that lie half of the rotated elements apart; x is [tokens, heads, head_dim], angles [tokens, pairs]."""
    half = angles.shape[1]
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], -1)


def attention(x, weight, config, layer):
    sliding = config["layer_types"][layer] == "sliding_attention"
    other = config["attention_other_setting"]
    heads = other["num_attention_heads"] if sliding else config["num_attention_heads"]
    groups = other["num_attention_groups"] if sliding else config["num_attention_groups"]
    size, count = config["head_dim"], x.shape[0]
    q = (x @ weight("self_attn.q_proj").T).view(count, heads, size)
    k = (x @ weight("self_attn.k_proj").T).view(count, groups, size)
    v = (x @ weight("self_attn.v_proj").T).view(count, groups, size)
    epsilon = config["rms_norm_eps"]
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies(config, layer)
    q = rotate(rms(q, weight("self_attn.q_norm"), epsilon), angles)
    k = rotate(rms(k, weight("self_attn.k_norm"), epsilon), angles)
    k, v = (t.repeat_interleave(heads // groups, 1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(size)
    distance = torch.arange(count)[:, None] - torch.arange(count)[None]
    seen = distance >= 0
    if sliding:
        seen &= distance < config["sliding_window"]
    mixed = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -math.inf).softmax(-1), v)
    gate = torch.sigmoid(x @ weight("self_attn.g_proj").T)
    return (mixed * gate[..., None]).reshape(count, -1) @ weight("self_attn.o_proj").T


def network(x, gate, up, down, limit):
    a = torch.nn.functional.silu(x @ gate.T)
    u = x @ up.T
    if limit:
        a, u = a.clamp(max=limit), u.clamp(-limit, limit)
    return (a * u) @ down.T


def feed_forward(x, weight, config, layer):
    shared_limit = (config.get("swiglu_limits_shared") or [0] * (layer + 1))[layer]
    if layer not in {int(n) for n in config["moe_layers_enum"].split(",")}:
        return network(x, *(weight(f"mlp.{n}_proj") for n in ("gate", "up", "down")), shared_limit)
    limit = (config.get("swiglu_limits") or [0] * (layer + 1))[layer]
    probability = torch.sigmoid(x @ weight("moe.gate").T)
    chosen = (probability + weight("moe.router_bias", "")).topk(config["moe_top_k"], -1).indices
    share = probability.gather(1, chosen)
    share = share / (share.sum(-1, keepdim=True) + 1e-20) * config["moe_router_scaling_factor"]
    result = network(x, *(weight(f"share_expert.{n}_proj") for n in ("gate", "up", "down")), shared_limit)
    stacks = [weight(f"moe.{n}_proj") for n in ("gate", "up", "down")]
    for token in range(x.shape[0]):
        for expert, factor in zip(chosen[token].tolist(), share[token]):
            result[token] += factor * network(x[token : token + 1], *(s[expert] for s in stacks), limit)[0]
    return result


def logits(tensors, config, tokens):
    """[tokens, vocabulary] in float64."""

    def tensor(name):
        return torch.from_numpy(tensors[name].astype("float64"))

    config = config.get("text_config", config)
    epsilon = config["rms_norm_eps"]
    x = tensor("model.embed_tokens.weight")[torch.tensor(tokens)]
    for layer in range(config["num_hidden_layers"]):

        def weight(name, suffix=".weight", layer=layer):
            return tensor(f"model.layers.{layer}.{name}{suffix}")

        x = x + attention(rms(x, weight("input_layernorm"), epsilon), weight, config, layer)
        x = x + feed_forward(rms(x, weight("post_attention_layernorm"), epsilon), weight, config, layer)
    return rms(x, tensor("model.norm.weight"), epsilon) @ tensor("lm_head.weight").T
