// The search of the lattice formats, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S: one sub-block per lane, except where a
// group of values is on no point of the codebook; its neighbours then take the lanes (iq_nearest.h). Included once per
// tier, after iq_lanes.h and iq_nearest.h.
//
// A sub-block is a scale, signs, and groups of four or eight magnitudes, each group a point of the codebook. Some
// candidate scales are tried: every magnitude is rounded to an odd level, the group moved to the nearest point if it is
// on none, and the scale fitted to the result; the fit with the largest gain stays, and is refined once.

/// What tells the formats apart.
typedef struct iq_lattice {
    cbk_iq_codebook codebook;
    int size;       // elements of a sub-block: 32 or 16
    int group;      // elements of a group: 4 or 8
    int top;        // the largest coordinate: level 2 * top + 1
    int attempts;   // candidate scales on each side of the middle one
    float step;     // between candidates, in levels
    float floor;    // a sub-block whose largest magnitude is below this is all zero
    int even;       // whether the signs of eight elements must be even in number, so that seven tell the eighth
    int seeded;     // whether a scalar fit comes first, which then takes the place of the largest magnitude
    enum { IQ_REFINE_OFF_POINTS, IQ_REFINE_IF_ANY_OFF_POINT, IQ_REFINE_ALWAYS } refine;
    /// Weights of elements: mean square times this ...
    float energy_scale, energy_divisor;
    /// ... and without importance, the share of that which is added to the square.
    float plain_share;
} iq_lattice;

/// What the search finds for one sub-block.
typedef struct iq_found {
    float scale;
    uint8_t signs[4];     // one byte per eight elements, first element in the lowest bit
    uint16_t cells[8];    // one per group
    int present;          // 0 for a sub-block that is all zero
} iq_found;

// MARK: One sub-block in its own order

/// One sub-block's magnitudes and weights as the neighbour search wants them.
typedef struct iq_natural {
    float x[32], weight[32], root[32];  // root: square root of the weight, which is what distances are weighted with
} iq_natural;

/// The first of eight elements that lose least by another sign.
IQ_INLINE uint32_t iq_least_loss(const float *x, const float *weight) {
#if IQ_LANES >= 8
    const __m256 values = _mm256_loadu_ps(x), losses = _mm256_loadu_ps(weight) * values * values;
    if (_mm256_movemask_ps(_mm256_cmp_ps(losses, losses, _CMP_UNORD_Q)) == 0) {
        const __m256 lowest = _mm256_set1_ps(iq_least8(losses));
        return _tzcnt_u32((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(losses, lowest, _CMP_EQ_OQ)));
    }
#endif
    uint32_t least = 0;
    float least_loss = weight[0] * x[0] * x[0];
    for (uint32_t i = 1; i < 8; ++i) {
        const float loss = weight[i] * x[i] * x[i];
        if (loss < least_loss) {
            least_loss = loss;
            least = i;
        }
    }
    return least;
}

/// Sets magnitudes, weights and signs. Where signs must be even, the least important element changes its own.
IQ_INLINE void iq_prepare(const iq_lattice *format, const float *x, const float *importance, float energy,
                          iq_natural *natural, uint8_t signs[4]) {
    const int size = format->size;
    if (importance) {
        for (int i = 0; i < size; ++i) {
            natural->weight[i] = importance[i] * __builtin_elementwise_sqrt(energy + x[i] * x[i]);
        }
    } else if (format->plain_share != 0) {
        for (int i = 0; i < size; ++i) natural->weight[i] = format->plain_share * energy + x[i] * x[i];
    } else {
        for (int i = 0; i < size; ++i) natural->weight[i] = x[i] * x[i];
    }
    for (int i = 0; i < size; ++i) {
        natural->root[i] = __builtin_elementwise_sqrt(natural->weight[i]);
        natural->x[i] = __builtin_fabsf(x[i]);
    }
    for (int k = 0; k < size / 8; ++k) {
        const float *own = x + 8 * k, *weight = natural->weight + 8 * k;
#if IQ_LANES >= 8
        const __m256 values = _mm256_loadu_ps(own);
        uint32_t negative = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_LT_OQ));
#else
        uint32_t negative = 0;
        for (int i = 0; i < 8; ++i) negative |= (uint32_t)(own[i] < 0) << i;
#endif
        if (format->even) {
            // The number of signs is odd half of the time, which nobody predicts: there is no branch.
            const uint32_t odd = (uint32_t)__builtin_popcount(negative) & 1, least = iq_least_loss(own, weight);
            float *const moved = &natural->x[8 * k + least];
            *moved = odd ? -*moved : *moved;
            negative ^= odd << least;
        }
        signs[k] = (uint8_t)negative;
    }
}

