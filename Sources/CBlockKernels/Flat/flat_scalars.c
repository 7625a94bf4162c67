// F32, F16, BF16, F64 and the eight-bit floats. The definitions are Flat/ScalarCodecs.swift and
// Flat/EightBitFloats.swift.
#pragma STDC FP_CONTRACT OFF

#include "cbk_flat.h"
#include "../vector.h"

/// Runs `step(from + i * from_bytes, to + i * to_bytes)` on sixteen elements at a time; the rest goes through padded
/// copies, so that every element meets the same operations.
#define CBK_SIXTEENS(step, from, from_bytes, to, to_bytes, count)                              \
    do {                                                                                       \
        const uint8_t *source = (const uint8_t *)(from);                                       \
        uint8_t *target = (uint8_t *)(to);                                                     \
        size_t i = 0;                                                                          \
        for (; i + 16 <= (count); i += 16) {                                                   \
            step(tier, source + i * (from_bytes), target + i * (to_bytes));                    \
        }                                                                                      \
        if (i < (count)) {                                                                     \
            uint8_t in[16 * (from_bytes)] = {0}, out[16 * (to_bytes)];                         \
            memcpy(in, source + i * (from_bytes), ((count)-i) * (from_bytes));                 \
            step(tier, in, out);                                                               \
            memcpy(target + i * (to_bytes), out, ((count)-i) * (to_bytes));                    \
        }                                                                                      \
    } while (0)

#define CBK_SCALAR_DECODER(type, bytes)                                                                     \
    CBK_INLINE void decode_##type(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {      \
        CBK_SIXTEENS(decode_##type##_x16, blocks, bytes, values, sizeof(float), count);                     \
    }                                                                                                       \
    CBK_DECODER(cbk_decode_##type, decode_##type)

#define CBK_SCALAR_ENCODER(type, bytes)                                                                      \
    CBK_INLINE void encode_##type(cbk_tier tier, const float *values, const float *importance, size_t rows,  \
                                  size_t columns, uint8_t *blocks) {                                         \
        (void)importance;                                                                                    \
        CBK_SIXTEENS(encode_##type##_x16, values, sizeof(float), blocks, bytes, rows *columns);              \
    }                                                                                                        \
    CBK_ENCODER(cbk_encode_##type, encode_##type)

CBK_INLINE f32x16 read_f32(const uint8_t *from) {
    f32x16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

CBK_INLINE u16x16 read_u16(const uint8_t *from) {
    u16x16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

CBK_INLINE void write_u16(uint8_t *to, u32x16 v) {
    const u16x16 narrow = __builtin_convertvector(v, u16x16);
    memcpy(to, &narrow, sizeof narrow);
}

// MARK: F32 and F64

void cbk_decode_f32(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {
    (void)tier;
    memcpy(values, blocks, count * sizeof(float));
}

void cbk_encode_f32(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                    uint8_t *blocks) {
    (void)tier;
    (void)importance;
    memcpy(blocks, values, rows * columns * sizeof(float));
}

CBK_INLINE void decode_f64_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    (void)tier;
    f64x16 v;
    memcpy(&v, from, sizeof v);
    const f32x16 narrow = __builtin_convertvector(v, f32x16);
    memcpy(to, &narrow, sizeof narrow);
}
CBK_SCALAR_DECODER(f64, 8)

CBK_INLINE void encode_f64_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    (void)tier;
    const f64x16 wide = __builtin_convertvector(read_f32(from), f64x16);
    memcpy(to, &wide, sizeof wide);
}
CBK_SCALAR_ENCODER(f64, 8)

// MARK: BF16

CBK_INLINE void decode_bf16_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    (void)tier;
    const u32x16 bits = __builtin_convertvector(read_u16(from), u32x16) << 16;
    memcpy(to, &bits, sizeof bits);
}
CBK_SCALAR_DECODER(bf16, 2)

CBK_INLINE void encode_bf16_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    (void)tier;
    const u32x16 bits = (u32x16)read_f32(from);
    const u32x16 rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    const i32x16 nan = (i32x16)(bits & 0x7FFFFFFF) > 0x7F800000;
    write_u16(to, nan ? (bits >> 16 | 64) : rounded);
}
CBK_SCALAR_ENCODER(bf16, 2)

// MARK: F16

CBK_INLINE void decode_f16_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    if (tier == CBK_AVX2 || tier == CBK_AVX512) {
        f16x16 v;
        memcpy(&v, from, sizeof v);
        const f32x16 wide = __builtin_convertvector(v, f32x16);
        memcpy(to, &wide, sizeof wide);
        return;
    }
    const u32x16 h = __builtin_convertvector(read_u16(from), u32x16);
    const u32x16 sign = (h & 0x8000) << 16, magnitude = h & 0x7FFF;
    const u32x16 normal = (magnitude << 13) + (112u << 23);
    const u32x16 subnormal = (u32x16)(float_of_u32(magnitude) * 0x1p-24f);
    const u32x16 special = magnitude << 13 | 0x7F800000 | ((u32x16)(magnitude > 0x7C00) & 0x00400000);
    const u32x16 finite = magnitude < 0x400 ? subnormal : normal;
    const u32x16 bits = sign | (magnitude >= 0x7C00 ? special : finite);
    memcpy(to, &bits, sizeof bits);
}
CBK_SCALAR_DECODER(f16, 2)

