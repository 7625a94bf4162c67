// Search with a minimum: x = scale * l + minimum, 0 <= l <= levels.

typedef struct affine_fit {
    vf scale;
    vf offset;    // the minimum, negated
    vf inverse;   // l was found as nearest(inverse * (x - base))
    vf base;
    vi constant;  // lanes whose values are all alike: scale 0, every l 0
} affine_fit;

typedef struct affine_sums {
    vf l, l2, xl;  // sums of w l, w l l, w l x
} affine_sums;

/// The best l of every element for one candidate scale, and their weighted sums, in `blocks` blocks of n.
/// `high`: whether l can exceed `levels` and must be clamped. `wild`: whether the products can leave the
/// range of `rounded`.
K_INLINE void affine_pass(const vf *x, const vf *w, const int blocks, const int n, const int levels,
                          const vf *inverse, const vf *base, const int high, const int wild, vf *restrict l,
                          affine_sums *sums) {
    affine_sums sum[K_SIDE];
    for (int block = 0; block < blocks; ++block) sum[block] = (affine_sums){0, 0, 0};
#pragma clang loop unroll_count(2)
    for (int i = 0; i < n; ++i) {
#pragma clang loop unroll(full)
        for (int block = 0; block < blocks; ++block) {
            const vf value = x[n * block + i];
            const vf weight = w[n * block + i];
            const vf product = inverse[block] * (value - base[block]);
            vf level;
            if (wild) {
                level = nearest_clamped(product, 0, levels);
            } else {
                const vf above = not_below_zero(product);
                level = rounded(high ? at_most(above, (float)levels) : above);
            }
            l[n * block + i] = level;
            const vf wl = weight * level;
            sum[block].l += wl;
            sum[block].l2 += wl * level;
            sum[block].xl += wl * value;
        }
    }
    for (int block = 0; block < blocks; ++block) sums[block] = sum[block];
}

/// The weighted error (squared, or absolute if `absolute_error`) of scale * l + minimum.
K_INLINE void affine_error(const vf *x, const vf *w, const int blocks, const int n, const vf *scale,
                           const vf *minimum, const vf *l, const int absolute_error, vf *errors) {
    vf error[K_SIDE];
    for (int block = 0; block < blocks; ++block) error[block] = 0;
#pragma clang loop unroll_count(2)
    for (int i = 0; i < n; ++i) {
#pragma clang loop unroll(full)
        for (int block = 0; block < blocks; ++block) {
            const vf difference = scale[block] * l[n * block + i] + minimum[block] - x[n * block + i];
            error[block] +=
                w[n * block + i] * (absolute_error ? absolute(difference) : difference * difference);
        }
    }
    for (int block = 0; block < blocks; ++block) errors[block] = error[block];
}

/// Whether, in every lane that matters, one candidate's products are within the range of `rounded` and the greatest
/// element has the greatest of them. Neither can be relied on: with weights of zero, rounding alone can decide the
/// least squares and move the minimum to the maximum or past it.
K_INLINE int affine_is_tame(vf inverse, vf high, vf low, vf base, vi ignored) {
    const vf reach = greater(high - base, absolute(low - base));
    return all(ignored | ((inverse > 0) & (inverse * reach <= K_ROUNDABLE)));
}

