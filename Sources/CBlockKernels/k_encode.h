// What each K format does with its sub-blocks' fits: quantises the scales, finds the final levels, packs them.
// The order of every operation is that of the Swift twins (Quantization/KQuants), which draw the layouts.

// Sub-blocks searched side by side.
#define Q2_SIDE 4
#define Q45_SIDE 2

// MARK: Weights

/// The sum of the squares of n values, in order.
K_INLINE vf sum_of_squares(const vf *x, const int n) {
    vf sum = 0;
    for (int i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

/// Importance-weighted search weights of a sub-block; returns their sum.
K_INLINE vf importance_weights(const lanes *s, const int at, const int n, vf variance, vf *w) {
    vf sum = 0;
    for (int i = 0; i < n; ++i) {
        w[i] = s->importance[at + i] * square_root(variance + s->x[at + i] * s->x[at + i]);
        sum += w[i];
    }
    return sum;
}

// MARK: Final levels

/// Levels of one sub-block for the scale and offset as stored. Where the scale has become zero, those of the search.
K_INLINE void put_affine_levels(const lanes *s, const int at, const int n, const int levels, vf scale, vf offset,
                                const affine_fit *fit) {
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

/// The same for formats without an offset; `found` gives the search's levels plus `levels`.
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

// MARK: Q2_K: scales 0, levels 16, scale 80, offset scale 82

static void q2_search(lanes *s) {
    affine_fit fit[16];
    vf scale[16], offset[16], w[16 * Q2_SIDE], sum_w[16];
    vi ls[16], lm[16];
    vi d, dmin;
    if (s->weighted) {
        const vf variance = sum_of_squares(s->x, K_SUPER) / 256;
        for (int j = 0; j < 16; j += Q2_SIDE) {
            for (int k = 0; k < Q2_SIDE; ++k) {
                sum_w[j + k] = importance_weights(s, 16 * (j + k), 16, variance, w + 16 * k);
            }
            fit_affine(s->x + 16 * j, w, Q2_SIDE, 16, 3, -0.9f, 0.05f, 36, 0, fit + j);
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
            fit_affine(s->x + 16 * j, w, Q2_SIDE, 16, 3, -0.5f, 0.1f, 15, 1, fit + j);
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
        put_affine_levels(s, 16 * j, 16, 3, super_scale * to_float(ls[j] & 15), super_offset * to_float(ls[j] >> 4),
                          &fit[j]);
    }
}

/// Two bits of four elements 32 apart in one byte: planes `at` to `at + 63`.
K_INLINE void pack_pairs(batch *b, const int at) {
    for (int half = 0; half < 2; ++half) {
        const uint8_t *l = b->levels[128 * half];
        uint8_t *q = b->planes[at + 32 * half];
        for (int i = 0; i < 32 * K_BATCH; ++i) {
            q[i] = (uint8_t)((l[i] & 3) | (l[i + 32 * K_BATCH] & 3) << 2 | (l[i + 64 * K_BATCH] & 3) << 4 |
                             (l[i + 96 * K_BATCH] & 3) << 6);
        }
    }
}

static void q2_pack(batch *b) { pack_pairs(b, 16); }

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
            const signed_fit fit = fit_signed(s->x + 16 * j, w, 16, 4);
            scale[j] = fit.scale;
            signed_levels(s->x + 16 * j, 16, 4, &fit, found[j]);
        }
        const signed_fit super = fit_signed(scale, sum_w, 16, 32);
        signed_levels(scale, 16, 32, &super, ls);
        q3_finish(s, ls, to_half(super.scale), found);
        return;
    }
    vf l[64];
    for (int j = 0; j < 16; j += 4) {
        fit_by_descent(s->x + 16 * j, 4, 4, scale + j, l);
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
    for (int i = 0; i < 32 * K_BATCH; ++i) {
        int bits = 0;
        for (int j = 0; j < 8; ++j) bits |= (b->levels[32 * j][i] >> 2) << j;
        b->planes[0][i] = (uint8_t)bits;
    }
    pack_pairs(b, 32);
}

// MARK: Q4_K and Q5_K: scale 0, offset scale 2, scales and offsets 4, then for Q5_K the high bits, then low bits

K_INLINE void q45_search(lanes *s, const int levels, const float first, const int steps) {
    affine_fit fit[8];
    vf scale[8], offset[8], w[32 * Q45_SIDE], sum_w[8];
    vi ls[8], lm[8];
    vi d, dmin;
    if (s->weighted) {
        const vf variance = 2 * sum_of_squares(s->x, K_SUPER) / 256;
        for (int j = 0; j < 8; j += Q45_SIDE) {
            for (int k = 0; k < Q45_SIDE; ++k) {
                sum_w[j + k] = importance_weights(s, 32 * (j + k), 32, variance, w + 32 * k);
            }
            fit_affine(s->x + 32 * j, w, Q45_SIDE, 32, levels, -0.9f, 0.05f, 36, 0, fit + j);
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
            fit_affine(s->x + 32 * j, w, Q45_SIDE, 32, levels, first, 0.1f, steps, 0, fit + j);
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
        put_affine_levels(s, 32 * j, 32, levels, super_scale * to_float(sc), super_offset * to_float(m), &fit[j]);
    }
}

static void q4_search(lanes *s) { q45_search(s, 15, -1.0f, 20); }
static void q5_search(lanes *s) { q45_search(s, 31, -0.5f, 15); }

/// Four bits of two elements 32 apart in one byte: planes `at` to `at + 127`.
K_INLINE void pack_nibbles(batch *b, const int at) {
    for (int j = 0; j < 4; ++j) {
        const uint8_t *l = b->levels[64 * j];
        uint8_t *q = b->planes[at + 32 * j];
        for (int i = 0; i < 32 * K_BATCH; ++i) q[i] = (uint8_t)((l[i] & 15) | (l[i + 32 * K_BATCH] & 15) << 4);
    }
}

static void q4_pack(batch *b) { pack_nibbles(b, 16); }

static void q5_pack(batch *b) {
    for (int i = 0; i < 32 * K_BATCH; ++i) {
        int bits = 0;
        for (int j = 0; j < 8; ++j) bits |= (b->levels[32 * j][i] >> 4) << j;
        b->planes[16][i] = (uint8_t)bits;
    }
    pack_nibbles(b, 48);
}

// MARK: Q6_K: low bits 0, high bits 128, scales 192, scale 208

static void q6_search(lanes *s) {
    signed_fit fit[16];
    vf scale[16], w[16];
    for (int j = 0; j < 16; ++j) {
        const vf *x = s->x + 16 * j;
        for (int i = 0; i < 16; ++i) w[i] = s->weighted ? s->importance[16 * j + i] : x[i] * x[i];
        fit[j] = fit_signed(x, w, 16, 32);
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

// MARK: Q8_K: scale (F32) 0, levels 4, sums of sixteen 260

static void q8_encode(const float *values, const float *importance, size_t rows, size_t columns,
                      uint8_t *blocks) {
    (void)importance;
    for (size_t block = 0; block < rows * columns / K_SUPER; ++block, values += K_SUPER, blocks += 292) {
        float value = 0, most = 0;
        for (int i = 0; i < K_SUPER; ++i) {
            const float size = __builtin_fabsf(values[i]);
            if (size > most) {
                most = size;
                value = values[i];
            }
        }
        memset(blocks, 0, 292);
        if (most == 0) continue;
        const float inverse = -127.0f / value;
        const float scale = 1 / inverse;
        memcpy(blocks, &scale, 4);
        for (int j = 0; j < 16; ++j) {
            int sum = 0;
            for (int i = 16 * j; i < 16 * j + 16; ++i) {
                const float shifted = inverse * values[i] + K_ROUNDER;
                int32_t level;
                memcpy(&level, &shifted, 4);
                level = (level & 0x7fffff) - 0x400000;
                const int8_t stored = (int8_t)(level > 127 ? 127 : level);
                blocks[4 + i] = (uint8_t)stored;
                sum += stored;
            }
            const int16_t stored = (int16_t)sum;
            memcpy(blocks + 260 + 2 * j, &stored, 2);
        }
    }
}

// MARK: Whole rows

#define K_ENCODE(name, bytes)                                                                                \
    static void name##_encode(const float *values, const float *importance, size_t rows, size_t columns,     \
                              uint8_t *blocks) {                                                             \
        encode_rows(values, importance, rows, columns, blocks, bytes, name##_search, name##_pack);           \
    }

K_ENCODE(q2, 84)
K_ENCODE(q3, 110)
K_ENCODE(q4, 144)
K_ENCODE(q5, 176)
K_ENCODE(q6, 210)
