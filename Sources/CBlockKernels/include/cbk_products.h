#ifndef CBK_PRODUCTS_H
#define CBK_PRODUCTS_H

#include "cbk_common.h"

/// Products of a few vectors with the rows of a matrix: `y[t * y_stride + r]` = the sum of `x[t * columns + c]` times
/// `w[r * columns + c]` over all columns c. Sums are kept in F32, a dozen and more of them side by side.
///
/// For a few vectors only: each row is read once for every four of them.
void cbk_row_products(cbk_tier tier, const float *x, size_t vectors, const float *w, size_t rows, size_t columns,
                      float *y, size_t y_stride);

#endif
