#ifndef CBK_PLANES_H
#define CBK_PLANES_H

#include "cbk_common.h"

/// Takes `count` little-endian floats of `width` bytes (2 or 4) apart into planes of `count` bytes each, one behind the
/// other: the eight bits below the sign; the sign above the seven bits below those; then the bytes that are left, from
/// the most significant to the least.
void cbk_split_planes(cbk_tier tier, const uint8_t *elements, size_t count, size_t width, uint8_t *planes);

/// Puts together what cbk_split_planes took apart.
void cbk_join_planes(cbk_tier tier, const uint8_t *planes, size_t count, size_t width, uint8_t *elements);

#endif
