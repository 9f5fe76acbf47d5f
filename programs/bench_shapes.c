/* SPDX-License-Identifier: MIT */
/* Shapes of models people run, as their published configurations have them. */
#include "bench.h"

/* clang-format off */
/*                       layers  embd    ff heads kv   d   vocab  type */
const named_shape named_shapes[] = {
    {"smollm2-135m",    {30,   576,  1536,  9,  3,  64,  49152, "Q5_0"}},
    {"qwen2.5-0.5b",    {24,   896,  4864, 14,  2,  64, 151936, "Q5_0"}},
    {"llama3.2-1b",     {16,  2048,  8192, 32,  8,  64, 128256, "Q4_K"}},
    {"qwen2.5-1.5b",    {28,  1536,  8960, 12,  2, 128, 151936, "Q4_K"}},
    {"qwen2.5-7b",      {28,  3584, 18944, 28,  4, 128, 152064, "Q4_K"}},
    {"llama3-8b",       {32,  4096, 14336, 32,  8, 128, 128256, "Q4_K"}},
    {"qwen3-8b",        {36,  4096, 12288, 32,  8, 128, 151936, "Q4_K"}},
    {"llama2-7b",       {32,  4096, 11008, 32, 32, 128,  32000, "Q4_K"}},
    {"yi-9b",           {48,  4096, 11008, 32,  4, 128,  64000, "Q4_K"}},
    {.name = NULL}};
/* clang-format on */
