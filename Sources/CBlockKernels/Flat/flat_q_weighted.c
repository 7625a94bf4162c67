// Q4_0, Q4_1, Q5_0 and Q5_1 with an importance matrix: a search per block for the scale (and minimum) of least
// weighted error. The definition is Flat/WeightedSearch.swift.
//
// Sixteen blocks are searched at once, one in each lane, so that every lane adds in the order of the definition.
#pragma STDC FP_CONTRACT OFF

#include "cbk_flat.h"
#include "flat_q.h"

enum { BLOCK = 32, LANES = 16, ROWS_AT_ONCE = 8 };

/// Element i of sixteen blocks, one per lane, with its weight and, afterwards, its level.
typedef struct {
    f32x16 x[BLOCK];
    f32x16 w[BLOCK];
    i32x16 level[BLOCK];
    i32x16 trial[BLOCK];
} lanes;

/// Rounds to nearest, ties to even, by adding 1.5 * 2^23; what it gives for infinities and NaN counts as well.
CBK_INLINE i32x16 nearest(f32x16 v) {
    return ((i32x16)(v + 12582912.0f) & 0x007FFFFF) - 0x00400000;
}

CBK_INLINE i32x16 clamp(i32x16 v, int lowest, int highest) {
    return __builtin_elementwise_max(__builtin_elementwise_min(v, (i32x16)highest), (i32x16)lowest);
}

CBK_INLINE f32x16 float_of(i32x16 v) { return __builtin_convertvector(v, f32x16); }

/// Transposes up to sixteen blocks through memory; lanes without a block get zeros.
CBK_INLINE void fill(lanes *b, const float *row, const float *importance, size_t blocks, float sigma2) {
    float x[BLOCK][LANES], q[BLOCK][LANES];
    if (blocks < LANES) {
        memset(x, 0, sizeof x);
        memset(q, 0, sizeof q);
    }
    for (size_t lane = 0; lane < blocks; lane++) {
        for (size_t i = 0; i < BLOCK; i++) {
            x[i][lane] = row[lane * BLOCK + i];
            q[i][lane] = importance[lane * BLOCK + i];
        }
    }
    for (int i = 0; i < BLOCK; i++) {
        b->x[i] = load_f32(x[i]);
        b->w[i] = load_f32(q[i]) * __builtin_elementwise_sqrt(sigma2 + b->x[i] * b->x[i]);
    }
}

/// The scale for levels -half ..< half; levels are stored with `half` added.
CBK_INLINE f32x16 search_symmetric(lanes *b, int half) {
    f32x16 max = 0, amax = 0;
    for (int i = 0; i < BLOCK; i++) {
        const f32x16 ax = (f32x16)magnitude_bits(b->x[i]);
        const i32x16 larger = ax > amax;
        amax = larger ? ax : amax;
        max = larger ? b->x[i] : max;
    }
    const i32x16 empty = amax < 1e-15f;

    f32x16 best = 0, scale = 0;
    for (int step = -10; step <= 9; step++) {
        // Step -10 stands for the plain scale, which the reference tries first.
        if (step == 0) continue;
        const f32x16 iscale = step == -10 ? -(float)half / max : -((float)half + 0.1f * (float)step) / max;
        f32x16 sumlx = 0, suml2 = 0;
        for (int i = 0; i < BLOCK; i++) {
            const i32x16 l = clamp(nearest(iscale * b->x[i]), -half, half - 1);
            const f32x16 lf = float_of(l);
            const f32x16 w = b->w[i];
            b->trial[i] = l;
            sumlx += w * b->x[i] * lf;
            suml2 += w * lf * lf;
        }
        i32x16 better;
        if (step == -10) {
            better = (i32x16)-1;
            scale = suml2 != 0 ? sumlx / suml2 : (f32x16)0;
        } else {
            better = (suml2 > 0) & (sumlx * sumlx > best * suml2);
            if (!__builtin_reduce_or(better)) continue;
            scale = better ? sumlx / suml2 : scale;
        }
        best = better ? scale * sumlx : best;
        for (int i = 0; i < BLOCK; i++) b->level[i] = better ? b->trial[i] + half : b->level[i];
    }
    // What is as good as zero has level 0 throughout and scale 0.
    for (int i = 0; i < BLOCK; i++) b->level[i] = empty ? (i32x16)0 : b->level[i];
    return empty ? (f32x16)0 : scale;
}

