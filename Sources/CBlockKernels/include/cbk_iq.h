#ifndef CBK_IQ_H
#define CBK_IQ_H

#include "cbk_common.h"

/// The codebooks of the IQ formats. IQ1_S and IQ1_M share one.
typedef enum cbk_iq_codebook : int32_t {
    CBK_IQ2_XXS = 0,
    CBK_IQ2_XS = 1,
    CBK_IQ2_S = 2,
    CBK_IQ1 = 3,
    CBK_IQ3_XXS = 4,
    CBK_IQ3_S = 5,
} cbk_iq_codebook;

/// The points of a codebook in ascending order, and how many there are. The first coordinate is in the lowest bits:
/// four coordinates of three bits for IQ3, eight of two bits for the others.
const uint16_t *cbk_iq_points(cbk_iq_codebook codebook, size_t *count);

// Blocks to F32, as cbk_decode_fn.
void cbk_iq1_s_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq1_m_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq2_xxs_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq2_xs_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq2_s_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq3_xxs_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq3_s_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq4_nl_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
void cbk_iq4_xs_decode(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);

// F32 rows to blocks, as cbk_encode_fn. IQ2_XXS, IQ2_XS and IQ1_S need an importance row.
void cbk_iq1_s_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                      uint8_t *blocks);
void cbk_iq2_xxs_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                        uint8_t *blocks);
void cbk_iq2_xs_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                       uint8_t *blocks);
void cbk_iq2_s_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                      uint8_t *blocks);
void cbk_iq3_xxs_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                        uint8_t *blocks);
void cbk_iq3_s_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                      uint8_t *blocks);
void cbk_iq4_nl_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                       uint8_t *blocks);
void cbk_iq4_xs_encode(cbk_tier tier, const float *values, const float *importance, size_t rows, size_t columns,
                       uint8_t *blocks);

#endif
