// The largest magnitude of F32 and BF16 elements as they lie in files. Magnitudes are compared as bits: in the same
// order as the numbers, infinity above them, NaN above that.
#pragma STDC FP_CONTRACT OFF

#include "cbk_scheme.h"
#include "../vector.h"

typedef uint16_t u16x32 __attribute__((ext_vector_type(32)));

CBK_INLINE void amax_f32(cbk_tier tier, const uint8_t *elements, size_t count, float *result) {
    (void)tier;
    u32x16 first = 0, second = 0;
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        u32x16 a, b;
        memcpy(&a, elements + 4 * i, sizeof a);
        memcpy(&b, elements + 4 * i + sizeof a, sizeof b);
        first = __builtin_elementwise_max(first, a & 0x7FFFFFFFu);
        second = __builtin_elementwise_max(second, b & 0x7FFFFFFFu);
    }
    uint32_t most = __builtin_reduce_max(__builtin_elementwise_max(first, second));
    for (; i < count; i++) {
        const uint32_t magnitude = load_u32(elements + 4 * i) & 0x7FFFFFFFu;
        most = magnitude > most ? magnitude : most;
    }
    *result = float_of_bits(most);
}

CBK_INLINE void amax_bf16(cbk_tier tier, const uint8_t *elements, size_t count, float *result) {
    (void)tier;
    u16x32 first = 0, second = 0;
    size_t i = 0;
    for (; i + 64 <= count; i += 64) {
        u16x32 a, b;
        memcpy(&a, elements + 2 * i, sizeof a);
        memcpy(&b, elements + 2 * i + sizeof a, sizeof b);
        first = __builtin_elementwise_max(first, a & (uint16_t)0x7FFF);
        second = __builtin_elementwise_max(second, b & (uint16_t)0x7FFF);
    }
    uint32_t most = __builtin_reduce_max(__builtin_elementwise_max(first, second));
    for (; i < count; i++) {
        const uint32_t magnitude = (elements[2 * i] | (uint32_t)elements[2 * i + 1] << 8) & 0x7FFF;
        most = magnitude > most ? magnitude : most;
    }
    *result = float_of_bits(most << 16);
}

CBK_FORMS(amax_of_f32, amax_f32, (const uint8_t *elements, size_t count, float *result), elements, count, result)
CBK_FORMS(amax_of_bf16, amax_bf16, (const uint8_t *elements, size_t count, float *result), elements, count, result)

float cbk_amax_f32(cbk_tier tier, const uint8_t *elements, size_t count) {
    float result;
    CBK_DISPATCH(amax_of_f32, tier, elements, count, &result)
    return result;
}

float cbk_amax_bf16(cbk_tier tier, const uint8_t *elements, size_t count) {
    float result;
    CBK_DISPATCH(amax_of_bf16, tier, elements, count, &result)
    return result;
}
