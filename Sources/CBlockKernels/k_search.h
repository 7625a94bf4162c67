// The searches for a block's scale, one block per lane. Each lane does the operations of the scalar search
// (Quantization/KQuants/KQuantSearch.swift) in the same order; its `if`s become masks. So every lane has the bits that
// the scalar search would have.
//
// `n`, the number of levels and the flags are constants wherever these are called: every function is inlined and
// specialised.

/// Blocks whose greatest magnitude is below this count as zero.
#define K_TINY 1e-15f

// x = scale * l + minimum, 0 <= l <= levels

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

/// Blocks searched side by side, so that the wait for one block's divisions and sums is the others' work.
#define K_SIDE 4

/// The best l of every element for one candidate scale, and their weighted sums, in `blocks` blocks of n.
/// `high`: whether l can exceed `levels` and must be clamped. `wild`: whether the products can leave the range of
/// `rounded`.
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

/// Whether the range of one candidate's products is that of `rounded` in every lane that matters.
K_INLINE int affine_is_tame(vf inverse, vf high, vf low, vf base, vi ignored) {
    const vf reach = greater(absolute(high - base), absolute(low - base));
    return all(ignored | (absolute(inverse) * reach <= K_ROUNDABLE));
}

/// Tries `steps` + 1 scales near the one that spans the block; each gives levels l, for which the best scale and
/// minimum follow by weighted least squares. A better minimum found on the way serves the candidates after it.
K_INLINE void fit_affine(const vf *x, const vf *w, const int blocks, const int n, const int levels,
                         const float first, const float step, const int steps, const int absolute_error,
                         affine_fit *fits) {
    vf lowest[K_SIDE], minimum[K_SIDE], maximum[K_SIDE], sum_w[K_SIDE], sum_x[K_SIDE], inverse[K_SIDE];
    vf scale[K_SIDE], best[K_SIDE], best_inverse[K_SIDE], best_base[K_SIDE];
    vi constant[K_SIDE];
    vf l[64];
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
            this_minimum[block] = positive ? (vf)0 : this_minimum[block];
            this_scale[block] = positive ? s.xl / s.l2 : this_scale[block];
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

// x = scale * l, -levels <= l < levels

typedef struct signed_fit {
    vf scale;
    vf inverse;  // l was found as nearest(inverse * x)
    vi tiny;     // lanes that count as zero: scale 0, l 0 *after* adding `levels`
} signed_fit;

/// The element of greatest magnitude, the first of several, with its sign; and that magnitude.
K_INLINE vf extreme(const vf *x, const int n, vf *magnitude) {
    vf value = 0, most = 0;
    for (int i = 0; i < n; ++i) {
        const vf size = absolute(x[i]);
        const vi more = size > most;
        most = more ? size : most;
        value = more ? x[i] : value;
    }
    *magnitude = most;
    return value;
}

/// Candidates tried side by side: they share the loads, and one's sums need not wait for another's.
#if K_LANES == 16
#define K_CANDIDATES 6
#else
#define K_CANDIDATES 3
#endif

/// The sums of w x l and w l l for the levels of `count` candidates. `low`: whether l can fall below -levels.
K_INLINE void signed_pass(const vf *x, const vf *w, const vf *wx, const int n, const int levels,
                          const vf *inverse, const int count, const int low, const int wild, vf *sum_lx,
                          vf *sum_l2) {
    vf lx[K_CANDIDATES], l2[K_CANDIDATES];
    for (int k = 0; k < count; ++k) lx[k] = l2[k] = 0;
#pragma clang loop unroll(full)
    for (int i = 0; i < n; ++i) {
#pragma clang loop unroll(full)
        for (int k = 0; k < count; ++k) {
            const vf product = inverse[k] * x[i];
            vf level;
            if (wild) {
                level = nearest_clamped(product, -levels, levels - 1);
            } else {
                const vf below = at_most(product, (float)(levels - 1));
                level = rounded(low ? at_least(below, (float)-levels) : below);
            }
            lx[k] += wx[i] * level;
            l2[k] += w[i] * level * level;
        }
    }
    for (int k = 0; k < count; ++k) {
        sum_lx[k] = lx[k];
        sum_l2[k] = l2[k];
    }
}

/// Tries 19 scales near the one that maps the extreme value to -levels, each improved by weighted least squares.
K_INLINE signed_fit fit_signed(const vf *x, const vf *w, const int n, const int levels) {
    // In the reference's order. Up to 0.3, the extreme value goes to -levels - 0.3 at most, which rounds to -levels.
    static const signed char candidates[18] = {-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    const int first_low = 12;

    vf magnitude;
    const vf value = extreme(x, n, &magnitude);
    const vi tiny = magnitude < K_TINY;
    const int wild = !all(tiny | (magnitude <= 0x1p100f));

    vf wx[16];
    for (int i = 0; i < n; ++i) wx[i] = w[i] * x[i];

    signed_fit fit = {.inverse = (float)-levels / value, .tiny = tiny};
    vf inverse[K_CANDIDATES], sum_lx[K_CANDIDATES], sum_l2[K_CANDIDATES];
    if (wild) {
        signed_pass(x, w, wx, n, levels, &fit.inverse, 1, 1, 1, sum_lx, sum_l2);
    } else {
        signed_pass(x, w, wx, n, levels, &fit.inverse, 1, 0, 0, sum_lx, sum_l2);
    }
    vf scale = sum_l2[0] != 0 ? sum_lx[0] / sum_l2[0] : (vf)0;
    vf best = scale * sum_lx[0];
    for (int first = 0; first < 18; first += K_CANDIDATES) {
        for (int k = 0; k < K_CANDIDATES; ++k) {
            inverse[k] = -((float)levels + 0.1f * (float)candidates[first + k]) / value;
        }
        if (wild) {
            signed_pass(x, w, wx, n, levels, inverse, K_CANDIDATES, 1, 1, sum_lx, sum_l2);
        } else if (first < first_low) {
            signed_pass(x, w, wx, n, levels, inverse, K_CANDIDATES, 0, 0, sum_lx, sum_l2);
        } else {
            signed_pass(x, w, wx, n, levels, inverse, K_CANDIDATES, 1, 0, sum_lx, sum_l2);
        }
        for (int k = 0; k < K_CANDIDATES; ++k) {
            const vi better = (sum_l2[k] > 0) & (sum_lx[k] * sum_lx[k] > best * sum_l2[k]);
            scale = better ? sum_lx[k] / sum_l2[k] : scale;
            best = better ? scale * sum_lx[k] : best;
            fit.inverse = better ? inverse[k] : fit.inverse;
        }
    }
    fit.scale = tiny ? (vf)0 : scale;
    return fit;
}

/// Starts from the scale that maps the extreme value to -levels, then changes one level at a time while that improves
/// the fit weighted by x x; at most five rounds. `blocks` blocks of 16 side by side, because each step waits for the
/// one before it in the same block.
K_INLINE void fit_by_descent(const vf *x, const int blocks, const int levels, vf *scale, vf *l) {
    vf sum_lx[4], sum_l2[4];
    vi tiny[4];
    vi wide = 0;
#pragma clang loop unroll(full)
    for (int block = 0; block < blocks; ++block) {
        const vf *xb = x + 16 * block;
        vf *lb = l + 16 * block;
        vf magnitude;
        const vf inverse = (float)-levels / extreme(xb, 16, &magnitude);
        tiny[block] = magnitude < K_TINY;
        vf lx = 0, l2 = 0;
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; ++i) {
            const vf level = nearest_clamped(inverse * xb[i], -levels, levels - 1);
            const vf w = xb[i] * xb[i];
            lx += w * xb[i] * level;
            l2 += w * level * level;
            lb[i] = level;
        }
        sum_lx[block] = lx;
        sum_l2[block] = l2;
    }
    for (int round = 0; round < 5; ++round) {
        vi changed = wide;
        for (int i = 0; i < 16; ++i) {
#pragma clang loop unroll(full)
            for (int block = 0; block < blocks; ++block) {
                const vf value = x[16 * block + i];
                const vf level = l[16 * block + i];
                const vf w = value * value;
                const vf wx = w * value;
                const vf lx = sum_lx[block] - wx * level;
                const vf l2 = sum_l2[block] - w * level * level;
                const vf next = nearest_clamped(value * l2 / lx, -levels, levels - 1);
                const vf next_lx = lx + wx * next;
                const vf next_l2 = l2 + w * next * next;
                const vi better =
                    (lx > 0) & (next != level) & (next_l2 > 0) & ~tiny[block] &
                    (next_lx * next_lx * sum_l2[block] > sum_lx[block] * sum_lx[block] * next_l2);
                l[16 * block + i] = better ? next : level;
                sum_lx[block] = better ? next_lx : sum_lx[block];
                sum_l2[block] = better ? next_l2 : sum_l2[block];
                changed |= better;
            }
        }
        if (!any(changed)) break;
    }
#pragma clang loop unroll(full)
    for (int block = 0; block < blocks; ++block) {
        const vi useful = ~tiny[block] & (sum_l2[block] > 0);
        scale[block] = useful ? sum_lx[block] / sum_l2[block] : (vf)0;
        for (int i = 0; i < 16; ++i) {
            l[16 * block + i] = tiny[block] ? (vf)0 : l[16 * block + i] + (float)levels;
        }
    }
}

// x = scale * l, 0 <= l <= levels, for the scales and offsets of the sub-blocks themselves

/// Levels are kept in bytes by the reference, so that a negative one wraps.
K_INLINE vf as_byte(vi level) { return to_float(level & 0xff); }

/// Tries nine scales, takes the least error, then changes one level at a time while that improves the fit; at most
/// five rounds. `l` receives bytes. Runs once per super-block, so nothing here is tuned.
K_INLINE vf fit_positive(const vf *x, const vf *w, const int n, const int levels, vi *l) {
    vf maximum = 0;
    for (int i = 0; i < n; ++i) maximum = greater(maximum, x[i]);
    const vi tiny = maximum < K_TINY;
    vf inverse = (float)levels / maximum;
    vf scale = 1 / inverse;
    vf best = 0;
    for (int i = 0; i < n; ++i) {
        const vf difference = x[i] - scale * as_byte(nearest(inverse * x[i]));
        best += w[i] * difference * difference;
    }
    for (int candidate = -4; candidate <= 4; ++candidate) {
        if (candidate == 0) continue;
        const vf this_inverse = (0.1f * (float)candidate + (float)levels) / maximum;
        const vf this_scale = 1 / this_inverse;
        vf error = 0;
        for (int i = 0; i < n; ++i) {
            const vi level = __builtin_elementwise_min(nearest(this_inverse * x[i]), (vi)levels);
            const vf difference = x[i] - this_scale * to_float(level);
            error += w[i] * difference * difference;
        }
        const vi better = error < best;
        best = better ? error : best;
        inverse = better ? this_inverse : inverse;
    }
    vf sum_lx = 0, sum_l2 = 0;
    for (int i = 0; i < n; ++i) {
        const vi level = __builtin_elementwise_min(nearest(inverse * x[i]), (vi)levels);
        l[i] = level & 0xff;
        sum_lx += w[i] * x[i] * to_float(level);
        sum_l2 += w[i] * to_float(level) * to_float(level);
    }
    for (int round = 0; round < 5; ++round) {
        vi changed = 0;
        for (int i = 0; i < n; ++i) {
            const vf level = to_float(l[i]);
            vf lx = sum_lx - w[i] * x[i] * level;
            vf l2 = sum_l2 - w[i] * level * level;
            const vi open = (lx > 0) & (l2 > 0) & ~tiny;
            const vi next = __builtin_elementwise_min(nearest(x[i] * l2 / lx), (vi)levels);
            lx += w[i] * x[i] * to_float(next);
            l2 += w[i] * to_float(next) * to_float(next);
            const vi better =
                open & (next != l[i]) & (lx * lx * sum_l2 > sum_lx * sum_lx * l2);
            l[i] = better ? next & 0xff : l[i];
            sum_lx = better ? lx : sum_lx;
            sum_l2 = better ? l2 : sum_l2;
            changed |= better;
        }
        if (!any(changed)) break;
    }
    for (int i = 0; i < n; ++i) l[i] = tiny ? (vi)0 : l[i];
    return tiny | ~(sum_l2 > 0) ? (vf)0 : sum_lx / sum_l2;
}
