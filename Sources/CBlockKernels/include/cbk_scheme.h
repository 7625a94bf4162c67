#ifndef CBK_SCHEME_H
#define CBK_SCHEME_H

#include "cbk_common.h"

#include <stdbool.h>

// Codes with separate scales. The definitions are Schemes/SchemeRule.swift, SchemeSearch.swift and SchemeTwin.swift
// in the Quantization module.

/// How quotients become codes.
typedef enum cbk_codes : int32_t {
    CBK_CODES_E4M3,
    CBK_CODES_E2M1,
    CBK_CODES_INT4,
    CBK_CODES_INT8,
} cbk_codes;

/// How the largest magnitude of a group becomes a scale, and how it is stored.
typedef enum cbk_scales : int32_t {
    CBK_SCALES_F32,
    CBK_SCALES_BF16,
    CBK_SCALES_E4M3_DIVIDED,
    CBK_SCALES_E4M3_MULTIPLIED,
    CBK_SCALES_E8M0_UP,
    CBK_SCALES_E8M0_DOWN,
} cbk_scales;

/// The arithmetic of one scheme.
typedef struct cbk_scheme {
    cbk_codes codes;
    cbk_scales scales;
    size_t group;          // elements that share a scale, a multiple of 16 up to 256; 0 for rows
    float divisor;         // of amax, for F32 and BF16 scales
    float lowest;          // of INT8
    float matrix_scale;    // as stored
    bool rounds_quotients; // to BF16
    bool signs_zeros;
} cbk_scheme;

/// What a search has gained.
typedef struct cbk_search_errors {
    double before;
    double after;
} cbk_search_errors;

/// Encodes rows with the scales of the scheme's own library.
void cbk_scheme_encode(cbk_tier tier, const cbk_scheme *scheme, const float *values, size_t rows, size_t columns,
                       uint8_t *codes, uint8_t *scales);

/// Encodes rows with scales of small squared error. `importance`: one weight per column, or NULL.
void cbk_scheme_search(cbk_tier tier, const cbk_scheme *scheme, const float *values, const float *importance,
                       size_t rows, size_t columns, uint8_t *codes, uint8_t *scales, cbk_search_errors *errors);

/// Decodes rows.
void cbk_scheme_decode(cbk_tier tier, const cbk_scheme *scheme, const uint8_t *codes, const uint8_t *scales,
                       size_t rows, size_t columns, float *values);

/// The largest magnitude of `count` elements; a NaN if there is one.
float cbk_amax_f32(cbk_tier tier, const uint8_t *elements, size_t count);
float cbk_amax_bf16(cbk_tier tier, const uint8_t *elements, size_t count);

// Four-bit floats between GGML's blocks and safetensors: `count` blocks of 32 (MXFP4) or 64 (NVFP4) elements.

/// Return the first group whose scale is not a number there though it is one here, or -1.
ptrdiff_t cbk_unpack_mxfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales);
ptrdiff_t cbk_unpack_nvfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales);
void cbk_pack_mxfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks);
void cbk_pack_nvfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks);

/// The index of the first byte that is at least `value`, or -1.
ptrdiff_t cbk_first_byte_from(cbk_tier tier, const uint8_t *bytes, size_t count, uint8_t value);

#endif