// MARK: A scalar fit

/// The scale of a fit of 32 values to the levels 0 ... 4, which IQ2_XXS starts from; 0 where `present` is not set.
///
/// The reference keeps levels in bytes, in which a negative one wraps; a value is negative where it lent its sign.
IQ_INLINE vf iq_positive_fit(const vf *x, const vf *weight, vm present) {
    const vf zero = vf_set(0);
    const vi top = vi_set(4), byte = vi_set(255);
    vf largest = zero;
    for (int i = 0; i < 32; ++i) largest = vf_max(largest, x[i]);

    vf inverse = vf_set(4) / largest, least_loss = zero;
    const vf middle = vf_set(1) / inverse;
    for (int i = 0; i < 32; ++i) {
        const vf difference = x[i] - middle * vi_float(vf_nearest(inverse * x[i]) & byte);
        least_loss = least_loss + weight[i] * difference * difference;
    }
    for (int attempt = -4; attempt <= 4; ++attempt) {
        if (attempt == 0) continue;
        const vf candidate = vf_set(0.1f * (float)attempt + 4) / largest;
        const vf scale = vf_set(1) / candidate;
        vf loss = zero;
        for (int i = 0; i < 32; ++i) {
            const vf difference = x[i] - scale * vi_float(vi_min(top, vf_nearest(candidate * x[i])));
            loss = loss + weight[i] * difference * difference;
        }
        const vm better = vf_less(loss, least_loss);
        least_loss = vf_select(better, loss, least_loss);
        inverse = vf_select(better, candidate, inverse);
    }

    vi levels[32];
    vf lx = zero, ll = zero;
    for (int i = 0; i < 32; ++i) {
        const vi level = vi_min(top, vf_nearest(inverse * x[i]));
        levels[i] = level & byte;
        lx = lx + weight[i] * x[i] * vi_float(level);
        ll = ll + weight[i] * vi_float(level) * vi_float(level);
    }
    // Then one level at a time is changed where that is a gain. A lane in which a pass changes nothing is done: more
    // passes over it change nothing either.
    for (int pass = 0; pass < 5; ++pass) {
        uint32_t changed = 0;
        for (int i = 0; i < 32; ++i) {
            const vf own = vi_float(levels[i]), wx = weight[i] * x[i];
            const vf other_lx = lx - wx * own, other_ll = ll - weight[i] * own * own;
            const vi level = vi_min(top, vf_nearest(x[i] * other_ll / other_lx));
            const vf new_lx = other_lx + wx * vi_float(level);
            const vf new_ll = other_ll + weight[i] * vi_float(level) * vi_float(level);
            vm better = vm_and(vf_less(zero, other_lx), vf_less(zero, other_ll));
            better = vm_and(better, vm_not(vi_equal(level, levels[i])));
            better = vm_and(better, vf_less(lx * lx * new_ll, new_lx * new_lx * ll));
            levels[i] = vi_select(better, level & byte, levels[i]);
            lx = vf_select(better, new_lx, lx);
            ll = vf_select(better, new_ll, ll);
            changed |= vm_bits(vm_and(better, present));
        }
        if (changed == 0) break;
    }
    return vf_select(vm_and(present, vf_less(zero, ll)), lx / ll, zero);
}

// MARK: Many sub-blocks side by side

/// Sub-blocks in lanes.
typedef struct iq_lane_blocks {
    const iq_grid *grid;
    const iq_natural *natural;
    vf x[32], weight[32], weighted[32];  // weighted: weight * x
} iq_lane_blocks;

/// Rounds group `k` of every lane to a cell.
IQ_INLINE vi iq_round_group(const iq_lattice *format, const iq_lane_blocks *lanes, int k, vf inverse) {
    const int bits = format->group == 4 ? 3 : 2;
    vi cell = vi_set(0);
    for (int i = format->group - 1; i >= 0; --i) {
        // As vf_nearest, clamped before its constant is taken off: that does not reach the low bits kept in the end.
        const vf halves = vf_set(0.5f) * (inverse * lanes->x[format->group * k + i] - vf_set(1));
        vi level = vf_bits(halves + vf_set(12582912.0f)) & vi_set(0x7FFFFF);
        level = vi_min(vi_max(level, vi_set(0x400000)), vi_set(0x400000 + format->top));
        cell = vi_left(cell, bits) + level;
    }
    return cell & vi_set((1 << (bits * format->group)) - 1);
}

