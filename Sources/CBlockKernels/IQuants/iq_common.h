// What the IQ kernels share: half precision, little-endian stores, the searches' entry points.
#ifndef IQ_COMMON_H
#define IQ_COMMON_H

#include "cbk_iq.h"

#include <string.h>

/// A half-precision number's value.
static inline float iq_from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3FF;
    uint32_t bits;
    if (exponent == 0) {
        const float magnitude = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &magnitude, sizeof bits);
    } else {
        bits = (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// The nearest half-precision number, ties to even; too large becomes infinity, NaN becomes 0x7E00 with its sign.
static inline uint16_t iq_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return sign | 0x7E00;
    if (bits >= 0x477FF000) return sign | 0x7C00;  // 65520 and above
    if (bits < 0x38800000) {                       // below the least normal half: a multiple of 2^-24
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;  // the sum's unit in the last place is 2^-24
        memcpy(&bits, &magnitude, sizeof bits);
        return sign | (uint16_t)(bits - 0x3F000000);
    }
    const uint32_t odd = bits >> 13 & 1;
    return sign | (uint16_t)((bits - 0x38000000 + 0xFFF + odd) >> 13);
}

static inline void iq_put16(uint8_t *target, uint16_t value) { memcpy(target, &value, sizeof value); }
static inline void iq_put32(uint8_t *target, uint32_t value) { memcpy(target, &value, sizeof value); }
static inline uint16_t iq_get16(const uint8_t *source) { uint16_t v; memcpy(&v, source, sizeof v); return v; }
static inline uint32_t iq_get32(const uint8_t *source) { uint32_t v; memcpy(&v, source, sizeof v); return v; }

/// The reference's rounding; see vf_nearest in iq_lanes.h.
static inline int iq_nearest(float value) {
    const float shifted = value + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (bits & 0x7FFFFF) - 0x400000;
}

static inline int iq_clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/// Rows to encode and where the bytes go, as one flat run of blocks.
typedef struct iq_job {
    const float *values;
    const float *importance;  // NULL for none
    size_t elements;          // of all rows
    size_t columns;
    uint8_t *blocks;
} iq_job;

/// One set of encoders; there is one per tier.
typedef struct iq_encoders {
    void (*iq4_nl)(const iq_job *), (*iq4_xs)(const iq_job *);
    void (*iq3_xxs)(const iq_job *), (*iq3_s)(const iq_job *);
    void (*iq2_xxs)(const iq_job *), (*iq2_xs)(const iq_job *), (*iq2_s)(const iq_job *);
    void (*iq1_s)(const iq_job *);
} iq_encoders;

extern const iq_encoders iq_encoders_portable;
#if defined(__x86_64__)
extern const iq_encoders iq_encoders_avx2, iq_encoders_avx512;
#endif

#endif
