// MXFP4 and NVFP4: E2M1 elements under a shared scale; and the sub-byte scalars F4, F6_E2M3 and F6_E3M2.
// The definitions are Flat/FourBitFloats.swift and Flat/SubByteFloats.swift.
#pragma STDC FP_CONTRACT OFF

#include "cbk_flat.h"
#include "../vector.h"

/// Twice the magnitudes of E2M1; the scales of both formats are stored so that half of them is used here.
static const float levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// The first level with the smallest rounded distance: what the definition does, for the blocks where rounding
/// matters.
CBK_INLINE uint8_t nearest_level(float x, float d) {
    uint8_t best = 0;
    float least = __builtin_fabsf(levels[0] * d - x);
    for (uint8_t i = 1; i < 16; i++) {
        const float distance = __builtin_fabsf(levels[i] * d - x);
        if (distance < least) {
            least = distance;
            best = i;
        }
    }
    return best;
}

/// The same for sixteen values x of magnitude up to 24 d, given the quotients |x| / d. All distances that matter are
/// exact then (Sterbenz), so that only the midpoints 0.5, 1.5, 2.5, 3.5, 5, 7 and 10 count, and a tie goes to the
/// smaller magnitude, first in the table. Rounding the quotient moves no value across a midpoint: d and the midpoints
/// have at most four significant bits, so neighbours of d times a midpoint are more than half a unit away.
CBK_INLINE u32x16 nearest_levels(f32x16 x, f32x16 quotient) {
    // From 2 on, levels are floats of one mantissa bit: drop 22 bits, halves down. Below they count ones.
    const u32x16 normal = (((u32x16)quotient + 0x1FFFFF) >> 22) - 254;
    const i32x16 small = -((quotient > 0.5f) + (quotient > 1.5f));
    u32x16 index = quotient > 2.0f ? normal : (u32x16)small;
    index = __builtin_elementwise_min(index, (u32x16)7);
    return index | ((u32x16)((x < 0) & ((i32x16)index != 0)) & 8);
}

CBK_INLINE f32x16 magnitude(f32x16 v) { return (f32x16)magnitude_bits(v); }

/// The levels of codes below 16.
CBK_INLINE f32x16 level_values(u32x16 code) {
    // 2 * E2M1: exponent bits 0 count halves, so 0 1 2 3 | 4 6 | 8 12.
    const u32x16 e = code >> 1 & 3, m = code & 1;
    const u32x16 magnitude = (e == 0 ? m : (2 | m) << (e - 1));
    const f32x16 value = float_of_u32(magnitude);
    // Level 8 is +0 in the reference, an integer table: no sign there.
    const u32x16 sign = magnitude == 0 ? (u32x16)0 : (code & 8) << 28;
    return (f32x16)((u32x16)value | sign);
}

// MARK: MXFP4