/// Tries `steps` + 1 scales near the one that spans the block; each gives levels l, for which the best scale
/// and minimum follow by weighted least squares. A better minimum found on the way serves the candidates
/// after it.
/// `l`: room for the levels.
K_INLINE void fit_affine(const vf *x, const vf *w, const int blocks, const int n, const int levels,
                         const float first, const float step, const int steps, const int absolute_error,
                         vf *restrict l, affine_fit *fits) {
    vf lowest[K_SIDE], minimum[K_SIDE], maximum[K_SIDE], sum_w[K_SIDE], sum_x[K_SIDE], inverse[K_SIDE];
    vf scale[K_SIDE], best[K_SIDE], best_inverse[K_SIDE], best_base[K_SIDE];
    vi constant[K_SIDE];
    affine_sums sum[K_SIDE];
    int tame = 1;
    for (int block = 0; block < blocks; ++block) {
        const vf *xb = x + n * block, *wb = w + n * block;
        vf low = xb[0], high = xb[0], all_w = wb[0];
        vf all_x = all_w * xb[0];
        for (int i = 1; i < n; ++i) {
            low = lesser(xb[i], low);
            high = greater(xb[i], high);
            all_w += wb[i];
            all_x += wb[i] * xb[i];
        }
        lowest[block] = minimum[block] = low > 0 ? (vf)0 : low;
        maximum[block] = high;
        sum_w[block] = all_w;
        sum_x[block] = all_x;
        constant[block] = high <= minimum[block];
        inverse[block] = (float)levels / (high - minimum[block]);
        scale[block] = 1 / inverse[block];
        best_inverse[block] = inverse[block];
        best_base[block] = minimum[block];
        tame &= affine_is_tame(inverse[block], high, lowest[block], minimum[block], constant[block]);
    }
    if (tame) {
        affine_pass(x, w, blocks, n, levels, inverse, minimum, 0, 0, l, sum);
    } else {
        affine_pass(x, w, blocks, n, levels, inverse, minimum, 1, 1, l, sum);
    }
    affine_error(x, w, blocks, n, scale, minimum, l, absolute_error, best);

    for (int candidate = 0; candidate <= steps; ++candidate) {
        const float shift = first + step * (float)candidate;
        tame = 1;
        for (int block = 0; block < blocks; ++block) {
            inverse[block] = (shift + (float)levels) / (maximum[block] - minimum[block]);
            tame &= affine_is_tame(inverse[block], maximum[block], lowest[block], minimum[block], constant[block]);
        }
        if (!tame) {
            affine_pass(x, w, blocks, n, levels, inverse, minimum, 1, 1, l, sum);
        } else if (shift < 0.25f) {
            // The largest product is levels + shift but for rounding, far from levels + 0.5.
            affine_pass(x, w, blocks, n, levels, inverse, minimum, 0, 0, l, sum);
        } else {
            affine_pass(x, w, blocks, n, levels, inverse, minimum, 1, 0, l, sum);
        }
        vf this_scale[K_SIDE], this_minimum[K_SIDE], error[K_SIDE];
        vi solvable[K_SIDE];
        for (int block = 0; block < blocks; ++block) {
            const affine_sums s = sum[block];
            const vf determinant = sum_w[block] * s.l2 - s.l * s.l;
            solvable[block] = determinant > 0;
            this_scale[block] = (sum_w[block] * s.xl - sum_x[block] * s.l) / determinant;
            this_minimum[block] = (s.l2 * sum_x[block] - s.l * s.xl) / determinant;
            const vi positive = this_minimum[block] > 0;
            if (any(positive)) {  // rare, and a division
                this_minimum[block] = positive ? (vf)0 : this_minimum[block];
                this_scale[block] = positive ? s.xl / s.l2 : this_scale[block];
            }
        }
        affine_error(x, w, blocks, n, this_scale, this_minimum, l, absolute_error, error);
        for (int block = 0; block < blocks; ++block) {
            const vi better = solvable[block] & (error[block] < best[block]);
            best[block] = better ? error[block] : best[block];
            scale[block] = better ? this_scale[block] : scale[block];
            best_inverse[block] = better ? inverse[block] : best_inverse[block];
            best_base[block] = better ? minimum[block] : best_base[block];
            minimum[block] = better ? this_minimum[block] : minimum[block];
        }
    }
    for (int block = 0; block < blocks; ++block) {
        fits[block].scale = constant[block] ? (vf)0 : scale[block];
        fits[block].offset = -(constant[block] ? lowest[block] : minimum[block]);
        fits[block].inverse = best_inverse[block];
        fits[block].base = best_base[block];
        fits[block].constant = constant[block];
    }
}
