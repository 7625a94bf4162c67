// What the kernels of codes with separate scales share: scales of sixteen groups at a time, and the rounding of
// quotients. The definition is Schemes/SchemeRule.swift.
#ifndef SCHEME_LANES_H
#define SCHEME_LANES_H

#include "cbk_scheme.h"
#include "../vector.h"

#pragma STDC FP_CONTRACT OFF

typedef uint8_t u8x8 __attribute__((ext_vector_type(8)));
typedef uint16_t u16x8 __attribute__((ext_vector_type(8)));

// MARK: Numbers of few bits

/// To nearest, ties to even. Not for NaN.
CBK_INLINE f32x16 rounded_to_bf16(f32x16 v) {
    const u32x16 bits = (u32x16)v;
    return (f32x16)((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u);
}

CBK_INLINE f32x16 magnitudes(f32x16 v) { return (f32x16)magnitude_bits(v); }

// Written as a comparison and a choice, these are one instruction; the builtins would look for NaN.
CBK_INLINE f32x16 at_most(f32x16 v, float limit) { return v < limit ? v : (f32x16)limit; }
CBK_INLINE f32x16 at_least(f32x16 v, float limit) { return v > limit ? v : (f32x16)limit; }

/// Rounds the bits of magnitudes to a float of few bits and saturates. Below the smallest normal number, codes count
/// steps: adding 2^23 steps rounds to them.
CBK_INLINE u32x16 minifloat_codes(u32x16 m, int mantissa, int bias, uint32_t largest) {
    const int dropped = 23 - mantissa;
    const uint32_t anchor = (uint32_t)(127 + 24 - bias - mantissa) << 23;
    const u32x16 normal = ((m + ((1u << (dropped - 1)) - 1) + (m >> dropped & 1)) >> dropped) -
                          ((uint32_t)(127 - bias) << mantissa);
    const u32x16 subnormal = (u32x16)((f32x16)m + float_of_bits(anchor)) - anchor;
    const u32x16 code = m < (uint32_t)(128 - bias) << 23 ? subnormal : normal;
    return __builtin_elementwise_min(code, (u32x16)largest);
}

/// The same rounding, of magnitudes, to the number itself.
CBK_INLINE f32x16 minifloat_levels(f32x16 a, int mantissa, int bias, float largest) {
    a = at_most(a, largest);
    // 2^23 steps of the binade, or of the smallest one.
    const u32x16 binade =
        __builtin_elementwise_max((u32x16)a & 0x7F800000u, (u32x16)((uint32_t)(128 - bias) << 23));
    const f32x16 anchor = (f32x16)(binade + ((uint32_t)(23 - mantissa) << 23));
    return (a + anchor) - anchor;
}

/// Values of F8_E4M3 codes, NaN and signs included.
CBK_INLINE f32x16 e4m3_values(u32x16 code) {
    const u32x16 m = code & 0x7F, sign = (code & 0x80) << 24;
    const u32x16 subnormal = (u32x16)(float_of_u32(m) * 0x1p-9f);
    const u32x16 bits = m < 8 ? subnormal : (m << 20) + (120u << 23);
    return (f32x16)(sign | (m == 0x7F ? (u32x16)0x7FC00000u : bits));
}

/// Rounds to nearest, ties to even, for magnitudes below 2^22.
CBK_INLINE f32x16 nearest_integers(f32x16 v) { return (v + 12582912.0f) - 12582912.0f; }

// MARK: Quotients to codes

/// The code of each quotient. `keeps` is all ones where -0 has a sign.
CBK_INLINE u32x16 codes_of(cbk_codes codes, float lowest, uint32_t keeps, f32x16 q) {
    const u32x16 bits = (u32x16)q;
    switch (codes) {
        case CBK_CODES_E4M3: {
            const u32x16 sign = bits >> 24 & 0x80 & ((u32x16)(q != 0) | keeps);
            return minifloat_codes(magnitude_bits(q), 3, 7, 0x7E) | sign;
        }
        case CBK_CODES_E2M1: {
            const u32x16 sign = bits >> 28 & 8 & ((u32x16)(q != 0) | keeps);
            return minifloat_codes(magnitude_bits(q), 1, 1, 7) | sign;
        }
        case CBK_CODES_INT4:
            return (u32x16)(__builtin_convertvector(nearest_integers(at_least(at_most(q, 7), -8)), i32x16) + 8);
        case CBK_CODES_INT8:
            return (u32x16)__builtin_convertvector(nearest_integers(at_least(at_most(q, 127), lowest)), i32x16);
    }
}

/// The number nearest to each quotient that has a code; for floats, of magnitudes.
CBK_INLINE f32x16 levels_of(cbk_codes codes, float lowest, f32x16 q) {
    switch (codes) {
        case CBK_CODES_E4M3: return minifloat_levels(q, 3, 7, 448);
        case CBK_CODES_E2M1: return minifloat_levels(q, 1, 1, 6);
        case CBK_CODES_INT4: return nearest_integers(at_least(at_most(q, 7), -8));
        case CBK_CODES_INT8: return nearest_integers(at_least(at_most(q, 127), lowest));
    }
}

/// Whether levels_of wants magnitudes.
CBK_INLINE bool has_signs(cbk_codes codes) { return codes == CBK_CODES_E4M3 || codes == CBK_CODES_E2M1; }

/// A divisor for which everything becomes 0 where the multiplier has underflowed to 0.
CBK_INLINE f32x16 divisors_of(f32x16 multiplier) {
    return multiplier == 0 ? (f32x16)__builtin_inff() : multiplier;
}

// MARK: Scales of sixteen groups

/// What codes are multiplied with.
CBK_INLINE f32x16 multipliers_of(const cbk_scheme *s, u32x16 scale) {
    switch (s->scales) {
        case CBK_SCALES_F32: return (f32x16)scale;
        case CBK_SCALES_BF16: return (f32x16)(scale << 16);
        case CBK_SCALES_E4M3_DIVIDED: return e4m3_values(scale) / s->matrix_scale;
        case CBK_SCALES_E4M3_MULTIPLIED: return e4m3_values(scale) * s->matrix_scale;
        case CBK_SCALES_E8M0_UP:
        case CBK_SCALES_E8M0_DOWN: {
            const u32x16 bits = scale == 0 ? (u32x16)0x00400000u : scale << 23;
            return (f32x16)(scale == 255 ? (u32x16)0x7FC00000u : bits);
        }
    }
}

/// A scale of F32 or BF16 as it is stored.
CBK_INLINE u32x16 stored_scales(const cbk_scheme *s, f32x16 scale) {
    return s->scales == CBK_SCALES_BF16 ? (u32x16)rounded_to_bf16(scale) >> 16 : (u32x16)scale;
}

/// The scales that the scheme's own library gives.
CBK_INLINE u32x16 absmax_scales(const cbk_scheme *s, f32x16 amax) {
    switch (s->scales) {
        case CBK_SCALES_F32:
        case CBK_SCALES_BF16: {
            const f32x16 scale = rounded_to_bf16(amax / s->divisor);
            return stored_scales(s, scale == 0 ? (f32x16)0x1p-7f : scale);
        }
        case CBK_SCALES_E4M3_DIVIDED: {
            const f32x16 scale = at_most(s->matrix_scale * rounded_to_bf16(amax / 6.0f), 448);
            const u32x16 code = minifloat_codes((u32x16)scale, 3, 7, 0x7E);
            return code == 0 ? (u32x16)0x20 : code;
        }
        case CBK_SCALES_E4M3_MULTIPLIED: {
            f32x16 scale = amax / (6.0f * s->matrix_scale);
            scale = scale == 0 ? (f32x16)1 : at_least(at_most(scale, 448), 0x1p-9f);
            return minifloat_codes((u32x16)scale, 3, 7, 0x7E);
        }
        case CBK_SCALES_E8M0_UP:
        case CBK_SCALES_E8M0_DOWN: {
            const u32x16 e = ((u32x16)amax + (s->scales == CBK_SCALES_E8M0_UP ? 1u << 21 : 0)) >> 23;
            return e < 2 ? (u32x16)0 : e - 2;
        }
    }
}

CBK_INLINE size_t scale_bytes(const cbk_scheme *s) {
    return s->scales == CBK_SCALES_F32 ? 4 : s->scales == CBK_SCALES_BF16 ? 2 : 1;
}

/// Stores the first `count` scales, little-endian.
CBK_INLINE void store_scales(const cbk_scheme *s, u32x16 scale, size_t count, uint8_t *to) {
    uint8_t bytes[64];
    const size_t each = scale_bytes(s);
    if (each == 4) {
        memcpy(bytes, &scale, sizeof scale);
    } else if (each == 2) {
        const u16x16 narrow = __builtin_convertvector(scale, u16x16);
        memcpy(bytes, &narrow, sizeof narrow);
    } else {
        store_u8(bytes, narrow_u8(scale));
    }
    memcpy(to, bytes, count * each);
}

CBK_INLINE u32x16 load_scales(const cbk_scheme *s, const uint8_t *from, size_t count) {
    uint8_t bytes[64] = {0};
    const size_t each = scale_bytes(s);
    memcpy(bytes, from, count * each);
    if (each == 4) {
        u32x16 scale;
        memcpy(&scale, bytes, sizeof scale);
        return scale;
    }
    if (each == 2) {
        u16x16 narrow;
        memcpy(&narrow, bytes, sizeof narrow);
        return __builtin_convertvector(narrow, u32x16);
    }
    return widen_u8(load_u8(bytes));
}

// MARK: Codes of four bits

/// Sixteen codes in eight bytes, the even one of two neighbours in the lower half.
CBK_INLINE void store_nibbles(uint8_t *to, u32x16 codes) {
    u16x8 pairs = (u16x8)narrow_u8(codes);
    pairs = (pairs | pairs >> 4) & 0xFF;
    const u8x8 bytes = __builtin_convertvector(pairs, u8x8);
    memcpy(to, &bytes, sizeof bytes);
}

// MARK: Runs of elements under one scale

/// How quotients are taken: x / factor or x * factor, perhaps rounded to BF16.
typedef struct {
    float factor;
    bool multiplies;
    bool rounds;
} quotients;

CBK_INLINE f32x16 quotient_of(quotients by, f32x16 x) {
    const f32x16 q = by.multiplies ? x * by.factor : x / by.factor;
    return by.rounds ? rounded_to_bf16(q) : q;
}

/// Sixteen values to codes; `to` takes eight or sixteen bytes.
CBK_INLINE void encode_sixteen(cbk_codes codes, const cbk_scheme *s, quotients by, const float *x, uint8_t *to) {
    const u32x16 code = codes_of(codes, s->lowest, s->signs_zeros ? ~0u : 0, quotient_of(by, load_f32(x)));
    if (codes == CBK_CODES_E2M1 || codes == CBK_CODES_INT4) {
        store_nibbles(to, code);
    } else {
        store_u8(to, narrow_u8(code & 0xFF));
    }
}

/// The codes of a group of four-bit codes.
CBK_INLINE void encode_group(cbk_codes codes, const cbk_scheme *s, quotients by, const float *x, size_t group,
                             uint8_t *to) {
    for (size_t i = 0; i < group; i += 16) encode_sixteen(codes, s, by, x + i, to + i / 2);
}

/// The codes of a row of eight-bit codes, of any length.
CBK_INLINE void encode_row(cbk_codes codes, const cbk_scheme *s, quotients by, const float *x, size_t columns,
                           uint8_t *to) {
    size_t i = 0;
    for (; i + 16 <= columns; i += 16) encode_sixteen(codes, s, by, x + i, to + i);
    if (i < columns) {
        float rest[16] = {0};
        uint8_t out[16];
        memcpy(rest, x + i, (columns - i) * sizeof(float));
        encode_sixteen(codes, s, by, rest, out);
        memcpy(to + i, out, columns - i);
    }
}

/// The bits of the largest magnitude.
CBK_INLINE uint32_t amax_bits(const float *x, size_t count) {
    u32x16 most = 0;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) most = __builtin_elementwise_max(most, magnitude_bits(load_f32(x + i)));
    uint32_t all = __builtin_reduce_max(most);
    for (; i < count; i++) {
        const uint32_t magnitude = bits_of_float(x[i]) & 0x7FFFFFFFu;
        all = magnitude > all ? magnitude : all;
    }
    return all;
}

/// The largest magnitudes of up to sixteen groups; 0 in the lanes beyond.
CBK_INLINE f32x16 amax_of_groups(const float *x, size_t count, size_t group) {
    uint32_t bits[16] = {0};
    for (size_t lane = 0; lane < count; lane++) bits[lane] = amax_bits(x + lane * group, group);
    u32x16 v;
    memcpy(&v, bits, sizeof v);
    return (f32x16)v;
}

#endif
