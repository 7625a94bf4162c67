#ifndef CBK_MEASURE_H
#define CBK_MEASURE_H

#include "cbk_common.h"

/// The index of the first NaN or infinity, or -1.
ptrdiff_t cbk_first_nonfinite(cbk_tier tier, const float *values, size_t count);

/// Sums over pairs of an original value x and a restored value y.
typedef struct cbk_sums {
    double squared_errors;    // Σ (x - y)², the difference rounded to F32
    double original_squares;  // Σ x²
    double restored_squares;  // Σ y²
    double products;          // Σ x y
    float largest_error;      // max |x - y|
} cbk_sums;

/// The sums over `count` finite pairs. Element i is added in lane i mod 16, and the lanes are added in order, so that
/// every tier gives the same bits.
void cbk_error_sums(cbk_tier tier, const float *original, const float *restored, size_t count, cbk_sums *sums);

/// The largest magnitude; 0 for none. The values are finite.
float cbk_largest_magnitude(cbk_tier tier, const float *values, size_t count);

#endif