CBK_INLINE float half_power(uint8_t e) {
    return float_of_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/// floor(log2f(x)) for the bits of a positive x as the reference's C library has it: log2f rounds to nearest, so that
/// some floats just below 2^n (their number depends on the spacing of floats near n) give n itself.
CBK_INLINE int floor_log2(uint32_t bits) {
    static const uint8_t below[8] = {0, 1, 2, 5, 11, 22, 44, 88};  // floor(ln 2 * 2^k)
    const int floor = bits < 0x00800000u ? -118 - __builtin_clz(bits) : (int)(bits >> 23) - 127;
    const int next = floor + 1;
    if (next == 0) return floor;
    const uint32_t power = next < -126 ? 1u << (next + 149) : (uint32_t)(next + 127) << 23;
    if (power - bits > 64) return floor;
    // The spacing of floats just below `next`, in units of 2^-23, is 2^k.
    const unsigned nearby = next > 0 ? (unsigned)next - 1 : (unsigned)-next;
    const int k = nearby == 0 ? -1 : 31 - __builtin_clz(nearby);
    const int shift = next < -125 ? -125 - next : 0;
    const int index = k - shift;
    return power - bits <= (index < 0 ? 0u : below[index]) ? next : floor;
}

CBK_INLINE void encode_mxfp4_block(cbk_tier tier, const float *x, uint8_t *block) {
    (void)tier;
    const f32x16 low = load_f32(x), high = load_f32(x + 16);
    const uint32_t amax =
        __builtin_reduce_max(__builtin_elementwise_max(magnitude_bits(low), magnitude_bits(high)));
    // Below 2^-125 the exponent wraps round; the reference lets it.
    const uint8_t e = amax == 0 ? 0 : (uint8_t)(floor_log2(amax) + 125);
    const float d = half_power(e);
    block[0] = e;
    if (e > 0 && e < 253) {
        const float id = float_of_bits((uint32_t)(255 - e) << 23);  // 2^(128 - e)
        const u32x16 q0 = nearest_levels(low, magnitude(low) * id);
        const u32x16 q1 = nearest_levels(high, magnitude(high) * id);
        store_u8(block + 1, narrow_u8(q0 | q1 << 4));
    } else {  // 1 / d or 12 d overflows
        for (int j = 0; j < 16; j++) {
            block[1 + j] = (uint8_t)(nearest_level(x[j], d) | nearest_level(x[j + 16], d) << 4);
        }
    }
}

CBK_INLINE void decode_mxfp4_block(cbk_tier tier, const uint8_t *block, float *values) {
    (void)tier;
    const u32x16 bytes = widen_u8(load_u8(block + 1));
    const float d = half_power(block[0]);
    store_f32(values, level_values(bytes & 15) * d);
    store_f32(values + 16, level_values(bytes >> 4) * d);
}

CBK_ENCODE_BODY(encode_mxfp4, encode_mxfp4_block, 32, 17)
CBK_DECODE_BODY(decode_mxfp4, decode_mxfp4_block, 32, 17)
CBK_ENCODER(cbk_encode_mxfp4, encode_mxfp4)
CBK_DECODER(cbk_decode_mxfp4, decode_mxfp4)

// MARK: NVFP4

CBK_INLINE u32x16 lower_halves(u32x16 a, u32x16 b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
}

CBK_INLINE u32x16 upper_halves(u32x16 a, u32x16 b) {
    return __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}

/// Half the value of an unsigned E4M3 scale; the top bit is ignored, and the NaN code counts as 0.
CBK_INLINE float half_ue4m3(uint8_t code) {
    if (code == 0 || code == 0x7F) return 0;
    const uint32_t m = code & 0x7F;
    if (m < 8) return (float)m * 0x1p-10f;
    return float_of_bits((m << 20) + (119u << 23));
}

/// Rounds to unsigned E4M3, halves up; from 256 on it is 448.
CBK_INLINE u32x16 ue4m3_of(f32x16 x) {
    const i32x16 small = x < 0x1p-6f;
    const u32x16 count = (u32x16)__builtin_convertvector((small ? x : (f32x16)0) * 512.0f + 0.5f, i32x16);
    const u32x16 subnormal = __builtin_elementwise_min(count, (u32x16)7);
    const u32x16 normal = ((u32x16)x - (120u << 23) + 0x00080000u) >> 20;
    const u32x16 code = small ? subnormal : normal;
    return code >= 15 << 3 ? (u32x16)0x7E : code;
}

/// half_ue4m3 of codes below 0x7F.
CBK_INLINE f32x16 half_ue4m3_values(u32x16 code) {
    const f32x16 subnormal = float_of_u32(code) * 0x1p-10f;
    return code < 8 ? subnormal : (f32x16)((code << 20) + (119u << 23));
}

CBK_INLINE u32x16 larger_of_halves(u32x16 a, u32x16 b) {
    return __builtin_elementwise_max(
        __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27),
        __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31));
}