/// A group to move to a point: its list of neighbours and its place, `group number * IQ_LANES + lane`.
typedef struct iq_move {
    uint32_t list, place;
} iq_move;

/// Finds the points for some groups of a kind; they replace the cells at their places.
IQ_INLINE void iq_move_groups(const iq_lattice *format, const iq_lane_blocks *lanes, const float *scales,
                              const iq_move *moves, int count, int several, int32_t *cells) {
    static const float odd[4] = {1, 3, 5, 7};
    for (int m = 0; m < count; ++m) {
        const uint32_t lane = moves[m].place % IQ_LANES, offset = moves[m].place / IQ_LANES * (uint32_t)format->group;
        const float *x = lanes->natural[lane].x + offset, *root = lanes->natural[lane].root + offset;
        cells[moves[m].place] =
            (int32_t)(format->group == 4
                          ? iq_nearest4(lanes->grid, moves[m].list, x, root, scales[lane], several)
                          : iq_nearest8(lanes->grid, moves[m].list, x, root, scales[lane], odd, several));
    }
    for (int m = 0; m < count; ++m) cells[moves[m].place] = lanes->grid->neighbours[cells[moves[m].place]];
}

/// Rounds all groups of the lanes in `wanted` at a scale and moves those that are on no point to the nearest; `off`
/// receives which those were.
///
/// The groups to move are collected first, short lists of neighbours apart from long ones: the searches then run
/// without a branch to mispredict, and their lists are on the way from memory before they are needed.
IQ_INLINE void iq_round(const iq_lattice *format, const iq_lane_blocks *lanes, vf inverse, vf scale, vm wanted,
                        vi *cells, vm *off) {
    const int groups = format->size / format->group;
    const uint32_t step = format->group == 4 ? IQ_STEP4 : IQ_STEP8;
    iq_move moves[8 * IQ_LANES], long_moves[8 * IQ_LANES];
    int32_t flat[8 * IQ_LANES];
    float scales[IQ_LANES];
    int count = 0, long_count = 0;
    vf_store(scales, scale);
    for (int k = 0; k < groups; ++k) {
        const vi rounded = iq_round_group(format, lanes, k, inverse);
        vi_store(flat + k * IQ_LANES, rounded);
        off[k] = vm_and(vi_test_bit(lanes->grid->off, rounded), wanted);
        for (uint32_t left = vm_bits(off[k]); left != 0; left &= left - 1) {
            const uint32_t place = (uint32_t)(k * IQ_LANES + __builtin_ctz(left));
            const iq_move move = {lanes->grid->lists[flat[place]], place};
            const int is_long = (move.list & 511) > step;
            __builtin_prefetch(lanes->grid->nibbles + (move.list >> 9));
            moves[count] = move;
            long_moves[long_count] = move;
            count += !is_long;
            long_count += is_long;
        }
    }
    iq_move_groups(format, lanes, scales, moves, count, 0, flat);
    iq_move_groups(format, lanes, scales, long_moves, long_count, 1, flat);
    for (int k = 0; k < groups; ++k) memcpy(&cells[k], flat + k * IQ_LANES, sizeof cells[k]);
}

/// The weighted sums of value * level and level * level.
IQ_INLINE void iq_fit(const iq_lattice *format, const iq_lane_blocks *lanes, const vi *cells, vf *qx, vf *qq) {
    const int bits = format->group == 4 ? 3 : 2;
    *qx = *qq = vf_set(0);
    for (int k = 0; k < format->size / format->group; ++k) {
        for (int i = 0; i < format->group; ++i) {
            const int j = format->group * k + i;
            const vi shifted = vi_right(cells[k], bits * i);
            const vf level = format->group == 4 ? vi_odd8(shifted) : vi_odd4(shifted);
            *qx = *qx + lanes->weighted[j] * level;
            *qq = *qq + lanes->weight[j] * level * level;
        }
    }
}

#if IQ_LANES >= 8
#include "iq_walk.h"
#include "iq_stretches.h"
#endif

