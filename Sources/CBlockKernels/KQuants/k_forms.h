// One form (instruction set) of every K kernel, and the forms there are.
#ifndef K_FORMS_H
#define K_FORMS_H

#include "cbk_k.h"

typedef void (*k_decode_fn)(const uint8_t *blocks, float *values, size_t count);
typedef void (*k_encode_fn)(const float *values, const float *importance, size_t rows, size_t columns,
                            uint8_t *blocks);

typedef struct k_forms {
    k_decode_fn q2_decode, q3_decode, q4_decode, q5_decode, q6_decode, q8_decode;
    k_encode_fn q2_encode, q3_encode, q4_encode, q5_encode, q6_encode, q8_encode;
} k_forms;

/// Vectors of four, which every 64-bit processor has (SSE2, NEON).
extern const k_forms k_forms_portable;
#if defined(__x86_64__)
extern const k_forms k_forms_avx2;
extern const k_forms k_forms_avx512;
#endif

#endif
