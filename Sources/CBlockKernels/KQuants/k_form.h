// Makes one form of every K kernel. The including file defines K_LANES and K_FORMS and sets the target
// instructions.

#include "k_lanes.h"
#include "k_search.h"
#include "k_search_affine.h"
#include "k_search_signed.h"
#include "k_search_descent.h"
#include "k_search_scales.h"
#include "k_batch.h"
#include "k_encode.h"
#include "k_encode_affine.h"
#include "k_encode_signed.h"
#include "k_encode_q8.h"
#include "k_decode.h"

#define K_ENCODE(name, bytes)                                                                                \
    static void name##_encode(const float *values, const float *importance, size_t rows, size_t columns,     \
                              uint8_t *blocks) {                                                             \
        encode_rows(values, importance, rows, columns, blocks, bytes, name##_search, name##_pack);           \
    }

K_ENCODE(q2, 84)
K_ENCODE(q3, 110)
K_ENCODE(q4, 144)
K_ENCODE(q5, 176)
K_ENCODE(q6, 210)

const k_forms K_FORMS = {
    .q2_decode = q2_decode,
    .q3_decode = q3_decode,
    .q4_decode = q4_decode,
    .q5_decode = q5_decode,
    .q6_decode = q6_decode,
    .q8_decode = q8_decode,
    .q2_encode = q2_encode,
    .q3_encode = q3_encode,
    .q4_encode = q4_encode,
    .q5_encode = q5_encode,
    .q6_encode = q6_encode,
    .q8_encode = q8_encode,
};
