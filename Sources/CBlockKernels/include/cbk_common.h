#ifndef CBK_COMMON_H
#define CBK_COMMON_H

#include <stddef.h>
#include <stdint.h>

/// The instruction sets a kernel can be asked to use. A kernel without a form for a tier uses the next lower one.
typedef enum cbk_tier : int32_t {
    CBK_PORTABLE = 0,
    CBK_AVX2 = 1,    // with F16C and BMI2; results never depend on FMA
    CBK_AVX512 = 2,  // F, BW, DQ, VL and VBMI
    CBK_NEON = 3,
} cbk_tier;

/// The best tier this processor runs.
cbk_tier cbk_best_tier(void);

/// Decodes `count` elements (a whole number of blocks) to F32.
typedef void (*cbk_decode_fn)(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);

/// Encodes `rows` rows of `columns` F32 values each (a whole number of blocks per row).
/// `importance`: one non-negative weight per column, or NULL.
typedef void (*cbk_encode_fn)(cbk_tier tier, const float *values, const float *importance, size_t rows,
                              size_t columns, uint8_t *blocks);

#endif
