"""Generated characters per second, by every way to run the same weights, in one process.

    python benchmarks/generate.py [--json] [--repeat 3] [--width 128]

Ways: decode.c in three precisions, our PyTorch path, transformers with its KV cache and, where
`xllamacpp` and `gguf` are installed, llama.cpp at the same precisions. The prompt has 32 characters
and 256 new ones are written. Every way samples at temperature 0.8 with no other cut, one sequence
and a batch of 16. Weights are random, which changes nothing about speed. The best of `--repeat`
runs counts, after one to warm up.

llama.cpp reads a GGUF file that this script writes for the measurement: its tokens stand for
themselves, so it measures speed and no text. llama.cpp's own converter takes no folder of
semigpt's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from semigpt.generation.engine import Engine
from semigpt.generation.quantize import PRECISIONS
from semigpt.generation.sampling import SamplingSettings
from semigpt.huggingface.folder import save_model
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer

PROMPT_LENGTH, NEW = 32, 256
SHAPES = {
    128: {"width": 128, "num_layers": 4, "num_heads": 4, "context_length": 512},
    384: {"width": 384, "num_layers": 6, "num_heads": 6, "context_length": 512},
}
Way = Callable[[int], int]  # batch size → characters written


def our_way(engine: Engine, prompt: str) -> Way:
    """`Engine.stream`, its text work included."""

    def run(batch_size: int) -> int:
        written = 0
        settings = SamplingSettings(temperature=0.8)
        for chunk in engine.stream(
            [prompt] * batch_size, max_new_tokens=NEW, sampling=settings, seed=0
        ):
            written += len(chunk.text)
        return written

    return run


def transformers_way(folder: Path, prompt: list[int]) -> Way:
    """`AutoModelForCausalLM.generate` on the same folder."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)

    def run(batch_size: int) -> int:
        with torch.inference_mode():
            model.generate(
                torch.tensor([prompt] * batch_size),
                attention_mask=torch.ones(batch_size, len(prompt), dtype=torch.int64),
                do_sample=True,
                temperature=0.8,
                top_k=0,
                min_new_tokens=NEW,
                max_new_tokens=NEW,
            )
        return batch_size * NEW

    return run


def write_gguf(path: Path, model: GPT, tokenizer: CharTokenizer, precision: str) -> None:
    """Write the model as llama.cpp reads a Qwen3: the same weights, and a stand-in vocabulary."""
    import gguf

    kinds = {
        "float32": gguf.GGMLQuantizationType.F32,
        "bfloat16": gguf.GGMLQuantizationType.BF16,
        "int8": gguf.GGMLQuantizationType.Q8_0,
    }
    settings = model.settings
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(settings.context_length)
    writer.add_embedding_length(settings.width)
    writer.add_block_count(settings.num_layers)
    writer.add_feed_forward_length(settings.feedforward_width)
    writer.add_head_count(settings.num_heads)
    writer.add_head_count_kv(settings.kv_heads)
    writer.add_key_length(settings.head_width)
    writer.add_value_length(settings.head_width)
    writer.add_rope_freq_base(settings.rope_theta)
    writer.add_layer_norm_rms_eps(settings.norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    names = [chr(0x4E00 + token) for token in range(settings.vocab_size)]
    writer.add_token_list(names)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(names))
    writer.add_token_merges([f"{names[0]} {names[1]}"])
    writer.add_bos_token_id(tokenizer.end_of_text or 0)
    writer.add_eos_token_id(tokenizer.end_of_text or 0)
    targets = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, settings.num_layers)
    for name, tensor in model.huggingface_state().items():
        array = tensor.float().numpy()
        target = targets.get_name(name, try_suffixes=(".weight",))
        kind = kinds[precision] if array.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(target, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_way(path: Path, prompt: list[int]) -> Way:
    """llama.cpp's server through xllamacpp, in this process; it batches the parallel requests."""
    import threading

    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = 16 * 512
    parameters.n_parallel = 16
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = torch.get_num_threads()
    parameters.warmup = True
    server = xllamacpp.Server(parameters)
    request = {
        "prompt": prompt,
        "n_predict": NEW,
        "temperature": 0.8,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "ignore_eos": True,
        "cache_prompt": False,
        "samplers": ["temperature"],
    }

    def one(counts: list[int]) -> None:
        answer = server.handle_completions(request)
        counts.append(
            answer["usage"]["completion_tokens"]
            if "usage" in answer
            else answer["tokens_predicted"]
        )

    def run(batch_size: int) -> int:
        counts: list[int] = []
        threads = [threading.Thread(target=one, args=(counts,)) for _ in range(batch_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(counts) != batch_size:
            raise RuntimeError("llama.cpp did not answer every request")
        return sum(counts)

    return run


def speed(way: Way, batch_size: int, repeat: int) -> float:
    """Characters per second: the best of `repeat` runs, and of as many more as fit in two seconds.

    More runs, because a machine with other work to do is seldom free for a whole one.
    """
    way(batch_size)
    best, runs, started = 0.0, 0, time.perf_counter()
    while runs < repeat or time.perf_counter() - started < 2:
        begin = time.perf_counter()
        written = way(batch_size)
        best, runs = max(best, written / (time.perf_counter() - begin)), runs + 1
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--width", type=int, choices=SHAPES, help="this shape alone")
    options = parser.parse_args()
    # 3,237 tokens, as many as a part of the film reviews has characters.
    characters = "".join(map(chr, range(0xAC00, 0xAC00 + 2980)))
    tokenizer = CharTokenizer(characters)
    prompt = characters[:PROMPT_LENGTH]
    has_llama = all(importlib.util.find_spec(name) for name in ("xllamacpp", "gguf"))
    rows: list[dict[str, float | str | int]] = []
    for width, shape in SHAPES.items():
        if options.width not in (None, width):
            continue
        torch.manual_seed(0)
        model = GPT(GPTSettings(vocab_size=tokenizer.vocab_size, **shape)).eval()
        with torch.no_grad():
            # The end-of-text token would end sequences early, and bytes would be no text.
            model.lm_head.weight[: 3237 - 2980] *= 0
        ids = tokenizer.encode(prompt).tolist()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_model(folder, model, tokenizer, "")
            # Each is made when its turn comes: llama.cpp's threads outlive the server.
            ways: list[tuple[str, Callable[[], Way]]] = [
                *(
                    (
                        f"semigpt, native, {p}",
                        partial(
                            our_way, Engine(model, tokenizer, precision=p, native=True), prompt
                        ),
                    )
                    for p in PRECISIONS
                ),
                (
                    "semigpt, PyTorch, float32",
                    partial(our_way, Engine(model, tokenizer, native=False), prompt),
                ),
                ("transformers, KV cache, float32", partial(transformers_way, folder, ids)),
            ]
            if has_llama:
                for precision in PRECISIONS:
                    path = folder / f"{precision}.gguf"
                    write_gguf(path, model, tokenizer, precision)
                    ways.append((f"llama.cpp, {precision}", partial(llama_cpp_way, path, ids)))
            for label, make in ways:
                way = make()
                for batch_size in (1, 16):
                    rows.append(
                        {
                            "width": width,
                            "batch_size": batch_size,
                            "way": label,
                            "characters_per_second": speed(way, batch_size, options.repeat),
                        }
                    )
                    if not options.json:
                        print(
                            f"{width:4} {batch_size:3} {label:36} "
                            f"{rows[-1]['characters_per_second']:10,.0f} characters/s",
                            flush=True,
                        )
    if options.json:
        json.dump({"threads": torch.get_num_threads(), "rows": rows}, sys.stdout)
        print()


if __name__ == "__main__":
    main()
