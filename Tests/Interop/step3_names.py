"""The names of Step-3's tensors in GGUF, written down independently of the toolkit's own table."""

import re

PLAIN = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "vision_model.embeddings.class_embedding": "v.class_embd",
    "vision_model.embeddings.patch_embedding": "v.patch_embd",
    "vision_model.embeddings.position_embedding": "v.position_embd",
    "vit_downsampler": "mm.down.1",
    "vit_downsampler2": "mm.down.2",
    "vit_large_projector": "mm.model.fc",
}
BLOCK = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q_a",
    "self_attn.inter_norm": "attn_q_a_norm", "self_attn.wq": "attn_q_b", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "moe.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "moe.gate_proj": "ffn_gate_exps", "moe.up_proj": "ffn_up_exps", "moe.down_proj": "ffn_down_exps",
    "share_expert.gate_proj": "ffn_gate_shexp", "share_expert.up_proj": "ffn_up_shexp",
    "share_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
VISION_BLOCK = {
    "layer_norm1": "ln1", "layer_norm2": "ln2", "self_attn.qkv_proj": "attn_qkv",
    "self_attn.out_proj": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    """The GGUF name of a published tensor; a KeyError for one that Step-3 does not have."""
    if name in PLAIN:
        return PLAIN[name]
    stem, _, kind = name.rpartition(".")
    if stem in PLAIN:
        return f"{PLAIN[stem]}.{kind}"
    if match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem):
        return f"blk.{match[1]}.{BLOCK[match[2]]}.{kind}"
    match = re.fullmatch(r"vision_model\.transformer\.layers\.(\d+)\.(.+)", stem)
    return f"v.blk.{match[1]}.{VISION_BLOCK[match[2]]}.{kind}"


def is_vision(name):
    return name.startswith(("vision_model.", "vit_"))


def stays_precise(name, shape):
    """Whether GGUF consumers expect F32 whatever the recipe: norms, the router, all one-dimensional tensors."""
    return len(shape) < 2 or name.endswith("moe.gate.weight") or "norm" in name
