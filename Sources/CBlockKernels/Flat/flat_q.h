// What the two encoders of Q4_0, Q4_1, Q5_0 and Q5_1, plain and weighted by importance, share.
#ifndef FLAT_Q_H
#define FLAT_Q_H

#include "../vector.h"

void cbk_weighted_q4_0(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_weighted_q4_1(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_weighted_q5_0(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_weighted_q5_1(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_plain_q4_0(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_plain_q4_1(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_plain_q5_0(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);
void cbk_plain_q5_1(cbk_tier, const float *, const float *, size_t, size_t, uint8_t *);

/// Stores 32 levels of `bits` (4 or 5): fifth bits first, then byte j = element j low, element j + 16 high.
CBK_INLINE void store_levels(uint8_t *to, u32x16 q0, u32x16 q1, int bits) {
    if (bits == 5) {
        store_u32(to, lane_mask((q0 & 16) != 0) | lane_mask((q1 & 16) != 0) << 16);
        to += 4;
    }
    store_u8(to, narrow_u8((q0 & 15) | (q1 & 15) << 4));
}

#endif