/// The scale and the (negated, non-negative) minimum for levels 0 ... top.
CBK_INLINE f32x16 search_affine(lanes *b, int top, f32x16 *negated_minimum) {
    f32x16 min = b->x[0], max = b->x[0];
    f32x16 sum_w = b->w[0], sum_x = sum_w * b->x[0];
    for (int i = 1; i < BLOCK; i++) {
        min = b->x[i] < min ? b->x[i] : min;
        max = b->x[i] > max ? b->x[i] : max;
        sum_w += b->w[i];
        sum_x += b->w[i] * b->x[i];
    }
    min = min > 0 ? (f32x16)0 : min;
    const i32x16 empty = max <= min;
    const f32x16 lowest = min;
    const f32x16 iscale = (float)top / (max - min);
    f32x16 scale = 1.0f / iscale, best = 0;
    for (int i = 0; i < BLOCK; i++) {
        const i32x16 l = clamp(nearest(iscale * (b->x[i] - min)), 0, top);
        b->level[i] = l;
        const f32x16 diff = scale * float_of(l) + min - b->x[i];
        best += b->w[i] * (diff * diff);
    }
    for (int step = 0; step <= 36; step++) {
        // Like the reference, measure from the minimum of the best trial so far.
        const f32x16 iscale = (-0.9f + 0.05f * (float)step + (float)top) / (max - min);
        f32x16 sum_l = 0, sum_l2 = 0, sum_xl = 0;
        for (int i = 0; i < BLOCK; i++) {
            const i32x16 l = clamp(nearest(iscale * (b->x[i] - min)), 0, top);
            const f32x16 lf = float_of(l);
            const f32x16 wl = b->w[i] * lf;
            b->trial[i] = l;
            sum_l += wl;
            sum_l2 += wl * lf;
            sum_xl += wl * b->x[i];
        }
        const f32x16 determinant = sum_w * sum_l2 - sum_l * sum_l;
        f32x16 this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        f32x16 this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        const i32x16 positive = this_min > 0;
        this_min = positive ? (f32x16)0 : this_min;
        this_scale = positive ? sum_xl / sum_l2 : this_scale;
        f32x16 error = 0;
        for (int i = 0; i < BLOCK; i++) {
            const f32x16 diff = this_scale * float_of(b->trial[i]) + this_min - b->x[i];
            error += b->w[i] * (diff * diff);
        }
        const i32x16 better = (determinant > 0) & (error < best);
        if (!__builtin_reduce_or(better)) continue;
        best = better ? error : best;
        scale = better ? this_scale : scale;
        min = better ? this_min : min;
        for (int i = 0; i < BLOCK; i++) b->level[i] = better ? b->trial[i] : b->level[i];
    }
    for (int i = 0; i < BLOCK; i++) b->level[i] = empty ? (i32x16)0 : b->level[i];
    *negated_minimum = -(empty ? lowest : min);
    return empty ? (f32x16)0 : scale;
}

/// Stores the block of one lane. `levels` are the lanes' levels, sixteen to an element.
CBK_INLINE void store_block(cbk_tier tier, const uint32_t *levels, size_t lane, int bits, bool affine, float d,
                            float m, uint8_t *to) {
    uint32_t q[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) q[i] = levels[i * LANES + lane];
    u32x16 q0, q1;
    memcpy(&q0, q, sizeof q0);
    memcpy(&q1, q + 16, sizeof q1);
    store_half(tier, to, d);
    if (affine) store_half(tier, to + 2, -m);
    store_levels(to + (affine ? 4 : 2), q0, q1, bits);
}

/// Σx² of `rows` rows, one addition after the other as in the definition; rows side by side to hide the latency.
CBK_INLINE void side_by_side(const float *values, size_t columns, float *sums, const size_t rows) {
    float s[4] = {0};
    for (size_t j = 0; j < columns; j++) {
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) s[r] += values[r * columns + j] * values[r * columns + j];
    }
    for (size_t r = 0; r < rows; r++) sums[r] = s[r];
}

static void row_squares(const float *values, size_t rows, size_t columns, float *sums) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) side_by_side(values + r * columns, columns, sums + r, 4);
    for (; r + 2 <= rows; r += 2) side_by_side(values + r * columns, columns, sums + r, 2);
    if (r < rows) side_by_side(values + r * columns, columns, sums + r, 1);
}

CBK_INLINE void encode_weighted(cbk_tier tier, const float *values, const float *importance, size_t rows,
                                size_t columns, uint8_t *blocks, int bits, bool affine) {
    const size_t bytes = (affine ? 4 : 2) + (bits == 5 ? 4 : 0) + 16;
    const size_t per_row = columns / BLOCK;
    for (size_t first = 0; first < rows; first += ROWS_AT_ONCE) {
        const size_t some = rows - first < ROWS_AT_ONCE ? rows - first : ROWS_AT_ONCE;
        float sums[ROWS_AT_ONCE];
        row_squares(values + first * columns, some, columns, sums);
        for (size_t r = 0; r < some; r++) {
            const float *row = values + (first + r) * columns;
            uint8_t *to = blocks + (first + r) * per_row * bytes;
            const float sigma2 = sums[r] / (float)columns;
            for (size_t block = 0; block < per_row; block += LANES) {
                const size_t used = per_row - block < LANES ? per_row - block : LANES;
                lanes b;
                fill(&b, row + block * BLOCK, importance + block * BLOCK, used, sigma2);
                f32x16 minima = 0;
                const f32x16 scales = affine ? search_affine(&b, (1 << bits) - 1, &minima)
                                             : search_symmetric(&b, 1 << (bits - 1));
                float d[LANES], m[LANES];
                uint32_t levels[BLOCK * LANES];
                store_f32(d, scales);
                store_f32(m, minima);
                memcpy(levels, b.level, sizeof levels);
                for (size_t lane = 0; lane < used; lane++) {
                    store_block(tier, levels, lane, bits, affine, d[lane], m[lane], to + (block + lane) * bytes);
                }
            }
        }
    }
}

#define CBK_WEIGHTED(type, bits, affine)                                                                    \
    CBK_INLINE void weighted_##type(cbk_tier tier, const float *values, const float *importance, size_t rows, \
                                    size_t columns, uint8_t *blocks) {                                      \
        encode_weighted(tier, values, importance, rows, columns, blocks, bits, affine);                     \
    }                                                                                                       \
    CBK_ENCODER(cbk_weighted_##type, weighted_##type)
CBK_WEIGHTED(q4_0, 4, false)
CBK_WEIGHTED(q4_1, 4, true)
CBK_WEIGHTED(q5_0, 5, false)
CBK_WEIGHTED(q5_1, 5, true)
