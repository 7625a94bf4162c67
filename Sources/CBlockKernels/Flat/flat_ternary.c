// TQ1_0 and TQ2_0 (ternary, blocks of 256), Q1_0 (signs, blocks of 128) and Q2_0 (blocks of 64).
// The definition is Flat/TernaryBlocks.swift.
#pragma STDC FP_CONTRACT OFF

#include "cbk_flat.h"
#include "../vector.h"

CBK_INLINE float largest_magnitude(const float *x, int count) {
    u32x16 largest = 0;
    for (int i = 0; i < count; i += 16) {
        largest = __builtin_elementwise_max(largest, magnitude_bits(load_f32(x + i)));
    }
    return float_of_bits(__builtin_reduce_max(largest));
}

/// round(x / d) + 1 in 0 ... 2. Where 1/d overflows, all are 1, as the reference's conversions have it.
CBK_INLINE u32x16 trits(const float *x, float id) {
    if (!__builtin_isfinite(id)) return 1;
    return (u32x16)round_away(load_f32(x) * id) + 1;
}

// MARK: TQ1_0

/// Five trits, most significant first, as the byte whose products with 3, 9, ... show them in the top bits:
/// ceil(q * 256 / 243).
CBK_INLINE u32x16 ternary_byte(u32x16 q) {
    // n / 243 for n < 2^16 as a product: 34522 = ceil(2^23 / 243).
    return ((q * 256 + 242) * 34522) >> 23;
}

CBK_INLINE void encode_tq1_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    const float d = largest_magnitude(x, 256);
    const float id = d != 0 ? 1.0f / d : 0.0f;
    // 32 + 16 bytes of five elements each, 32 or 16 apart.
    for (int part = 0; part < 3; part++) {
        const float *from = part < 2 ? x + 16 * part : x + 160;
        const int stride = part < 2 ? 32 : 16;
        u32x16 q = 0;
        for (int n = 0; n < 5; n++) q = q * 3 + trits(from + n * stride, id);
        store_u8(block + 16 * part, narrow_u8(ternary_byte(q)));
    }
    // Four bytes of four elements each, four apart, with an empty last trit.
    uint32_t last[16];
    const u32x16 t = trits(x + 240, id);
    memcpy(last, &t, sizeof last);
    for (int j = 0; j < 4; j++) {
        const uint32_t q = ((last[j] * 3 + last[j + 4]) * 3 + last[j + 8]) * 3 + last[j + 12];
        block[48 + j] = (uint8_t)((q * 3 * 256 + 242) / 243);
    }
    store_half(tier, block + 52, d);
}

CBK_INLINE void decode_tq1_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    const float d = load_half(tier, block + 52);
    for (int part = 0; part < 3; part++) {
        float *to = part < 2 ? values + 16 * part : values + 160;
        const int stride = part < 2 ? 32 : 16;
        u32x16 q = widen_u8(load_u8(block + 16 * part));
        for (int n = 0; n < 5; n++) {
            store_f32(to + n * stride, float_of_u32((q * 3 >> 8) - 1) * d);
            q = q * 3 & 255;
        }
    }
    for (int j = 0; j < 4; j++) {
        uint32_t q = block[48 + j];
        for (int n = 0; n < 4; n++) {
            values[240 + 4 * n + j] = (float)((int)(q * 3 >> 8) - 1) * d;
            q = q * 3 & 255;
        }
    }
}

// MARK: TQ2_0

CBK_INLINE void encode_tq2_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    const float d = largest_magnitude(x, 256);
    const float id = d != 0 ? 1.0f / d : 0.0f;
    for (int part = 0; part < 4; part++) {
        const float *from = x + 128 * (part / 2) + 16 * (part % 2);
        u32x16 q = 0;
        for (int n = 0; n < 4; n++) q |= (trits(from + 32 * n, id) & 3) << (2 * n);
        store_u8(block + 16 * part, narrow_u8(q));
    }
    store_half(tier, block + 64, d);
}

CBK_INLINE void decode_tq2_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    const float d = load_half(tier, block + 64);
    for (int part = 0; part < 4; part++) {
        float *to = values + 128 * (part / 2) + 16 * (part % 2);
        const u32x16 q = widen_u8(load_u8(block + 16 * part));
        for (int n = 0; n < 4; n++) store_f32(to + 32 * n, float_of_u32((q >> (2 * n) & 3) - 1) * d);
    }
}

CBK_ENCODE_BODY(encode_tq1_0, encode_tq1_0_block, 256, 54)
CBK_DECODE_BODY(decode_tq1_0, decode_tq1_0_block, 256, 54)
CBK_ENCODE_BODY(encode_tq2_0, encode_tq2_0_block, 256, 66)
CBK_DECODE_BODY(decode_tq2_0, decode_tq2_0_block, 256, 66)
CBK_ENCODER(cbk_encode_tq1_0, encode_tq1_0)
CBK_DECODER(cbk_decode_tq1_0, decode_tq1_0)
CBK_ENCODER(cbk_encode_tq2_0, encode_tq2_0)
CBK_DECODER(cbk_decode_tq2_0, decode_tq2_0)