/// The largest magnitude of four vectors: lanes 4 s to 4 s + 3 have that of v[s].
CBK_INLINE f32x16 largest_of_four(const f32x16 *v) {
    // Fold each vector to half its width, beside another one, twice; then the four lanes of each among themselves.
    const u32x16 first = larger_of_halves(magnitude_bits(v[0]), magnitude_bits(v[1]));
    const u32x16 second = larger_of_halves(magnitude_bits(v[2]), magnitude_bits(v[3]));
    u32x16 m = larger_of_halves(first, second);
    const u32x16 pairs = __builtin_shufflevector(m, m, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    m = __builtin_elementwise_max(m, pairs);
    const u32x16 others = __builtin_shufflevector(m, m, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    m = __builtin_elementwise_max(m, others);
    return (f32x16)m;
}

CBK_INLINE void encode_nvfp4_block(cbk_tier tier, const float *x, uint8_t *block) {
    (void)tier;
    const f32x16 v[4] = {load_f32(x), load_f32(x + 16), load_f32(x + 32), load_f32(x + 48)};
    const f32x16 amax = largest_of_four(v);
    const u32x16 code = ue4m3_of(amax / 6.0f);
    const f32x16 d = half_ue4m3_values(code);
    const u8x16 codes = narrow_u8(code);
    for (int s = 0; s < 4; s++) block[s] = codes[4 * s];
    // A scale may be clamped, far below what the values need.
    if (lane_mask((amax > 24.0f * d) & (i32x16)(code != 0))) {
        for (int s = 0; s < 4; s++) {
            const float *xb = x + 16 * s;
            const float scale = d[4 * s];
            for (int j = 0; j < 8; j++) {
                const int high = nearest_level(xb[j + 8], scale) << 4;
                block[4 + 8 * s + j] = (uint8_t)(nearest_level(xb[j], scale) | high);
            }
        }
        return;
    }
    // Where the scale is 0, so is every level; that is what a huge scale gives.
    const f32x16 divisor = code == 0 ? (f32x16)0x1p100f : d;
    for (int pair = 0; pair < 2; pair++) {
        const float d0 = divisor[8 * pair], d1 = divisor[8 * pair + 4];
        const f32x16 v0 = v[2 * pair], v1 = v[2 * pair + 1];
        const u32x16 q0 = nearest_levels(v0, magnitude(v0) / d0), q1 = nearest_levels(v1, magnitude(v1) / d1);
        const u32x16 low = lower_halves(q0, q1), high = upper_halves(q0, q1);
        store_u8(block + 4 + 16 * pair, narrow_u8(low | high << 4));
    }
}

CBK_INLINE void decode_nvfp4_block(cbk_tier tier, const uint8_t *block, float *values) {
    (void)tier;
    for (int pair = 0; pair < 2; pair++) {
        const u32x16 bytes = widen_u8(load_u8(block + 4 + 16 * pair));
        const u32x16 low = bytes & 15, high = bytes >> 4;
        const f32x16 first = level_values(lower_halves(low, high));
        const f32x16 second = level_values(upper_halves(low, high));
        store_f32(values + 32 * pair, first * half_ue4m3(block[2 * pair]));
        store_f32(values + 32 * pair + 16, second * half_ue4m3(block[2 * pair + 1]));
    }
}

CBK_ENCODE_BODY(encode_nvfp4, encode_nvfp4_block, 64, 36)
CBK_DECODE_BODY(decode_nvfp4, decode_nvfp4_block, 64, 36)
CBK_ENCODER(cbk_encode_nvfp4, encode_nvfp4)
CBK_DECODER(cbk_decode_nvfp4, decode_nvfp4)

// MARK: Sub-byte scalars

CBK_INLINE void decode_f4_block(cbk_tier tier, const uint8_t *block, float *values) {
    (void)tier;
    for (int half = 0; half < 2; half++) {
        const uint8_t code = half ? block[0] >> 4 : block[0] & 15;
        const float magnitude = 0.5f * levels[code & 7];
        values[half] = code & 8 ? -magnitude : magnitude;
    }
}

/// Six bits: a sign, an exponent of bias `bias`, `mantissa` bits; four of them in three bytes, lowest bits first.
CBK_INLINE void decode_f6_block(const uint8_t *block, float *values, int mantissa, int bias) {
    const uint32_t packed = block[0] | (uint32_t)block[1] << 8 | (uint32_t)block[2] << 16;
    for (int i = 0; i < 4; i++) {
        const uint32_t code = packed >> (6 * i) & 63, m = code & 31;
        const uint32_t normal = (m << (23 - mantissa)) + ((uint32_t)(127 - bias) << 23);
        const float step = float_of_bits((uint32_t)(128 - bias - mantissa) << 23);
        const uint32_t bits = m < 1u << mantissa ? bits_of_float((float)m * step) : normal;
        values[i] = float_of_bits(bits | (code & 32) << 26);
    }
}

CBK_INLINE void decode_f6_e2m3_block(cbk_tier tier, const uint8_t *block, float *values) {
    (void)tier;
    decode_f6_block(block, values, 3, 1);
}

CBK_INLINE void decode_f6_e3m2_block(cbk_tier tier, const uint8_t *block, float *values) {
    (void)tier;
    decode_f6_block(block, values, 2, 3);
}

CBK_DECODE_BODY(decode_f4, decode_f4_block, 2, 1)
CBK_DECODE_BODY(decode_f6_e2m3, decode_f6_e2m3_block, 4, 3)
CBK_DECODE_BODY(decode_f6_e3m2, decode_f6_e3m2_block, 4, 3)
CBK_DECODER(cbk_decode_f4, decode_f4)
CBK_DECODER(cbk_decode_f6_e2m3, decode_f6_e2m3)
CBK_DECODER(cbk_decode_f6_e3m2, decode_f6_e3m2)
