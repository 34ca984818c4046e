"""A GPT's shape and weights as `semigpt.native.gpt_step` takes them, and its forward pass in C."""

from __future__ import annotations

from typing import Any

from semigpt.models.gpt import GPT
from semigpt.native import gpt_step
from semigpt.native.gpt_forward import GPTForward, gpt_forward
from semigpt.native.gpt_weights import GPTShape, GPTWeights, LayerWeights

__all__ = ["fits", "gpt_shape", "gpt_weights", "native_forward"]


def native_forward(model: GPT) -> GPTForward | None:
    """The forward pass in C of the model as it is now; None where there is none for it."""
    dtype = model.compute_dtype
    if not fits(model) or gpt_step.library_or_none(dtype) is None:
        return None
    return gpt_forward(gpt_shape(model), gpt_weights(model), dtype)


def fits(model: GPT) -> bool:
    """Whether gpt_step.c can run this model."""
    shape = gpt_shape(model)
    return model.settings.in_c and gpt_step.fits(shape, model.compute_dtype, model.parameters())


def gpt_shape(model: GPT) -> GPTShape:
    settings = model.settings
    return GPTShape(
        vocab_size=settings.vocab_size,
        context_length=settings.context_length,
        num_layers=settings.num_layers,
        width=settings.width,
        num_heads=settings.num_heads,
        kv_heads=settings.kv_heads,
        head_width=settings.head_width,
        hidden_width=settings.feedforward_width,
        norm_epsilon=settings.norm_epsilon,
        dropout=settings.dropout,
    )


def gpt_weights(model: GPT) -> GPTWeights:
    blocks: Any = model.model.layers
    return GPTWeights(
        embedding=model.model.embed_tokens.weight,
        layers=tuple(
            LayerWeights(
                attention_norm=block.input_layernorm.weight,
                qkv=tuple(getattr(block.self_attn, f"{name}_proj").weight for name in "qkv"),
                q_norm=block.self_attn.q_norm.weight,
                k_norm=block.self_attn.k_norm.weight,
                o=block.self_attn.o_proj.weight,
                feedforward_norm=block.post_attention_layernorm.weight,
                gate_up=(block.mlp.gate_proj.weight, block.mlp.up_proj.weight),
                down=block.mlp.down_proj.weight,
            )
            for block in blocks
        ),
        final_norm=model.model.norm.weight,
        head=model.lm_head.weight,
        cos_TD=model.cos_TD,
        sin_TD=model.sin_TD,
        gate=getattr(model, "gate", None),
    )
