// The public K kernels: each picks the form of its tier.
#include "k_forms.h"

static const k_forms *forms(cbk_tier tier) {
#if defined(__x86_64__)
    if (tier == CBK_AVX512) return &k_forms_avx512;
    if (tier == CBK_AVX2) return &k_forms_avx2;
#else
    (void)tier;
#endif
    return &k_forms_portable;
}

#define K_FORMAT(name)                                                                                       \
    void cbk_##name##_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {          \
        forms(tier)->name##_decode(blocks, values, count);                                                   \
    }                                                                                                        \
    void cbk_##name##_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows,     \
                               size_t columns, uint8_t *blocks) {                                            \
        forms(tier)->name##_encode(values, importance, rows, columns, blocks);                               \
    }

K_FORMAT(q2)
K_FORMAT(q3)
K_FORMAT(q4)
K_FORMAT(q5)
K_FORMAT(q6)
K_FORMAT(q8)
