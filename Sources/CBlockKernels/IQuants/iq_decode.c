// The IQ decoders. The code is in iq_decode_blocks.h, compiled here for each tier.
#pragma STDC FP_CONTRACT OFF

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "iq_common.h"
#include "iq_grid.h"

#define IQ_NAME(name) name##_portable
#define IQ_SHUFFLE 0
#include "iq_decode_blocks.h"
#undef IQ_NAME
#undef IQ_SHUFFLE

#if defined(__x86_64__)
#define IQ_SHUFFLE 1
#pragma clang attribute push(__attribute__((target("avx2,f16c,bmi,bmi2,popcnt"))), apply_to = function)
#define IQ_NAME(name) name##_avx2
#include "iq_decode_blocks.h"
#undef IQ_NAME
#pragma clang attribute pop

#pragma clang attribute push(                                                                           \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,f16c,bmi,bmi2,popcnt"))), \
    apply_to = function)
#define IQ_NAME(name) name##_avx512
#include "iq_decode_blocks.h"
#undef IQ_NAME
#pragma clang attribute pop

#define DECODE(name)                                                                               \
    void cbk_##name##_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {  \
        (tier == CBK_AVX512 ? name##_avx512 : tier == CBK_AVX2 ? name##_avx2 : name##_portable)(   \
            blocks, values, count);                                                                \
    }
#else
#define DECODE(name)                                                                               \
    void cbk_##name##_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {  \
        (void)tier;                                                                                \
        name##_portable(blocks, values, count);                                                    \
    }
#endif

DECODE(iq1_s)
DECODE(iq1_m)
DECODE(iq2_xxs)
DECODE(iq2_xs)
DECODE(iq2_s)
DECODE(iq3_xxs)
DECODE(iq3_s)
DECODE(iq4_nl)
DECODE(iq4_xs)
