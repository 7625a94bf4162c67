// Search without a minimum: x = scale * l, -levels <= l < levels, changing one level at a time.

/// One round of the descent in `blocks` blocks of 16 side by side: changes one level at a time where that
/// improves the fit. Each step waits for the one before it in the same block; `skip` lets it go ahead when no
/// lane would change its level, which pays when few do. Returns the lanes that changed a level.
K_INLINE vi descent_round(const vf *x, const int blocks, const int levels, const vi *tiny, vf *lx_sums,
                          vf *l2_sums, vf *l, const int skip) {
    vf sum_lx[K_SIDE], sum_l2[K_SIDE];
    vi changed = 0;
    for (int block = 0; block < blocks; ++block) {
        sum_lx[block] = lx_sums[block];
        sum_l2[block] = l2_sums[block];
    }
    for (int i = 0; i < 16; ++i) {
#pragma clang loop unroll(full)
        for (int block = 0; block < blocks; ++block) {
            const vf value = x[16 * block + i];
            const vf level = l[16 * block + i];
            const vf w = value * value;
            const vf wx = w * value;
            // Without this element, the others' best scale is lx / l2.
            const vf lx = sum_lx[block] - wx * level;
            const vf l2 = sum_l2[block] - w * level * level;
            const vf next = nearest_clamped(value * l2 / lx, -levels, levels - 1);
            const vi moves = (lx > 0) & (next != level) & ~tiny[block];
            if (skip && !any(moves)) continue;
            const vf next_lx = lx + wx * next;
            const vf next_l2 = l2 + w * next * next;
            const vi better = moves & (next_l2 > 0) &
                              (next_lx * next_lx * sum_l2[block] > sum_lx[block] * sum_lx[block] * next_l2);
            l[16 * block + i] = better ? next : level;
            sum_lx[block] = better ? next_lx : sum_lx[block];
            sum_l2[block] = better ? next_l2 : sum_l2[block];
            changed |= better;
        }
    }
    for (int block = 0; block < blocks; ++block) {
        lx_sums[block] = sum_lx[block];
        l2_sums[block] = sum_l2[block];
    }
    return changed;
}

/// Starts from the scale that maps the extreme value to -levels, then changes one level at a time while that
/// improves the fit weighted by x x; at most five rounds. K_SIDE blocks of 16.
K_INLINE void fit_by_descent(const vf *x, const int levels, vf *scale, vf *l) {
    vf sum_lx[K_SIDE], sum_l2[K_SIDE];
    vi tiny[K_SIDE];
    for (int block = 0; block < K_SIDE; ++block) {
        const vf *xb = x + 16 * block;
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
            l[16 * block + i] = level;
        }
        sum_lx[block] = lx;
        sum_l2[block] = l2;
    }
    // In the first round some lane changes its level at every third step; later hardly any does.
    if (any(descent_round(x, K_SIDE, levels, tiny, sum_lx, sum_l2, l, 0))) {
        for (int block = 0; block < K_SIDE; ++block) {
            for (int round = 1; round < 5; ++round) {
                if (!any(descent_round(x + 16 * block, 1, levels, tiny + block, sum_lx + block, sum_l2 + block,
                                       l + 16 * block, 1))) {
                    break;
                }
            }
        }
    }
    for (int block = 0; block < K_SIDE; ++block) {
        const vi useful = ~tiny[block] & (sum_l2[block] > 0);
        scale[block] = useful ? sum_lx[block] / sum_l2[block] : (vf)0;
        for (int i = 0; i < 16; ++i) {
            l[16 * block + i] = tiny[block] ? (vf)0 : l[16 * block + i] + (float)levels;
        }
    }
}
