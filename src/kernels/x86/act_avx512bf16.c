/* SPDX-License-Identifier: MIT */
/* Packing of activations to bf16, AVX-512 bf16: the same bits as kernels/c/act.c for every input. */
#include <immintrin.h>
#include <string.h>

#include "kernels/act.h"
#include "kernels/protos.h"

#ifndef BF16_BITS /* tests/emul has structs for vectors */
#define BF16_BITS(v) ((__m512i)(v))
#endif

void crit_act_pack_bf16_avx512bf16(const float *x, size_t n_in, void *dst) {
    const char *src = (const char *)x;
    char *to = dst;
    size_t k = 0;
    for (; k + 32 <= n_in; k += 32, src += 128, to += CRIT_ACT_TILE * CRIT_ACT_STEP_BYTES)
        _mm512_storeu_si512(to, BF16_BITS(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(src + 64), _mm512_loadu_ps(src))));
    if (k < n_in) {
        float t[32] = {0};
        memcpy((void *)t, src, (n_in - k) * sizeof *t);
        _mm512_storeu_si512(to, BF16_BITS(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(t + 16), _mm512_loadu_ps(t))));
    }
}
