// The IQ encoders' entry points: each picks its tier's form.
#pragma STDC FP_CONTRACT OFF

#include "iq_common.h"

static const iq_encoders *encoders(cbk_tier tier) {
    (void)tier;  // where there is one form only
#if defined(__x86_64__)
    if (tier == CBK_AVX512) return &iq_encoders_avx512;
    if (tier == CBK_AVX2) return &iq_encoders_avx2;
#endif
    return &iq_encoders_portable;
}

#define ENCODE(name)                                                                                            \
    void cbk_##name##_encode(cbk_tier tier, const float *values, const float *importance, size_t rows,          \
                             size_t columns, uint8_t *blocks) {                                                 \
        const iq_job job = {values, importance, rows * columns, columns, blocks};                               \
        encoders(tier)->name(&job);                                                                             \
    }

ENCODE(iq4_nl)
ENCODE(iq4_xs)
ENCODE(iq3_xxs)
ENCODE(iq3_s)
ENCODE(iq2_xxs)
ENCODE(iq2_xs)
ENCODE(iq2_s)
ENCODE(iq1_s)
