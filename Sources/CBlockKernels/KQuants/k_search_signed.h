// Search without a minimum: x = scale * l, -levels <= l < levels, by trying scales.

typedef struct signed_fit {
    vf scale;
    vf inverse;  // l was found as nearest(inverse * x)
    vi tiny;     // lanes that count as zero: scale 0, l 0 *after* adding `levels`
} signed_fit;

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

/// Tries 19 scales near the one that maps the extreme value to -levels, each improved by weighted least
/// squares.
/// `finite`: whether no x is NaN, which a scale found for huge values can be.
K_INLINE signed_fit fit_signed(const vf *x, const vf *w, const int n, const int levels,
                               const int finite) {
    // In the reference's order. Up to 0.3, the extreme value goes to -levels - 0.3 at most, which rounds to
    // -levels.
    static const signed char candidates[18] = {-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    const int first_low = 12;

    vf magnitude;
    const vf value = extreme(x, n, &magnitude);
    const vi tiny = magnitude < K_TINY;
    const int wild = !finite || !all(tiny | (magnitude <= 0x1p100f));

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
