// Vectors of sixteen lanes, for the flat kernels, the schemes and the measures.
//
// A kernel body is written once, with sixteen-lane vectors of the compiler, as an always-inlined function that takes
// the tier as a constant. CBK_DECODER and CBK_ENCODER instantiate it for each instruction set: sixteen lanes are one
// AVX-512 register, two AVX2 registers, or four SSE2 or NEON registers. Since every operation is the same IEEE
// operation on the same element in each form, all forms return the same bits.
#ifndef VECTOR_H
#define VECTOR_H

#include "cbk_common.h"

#include <stdbool.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
// Bodies pass vectors only among functions that are always inlined, so that no calling convention is involved.
#pragma clang diagnostic ignored "-Wpsabi"

#define CBK_INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef double f64x16 __attribute__((ext_vector_type(16)));
typedef _Float16 f16x16 __attribute__((ext_vector_type(16)));
typedef int32_t i32x16 __attribute__((ext_vector_type(16)));
typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
typedef uint16_t u16x16 __attribute__((ext_vector_type(16)));
typedef uint8_t u8x16 __attribute__((ext_vector_type(16)));
typedef int8_t i8x16 __attribute__((ext_vector_type(16)));
typedef bool b1x16 __attribute__((ext_vector_type(16)));

// MARK: Loads, stores, scalars

