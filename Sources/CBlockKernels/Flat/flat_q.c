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

/// The levels of a block of Q4_0 or Q5_0. `keep`: all ones, or 0 where they are to be 0.
CBK_INLINE void put_symmetric(const float *x, float inverse, uint32_t keep, uint8_t *to, int bits) {
    const float centre = bits == 4 ? 8.5f : 16.5f;
    const uint32_t top = (1u << bits) - 1;
    const u32x16 q0 = truncate_levels(load_f32(x) * inverse + centre, top) & keep;
    const u32x16 q1 = truncate_levels(load_f32(x + 16) * inverse + centre, top) & keep;
    store_levels(to, q0, q1, bits);
}

CBK_INLINE void encode_symmetric(cbk_tier tier, const float *x, uint8_t *block, int bits) {
    const float d = largest_signed(load_f32(x), load_f32(x + 16)) * (bits == 4 ? -0.125f : -0.0625f);
    bool usable;
    const float id = inverse(d, &usable);
    store_half(tier, block, d);
    put_symmetric(x, id, usable ? ~0u : 0, block + 2, bits);
}

/// The levels of a block of Q8_0.
CBK_INLINE void put_bytes(const float *x, float inverse, uint8_t *to) {
    store_u8(to, narrow_u8((u32x16)round_away(load_f32(x) * inverse)));
    store_u8(to + 16, narrow_u8((u32x16)round_away(load_f32(x + 16) * inverse)));
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
    put_bytes(x, id, block + 2);
}

// MARK: Sixteen blocks at a time
//
// A block's own largest value takes as long to find and to divide by as its elements take to round. Sixteen blocks find
// theirs together, one per lane.

/// 1/d per lane as `inverse` gives it; the lanes of `usable` are all ones or all zeros.
CBK_INLINE f32x16 inverses(f32x16 d, i32x16 *usable) {
    const f32x16 inverse = d != 0 ? 1.0f / d : 0.0f;
    *usable = (magnitude_bits(inverse) < 0x7F800000u) & (magnitude_bits(d) < 0x7F800000u);
    return *usable ? inverse : (f32x16)0.0f;
}