/// Searches IQ_LANES sub-blocks. `sums`: of the squares of the super-block around each.
IQ_INLINE void iq_lattice_search(const iq_lattice *format, const float *const *values, const float *const *importance,
                                 vf sums, iq_found *found) {
    const int groups = format->size / format->group;
    iq_natural natural[IQ_LANES];
    iq_lane_blocks lanes;
    lanes.grid = iq_encoding_grid(format->codebook);
    lanes.natural = natural;
    const float *places[IQ_LANES], *weights[IQ_LANES];
    float energies[IQ_LANES], scales[IQ_LANES];
    vf_store(energies, vf_set(format->energy_scale) * sums / vf_set(format->energy_divisor));
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        iq_prepare(format, values[lane], importance[lane], energies[lane], &natural[lane], found[lane].signs);
        places[lane] = natural[lane].x;
        weights[lane] = natural[lane].weight;
    }
    iq_interleave(lanes.x, places, format->size);
    iq_interleave(lanes.weight, weights, format->size);
    for (int j = 0; j < format->size; ++j) lanes.weighted[j] = lanes.weight[j] * lanes.x[j];

    vf largest = lanes.x[0];
    for (int j = 1; j < format->size; ++j) largest = vf_max(largest, lanes.x[j]);
    vm present = vm_not(vf_less(largest, vf_set(format->floor)));

    const float top = (float)(2 * format->top + 1);
    vf scale = largest / vf_set(top), reach = largest;
    if (format->seeded) {
        scale = iq_positive_fit(lanes.x, lanes.weight, present);
        reach = scale * vf_set((float)(format->top + 1));
        present = vm_and(present, vm_not(vm_or(vf_less(reach, vf_set(0)), vf_equal(reach, vf_set(0)))));
    }
    if (vm_bits(present) == 0) {
        for (int lane = 0; lane < IQ_LANES; ++lane) found[lane].present = 0;
        return;
    }

    vi cells[8], kept[8];
    vm off[8], kept_off[8];
    for (int k = 0; k < groups; ++k) {
        kept[k] = vi_set(0);
        kept_off[k] = format->refine == IQ_REFINE_IF_ANY_OFF_POINT ? present : vm_and(present, vm_not(present));
    }
    vf best = vf_set(0), qx, qq;
#if IQ_LANES >= 8
    iq_walk walk;
    const int by_stretches = format->group == 4 && iq_fit_by_stretches(format, &lanes, present, reach, &walk, &best,
                                                                       &scale, kept, kept_off);
#else
    const int by_stretches = 0;
#endif
    for (int attempt = -format->attempts; attempt <= format->attempts && !by_stretches; ++attempt) {
        const vf inverse = vf_set(top + (float)attempt * format->step) / reach;
        iq_round(format, &lanes, inverse, vf_set(1) / inverse, present, cells, off);
        iq_fit(format, &lanes, cells, &qx, &qq);
        const vm better = vm_and(vf_less(vf_set(0), qq), vf_less(best * qq, qx * qx));
        const vf fitted = qx / qq;
        scale = vf_select(better, fitted, scale);
        best = vf_select(better, fitted * qx, best);
        for (int k = 0; k < groups; ++k) {
            kept[k] = vi_select(better, cells[k], kept[k]);
            kept_off[k] = vm_or(vm_and(better, off[k]), vm_and(vm_not(better), kept_off[k]));
        }
    }

    vm refined = vm_and(present, vf_less(vf_set(0), scale));
    if (format->refine != IQ_REFINE_ALWAYS) {
        vm any = kept_off[0];
        for (int k = 1; k < groups; ++k) any = vm_or(any, kept_off[k]);
        refined = vm_and(refined, any);
    }
    if (vm_bits(refined) != 0) {
        vm wanted[8];
        for (int k = 0; k < groups; ++k) {
            wanted[k] = format->refine == IQ_REFINE_OFF_POINTS ? vm_and(refined, kept_off[k]) : refined;
        }
        if (!by_stretches) iq_round(format, &lanes, vf_set(1) / scale, scale, refined, cells, off);
#if IQ_LANES >= 8
        if (by_stretches) iq_round_at(format, &lanes, vf_set(1) / scale, scale, wanted, &walk, cells);
#endif
        for (int k = 0; k < groups; ++k) kept[k] = vi_select(wanted[k], cells[k], kept[k]);
        iq_fit(format, &lanes, kept, &qx, &qq);
        scale = vf_select(vm_and(refined, vf_less(vf_set(0), qq)), qx / qq, scale);
    }

    const uint32_t written = vm_bits(present);
    vf_store(scales, scale);
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        found[lane].present = (int)(written >> lane & 1);
        found[lane].scale = scales[lane];
        if (scales[lane] < 0) {
            found[lane].scale = -scales[lane];
            for (int k = 0; k < 4; ++k) found[lane].signs[k] = (uint8_t)~found[lane].signs[k];
        }
    }
    for (int k = 0; k < groups; ++k) {
        int32_t flat[IQ_LANES];
        vi_store(flat, kept[k]);
        for (int lane = 0; lane < IQ_LANES; ++lane) found[lane].cells[k] = (uint16_t)flat[lane];
    }
}
