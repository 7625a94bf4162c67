// Makes one form of every IQ encoder. The including file defines IQ_LANES and IQ_FORM and sets the target instructions.

#include "iq_lanes.h"
#include "iq_nearest.h"
#include "iq_search_levels.h"
#include "iq_search_lattice.h"
#include "iq_blocks_lattice.h"
#include "iq_search_ternary.h"

const iq_encoders IQ_FORM = {
    .iq4_nl = encode_iq4_nl,
    .iq4_xs = encode_iq4_xs,
    .iq3_xxs = encode_iq3_xxs,
    .iq3_s = encode_iq3_s,
    .iq2_xxs = encode_iq2_xxs,
    .iq2_xs = encode_iq2_xs,
    .iq2_s = encode_iq2_s,
    .iq1_s = encode_iq1_s,
};
