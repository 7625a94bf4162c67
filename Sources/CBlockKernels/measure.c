// What is measured while tensors are converted. The definitions are Measures/ErrorSums.swift and
// Measures/FiniteCheck.swift.
#include "cbk_measure.h"

#include "flat_vector.h"

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

// MARK: Largest magnitude

CBK_INLINE void largest_of(cbk_tier tier, const float *values, size_t count, float *largest) {
    (void)tier;
    u32x16 most = 0;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) most = __builtin_elementwise_max(most, magnitude_bits(load_f32(values + i)));
    uint32_t all = __builtin_reduce_max(most);
    for (; i < count; i++) {
        const uint32_t magnitude = bits_of_float(values[i]) & 0x7FFFFFFFu;
        all = magnitude > all ? magnitude : all;
    }
    *largest = float_of_bits(all);
}

CBK_FORMS(largest, largest_of, (const float *values, size_t count, float *result), values, count, result)

float cbk_largest_magnitude(cbk_tier tier, const float *values, size_t count) {
    float result;
    CBK_DISPATCH(largest, tier, values, count, &result)
    return result;
}

// MARK: Error sums

/// sum + a b. The product of two F32 is exact in F64, so that fusing the two changes nothing.
CBK_INLINE f64x16 add_product(cbk_tier tier, f64x16 sum, f64x16 a, f64x16 b) {
    if (tier == CBK_AVX2 || tier == CBK_AVX512) return __builtin_elementwise_fma(a, b, sum);
    return sum + a * b;
}

CBK_INLINE double in_order(f64x16 lanes) {
    double sum = lanes[0];
    for (int lane = 1; lane < 16; lane++) sum += lanes[lane];
    return sum;
}

CBK_INLINE void error_sums(cbk_tier tier, const float *original, const float *restored, size_t count,
                           cbk_sums *sums) {
    f64x16 ee = 0, xx = 0, yy = 0, xy = 0;
    u32x16 most = 0;
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
    sums->squared_errors = in_order(ee);
    sums->original_squares = in_order(xx);
    sums->restored_squares = in_order(yy);
    sums->products = in_order(xy);
    sums->largest_error = float_of_bits(__builtin_reduce_max(most));
}

CBK_FORMS(sums_of, error_sums, (const float *original, const float *restored, size_t count, cbk_sums *sums), original,
          restored, count, sums)

void cbk_error_sums(cbk_tier tier, const float *original, const float *restored, size_t count, cbk_sums *sums) {
    CBK_DISPATCH(sums_of, tier, original, restored, count, sums)
}
