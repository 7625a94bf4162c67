// Q2_K, Q4_K and Q5_K: sub-blocks with a scale and an offset.

// Sub-blocks searched side by side, K_SIDE at most.
#define Q2_SIDE 4
#define Q45_SIDE 2

/// Levels of one sub-block for the scale and offset as stored. Where the scale has become zero, those of the
/// search.
K_INLINE void put_affine_levels(const lanes *s, const int at, const int n, const int levels, vf scale,
                                vf offset, const affine_fit *fit) {
    const vi zero = scale == 0;
    for (int i = 0; i < n; ++i) {
        put_level(s, at + i, clamped(nearest((s->x[at + i] + offset) / scale), 0, levels));
    }
    if (!any(zero)) return;
    for (int i = 0; i < n; ++i) {
        const vf x = s->x[at + i];
        const vi stored = clamped(nearest((x + offset) / scale), 0, levels);
        const vi found = clamped(nearest(fit->inverse * (x - fit->base)), 0, levels);
        put_level(s, at + i, zero ? (fit->constant ? (vi)0 : found) : stored);
    }
}

// MARK: Q2_K: scales 0, levels 16, scale 80, offset scale 82

static void q2_search(lanes *s) {
    vf *const w = s->weights;
    affine_fit fit[16];
    vf scale[16], offset[16], sum_w[16];
    vi ls[16], lm[16];
    vi d, dmin;
    if (s->weighted) {
        const vf variance = sum_of_squares(s->x, K_SUPER) / 256;
        for (int j = 0; j < 16; j += Q2_SIDE) {
            for (int k = 0; k < Q2_SIDE; ++k) {
                sum_w[j + k] = importance_weights(s, 16 * (j + k), 16, variance, w + 16 * k);
            }
            fit_affine(s->x + 16 * j, w, Q2_SIDE, 16, 3, -0.9f, 0.05f, 36, 0, s->scratch, fit + j);
        }
        for (int j = 0; j < 16; ++j) {
            scale[j] = fit[j].scale;
            offset[j] = fit[j].offset;
        }
        d = to_half(fit_positive(scale, sum_w, 16, 15, ls));
        dmin = to_half(fit_positive(offset, sum_w, 16, 15, lm));
        for (int j = 0; j < 16; ++j) ls[j] = (ls[j] | lm[j] << 4) & 0xff;
    } else {
        vf max_scale = 0, max_offset = 0;
        for (int j = 0; j < 16; j += Q2_SIDE) {
            for (int i = 0; i < 16 * Q2_SIDE; ++i) w[i] = absolute(s->x[16 * j + i]);
            fit_affine(s->x + 16 * j, w, Q2_SIDE, 16, 3, -0.5f, 0.1f, 15, 1, s->scratch, fit + j);
        }
        for (int j = 0; j < 16; ++j) {
            scale[j] = fit[j].scale;
            offset[j] = fit[j].offset;
            max_scale = greater(scale[j], max_scale);
            max_offset = greater(offset[j], max_offset);
        }
        const vf inverse_scale = 15 / max_scale, inverse_offset = 15 / max_offset;
        for (int j = 0; j < 16; ++j) {
            const vi low = max_scale > 0 ? nearest(inverse_scale * scale[j]) : (vi)0;
            const vi high = max_offset > 0 ? nearest(inverse_offset * offset[j]) : (vi)0;
            ls[j] = (low | high << 4) & 0xff;
        }
        d = to_half(max_scale / 15);
        dmin = to_half(max_offset / 15);
    }
    put_half(s, 80, d);
    put_half(s, 82, dmin);
    const vf super_scale = from_half(d), super_offset = from_half(dmin);
    for (int j = 0; j < 16; ++j) {
        put_plane(s, j, ls[j]);
        put_affine_levels(s, 16 * j, 16, 3, super_scale * to_float(ls[j] & 15),
                          super_offset * to_float(ls[j] >> 4), &fit[j]);
    }
}

static void q2_pack(batch *b) { pack_pairs(b, 16); }

// MARK: Q4_K and Q5_K: scale 0, offset scale 2, scales and offsets 4, then for Q5_K the high bits, then low
// bits

