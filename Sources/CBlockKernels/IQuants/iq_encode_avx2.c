// The IQ encoders in AVX2, eight sub-blocks at a time. The searches are in the headers included here.
#if defined(__x86_64__)
#pragma STDC FP_CONTRACT OFF

#include <immintrin.h>
#include "iq_common.h"
#include "iq_grid.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt"))), apply_to = function)
#define IQ_LANES 8
#include "iq_lanes.h"
#include "iq_nearest.h"
#include "iq_search_levels.h"
#include "iq_search_lattice.h"
#include "iq_blocks_lattice.h"
#include "iq_search_ternary.h"
#pragma clang attribute pop

const iq_encoders iq_encoders_avx2 = {
    .iq4_nl = encode_iq4_nl,
    .iq4_xs = encode_iq4_xs,
    .iq3_xxs = encode_iq3_xxs,
    .iq3_s = encode_iq3_s,
    .iq2_xxs = encode_iq2_xxs,
    .iq2_xs = encode_iq2_xs,
    .iq2_s = encode_iq2_s,
    .iq1_s = encode_iq1_s,
};

#endif
