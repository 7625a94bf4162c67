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
        float divisor[16];
        store_f32(divisor, divisors_of(multipliers_of(s, scale)));
        for (size_t lane = 0; lane < some; lane++) {
            const quotients by = {.divisor = divisor[lane], .multiplies = false};
            const size_t at = (first + lane) * group;
            encode_group(kind, rounds, s, by, x + at, group, codes + at / 2);
        }
    }
}

CBK_INLINE void encode_rows(cbk_codes kind, const cbk_scheme *s, const float *x, size_t rows, size_t columns,
                            uint8_t *codes, uint8_t *scales) {
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * columns;
        const u32x16 scale = absmax_scales(s, (f32x16)float_of_bits(amax_bits(from, columns)));
        store_scales(s, scale, 1, scales + row * scale_bytes(s));
        const quotients by = {.divisor = multipliers_of(s, scale)[0], .multiplies = false};
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

CBK_INLINE f32x16 decode_sixteen(cbk_codes kind, const uint8_t *from) {
    switch (kind) {
        case CBK_CODES_E4M3: return e4m3_values(widen_u8(load_u8(from)));
        case CBK_CODES_E2M1: return e2m1_values(load_nibbles(from));
        case CBK_CODES_INT4: return float_of_u32(load_nibbles(from)) - 8.0f;
        case CBK_CODES_INT8: {
            i8x16 v;
            memcpy(&v, from, sizeof v);
            return __builtin_convertvector(v, f32x16);
        }
    }
}

CBK_INLINE void decode_groups(cbk_codes kind, const cbk_scheme *s, const uint8_t *codes, const uint8_t *scales,
                              size_t groups, float *x) {
    const size_t group = s->group;
    for (size_t first = 0; first < groups; first += 16) {
        const size_t some = groups - first < 16 ? groups - first : 16;
        float multiplier[16];
        store_f32(multiplier, multipliers_of(s, load_scales(s, scales + first * scale_bytes(s), some)));
        for (size_t lane = 0; lane < some; lane++) {
            const size_t at = (first + lane) * group;
            for (size_t i = 0; i < group; i += 16) {
                store_f32(x + at + i, decode_sixteen(kind, codes + (at + i) / 2) * multiplier[lane]);
            }
        }
    }
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
