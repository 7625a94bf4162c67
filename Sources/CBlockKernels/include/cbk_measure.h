#ifndef CBK_MEASURE_H
#define CBK_MEASURE_H

#include "cbk_common.h"

/// The index of the first NaN or infinity, or -1.
ptrdiff_t cbk_first_nonfinite(cbk_tier tier, const float *values, size_t count);

/// Sums over pairs of an original value x and a restored value y, the ith pair in lane i mod 16. They start at zero.
typedef struct cbk_lane_sums {
    double squared_errors[16];    // Σ (x - y)², the difference rounded to F32
    double original_squares[16];  // Σ x²
    double restored_squares[16];  // Σ y²
    double products[16];          // Σ x y
    float largest_error;          // max |x - y|: not finite where a difference is not
} cbk_lane_sums;

/// Adds `count` pairs, the first in lane 0.
void cbk_add_errors(cbk_tier tier, const float *original, const float *restored, size_t count, cbk_lane_sums *sums);

/// The sums over all lanes.
typedef struct cbk_sums {
    double squared_errors, original_squares, restored_squares, products;
} cbk_sums;

/// Adds the lanes up, in order, so that every tier gives the same bits.
cbk_sums cbk_total_errors(const cbk_lane_sums *lanes);

#endif
