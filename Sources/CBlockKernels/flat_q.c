// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q8_1: blocks of 32 with an F16 scale. The definition is Flat/RoundedBlocks.swift.
#pragma STDC FP_CONTRACT OFF

#include "cbk_flat.h"
#include "flat_q.h"

// MARK: Decoding

CBK_INLINE void decode_nibbles(const uint8_t *from, u32x16 *low, u32x16 *high) {
    const u32x16 bytes = widen_u8(load_u8(from));
    *low = bytes & 15;
    *high = bytes >> 4;
}

CBK_INLINE void add_fifth_bits(uint32_t bits, u32x16 *low, u32x16 *high) {
    *low |= (u32x16)lanes_of_mask(bits & 0xFFFF) & 16;
    *high |= (u32x16)lanes_of_mask(bits >> 16) & 16;
}

CBK_INLINE void decode_q4_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    u32x16 low, high;
    decode_nibbles(block + 2, &low, &high);
    const float d = load_half(tier, block);
    store_f32(values, float_of_u32(low - 8) * d);
    store_f32(values + 16, float_of_u32(high - 8) * d);
}

CBK_INLINE void decode_q4_1_block(cbk_tier tier, const uint8_t *block, float *values) {
    u32x16 low, high;
    decode_nibbles(block + 4, &low, &high);
    const float d = load_half(tier, block), m = load_half(tier, block + 2);
    store_f32(values, float_of_u32(low) * d + m);
    store_f32(values + 16, float_of_u32(high) * d + m);
}

CBK_INLINE void decode_q5_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    u32x16 low, high;
    decode_nibbles(block + 6, &low, &high);
    add_fifth_bits(load_u32(block + 2), &low, &high);
    const float d = load_half(tier, block);
    store_f32(values, float_of_u32(low - 16) * d);
    store_f32(values + 16, float_of_u32(high - 16) * d);
}

CBK_INLINE void decode_q5_1_block(cbk_tier tier, const uint8_t *block, float *values) {
    u32x16 low, high;
    decode_nibbles(block + 8, &low, &high);
    add_fifth_bits(load_u32(block + 4), &low, &high);
    const float d = load_half(tier, block), m = load_half(tier, block + 2);
    store_f32(values, float_of_u32(low) * d + m);
    store_f32(values + 16, float_of_u32(high) * d + m);
}

CBK_INLINE void decode_bytes(const uint8_t *from, float d, float *values) {
    for (int half = 0; half < 2; half++) {
        const i8x16 q = (i8x16)load_u8(from + 16 * half);
        store_f32(values + 16 * half, __builtin_convertvector(__builtin_convertvector(q, i32x16), f32x16) * d);
    }
}

CBK_INLINE void decode_q8_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    decode_bytes(block + 2, load_half(tier, block), values);
}

CBK_INLINE void decode_q8_1_block(cbk_tier tier, const uint8_t *block, float *values) {
    decode_bytes(block + 4, load_half(tier, block), values);
}

CBK_DECODE_BODY(decode_q4_0, decode_q4_0_block, 32, 18)
CBK_DECODE_BODY(decode_q4_1, decode_q4_1_block, 32, 20)
CBK_DECODE_BODY(decode_q5_0, decode_q5_0_block, 32, 22)
CBK_DECODE_BODY(decode_q5_1, decode_q5_1_block, 32, 24)
CBK_DECODE_BODY(decode_q8_0, decode_q8_0_block, 32, 34)
CBK_DECODE_BODY(decode_q8_1, decode_q8_1_block, 32, 36)
CBK_DECODER(cbk_decode_q4_0, decode_q4_0)
CBK_DECODER(cbk_decode_q4_1, decode_q4_1)
CBK_DECODER(cbk_decode_q5_0, decode_q5_0)
CBK_DECODER(cbk_decode_q5_1, decode_q5_1)
CBK_DECODER(cbk_decode_q8_0, decode_q8_0)
CBK_DECODER(cbk_decode_q8_1, decode_q8_1)

// MARK: Encoding

/// The value of largest magnitude, the first one where two have the same; +0 if all are zero.
CBK_INLINE float largest_signed(f32x16 low, f32x16 high) {
    const u32x16 a = magnitude_bits(low), b = magnitude_bits(high);
    const uint32_t largest = __builtin_reduce_max(__builtin_elementwise_max(a, b));
    if (largest == 0) return 0;
    const uint32_t holders = lane_mask(a == largest) | lane_mask(b == largest) << 16;
    const uint32_t negative = lane_mask((i32x16)low < 0) | lane_mask((i32x16)high < 0) << 16;
    const uint32_t sign = negative >> __builtin_ctz(holders) & 1;
    return float_of_bits(largest | sign << 31);
}

/// Maps floats to integers of the same order (-0 just below +0), and back.
CBK_INLINE i32x16 ordered(f32x16 v) {
    const i32x16 bits = (i32x16)v;
    return bits ^ (bits >> 31 & 0x7FFFFFFF);
}

CBK_INLINE float float_of_ordered(int32_t key) {
    return float_of_bits((uint32_t)(key ^ (key >> 31 & 0x7FFFFFFF)));
}

