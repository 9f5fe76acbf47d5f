#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Writes the vectors test_dequant.c reads, one file a type beside this script: a u32 with the number of values, the
# encoded blocks, then the values as f32, decoded by the Python package `gguf` (pip install gguf numpy).
# Blocks are random bytes with sane scales; the first block of a type has a subnormal scale, the second a negative one.
import os

import numpy as np
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES, quants

# byte offsets of the f16 fields
F16_AT = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0], "IQ4_XS": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20240912)

for name in ["F32", "F16", "BF16", *F16_AT]:
    qtype = GGMLQuantizationType[name]
    elems, size = GGML_QUANT_SIZES[qtype]
    if name == "F32":
        values = rng.standard_normal(64).astype("<f4")
        values[:4] = [0.0, -0.0, 1e-42, -3.4e38]
        raw = values.tobytes()
    elif name == "F16":
        raw = np.arange(0, 0x7C00, 97, dtype="<u2").tobytes() + np.arange(0x8000, 0xFC00, 89, dtype="<u2").tobytes()
        values = np.frombuffer(raw, "<f2").astype("<f4")
    elif name == "BF16":
        words = np.concatenate([np.arange(0, 0x7F80, 131, dtype="<u2"), np.arange(0x8000, 0xFF80, 127, dtype="<u2")])
        raw = words.tobytes()
        values = (words.astype("<u4") << 16).view("<f4")
    else:
        n_block = 4 if elems == 256 else 8
        blocks = rng.integers(0, 256, (n_block, size), dtype=np.uint8)
        for at in F16_AT[name]:
            scale = (rng.uniform(0.002, 0.05, n_block)).astype("<f2")
            scale[0] = np.float16(5e-7)
            scale[1] = -scale[1]
            blocks[:, at : at + 2] = scale.view(np.uint8).reshape(n_block, 2)
        raw = blocks.tobytes()
        values = quants.dequantize(blocks.reshape(1, -1), qtype).astype("<f4").reshape(-1)
        assert values.size == n_block * elems
    with open(os.path.join(here, name.lower() + ".bin"), "wb") as f:
        f.write(np.uint32(values.size).tobytes() + raw + values.tobytes())
