// Codes with separate scales: rows to codes with the scales of the schemes' own libraries, and codes to rows. The
// definition is Schemes/SchemeTwin.swift.
#pragma STDC FP_CONTRACT OFF

#include "cbk_scheme.h"
#include "scheme_lanes.h"

// MARK: Encoding

CBK_INLINE void encode_groups(cbk_codes kind, bool rounds, const cbk_scheme *s, size_t group, const float *x,
                              size_t groups, uint8_t *codes, uint8_t *scales) {
    for (size_t first = 0; first < groups; first += 16) {
        const size_t some = groups - first < 16 ? groups - first : 16;
        const u32x16 scale = absmax_scales(s, amax_of_groups(x + first * group, some, group));
        store_scales(s, scale, some, scales + first * scale_bytes(s));
        // The reciprocals of powers of two are exact: the product is the quotient, and faster.
        const bool multiplies = kind == CBK_CODES_E2M1 && group == 32;
        const f32x16 divisor = divisors_of(multipliers_of(s, scale));
        float factor[16];
        store_f32(factor, multiplies ? 1.0f / divisor : divisor);
        for (size_t lane = 0; lane < some; lane++) {
            const quotients by = {factor[lane], multiplies, rounds};
            const size_t at = (first + lane) * group;
            encode_group(kind, s, by, x + at, group, codes + at / 2);
        }
    }
}

CBK_INLINE void encode_rows(cbk_codes kind, const cbk_scheme *s, const float *x, size_t rows, size_t columns,
                            uint8_t *codes, uint8_t *scales) {
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * columns;
        const u32x16 scale = absmax_scales(s, (f32x16)float_of_bits(amax_bits(from, columns)));
        store_scales(s, scale, 1, scales + row * scale_bytes(s));
        const quotients by = {multipliers_of(s, scale)[0], .multiplies = false, .rounds = true};
        encode_row(kind, s, by, from, columns, codes + row * columns);
    }
}

CBK_INLINE void encode_scheme(cbk_tier tier, const cbk_scheme *s, const float *x, size_t rows, size_t columns,
                              uint8_t *codes, uint8_t *scales) {
    (void)tier;
    const size_t groups = s->group ? rows * (columns / s->group) : 0;
    switch (s->codes) {
        case CBK_CODES_E4M3: encode_rows(CBK_CODES_E4M3, s, x, rows, columns, codes, scales); break;
        case CBK_CODES_INT8: encode_rows(CBK_CODES_INT8, s, x, rows, columns, codes, scales); break;
        case CBK_CODES_INT4: encode_groups(CBK_CODES_INT4, true, s, s->group, x, groups, codes, scales); break;
        case CBK_CODES_E2M1:
            if (s->rounds_quotients) {
                encode_groups(CBK_CODES_E2M1, true, s, 32, x, groups, codes, scales);
            } else if (s->group == 32) {
                encode_groups(CBK_CODES_E2M1, false, s, 32, x, groups, codes, scales);
            } else {
                encode_groups(CBK_CODES_E2M1, false, s, 16, x, groups, codes, scales);
            }
            break;
    }
}

CBK_FORMS(encode, encode_scheme,
          (const cbk_scheme *s, const float *x, size_t rows, size_t columns, uint8_t *codes, uint8_t *scales), s, x,
          rows, columns, codes, scales)

void cbk_scheme_encode(cbk_tier tier, const cbk_scheme *scheme, const float *values, size_t rows, size_t columns,
                       uint8_t *codes, uint8_t *scales) {
    CBK_DISPATCH(encode, tier, scheme, values, rows, columns, codes, scales)
}

// MARK: Decoding

CBK_INLINE f32x16 float_of_u8(u8x16 v) { return float_of_u32(widen_u8(v)); }

/// The numbers of sixteen four-bit codes.
CBK_INLINE f32x16 nibble_values(cbk_codes kind, u8x16 code) {
    if (kind == CBK_CODES_INT4) return float_of_u8(code) - 8.0f;
    // Twice the magnitudes, 0 1 2 3 4 6 8 12, as bytes: the codes with something added from 5, 6 and 7 on.
    const i8x16 m = (i8x16)(code & 7);
    const i8x16 twice = m - (m > 4) - (m > 5) + ((m > 6) & 3);
    const u32x16 sign = widen_u8(code & 8) << 28;
    return (f32x16)((u32x16)(float_of_u8((u8x16)twice) * 0.5f) | sign);
}

