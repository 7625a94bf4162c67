#ifndef CBK_FLAT_H
#define CBK_FLAT_H

#include "cbk_common.h"

// The formats whose elements are rounded one by one. The two macros declare cbk_decode_<type> and cbk_encode_<type>.
#define CBK_DECLARE_DECODER(type) \
    void cbk_decode_##type(cbk_tier tier, const uint8_t *blocks, float *values, size_t count);
#define CBK_DECLARE_ENCODER(type)                                                                             \
    void cbk_encode_##type(cbk_tier tier, const float *values, const float *importance, size_t rows,          \
                           size_t columns, uint8_t *blocks);

CBK_DECLARE_DECODER(f32)
CBK_DECLARE_DECODER(f16)
CBK_DECLARE_DECODER(bf16)
CBK_DECLARE_DECODER(f64)
CBK_DECLARE_DECODER(f8_e4m3)
CBK_DECLARE_DECODER(f8_e5m2)
CBK_DECLARE_DECODER(f8_e4m3fnuz)
CBK_DECLARE_DECODER(f8_e5m2fnuz)
CBK_DECLARE_DECODER(f8_e8m0)
CBK_DECLARE_DECODER(f4)
CBK_DECLARE_DECODER(f6_e2m3)
CBK_DECLARE_DECODER(f6_e3m2)
CBK_DECLARE_DECODER(q4_0)
CBK_DECLARE_DECODER(q4_1)
CBK_DECLARE_DECODER(q5_0)
CBK_DECLARE_DECODER(q5_1)
CBK_DECLARE_DECODER(q8_0)
CBK_DECLARE_DECODER(q8_1)
CBK_DECLARE_DECODER(mxfp4)
CBK_DECLARE_DECODER(nvfp4)
CBK_DECLARE_DECODER(tq1_0)
CBK_DECLARE_DECODER(tq2_0)
CBK_DECLARE_DECODER(q1_0)
CBK_DECLARE_DECODER(q2_0)

CBK_DECLARE_ENCODER(f32)
CBK_DECLARE_ENCODER(f16)
CBK_DECLARE_ENCODER(bf16)
CBK_DECLARE_ENCODER(f64)
CBK_DECLARE_ENCODER(f8_e4m3)
CBK_DECLARE_ENCODER(f8_e5m2)
CBK_DECLARE_ENCODER(f8_e4m3fnuz)
CBK_DECLARE_ENCODER(f8_e5m2fnuz)
CBK_DECLARE_ENCODER(q4_0)
CBK_DECLARE_ENCODER(q4_1)
CBK_DECLARE_ENCODER(q5_0)
CBK_DECLARE_ENCODER(q5_1)
CBK_DECLARE_ENCODER(q8_0)
CBK_DECLARE_ENCODER(mxfp4)
CBK_DECLARE_ENCODER(nvfp4)
CBK_DECLARE_ENCODER(tq1_0)
CBK_DECLARE_ENCODER(tq2_0)
CBK_DECLARE_ENCODER(q1_0)
CBK_DECLARE_ENCODER(q2_0)

/// codes[i] = F8_E4M3(values[i] / scale), saturating.
void cbk_encode_scaled_f8_e4m3(cbk_tier tier, const float *values, float scale, uint8_t *codes, size_t count);

/// values[i] = F8_E4M3 codes[i] * scale.
void cbk_decode_scaled_f8_e4m3(cbk_tier tier, const uint8_t *codes, float scale, float *values, size_t count);

#endif