CBK_INLINE void encode_f16_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    const u32x16 bits = (u32x16)read_f32(from);
    const i32x16 magnitude = (i32x16)(bits & 0x7FFFFFFF);
    const i32x16 nan = magnitude > 0x7F800000;
    const u32x16 sign = bits >> 16 & 0x8000;
    u32x16 code;
    if (tier == CBK_AVX2 || tier == CBK_AVX512) {
        const f16x16 halves = __builtin_convertvector((f32x16)bits, f16x16);
        code = __builtin_convertvector((u16x16)halves, u32x16);
    } else {
        const u32x16 m = (u32x16)magnitude;
        const u32x16 normal = ((m + 0xFFF + (m >> 13 & 1)) >> 13) - (112u << 10);
        const u32x16 subnormal = (u32x16)((f32x16)m + 0.5f) - 0x3F000000;
        const u32x16 finite = magnitude < 0x38800000 ? subnormal : normal;
        code = sign | (magnitude >= 0x47800000 ? (u32x16)0x7C00 : finite);
    }
    write_u16(to, nan ? sign | 0x7E00 : code);
}
CBK_SCALAR_ENCODER(f16, 2)

// MARK: Eight-bit floats

/// One sign bit, then the exponent, then `mantissa` bits.
typedef struct {
    int mantissa;
    int bias;
    int largest;       // code of the largest finite magnitude
    bool has_infinity; // with NaN above it, as in IEEE 754 (E5M2)
    bool unsigned_zero; // 0x80 is the only NaN, and there is no -0 (FNUZ)
} f8_format;

static const f8_format e4m3 = {3, 7, 0x7E, false, false};
static const f8_format e5m2 = {2, 15, 0x7B, true, false};
static const f8_format e4m3fnuz = {3, 8, 0x7F, false, true};
static const f8_format e5m2fnuz = {2, 16, 0x7F, false, true};

/// 2^exponent.
CBK_INLINE float power_of_two(int exponent) { return float_of_bits((uint32_t)(exponent + 127) << 23); }

CBK_INLINE u32x16 f8_codes(u32x16 bits, f8_format f) {
    const u32x16 sign = bits >> 24 & 0x80, m = bits & 0x7FFFFFFF;
    const int dropped = 23 - f.mantissa;
    const u32x16 normal = ((m + ((1u << (dropped - 1)) - 1) + (m >> dropped & 1)) >> dropped) -
                          ((uint32_t)(127 - f.bias) << f.mantissa);
    // Below the smallest normal the codes count multiples of one step: adding 2^23 steps rounds to them.
    const float anchor = power_of_two(23 + 1 - f.bias - f.mantissa);
    const u32x16 subnormal = (u32x16)((f32x16)m + anchor) - bits_of_float(anchor);
    u32x16 code = m < (uint32_t)(128 - f.bias) << 23 ? subnormal : normal;
    code = __builtin_elementwise_min(code, (u32x16)(uint32_t)f.largest);
    if (f.unsigned_zero) {
        code = code == 0 ? code : (code | sign);
        return m >= 0x7F800000 ? (u32x16)0x80 : code;
    }
    if (f.has_infinity) {
        code = m == 0x7F800000 ? (u32x16)0x7C : code;
        return sign | (m > 0x7F800000 ? (u32x16)0x7E : code);
    }
    return sign | (m >= 0x7F800000 ? (u32x16)0x7F : code);
}

