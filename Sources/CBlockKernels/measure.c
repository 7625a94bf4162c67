// What is measured while tensors are converted. The definitions are Measures/ErrorSums.swift and
// Measures/FiniteCheck.swift.
#include "cbk_measure.h"

#include "vector.h"

#pragma STDC FP_CONTRACT OFF

// MARK: NaN and infinity

CBK_INLINE void first_nonfinite(cbk_tier tier, const float *values, size_t count, ptrdiff_t *found) {
    (void)tier;
    enum { STEP = 64 };
    size_t i = 0;
    for (; i + STEP <= count; i += STEP) {
        u32x16 largest = magnitude_bits(load_f32(values + i));
        for (int part = 16; part < STEP; part += 16) {
            largest = __builtin_elementwise_max(largest, magnitude_bits(load_f32(values + i + part)));
        }
        if (__builtin_reduce_or((i32x16)largest >= 0x7F800000)) break;
    }
    for (; i < count; i++) {
        if ((bits_of_float(values[i]) & 0x7F800000u) == 0x7F800000u) {
            *found = (ptrdiff_t)i;
            return;
        }
    }
    *found = -1;
}

CBK_FORMS(finite_check, first_nonfinite, (const float *values, size_t count, ptrdiff_t *found), values, count, found)

ptrdiff_t cbk_first_nonfinite(cbk_tier tier, const float *values, size_t count) {
    ptrdiff_t found;
    CBK_DISPATCH(finite_check, tier, values, count, &found)
    return found;
}

// MARK: Error sums

/// sum + a b. The product of two F32 is exact in F64, so that fusing the two changes nothing.
CBK_INLINE f64x16 add_product(cbk_tier tier, f64x16 sum, f64x16 a, f64x16 b) {
    if (tier == CBK_AVX2 || tier == CBK_AVX512) return __builtin_elementwise_fma(a, b, sum);
    return sum + a * b;
}

CBK_INLINE f64x16 load_f64(const double *from) {
    f64x16 v;
    memcpy(&v, from, sizeof v);
    return v;
}

CBK_INLINE void store_f64(double *to, f64x16 v) { memcpy(to, &v, sizeof v); }

CBK_INLINE void add_errors(cbk_tier tier, const float *original, const float *restored, size_t count,
                           cbk_lane_sums *sums) {
    f64x16 ee = load_f64(sums->squared_errors), xx = load_f64(sums->original_squares);
    f64x16 yy = load_f64(sums->restored_squares), xy = load_f64(sums->products);
    u32x16 most = bits_of_float(sums->largest_error);
    float rest[32] = {0};
    for (size_t i = 0; i < count; i += 16) {
        const float *from = original + i, *to = restored + i;
        if (count - i < 16) {  // missing lanes add zeros
            memcpy(rest, from, (count - i) * sizeof(float));
            memcpy(rest + 16, to, (count - i) * sizeof(float));
            from = rest;
            to = rest + 16;
        }
        const f32x16 x = load_f32(from), y = load_f32(to);
        const f32x16 e = x - y;
        most = __builtin_elementwise_max(most, magnitude_bits(e));
        const f64x16 ed = __builtin_convertvector(e, f64x16);
        const f64x16 xd = __builtin_convertvector(x, f64x16);
        const f64x16 yd = __builtin_convertvector(y, f64x16);
        ee = add_product(tier, ee, ed, ed);
        xx = add_product(tier, xx, xd, xd);
        yy = add_product(tier, yy, yd, yd);
        xy = add_product(tier, xy, xd, yd);
    }
    store_f64(sums->squared_errors, ee);
    store_f64(sums->original_squares, xx);
    store_f64(sums->restored_squares, yy);
    store_f64(sums->products, xy);
    sums->largest_error = float_of_bits(__builtin_reduce_max(most));
}

CBK_FORMS(errors_of, add_errors, (const float *original, const float *restored, size_t count, cbk_lane_sums *sums),
          original, restored, count, sums)

void cbk_add_errors(cbk_tier tier, const float *original, const float *restored, size_t count, cbk_lane_sums *sums) {
    CBK_DISPATCH(errors_of, tier, original, restored, count, sums)
}

static double in_order(const double lanes[16]) {
    double sum = lanes[0];
    for (int lane = 1; lane < 16; lane++) sum += lanes[lane];
    return sum;
}

cbk_sums cbk_total_errors(const cbk_lane_sums *lanes) {
    return (cbk_sums){
        .squared_errors = in_order(lanes->squared_errors),
        .original_squares = in_order(lanes->original_squares),
        .restored_squares = in_order(lanes->restored_squares),
        .products = in_order(lanes->products),
    };
}