// MARK: Q1_0

/// Σ|x| of eight blocks, each one chain of additions: side by side, to hide their latency. Compiled once, because
/// wider instructions would only tempt the compiler to gather.
static __attribute__((noinline)) void magnitude_sums(const float *x, float *sums) {
    float s[8] = {0};
    for (int j = 0; j < 128; j++) {
#pragma clang loop unroll(full)
        for (int b = 0; b < 8; b++) s[b] += __builtin_fabsf(x[b * 128 + j]);
    }
    memcpy(sums, s, sizeof s);
}

CBK_INLINE void encode_q1_0(cbk_tier tier, const float *values, const float *importance, size_t rows,
                            size_t columns, uint8_t *blocks) {
    (void)importance;
    const size_t count = rows * columns / 128;
    for (size_t first = 0; first < count; first += 8) {
        const size_t some = count - first < 8 ? count - first : 8;
        const float *x = values + first * 128;
        float sums[8] = {0};
        if (some == 8) {
            magnitude_sums(x, sums);
        } else {
            for (size_t b = 0; b < some; b++) {
                for (int j = 0; j < 128; j++) sums[b] += __builtin_fabsf(x[b * 128 + (size_t)j]);
            }
        }
        for (size_t b = 0; b < some; b++) {
            uint8_t *block = blocks + (first + b) * 18;
            store_half(tier, block, sums[b] / 128);
            for (int part = 0; part < 8; part++) {
                const uint32_t signs = lane_mask(load_f32(x + b * 128 + 16 * part) >= 0);
                block[2 + 2 * part] = (uint8_t)signs;
                block[3 + 2 * part] = (uint8_t)(signs >> 8);
            }
        }
    }
}

CBK_INLINE void decode_q1_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    const float d = load_half(tier, block);
    for (int part = 0; part < 8; part++) {
        const uint32_t signs = block[2 + 2 * part] | (uint32_t)block[3 + 2 * part] << 8;
        const u32x16 flip = (u32x16)lanes_of_mask(~signs) & 0x80000000u;
        store_f32(values + 16 * part, (f32x16)(bits_of_float(d) ^ flip));
    }
}

CBK_DECODE_BODY(decode_q1_0, decode_q1_0_block, 128, 18)
CBK_ENCODER(cbk_encode_q1_0, encode_q1_0)
CBK_DECODER(cbk_decode_q1_0, decode_q1_0)

// MARK: Q2_0

/// Sixteen two-bit codes, four to a byte, lowest bits first.
CBK_INLINE uint32_t pack_two_bits(u32x16 q) {
    return lane_mask((q & 1) != 0) | lane_mask((q & 2) != 0) << 16;
}

/// Moves the lower sixteen bits to the even places and the upper ones to the odd places.
CBK_INLINE uint32_t interleave(uint32_t planes) {
    uint32_t x = planes;
    uint32_t t = (x ^ x >> 8) & 0x0000FF00u;
    x ^= t ^ t << 8;
    t = (x ^ x >> 4) & 0x00F000F0u;
    x ^= t ^ t << 4;
    t = (x ^ x >> 2) & 0x0C0C0C0Cu;
    x ^= t ^ t << 2;
    t = (x ^ x >> 1) & 0x22222222u;
    return x ^ t ^ t << 1;
}

CBK_INLINE void encode_q2_0_block(cbk_tier tier, const float *x, uint8_t *block) {
    const float d = largest_magnitude(x, 64);
    const float id = d > 0 ? 1.0f / d : 0.0f;
    store_half(tier, block, d);
    for (int part = 0; part < 4; part++) {
        // As x/d is at most 1, code 3 (twice the scale) never occurs. An overflowing 1/d gives code 0.
        u32x16 q = 0;
        if (__builtin_isfinite(id)) q = (u32x16)round_away(load_f32(x + 16 * part) * id) + 1;
        store_u32(block + 2 + 4 * part, interleave(pack_two_bits(q)));
    }
}

CBK_INLINE void decode_q2_0_block(cbk_tier tier, const uint8_t *block, float *values) {
    const float d = load_half(tier, block);
    const u32x16 shift = (u32x16)(lane_numbers() * 2);
    for (int part = 0; part < 4; part++) {
        const u32x16 q = (u32x16)load_u32(block + 2 + 4 * part) >> shift & 3;
        store_f32(values + 16 * part, float_of_u32(q - 1) * d);
    }
}

CBK_ENCODE_BODY(encode_q2_0, encode_q2_0_block, 64, 18)
CBK_DECODE_BODY(decode_q2_0, decode_q2_0_block, 64, 18)
CBK_ENCODER(cbk_encode_q2_0, encode_q2_0)
CBK_DECODER(cbk_decode_q2_0, decode_q2_0)
