#!/usr/bin/env bash
# Run the tests of the C kernels on an emulated ARM64 CPU. On Debian, from the repository root:
#
#     apt-get install python3-pip qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
#     bash benchmarks/arm64.sh CACHE_FOLDER [ARGUMENT_OF_PYTEST ...]
#
# Python and the tests are emulated, the compiler is not: a process's execve of a program of the
# host runs it as it is. About 850 MB go into the cache folder, and nothing outside it is changed.
# CC may name another cross compiler: "clang --target=aarch64-linux-gnu -march=armv8.2-a".
set -euo pipefail
cache=$(realpath -m "${1:?usage: $0 CACHE_FOLDER [ARGUMENT_OF_PYTEST ...]}")
shift
mkdir -p "$cache"

# Python and its libraries from the host's Debian, by an apt that knows no installed package.
if [ ! -d "$cache/root" ]; then
    apt=$cache/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial"
    touch "$apt/status"
    own=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=
        -o Dir::Cache="$apt" -o Dir::State="$apt" -o Dir::State::status="$apt/status")
    apt-get "${own[@]}" update
    apt-get "${own[@]}" --yes --download-only --no-install-recommends install \
        python3.11 libstdc++6 libgomp1
    rm -rf "$cache/root.new"
    for package in "$apt"/archives/*.deb; do dpkg-deb --extract "$package" "$cache/root.new"; done
    mv "$cache/root.new" "$cache/root"
fi

# Wheels for ARM64: torch 2.9.1, which is for a CPU alone (from 2.11 on they bring CUDA), and what
# the tests import. pip would choose dependencies for the host, so they are named.
if [ ! -d "$cache/site" ]; then
    rm -rf "$cache/site.new"
    PIP_CONSTRAINT='' python3 -m pip install --quiet --no-deps --only-binary=:all: \
        --target "$cache/site.new" --implementation cp --python-version 3.11 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 \
        torch==2.9.1 filelock fsspec jinja2 markupsafe mpmath networkx sympy typing-extensions \
        numpy==2.4.6 tokenizers==0.23.3 safetensors==0.8.0 rich==15.0.0 tomlkit==0.15.2 \
        zstandard==0.25.0 pytest==9.2.0 iniconfig packaging pluggy pygments \
        hypothesis==6.170.17 sortedcontainers
    mv "$cache/site.new" "$cache/site"
fi

export CC=${CC:-aarch64-linux-gnu-gcc -march=armv8.2-a}
export OMP_NUM_THREADS=2 PYTHONPATH=$PWD/src:$cache/site PYTHONDONTWRITEBYTECODE=1
# An emulated process starts no other of its kind and knows no limit of its memory.
[ $# -gt 0 ] || set -- tests/test_{blocks_step,gpt_step,native,counts,tokenizers}.py \
    --deselect tests/test_tokenizers.py::test_importing_the_tokenizers_imports_no_heavy_library \
    --deselect tests/test_tokenizers.py::test_the_encoder_in_c_without_memory_raises_memory_error \
    --deselect tests/test_counts.py::test_c_without_memory_raises_memory_error
exec qemu-aarch64 -L "$cache/root" "$cache/root/usr/bin/python3.11" \
    -m pytest -p no:cacheprovider "$@"