/// Thirty-two codes out of sixteen bytes; the halves may have different multipliers.
CBK_INLINE void decode_thirty_two(cbk_codes kind, const uint8_t *from, float first, float second, float *to) {
    const u8x16 bytes = load_u8(from), low = bytes & 15, high = bytes >> 4;
    const u8x16 a =
        __builtin_shufflevector(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const u8x16 b =
        __builtin_shufflevector(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    store_f32(to, nibble_values(kind, a) * first);
    store_f32(to + 16, nibble_values(kind, b) * second);
}

CBK_INLINE void decode_groups(cbk_codes kind, const cbk_scheme *s, const uint8_t *codes, const uint8_t *scales,
                              size_t groups, float *x) {
    const size_t group = s->group;
    for (size_t first = 0; first < groups; first += 16) {
        const size_t some = groups - first < 16 ? groups - first : 16;
        float multiplier[16];
        store_f32(multiplier, multipliers_of(s, load_scales(s, scales + first * scale_bytes(s), some)));
        const uint8_t *from = codes + first * group / 2;
        float *to = x + first * group;
        const size_t sixteens = group / 16, all = some * sixteens;
        size_t lane = 0, left = sixteens, i = 0;
        for (; i + 2 <= all; i += 2) {
            const float a = multiplier[lane];
            if (--left == 0) lane++, left = sixteens;
            const float b = multiplier[lane];
            if (--left == 0) lane++, left = sixteens;
            decode_thirty_two(kind, from + 8 * i, a, b, to + 16 * i);
        }
        if (i < all) {  // an odd number of sixteens
            uint8_t in[16] = {0};
            float out[32];
            memcpy(in, from + 8 * i, 8);
            decode_thirty_two(kind, in, multiplier[lane], 0, out);
            memcpy(to + 16 * i, out, 16 * sizeof(float));
        }
    }
}

/// Sixteen codes of eight bits.
CBK_INLINE f32x16 decode_sixteen(cbk_codes kind, const uint8_t *from) {
    if (kind == CBK_CODES_E4M3) return e4m3_values(widen_u8(load_u8(from)));
    i8x16 v;
    memcpy(&v, from, sizeof v);
    return __builtin_convertvector(v, f32x16);
}

CBK_INLINE void decode_rows(cbk_codes kind, const cbk_scheme *s, const uint8_t *codes, const uint8_t *scales,
                            size_t rows, size_t columns, float *x) {
    for (size_t row = 0; row < rows; row++) {
        const float multiplier = multipliers_of(s, load_scales(s, scales + row * scale_bytes(s), 1))[0];
        const uint8_t *from = codes + row * columns;
        float *to = x + row * columns;
        size_t i = 0;
        for (; i + 16 <= columns; i += 16) store_f32(to + i, decode_sixteen(kind, from + i) * multiplier);
        if (i < columns) {
            uint8_t in[16] = {0};
            float out[16];
            memcpy(in, from + i, columns - i);
            store_f32(out, decode_sixteen(kind, in) * multiplier);
            memcpy(to + i, out, (columns - i) * sizeof(float));
        }
    }
}

CBK_INLINE void decode_scheme(cbk_tier tier, const cbk_scheme *s, const uint8_t *codes, const uint8_t *scales,
                              size_t rows, size_t columns, float *x) {
    (void)tier;
    const size_t groups = s->group ? rows * (columns / s->group) : 0;
    switch (s->codes) {
        case CBK_CODES_E4M3: decode_rows(CBK_CODES_E4M3, s, codes, scales, rows, columns, x); break;
        case CBK_CODES_INT8: decode_rows(CBK_CODES_INT8, s, codes, scales, rows, columns, x); break;
        case CBK_CODES_INT4: decode_groups(CBK_CODES_INT4, s, codes, scales, groups, x); break;
        case CBK_CODES_E2M1: decode_groups(CBK_CODES_E2M1, s, codes, scales, groups, x); break;
    }
}

CBK_FORMS(decode, decode_scheme,
          (const cbk_scheme *s, const uint8_t *codes, const uint8_t *scales, size_t rows, size_t columns, float *x), s,
          codes, scales, rows, columns, x)

void cbk_scheme_decode(cbk_tier tier, const cbk_scheme *scheme, const uint8_t *codes, const uint8_t *scales,
                       size_t rows, size_t columns, float *values) {
    CBK_DISPATCH(decode, tier, scheme, codes, scales, rows, columns, values)
}
