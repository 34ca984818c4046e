"""A process that serves one GGUF file with llama.cpp until its standard input ends.

Alone in a process, because llama.cpp aborts on what it cannot read.
"""

from __future__ import annotations

import os
import sys


def main(path: str, context: str) -> None:
    """Print the address once the model is loaded."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = path
    settings.n_ctx = int(context)
    settings.n_parallel = 1
    settings.warmup = False
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    # What is float32 in the file is computed in float32: neither has llama.cpp by itself.
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(settings)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # its threads would outlive the server


if __name__ == "__main__":
    main(*sys.argv[1:])