CBK_INLINE u32x16 f8_bits(u32x16 code, f8_format f) {
    const u32x16 sign = (code & 0x80) << 24, m = code & 0x7F;
    const u32x16 normal = (m << (23 - f.mantissa)) + ((uint32_t)(127 - f.bias) << 23);
    const u32x16 subnormal = (u32x16)(float_of_u32(m) * power_of_two(1 - f.bias - f.mantissa));
    u32x16 bits = sign | (m < 1u << f.mantissa ? subnormal : normal);
    if (f.unsigned_zero) return code == 0x80 ? (u32x16)0x7FC00000 : bits;
    if (f.has_infinity) bits = m == 0x7C ? (sign | 0x7F800000) : bits;
    return m > (uint32_t)f.largest + (f.has_infinity ? 1 : 0) ? (sign | 0x7FC00000) : bits;
}

#define CBK_F8(type, format)                                                                \
    CBK_INLINE void decode_##type##_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {  \
        (void)tier;                                                                         \
        const u32x16 bits = f8_bits(widen_u8(load_u8(from)), format);                       \
        memcpy(to, &bits, sizeof bits);                                                     \
    }                                                                                       \
    CBK_INLINE void encode_##type##_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {  \
        (void)tier;                                                                         \
        store_u8(to, narrow_u8(f8_codes((u32x16)read_f32(from), format)));                  \
    }                                                                                       \
    CBK_SCALAR_DECODER(type, 1)                                                             \
    CBK_SCALAR_ENCODER(type, 1)
CBK_F8(f8_e4m3, e4m3)
CBK_F8(f8_e5m2, e5m2)
CBK_F8(f8_e4m3fnuz, e4m3fnuz)
CBK_F8(f8_e5m2fnuz, e5m2fnuz)

CBK_INLINE void decode_f8_e8m0_x16(cbk_tier tier, const uint8_t *from, uint8_t *to) {
    (void)tier;
    const u32x16 code = widen_u8(load_u8(from));
    u32x16 bits = code << 23;
    bits = code == 0 ? (u32x16)0x00400000 : bits;
    bits = code == 255 ? (u32x16)0x7FC00000 : bits;
    memcpy(to, &bits, sizeof bits);
}
CBK_SCALAR_DECODER(f8_e8m0, 1)

// MARK: Block-FP8

CBK_INLINE void scale_encode_f8(cbk_tier tier, const float *values, float scale, uint8_t *codes, size_t count) {
    (void)tier;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const f32x16 quotient = load_f32(values + i) / scale;
        store_u8(codes + i, narrow_u8(f8_codes((u32x16)quotient, e4m3)));
    }
    if (i < count) {
        float in[16] = {0};
        uint8_t out[16];
        memcpy(in, values + i, (count - i) * sizeof(float));
        const f32x16 quotient = load_f32(in) / scale;
        store_u8(out, narrow_u8(f8_codes((u32x16)quotient, e4m3)));
        memcpy(codes + i, out, count - i);
    }
}

CBK_INLINE void scale_decode_f8(cbk_tier tier, const uint8_t *codes, float scale, float *values, size_t count) {
    (void)tier;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        store_f32(values + i, (f32x16)f8_bits(widen_u8(load_u8(codes + i)), e4m3) * scale);
    }
    if (i < count) {
        uint8_t in[16] = {0};
        float out[16];
        memcpy(in, codes + i, count - i);
        store_f32(out, (f32x16)f8_bits(widen_u8(load_u8(in)), e4m3) * scale);
        memcpy(values + i, out, (count - i) * sizeof(float));
    }
}

CBK_FORMS(scaled_encode, scale_encode_f8, (const float *values, float scale, uint8_t *codes, size_t count), values,
          scale, codes, count)
CBK_FORMS(scaled_decode, scale_decode_f8, (const uint8_t *codes, float scale, float *values, size_t count), codes,
          scale, values, count)

void cbk_encode_scaled_f8_e4m3(cbk_tier tier, const float *values, float scale, uint8_t *codes, size_t count) {
    CBK_DISPATCH(scaled_encode, tier, values, scale, codes, count)
}

void cbk_decode_scaled_f8_e4m3(cbk_tier tier, const uint8_t *codes, float scale, float *values, size_t count) {
    CBK_DISPATCH(scaled_decode, tier, codes, scale, values, count)
}
