"""A `gpt` or `blocks` model as an ONNX graph, which onnxruntime and transformers.js run.

The graph is written operator by operator rather than traced: it has plain operators alone, which
every build of onnxruntime has, the inputs that transformers.js gives, and the same bytes for the
same weights whatever the version of PyTorch.

    input_ids, position_ids         [batch, tokens]
    attention_mask                  [batch, past + tokens], 0 for padding
    past_key_values.LAYER.key       [batch, heads, past, head width], and .value
    logits                          [batch, tokens, vocabulary]
    present.LAYER.key               [batch, heads, past + tokens, head width], and .value
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from semigpt.models.base import LanguageModel

__all__ = ["write_onnx"]

OPSET = 18
IR_VERSION = 10  # of opset 18 and later; what browsers' builds of onnxruntime read
MASKED = -1e9  # finite, or a row of padding would be the softmax of nothing


def write_onnx(path: Path, model: LanguageModel) -> None:
    """Write the graph with its float32 weights to `path`."""
    config = model.huggingface_config()
    weights = {name: tensor.float().numpy() for name, tensor in model.huggingface_state().items()}
    build = _GPT2 if config["model_type"] == "gpt2" else _Qwen3
    onnx.save(build(config, weights).model(), path)


class _Graph:
    """Nodes and weights as they are added; a value is its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """The value of an operator, or a list of them."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A weight or a constant."""
        name = f"c{len(self.initializers)}"
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def shape(self, *sizes: int) -> str:
        """Sizes as an operand; 0 keeps the size at its place, -1 takes what is left."""
        return self.constant(sizes, np.int64)


class _Transformer(_Graph):
    """What the two have in common: masked attention with a cache, and the names of the ends."""

    def __init__(
        self,
        weights: dict[str, NDArray[np.float32]],
        *,
        vocab_size: int,
        num_layers: int,
        num_heads: int,
        kv_heads: int,
        head_width: int,
    ) -> None:
        super().__init__()
        self.weights, self.vocab_size, self.num_layers = weights, vocab_size, num_layers
        self.num_heads, self.kv_heads, self.head_width = num_heads, kv_heads, head_width
        self.present: list[str] = []
        self.bias = self._mask()

    def _mask(self) -> str:
        """What is added to the scores: [batch, 1, 1, tokens, past + tokens]."""
        mask = self.op("Unsqueeze", "attention_mask", self.shape(1, 2, 3))
        one, zero = self.constant(1, np.int64), self.constant(0, np.int64)
        tokens, keys = (
            self.op("Gather", self.op("Shape", name), one)
            for name in ("input_ids", "attention_mask")
        )
        queries = self.op("Range", self.op("Sub", keys, tokens), keys, one)
        places = self.op("Range", zero, keys, one)
        earlier = self.op("LessOrEqual", places, self.op("Unsqueeze", queries, self.shape(1)))
        seen = self.op("And", earlier, self.op("Cast", mask, to=TensorProto.BOOL))
        return str(self.op("Where", seen, self.constant(0), self.constant(MASKED)))

    def heads(self, x: str, count: int) -> str:
        """[batch, tokens, count x head width] by heads: [batch, tokens, count, head width]."""
        return str(self.op("Reshape", x, self.shape(0, 0, count, self.head_width)))

    def attention(self, layer: int, query: str, key: str, value: str) -> str:
        """All by heads; the values weighted: [batch, tokens, width]."""
        query, key, value = (
            self.op("Transpose", x, perm=[0, 2, 1, 3]) for x in (query, key, value)
        )
        key = self.op("Concat", f"past_key_values.{layer}.key", key, axis=2)
        value = self.op("Concat", f"past_key_values.{layer}.value", value, axis=2)
        self.present += [key, value]
        # Several heads of queries share one of keys: [batch, kv heads, group, tokens, head width].
        group = self.num_heads // self.kv_heads
        shape = self.shape(0, self.kv_heads, group, -1, self.head_width)
        query = self.op("Reshape", query, shape)
        key, value = (self.op("Unsqueeze", x, self.shape(2)) for x in (key, value))
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 2, 4, 3]))
        scores = self.op("Mul", scores, self.constant(self.head_width**-0.5))
        weights = self.op("Softmax", self.op("Add", scores, self.bias), axis=-1)
        mixed = self.op("MatMul", weights, value)
        mixed = self.op("Reshape", mixed, self.shape(0, self.num_heads, -1, self.head_width))
        mixed = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        return str(self.op("Reshape", mixed, self.shape(0, 0, self.num_heads * self.head_width)))

    def finish(self, x: str, embedding: str) -> None:
        """The output layer, the embedding where it is tied; and the outputs' names."""
        if "lm_head.weight" in self.weights:
            output = self.constant(self.weights["lm_head.weight"].T)
        else:
            output = self.op("Transpose", embedding, perm=[1, 0])
        self.nodes.append(helper.make_node("MatMul", [x, output], ["logits"]))
        for name, value in zip(self._caches("present"), self.present, strict=True):
            self.nodes.append(helper.make_node("Identity", [value], [name]))

    def _caches(self, prefix: str) -> list[str]:
        return [f"{prefix}.{i}.{part}" for i in range(self.num_layers) for part in ("key", "value")]

    def model(self) -> onnx.ModelProto:
        """The whole graph."""
        int64, float32 = TensorProto.INT64, TensorProto.FLOAT
        cache: list[str | int | None] = ["batch", self.kv_heads, None, self.head_width]
        inputs = [
            helper.make_tensor_value_info("input_ids", int64, ["batch", "tokens"]),
            helper.make_tensor_value_info("attention_mask", int64, ["batch", "past + tokens"]),
            helper.make_tensor_value_info("position_ids", int64, ["batch", "tokens"]),
            *(
                helper.make_tensor_value_info(name, float32, cache)
                for name in self._caches("past_key_values")
            ),
        ]
        outputs = [
            helper.make_tensor_value_info("logits", float32, ["batch", "tokens", self.vocab_size]),
            *(
                helper.make_tensor_value_info(name, float32, cache)
                for name in self._caches("present")
            ),
        ]
        graph = helper.make_graph(self.nodes, "semigpt", inputs, outputs, self.initializers)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="semigpt"
        )
        onnx.checker.check_model(model)
        return model