K_INLINE void q45_search(lanes *s, const int levels, const float first, const int steps) {
    vf *const w = s->weights;
    affine_fit fit[8];
    vf scale[8], offset[8], sum_w[8];
    vi ls[8], lm[8];
    vi d, dmin;
    if (s->weighted) {
        const vf variance = 2 * sum_of_squares(s->x, K_SUPER) / 256;
        for (int j = 0; j < 8; j += Q45_SIDE) {
            for (int k = 0; k < Q45_SIDE; ++k) {
                sum_w[j + k] = importance_weights(s, 32 * (j + k), 32, variance, w + 32 * k);
            }
            fit_affine(s->x + 32 * j, w, Q45_SIDE, 32, levels, -0.9f, 0.05f, 36, 0, s->scratch, fit + j);
        }
        for (int j = 0; j < 8; ++j) {
            scale[j] = fit[j].scale;
            offset[j] = fit[j].offset;
        }
        d = to_half(fit_positive(scale, sum_w, 8, 63, ls));
        dmin = to_half(fit_positive(offset, sum_w, 8, 63, lm));
        if (levels == 31) {
            // Q5_K clamps bytes that have wrapped; Q4_K does not.
            for (int j = 0; j < 8; ++j) ls[j] = clamped(ls[j], 0, 63);
            for (int j = 0; j < 8; ++j) lm[j] = clamped(lm[j], 0, 63);
        }
    } else {
        vf max_scale = 0, max_offset = 0;
        for (int j = 0; j < 8; j += Q45_SIDE) {
            for (int k = 0; k < Q45_SIDE; ++k) {
                const vf *x = s->x + 32 * (j + k);
                const vf mean = square_root(sum_of_squares(x, 32) / 32);
                for (int i = 0; i < 32; ++i) w[32 * k + i] = mean + absolute(x[i]);
            }
            fit_affine(s->x + 32 * j, w, Q45_SIDE, 32, levels, first, 0.1f, steps, 0, s->scratch, fit + j);
        }
        for (int j = 0; j < 8; ++j) {
            scale[j] = fit[j].scale;
            offset[j] = fit[j].offset;
            max_scale = greater(scale[j], max_scale);
            max_offset = greater(offset[j], max_offset);
        }
        const vf inverse_scale = max_scale > 0 ? 63 / max_scale : (vf)0;
        const vf inverse_offset = max_offset > 0 ? 63 / max_offset : (vf)0;
        for (int j = 0; j < 8; ++j) {
            ls[j] = clamped(nearest(inverse_scale * scale[j]) & 0xff, 0, 63);
            lm[j] = clamped(nearest(inverse_offset * offset[j]) & 0xff, 0, 63);
        }
        d = to_half(max_scale / 63);
        dmin = to_half(max_offset / 63);
    }
    put_half(s, 0, d);
    put_half(s, 2, dmin);
    vi packed[12];
    for (int j = 0; j < 4; ++j) {
        packed[j] = (ls[j] | ls[j + 4] >> 4 << 6) & 0xff;
        packed[j + 4] = (lm[j] | lm[j + 4] >> 4 << 6) & 0xff;
        packed[j + 8] = (ls[j + 4] & 15) | (lm[j + 4] & 15) << 4;
    }
    for (int j = 0; j < 12; ++j) put_plane(s, 4 + j, packed[j]);
    const vf super_scale = from_half(d), super_offset = from_half(dmin);
    for (int j = 0; j < 8; ++j) {
        // Reads back what was stored, as wrapped bytes may have spilled into their neighbours' bits.
        const vi sc = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
        const vi m = j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | packed[j] >> 6 << 4;
        put_affine_levels(s, 32 * j, 32, levels, super_scale * to_float(sc), super_offset * to_float(m),
                          &fit[j]);
    }
}

static void q4_search(lanes *s) { q45_search(s, 15, -1.0f, 20); }
static void q5_search(lanes *s) { q45_search(s, 31, -0.5f, 15); }

static void q4_pack(batch *b) { pack_nibbles(b, 16); }

static void q5_pack(batch *b) {
    pack_top_bits(b, 4, 16);
    pack_nibbles(b, 48);
}