/// The smallest and the largest value. Of zeros of both signs the first one counts as smallest, because that is the
/// one that a scalar search by `<` finds, and its sign is stored.
CBK_INLINE void range(f32x16 low, f32x16 high, float *minimum, float *maximum) {
    const i32x16 a = ordered(low), b = ordered(high);
    *maximum = float_of_ordered(__builtin_reduce_max(__builtin_elementwise_max(a, b)));
    float min = float_of_ordered(__builtin_reduce_min(__builtin_elementwise_min(a, b)));
    if (min == 0) {
        const uint32_t zeros = lane_mask(low == 0) | lane_mask(high == 0) << 16;
        const uint32_t negative = lane_mask((i32x16)low < 0) | lane_mask((i32x16)high < 0) << 16;
        min = negative >> __builtin_ctz(zeros) & 1 ? -0.0f : 0.0f;
    }
    *minimum = min;
}

/// 1/d, or 0 for 0. Where it overflows (d is subnormal) the levels of the block are all 0: the reference converts
/// infinities and NaN to an integer there, which gives 0 in the low byte. `*usable` tells.
CBK_INLINE float inverse(float d, bool *usable) {
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    *usable = __builtin_isfinite(inverse) && __builtin_isfinite(d);
    return *usable ? inverse : 0.0f;
}

CBK_INLINE u32x16 truncate_levels(f32x16 v, uint32_t top) {
    return __builtin_elementwise_min((u32x16)__builtin_convertvector(v, i32x16), (u32x16)top);
}

CBK_INLINE void encode_symmetric(cbk_tier tier, const float *x, uint8_t *block, int bits) {
    const f32x16 low = load_f32(x), high = load_f32(x + 16);
    const float d = largest_signed(low, high) * (bits == 4 ? -0.125f : -0.0625f);
    bool usable;
    const float id = inverse(d, &usable);
    const float centre = bits == 4 ? 8.5f : 16.5f;
    const uint32_t top = (1u << bits) - 1;
    const uint32_t keep = usable ? ~0u : 0;
    const u32x16 q0 = truncate_levels(low * id + centre, top) & keep;
    const u32x16 q1 = truncate_levels(high * id + centre, top) & keep;
    store_half(tier, block, d);
    store_levels(block + 2, q0, q1, bits);
}

CBK_INLINE void encode_affine(cbk_tier tier, const float *x, uint8_t *block, int bits) {
    const f32x16 low = load_f32(x), high = load_f32(x + 16);
    float min, max;
    range(low, high, &min, &max);
    const uint32_t top = (1u << bits) - 1;
    const float d = (max - min) / (float)top;
    bool usable;
    const float id = inverse(d, &usable);
    store_half(tier, block, d);
    store_half(tier, block + 2, min);
    if (!usable) {
        store_levels(block + 4, (u32x16)0, (u32x16)0, bits);
        return;
    }
    const u32x16 q0 = truncate_levels((low - min) * id + 0.5f, top);
    const u32x16 q1 = truncate_levels((high - min) * id + 0.5f, top);
    store_levels(block + 4, q0, q1, bits);
}

CBK_INLINE void encode_q4_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    encode_symmetric(tier, x, block, 4);
}

CBK_INLINE void encode_q5_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    encode_symmetric(tier, x, block, 5);
}

CBK_INLINE void encode_q4_1_block(cbk_tier tier, const float *x, uint8_t *block) {
    encode_affine(tier, x, block, 4);
}

CBK_INLINE void encode_q5_1_block(cbk_tier tier, const float *x, uint8_t *block) {
    encode_affine(tier, x, block, 5);
}

CBK_INLINE void encode_q8_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    const f32x16 low = load_f32(x), high = load_f32(x + 16);
    const uint32_t largest =
        __builtin_reduce_max(__builtin_elementwise_max(magnitude_bits(low), magnitude_bits(high)));
    const float d = float_of_bits(largest) / 127.0f;
    bool usable;
    const float id = inverse(d, &usable);
    store_half(tier, block, d);
    store_u8(block + 2, narrow_u8((u32x16)round_away(low * id)));
    store_u8(block + 18, narrow_u8((u32x16)round_away(high * id)));
}

CBK_ENCODE_BODY(encode_plain_q4_0, encode_q4_0_block, 32, 18)
CBK_ENCODE_BODY(encode_plain_q4_1, encode_q4_1_block, 32, 20)
CBK_ENCODE_BODY(encode_plain_q5_0, encode_q5_0_block, 32, 22)
CBK_ENCODE_BODY(encode_plain_q5_1, encode_q5_1_block, 32, 24)
CBK_ENCODE_BODY(encode_q8_0, encode_q8_0_block, 32, 34)
CBK_ENCODER(cbk_plain_q4_0, encode_plain_q4_0)
CBK_ENCODER(cbk_plain_q4_1, encode_plain_q4_1)
CBK_ENCODER(cbk_plain_q5_0, encode_plain_q5_0)
CBK_ENCODER(cbk_plain_q5_1, encode_plain_q5_1)
CBK_ENCODER(cbk_encode_q8_0, encode_q8_0)

// With an importance matrix the reference searches for the scale instead (flat_q_weighted.c).
#define CBK_WITH_IMPORTANCE(type)                                                                            \
    void cbk_encode_##type(cbk_tier tier, const float *values, const float *importance, size_t rows,         \
                           size_t columns, uint8_t *blocks) {                                                \
        if (importance) {                                                                                    \
            cbk_weighted_##type(tier, values, importance, rows, columns, blocks);                            \
        } else {                                                                                             \
            cbk_plain_##type(tier, values, importance, rows, columns, blocks);                               \
        }                                                                                                    \
    }
CBK_WITH_IMPORTANCE(q4_0)
CBK_WITH_IMPORTANCE(q4_1)
CBK_WITH_IMPORTANCE(q5_0)
CBK_WITH_IMPORTANCE(q5_1)