/// For sixteen vectors of numbers, the largest of each: that of v[i] in lane i.
CBK_INLINE u32x16 largest_of_each(const u32x16 *v, bool is_signed) {
#define LARGER(a, b)                                                                               \
    (is_signed ? (u32x16)__builtin_elementwise_max((i32x16)(a), (i32x16)(b)) : __builtin_elementwise_max(a, b))
#define HALVES(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    u32x16 pairs[8], fours[4], eights[2];
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++) {
        const u32x16 a = v[2 * i], b = v[2 * i + 1];
        pairs[i] = LARGER(HALVES(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29),
                          HALVES(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31));
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 4; i++) {
        const u32x16 a = pairs[2 * i], b = pairs[2 * i + 1];
        fours[i] = LARGER(HALVES(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
                          HALVES(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31));
    }
    // Each quarter of fours[i] holds vectors 4 i to 4 i + 3.
#pragma clang loop unroll(full)
    for (int i = 0; i < 2; i++) {
        const u32x16 a = fours[2 * i], b = fours[2 * i + 1];
        eights[i] = LARGER(HALVES(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
                           HALVES(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
    }
    return LARGER(HALVES(eights[0], eights[1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
                  HALVES(eights[0], eights[1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
#undef LARGER
#undef HALVES
}

/// The scales of sixteen blocks, on their way from lanes to blocks.
typedef struct block_scales {
    uint16_t halves[16];
    float inverses[16];
    uint32_t keep[16];  // all ones, or 0 where the levels are to be 0
} block_scales;

CBK_INLINE block_scales scales_of_blocks(cbk_tier tier, f32x16 d) {
    block_scales scales;
    i32x16 usable;
    store_f32(scales.inverses, inverses(d, &usable));
    memcpy(scales.keep, &usable, sizeof scales.keep);
    if (tier == CBK_AVX2 || tier == CBK_AVX512) {
        const f16x16 halves = __builtin_convertvector(d, f16x16);
        memcpy(scales.halves, &halves, sizeof scales.halves);
    } else {
        for (int b = 0; b < 16; b++) scales.halves[b] = half_of_float(tier, d[b]);
    }
    return scales;
}

CBK_INLINE void put_half(uint8_t *to, uint16_t half) {
    to[0] = (uint8_t)half;
    to[1] = (uint8_t)(half >> 8);
}

CBK_INLINE void encode_q8_0_blocks(cbk_tier tier, const float *x, uint8_t *blocks) {
    u32x16 magnitudes[16];
#pragma clang loop unroll(full)
    for (int b = 0; b < 16; b++) {
        magnitudes[b] = __builtin_elementwise_max(magnitude_bits(load_f32(x + 32 * b)),
                                                  magnitude_bits(load_f32(x + 32 * b + 16)));
    }
    const block_scales scales = scales_of_blocks(tier, (f32x16)largest_of_each(magnitudes, false) / 127.0f);
    for (int b = 0; b < 16; b++) {
        put_half(blocks + 34 * b, scales.halves[b]);
        put_bytes(x + 32 * b, scales.inverses[b], blocks + 34 * b + 2);
    }
}

CBK_INLINE void encode_symmetric_blocks(cbk_tier tier, const float *x, uint8_t *blocks, int bits) {
    // As signed integers, the largest is the largest positive number; as unsigned ones, the most negative number.
    u32x16 upper[16], lower[16];
#pragma clang loop unroll(full)
    for (int b = 0; b < 16; b++) {
        const u32x16 low = (u32x16)load_f32(x + 32 * b), high = (u32x16)load_f32(x + 32 * b + 16);
        upper[b] = (u32x16)__builtin_elementwise_max((i32x16)low, (i32x16)high);
        lower[b] = __builtin_elementwise_max(low, high);
    }
    const u32x16 most = largest_of_each(upper, true), least = largest_of_each(lower, false);
    // Where all have one sign, both are of that sign, and the larger magnitude is that of `most` or of `least`.
    const u32x16 above = (i32x16)most < 0 ? (u32x16)0 : most;
    const u32x16 below = (i32x16)least < 0 ? least & 0x7FFFFFFFu : (u32x16)0;
    f32x16 extreme = (f32x16)(above > below ? above : least);
    for (uint32_t ties = lane_mask(above == below); ties != 0; ties &= ties - 1) {
        const int b = __builtin_ctz(ties);
        extreme[b] = largest_signed(load_f32(x + 32 * b), load_f32(x + 32 * b + 16));
    }
    const int size = bits == 4 ? 18 : 22;
    const block_scales scales = scales_of_blocks(tier, extreme * (bits == 4 ? -0.125f : -0.0625f));
    for (int b = 0; b < 16; b++) {
        put_half(blocks + size * b, scales.halves[b]);
        put_symmetric(x + 32 * b, scales.inverses[b], scales.keep[b], blocks + size * b + 2, bits);
    }
}

CBK_INLINE void encode_q4_0_blocks(cbk_tier tier, const float *x, uint8_t *blocks) {
    encode_symmetric_blocks(tier, x, blocks, 4);
}

CBK_INLINE void encode_q5_0_blocks(cbk_tier tier, const float *x, uint8_t *blocks) {
    encode_symmetric_blocks(tier, x, blocks, 5);
}

/// An encoder body out of functions of sixteen blocks and of one.
#define ENCODE_BODY(body, sixteen, one, bytes)                                                              \
    CBK_INLINE void body(cbk_tier tier, const float *values, const float *importance, size_t rows,          \
                         size_t columns, uint8_t *blocks) {                                                 \
        (void)importance;                                                                                   \
        const size_t count = rows * columns / 32;                                                           \
        size_t i = 0;                                                                                       \
        for (; i + 16 <= count; i += 16) sixteen(tier, values + i * 32, blocks + i * (bytes));              \
        for (; i < count; i++) one(tier, values + i * 32, blocks + i * (bytes));                            \
    }

ENCODE_BODY(encode_plain_q4_0, encode_q4_0_blocks, encode_q4_0_block, 18)
CBK_ENCODE_BODY(encode_plain_q4_1, encode_q4_1_block, 32, 20)
ENCODE_BODY(encode_plain_q5_0, encode_q5_0_blocks, encode_q5_0_block, 22)
CBK_ENCODE_BODY(encode_plain_q5_1, encode_q5_1_block, 32, 24)
ENCODE_BODY(encode_q8_0, encode_q8_0_blocks, encode_q8_0_block, 34)
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