CBK_INLINE f32x16 load_f32(const float *from) {
    f32x16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

CBK_INLINE void store_f32(float *to, f32x16 v) { memcpy(to, &v, sizeof v); }

CBK_INLINE u8x16 load_u8(const uint8_t *from) {
    u8x16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

CBK_INLINE void store_u8(uint8_t *to, u8x16 v) { memcpy(to, &v, sizeof v); }

CBK_INLINE u32x16 widen_u8(u8x16 v) { return __builtin_convertvector(v, u32x16); }

CBK_INLINE u8x16 narrow_u8(u32x16 v) { return __builtin_convertvector(v, u8x16); }

CBK_INLINE f32x16 float_of_u32(u32x16 v) { return __builtin_convertvector((i32x16)v, f32x16); }

CBK_INLINE float float_of_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

CBK_INLINE uint32_t bits_of_float(float f) { return __builtin_bit_cast(uint32_t, f); }

CBK_INLINE u32x16 magnitude_bits(f32x16 v) { return (u32x16)v & 0x7FFFFFFFu; }

/// One bit per lane, lane 0 lowest; the lanes are all ones or all zeros.
CBK_INLINE uint32_t lane_mask(i32x16 lanes) {
    const b1x16 bits = __builtin_convertvector(lanes, b1x16);
    uint16_t mask;
    memcpy(&mask, &bits, sizeof mask);
    return mask;
}

CBK_INLINE i32x16 lane_numbers(void) {
    return (i32x16){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}

/// All ones in the lanes whose bit is set.
CBK_INLINE i32x16 lanes_of_mask(uint32_t mask) {
    const u32x16 bit = {1,       1 << 1,  1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                        1 << 8,  1 << 9,  1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
    return ((u32x16)mask & bit) != 0;
}

/// Rounds halves away from zero, as C's roundf; for magnitudes below 2^22. Adding the largest float below one half
/// (not one half, which would lift 0.49999997 to 1) and truncating does it.
CBK_INLINE i32x16 round_away(f32x16 v) {
    const u32x16 sign = (u32x16)v & 0x80000000u;
    const f32x16 half = (f32x16)(sign | 0x3EFFFFFFu);
    return __builtin_convertvector(v + half, i32x16);
}

// MARK: Half precision

CBK_INLINE uint16_t half_of_float(cbk_tier tier, float f) {
    if (tier == CBK_AVX2 || tier == CBK_AVX512) {
        return __builtin_bit_cast(uint16_t, (_Float16)f);
    }
    const uint32_t bits = bits_of_float(f);
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (magnitude > 0x7F800000u) return sign | 0x7E00u;
    if (magnitude >= 0x47800000u) return sign | 0x7C00u;  // 65536 and more
    if (magnitude < 0x38800000u) {                        // below 2^-14: let an addition round at 2^-24
        return sign | (uint16_t)(bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3F000000u);
    }
    const uint32_t rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
    return sign | (uint16_t)((rounded >> 13) - (112u << 10));
}

CBK_INLINE float float_of_half(cbk_tier tier, uint16_t h) {
    if (tier == CBK_AVX2 || tier == CBK_AVX512) {
        return (float)__builtin_bit_cast(_Float16, h);
    }
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t magnitude = h & 0x7FFFu;
    if (magnitude > 0x7C00u) return float_of_bits(sign | 0x7FC00000u | magnitude << 13);
    if (magnitude == 0x7C00u) return float_of_bits(sign | 0x7F800000u);
    if (magnitude < 0x400u) return float_of_bits(sign | bits_of_float((float)magnitude * 0x1p-24f));
    return float_of_bits(sign | ((magnitude << 13) + (112u << 23)));
}

CBK_INLINE float load_half(cbk_tier tier, const uint8_t *from) {
    return float_of_half(tier, (uint16_t)(from[0] | from[1] << 8));
}

CBK_INLINE void store_half(cbk_tier tier, uint8_t *to, float f) {
    const uint16_t h = half_of_float(tier, f);
    to[0] = (uint8_t)h;
    to[1] = (uint8_t)(h >> 8);
}

CBK_INLINE uint32_t load_u32(const uint8_t *from) {
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

CBK_INLINE void store_u32(uint8_t *to, uint32_t v) {
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
    to[2] = (uint8_t)(v >> 16);
    to[3] = (uint8_t)(v >> 24);
}

// MARK: One function per instruction set

#if defined(__x86_64__)
#define CBK_TARGET_AVX2 __attribute__((target("avx2,f16c,bmi2,fma")))
#define CBK_TARGET_AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,f16c,bmi2,fma")))
#define CBK_FORMS(name, body, parameters, ...)                                                  \
    CBK_TARGET_AVX2 static void name##_avx2 parameters { body(CBK_AVX2, __VA_ARGS__); }         \
    CBK_TARGET_AVX512 static void name##_avx512 parameters { body(CBK_AVX512, __VA_ARGS__); }   \
    static void name##_portable parameters { body(CBK_PORTABLE, __VA_ARGS__); }
#define CBK_DISPATCH(name, tier, ...)                            \
    switch (tier) {                                              \
        case CBK_AVX512: name##_avx512(__VA_ARGS__); break;      \
        case CBK_AVX2: name##_avx2(__VA_ARGS__); break;          \
        default: name##_portable(__VA_ARGS__); break;            \
    }
#else
#define CBK_FORMS(name, body, parameters, ...) \
    static void name##_portable parameters { body(CBK_PORTABLE, __VA_ARGS__); }
#define CBK_DISPATCH(name, tier, ...) \
    (void)tier;                       \
    name##_portable(__VA_ARGS__);
#endif

#define CBK_DECODER(name, body)                                                                     \
    CBK_FORMS(name, body, (const uint8_t *blocks, float *values, size_t count), blocks, values, count) \
    void name(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {                  \
        CBK_DISPATCH(name, tier, blocks, values, count)                                             \
    }

#define CBK_ENCODER(name, body)                                                                               \
    CBK_FORMS(name, body,                                                                                     \
              (const float *values, const float *importance, size_t rows, size_t columns, uint8_t *blocks),   \
              values, importance, rows, columns, blocks)                                                      \
    void name(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,       \
              uint8_t *blocks) {                                                                              \
        CBK_DISPATCH(name, tier, values, importance, rows, columns, blocks)                                   \
    }

/// A decoder body out of a function of one block.
#define CBK_DECODE_BODY(body, block, elements, bytes)                                                   \
    CBK_INLINE void body(cbk_tier tier, const uint8_t *blocks, float *values, size_t count) {           \
        for (size_t i = 0; i < count / (elements); i++) {                                               \
            block(tier, blocks + i * (bytes), values + i * (elements));                                 \
        }                                                                                               \
    }

/// An encoder body out of a function of one block; for formats that know no importance.
#define CBK_ENCODE_BODY(body, block, elements, bytes)                                                   \
    CBK_INLINE void body(cbk_tier tier, const float *values, const float *importance, size_t rows,      \
                         size_t columns, uint8_t *blocks) {                                             \
        (void)importance;                                                                               \
        for (size_t i = 0; i < rows * columns / (elements); i++) {                                      \
            block(tier, values + i * (elements), blocks + i * (bytes));                                 \
        }                                                                                               \
    }

#endif
