// Q3_K and Q6_K: sub-blocks with a signed scale and no offset.

/// Levels of one sub-block, plus `levels`, for the scale as stored. Where the scale has become zero, those of
/// the search, `found`.
K_INLINE void put_signed_levels(const lanes *s, const int at, const int levels, vf scale, const vi *found) {
    const vi zero = scale == 0;
    for (int i = 0; i < 16; ++i) {
        const vi stored = clamped(nearest(s->x[at + i] / scale), -levels, levels - 1) + levels;
        put_level(s, at + i, zero ? found[i] : stored);
    }
}

/// The levels that `fit_signed` settled on, plus `levels`.
K_INLINE void signed_levels(const vf *x, const int n, const int levels, const signed_fit *fit, vi *l) {
    for (int i = 0; i < n; ++i) {
        const vi level = clamped(nearest(fit->inverse * x[i]), -levels, levels - 1) + levels;
        l[i] = fit->tiny ? (vi)0 : level;
    }
}

// MARK: Q3_K: high bits 0, low bits 32, scales 96, scale 108

/// Stores sixteen 6-bit scales (already plus 32), then the final levels.
K_INLINE void q3_finish(lanes *s, const vi *ls, vi d, vi (*found)[16]) {
    put_half(s, 108, d);
    for (int j = 0; j < 8; ++j) put_plane(s, 96 + j, (ls[j] & 15) | (ls[j + 8] & 15) << 4);
    for (int j = 0; j < 4; ++j) {
        put_plane(s, 104 + j, ls[j] >> 4 | ls[j + 4] >> 4 << 2 | ls[j + 8] >> 4 << 4 | ls[j + 12] >> 4 << 6);
    }
    const vf super_scale = from_half(d);
    for (int j = 0; j < 16; ++j) {
        put_signed_levels(s, 16 * j, 4, super_scale * to_float((ls[j] & 63) - 32), found[j]);
    }
}

static void q3_search(lanes *s) {
    vf scale[16];
    vi ls[16], found[16][16];
    if (s->weighted) {
        vf w[16], sum_w[16];
        const vf variance = 2 * sum_of_squares(s->x, K_SUPER) / 256;
        for (int j = 0; j < 16; ++j) {
            sum_w[j] = importance_weights(s, 16 * j, 16, variance, w);
            const signed_fit fit = fit_signed(s->x + 16 * j, w, 16, 4, 1);
            scale[j] = fit.scale;
            signed_levels(s->x + 16 * j, 16, 4, &fit, found[j]);
        }
        const signed_fit super = fit_signed(scale, sum_w, 16, 32, 0);
        signed_levels(scale, 16, 32, &super, ls);
        q3_finish(s, ls, to_half(super.scale), found);
        return;
    }
    vf l[64];
    for (int j = 0; j < 16; j += 4) {
        fit_by_descent(s->x + 16 * j, 4, scale + j, l);
        for (int i = 0; i < 64; ++i) found[j + i / 16][i % 16] = __builtin_convertvector(l[i], vi);
    }
    vf magnitude;
    const vf max_scale = extreme(scale, 16, &magnitude);
    const vi zero = max_scale == 0;
    const vf inverse = -32.0f / max_scale;
    for (int j = 0; j < 16; ++j) {
        const vi byte = nearest(inverse * scale[j]) << 24 >> 24;
        ls[j] = zero ? (vi)0 : clamped(byte, -32, 31) + 32;
    }
    q3_finish(s, ls, to_half(zero ? (vf)0 : 1 / inverse), found);
}

static void q3_pack(batch *b) {
    pack_top_bits(b, 2, 0);
    pack_pairs(b, 32);
}

// MARK: Q6_K: low bits 0, high bits 128, scales 192, scale 208

static void q6_search(lanes *s) {
    signed_fit fit[16];
    vf scale[16], w[16];
    for (int j = 0; j < 16; ++j) {
        const vf *x = s->x + 16 * j;
        for (int i = 0; i < 16; ++i) w[i] = s->weighted ? s->importance[16 * j + i] : x[i] * x[i];
        fit[j] = fit_signed(x, w, 16, 32, 1);
        scale[j] = fit[j].scale;
    }
    vf magnitude;
    const vf max_scale = extreme(scale, 16, &magnitude);
    const vi zero = magnitude < K_TINY;
    const vf inverse = -128.0f / max_scale;
    const vi d = zero ? (vi)0 : to_half(1 / inverse);
    put_half(s, 208, d);
    const vf super_scale = from_half(d);
    for (int j = 0; j < 16; ++j) {
        const vi wide = __builtin_elementwise_min(nearest(inverse * scale[j]), (vi)127);
        const vi level = zero ? (vi)0 : wide << 24 >> 24;
        put_plane(s, 192 + j, level);
        vi found[16];
        const vf this_scale = super_scale * to_float(level);
        if (any(this_scale == 0)) {
            signed_levels(s->x + 16 * j, 16, 32, &fit[j], found);
            for (int i = 0; i < 16; ++i) found[i] = zero ? (vi)0 : found[i];
        } else {
            for (int i = 0; i < 16; ++i) found[i] = 0;
        }
        put_signed_levels(s, 16 * j, 32, this_scale, found);
    }
}

static void q6_pack(batch *b) {
    for (int half = 0; half < 2; ++half) {
        const uint8_t *l = b->levels[128 * half];
        uint8_t *low = b->planes[64 * half];
        uint8_t *high = b->planes[128 + 32 * half];
        for (int i = 0; i < 64 * K_BATCH; ++i) low[i] = (uint8_t)((l[i] & 15) | (l[i + 64 * K_BATCH] & 15) << 4);
        for (int i = 0; i < 32 * K_BATCH; ++i) {
            high[i] = (uint8_t)(l[i] >> 4 | l[i + 32 * K_BATCH] >> 4 << 2 | l[i + 64 * K_BATCH] >> 4 << 4 |
                                l[i + 96 * K_BATCH] >> 4 << 6);
        }
    }
}
