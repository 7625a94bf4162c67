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

/// The best l of every element for one candidate scale, and their weighted sums.
/// `low` and `high`: whether l can fall below 0 or above `levels` and must be clamped.
/// `wild`: whether the products can leave the range of `rounded`.
K_INLINE affine_sums affine_pass(const vf *x, const vf *w, const int n, const int levels, vf inverse, vf base,
                                 const int high, const int wild, vf *restrict l) {
    affine_sums sum = {0, 0, 0};
#pragma clang loop unroll_count(8)
    for (int i = 0; i < n; ++i) {
        const vf product = inverse * (x[i] - base);
        vf level;
        if (wild) {
            level = nearest_clamped(product, 0, levels);
        } else {
            const vf above = greater(product, 0);
            level = rounded(high ? lesser(above, (float)levels) : above);
        }
        l[i] = level;
        const vf wl = w[i] * level;
        sum.l += wl;
        sum.l2 += wl * level;
        sum.xl += wl * x[i];
    }
    return sum;
}

/// The weighted error (squared, or absolute if `absolute_error`) of scale * l + minimum.
K_INLINE vf affine_error(const vf *x, const vf *w, const int n, vf scale, vf minimum, const vf *l,
                         const int absolute_error) {
    vf error = 0;
#pragma clang loop unroll_count(8)
    for (int i = 0; i < n; ++i) {
        const vf difference = scale * l[i] + minimum - x[i];
        error += w[i] * (absolute_error ? absolute(difference) : difference * difference);
    }
    return error;
}

/// Whether the range of one candidate's products is that of `rounded` in every lane that matters.
K_INLINE int affine_is_tame(vf inverse, vf high, vf low, vf base, vi ignored) {
    const vf reach = greater(absolute(high - base), absolute(low - base));
    return all(ignored | (absolute(inverse) * reach <= K_ROUNDABLE));
}

/// Tries `steps` + 1 scales near the one that spans the block; each gives levels l, for which the best scale and
/// minimum follow by weighted least squares. A better minimum found on the way serves the candidates after it.
K_INLINE affine_fit fit_affine(const vf *x, const vf *w, const int n, const int levels, const float first,
                               const float step, const int steps, const int absolute_error) {
    vf minimum = x[0], maximum = x[0];
    vf sum_w = w[0];
    vf sum_x = sum_w * x[0];
    for (int i = 1; i < n; ++i) {
        minimum = lesser(x[i], minimum);
        maximum = greater(x[i], maximum);
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    minimum = minimum > 0 ? (vf)0 : minimum;
    const vf lowest = minimum;
    const vi constant = maximum <= minimum;

    vf l[32];
    vf inverse = (float)levels / (maximum - minimum);
    vf scale = 1 / inverse;
    if (affine_is_tame(inverse, maximum, lowest, minimum, constant)) {
        affine_pass(x, w, n, levels, inverse, minimum, 0, 0, l);
    } else {
        affine_pass(x, w, n, levels, inverse, minimum, 1, 1, l);
    }
    vf best = affine_error(x, w, n, scale, minimum, l, absolute_error);
    affine_fit fit = {.inverse = inverse, .base = minimum, .constant = constant};

    for (int candidate = 0; candidate <= steps; ++candidate) {
        const float shift = first + step * (float)candidate;
        inverse = (shift + (float)levels) / (maximum - minimum);
        affine_sums sum;
        if (!affine_is_tame(inverse, maximum, lowest, minimum, constant)) {
            sum = affine_pass(x, w, n, levels, inverse, minimum, 1, 1, l);
        } else if (shift < 0.25f) {
            // The largest product is levels + shift but for rounding, far from levels + 0.5.
            sum = affine_pass(x, w, n, levels, inverse, minimum, 0, 0, l);
        } else {
            sum = affine_pass(x, w, n, levels, inverse, minimum, 1, 0, l);
        }
        const vf determinant = sum_w * sum.l2 - sum.l * sum.l;
        const vi solvable = determinant > 0;
        vf this_scale = (sum_w * sum.xl - sum_x * sum.l) / determinant;
        vf this_minimum = (sum.l2 * sum_x - sum.l * sum.xl) / determinant;
        const vi positive = this_minimum > 0;
        this_minimum = positive ? (vf)0 : this_minimum;
        this_scale = positive ? sum.xl / sum.l2 : this_scale;
        const vf error = affine_error(x, w, n, this_scale, this_minimum, l, absolute_error);
        const vi better = solvable & (error < best);
        best = better ? error : best;
        scale = better ? this_scale : scale;
        fit.inverse = better ? inverse : fit.inverse;
        fit.base = better ? minimum : fit.base;
        minimum = better ? this_minimum : minimum;
    }
    fit.scale = constant ? (vf)0 : scale;
    fit.offset = -(constant ? lowest : minimum);
    return fit;
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

/// The sums of w x l and w l l for the levels of one candidate. `low`: whether l can fall below -levels.
K_INLINE void signed_pass(const vf *x, const vf *w, const vf *wx, const int n, const int levels, vf inverse,
                          const int low, const int wild, vf *sum_lx, vf *sum_l2) {
    vf lx = 0, l2 = 0;
#pragma clang loop unroll(full)
    for (int i = 0; i < n; ++i) {
        const vf product = inverse * x[i];
        vf level;
        if (wild) {
            level = nearest_clamped(product, -levels, levels - 1);
        } else {
            const vf below = lesser(product, (float)(levels - 1));
            level = rounded(low ? greater(below, (float)-levels) : below);
        }
        lx += wx[i] * level;
        l2 += w[i] * level * level;
    }
    *sum_lx = lx;
    *sum_l2 = l2;
}

/// Tries 19 scales near the one that maps the extreme value to -levels, each improved by weighted least squares.
K_INLINE signed_fit fit_signed(const vf *x, const vf *w, const int n, const int levels) {
    vf magnitude;
    const vf value = extreme(x, n, &magnitude);
    const vi tiny = magnitude < K_TINY;
    const int wild = !all(tiny | (magnitude <= 0x1p100f));

    vf wx[16];
    for (int i = 0; i < n; ++i) wx[i] = w[i] * x[i];

    signed_fit fit = {.inverse = (float)-levels / value, .tiny = tiny};
    vf sum_lx, sum_l2;
    if (wild) {
        signed_pass(x, w, wx, n, levels, fit.inverse, 1, 1, &sum_lx, &sum_l2);
    } else {
        signed_pass(x, w, wx, n, levels, fit.inverse, 0, 0, &sum_lx, &sum_l2);
    }
    vf scale = sum_l2 != 0 ? sum_lx / sum_l2 : (vf)0;
    vf best = scale * sum_lx;
    for (int candidate = -9; candidate <= 9; ++candidate) {
        if (candidate == 0) continue;
        const vf inverse = -((float)levels + 0.1f * (float)candidate) / value;
        if (wild) {
            signed_pass(x, w, wx, n, levels, inverse, 1, 1, &sum_lx, &sum_l2);
        } else if (candidate < 4) {
            // The extreme value goes to -levels - 0.3 at most, which rounds to -levels.
            signed_pass(x, w, wx, n, levels, inverse, 0, 0, &sum_lx, &sum_l2);
        } else {
            signed_pass(x, w, wx, n, levels, inverse, 1, 0, &sum_lx, &sum_l2);
        }
        const vi better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2);
        scale = better ? sum_lx / sum_l2 : scale;
        best = better ? scale * sum_lx : best;
        fit.inverse = better ? inverse : fit.inverse;
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