class _Qwen3(_Transformer):
    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        super().__init__(
            weights,
            vocab_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head_width=config["head_dim"],
        )
        self.epsilon = self.constant(config["rms_norm_eps"])
        self.rotation = self._angles(config["rope_theta"])
        embedding = self.constant(weights["model.embed_tokens.weight"])
        x = self.op("Gather", embedding, "input_ids")
        for layer in range(self.num_layers):
            x = self._block(layer, x)
        x = self.norm(x, "model.norm.weight")
        self.finish(x, embedding)

    def product(self, x: str, name: str) -> str:
        return str(self.op("MatMul", x, self.constant(self.weights[f"{name}.weight"].T)))

    def norm(self, x: str, name: str) -> str:
        """RMSNorm over the last dimension."""
        squares = self.op("ReduceMean", self.op("Mul", x, x), self.shape(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", squares, self.epsilon))
        scaled = self.op("Div", x, root)
        return str(self.op("Mul", scaled, self.constant(self.weights[name])))

    def _angles(self, theta: float) -> tuple[str, str]:
        """Cosine and sine of each position's angles: [batch, tokens, 1, head width / 2]."""
        exponents = np.arange(0, self.head_width, 2, dtype=np.float64) / self.head_width
        positions = self.op("Cast", "position_ids", to=TensorProto.FLOAT)
        positions = self.op("Unsqueeze", positions, self.shape(2, 3))
        angles = self.op("Mul", positions, self.constant(theta**-exponents))
        return self.op("Cos", angles), self.op("Sin", angles)

    def rotate(self, x: str) -> str:
        """RoPE on [batch, tokens, heads, head width], whose halves turn together."""
        cosine, sine = self.rotation
        left, right = self.op("Split", x, outputs=2, axis=-1, num_outputs=2)
        turned = (
            self.op("Sub", self.op("Mul", left, cosine), self.op("Mul", right, sine)),
            self.op("Add", self.op("Mul", right, cosine), self.op("Mul", left, sine)),
        )
        return str(self.op("Concat", *turned, axis=-1))

    def _block(self, layer: int, x: str) -> str:
        name = f"model.layers.{layer}."
        attention, feedforward = f"{name}self_attn.", f"{name}mlp."
        normed = self.norm(x, f"{name}input_layernorm.weight")
        query = self.heads(self.product(normed, f"{attention}q_proj"), self.num_heads)
        key = self.heads(self.product(normed, f"{attention}k_proj"), self.kv_heads)
        value = self.heads(self.product(normed, f"{attention}v_proj"), self.kv_heads)
        query = self.rotate(self.norm(query, f"{attention}q_norm.weight"))
        key = self.rotate(self.norm(key, f"{attention}k_norm.weight"))
        mixed = self.attention(layer, query, key, value)
        x = self.op("Add", x, self.product(mixed, f"{attention}o_proj"))
        normed = self.norm(x, f"{name}post_attention_layernorm.weight")
        gate = self.product(normed, f"{feedforward}gate_proj")
        gate = self.op("Mul", gate, self.op("Sigmoid", gate))
        hidden = self.op("Mul", gate, self.product(normed, f"{feedforward}up_proj"))
        return str(self.op("Add", x, self.product(hidden, f"{feedforward}down_proj")))


class _GPT2(_Transformer):
    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        super().__init__(
            weights,
            vocab_size=config["vocab_size"],
            num_layers=config["n_layer"],
            num_heads=config["n_head"],
            kv_heads=config["n_head"],
            head_width=config["n_embd"] // config["n_head"],
        )
        self.epsilon = config["layer_norm_epsilon"]
        words, places = (self.constant(weights[f"transformer.{n}.weight"]) for n in ("wte", "wpe"))
        places = self.op("Gather", places, "position_ids")
        x = self.op("Add", self.op("Gather", words, "input_ids"), places)
        for layer in range(self.num_layers):
            x = self._block(layer, x)
        x = self.norm(x, "transformer.ln_f")
        self.finish(x, words)

    def norm(self, x: str, name: str) -> str:
        parts = (self.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return str(self.op("LayerNormalization", x, *parts, axis=-1, epsilon=self.epsilon))

    def product(self, x: str, name: str) -> str:
        """GPT-2's products are [inputs, outputs], with a bias."""
        weight, bias = (self.constant(self.weights[f"{name}.{p}"]) for p in ("weight", "bias"))
        return str(self.op("Add", self.op("MatMul", x, weight), bias))

    def _block(self, layer: int, x: str) -> str:
        name = f"transformer.h.{layer}."
        mixed = self.product(self.norm(x, f"{name}ln_1"), f"{name}attn.c_attn")
        parts = self.op("Split", mixed, outputs=3, axis=-1, num_outputs=3)
        mixed = self.attention(layer, *(self.heads(part, self.num_heads) for part in parts))
        x = self.op("Add", x, self.product(mixed, f"{name}attn.c_proj"))
        hidden = self.product(self.norm(x, f"{name}ln_2"), f"{name}mlp.c_fc")
        hidden = self.op("Relu", hidden)
        return str(self.op("Add", x, self.product(hidden, f"{name}mlp.c_proj")))
