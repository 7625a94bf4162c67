// Search for the scales and offsets of the sub-blocks themselves: x = scale * l, 0 <= l <= levels.

/// Levels are kept in bytes by the reference, so that a negative one wraps.
K_INLINE vf as_byte(vi level) { return to_float(level & 0xff); }

/// Tries nine scales, takes the least error, then changes one level at a time while that improves the fit; at
/// most five rounds. `l` receives bytes. Runs once per super-block, so nothing here is tuned.
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
