/* SPDX-License-Identifier: MIT */
/* The AMX gemm kernels, on AVX2, emulated AVX-512 and an emulated tile file, as emul_<kernel>. */
#include "emul_bf16.h"

#include "emul_amx.h"

#define crit_gemm_f32_amx    emul_inner_f32
#define crit_gemm_f16_amx    emul_inner_f16
#define crit_gemm_bf16_amx   emul_inner_bf16
#define crit_gemm_q4_0_amx   emul_inner_q4_0
#define crit_gemm_q4_1_amx   emul_inner_q4_1
#define crit_gemm_q5_0_amx   emul_inner_q5_0
#define crit_gemm_q5_1_amx   emul_inner_q5_1
#define crit_gemm_q8_0_amx   emul_inner_q8_0
#define crit_gemm_q2_k_amx   emul_inner_q2_k
#define crit_gemm_q3_k_amx   emul_inner_q3_k
#define crit_gemm_q4_k_amx   emul_inner_q4_k
#define crit_gemm_q5_k_amx   emul_inner_q5_k
#define crit_gemm_q6_k_amx   emul_inner_q6_k
#define crit_gemm_iq4_nl_amx emul_inner_iq4_nl
#define crit_gemm_iq4_xs_amx emul_inner_iq4_xs
#include "kernels/x86/gemm_amx.c"
#undef crit_gemm_f32_amx
#undef crit_gemm_f16_amx
#undef crit_gemm_bf16_amx
#undef crit_gemm_q4_0_amx
#undef crit_gemm_q4_1_amx
#undef crit_gemm_q5_0_amx
#undef crit_gemm_q5_1_amx
#undef crit_gemm_q8_0_amx
#undef crit_gemm_q2_k_amx
#undef crit_gemm_q3_k_amx
#undef crit_gemm_q4_k_amx
#undef crit_gemm_q5_k_amx
#undef crit_gemm_q6_k_amx
#undef crit_gemm_iq4_nl_amx
#undef crit_gemm_iq4_xs_amx

/* The kernels leave the caller's thread without tile state. */
#define OUTER(t)                                                                                                       \
    extern __typeof__(*(crit_gemm_fn)0) emul_crit_gemm_##t##_amx;                                                      \
    void emul_crit_gemm_##t##_amx(const crit_gemm_args *a, size_t n0, size_t n1, void *scratch) {                      \
        emul_inner_##t(a, n0, n1, scratch);                                                                            \
        emul_tile_need(!emul_tf.ready);                                                                                \
    }
OUTER(f32)
OUTER(f16)
OUTER(bf16)
OUTER(q4_0)
OUTER(q4_1)
OUTER(q5_0)
OUTER(q5_1)
OUTER(q8_0)
OUTER(q2_k)
OUTER(q3_k)
OUTER(q4_k)
OUTER(q5_k)
OUTER(q6_k)
OUTER(iq4_nl)
OUTER(iq4_xs)
