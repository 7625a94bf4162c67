#ifndef CBK_K_H
#define CBK_K_H

#include "cbk_common.h"

// The K formats: super-blocks of 256 elements whose sub-blocks (16 or 32 elements) have quantised scales.
// Every function is a cbk_decode_fn or a cbk_encode_fn.

void cbk_q2_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_q3_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_q4_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_q5_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_q6_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_q8_k_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);

void cbk_q2_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);
void cbk_q3_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);
void cbk_q4_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);
void cbk_q5_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);
void cbk_q6_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);
/// Ignores `importance`.
void cbk_q8_k_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                     uint8_t *blocks);

#endif
