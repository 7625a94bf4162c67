// The candidate scales of the four-dimensional codebooks (IQ3_XXS, IQ3_S), by stretches instead of one after the other.
// AVX2 and AVX-512. Included by iq_search_lattice.h.

/// Rounds group `k` of every lane to cells at two scales; the second one's are in the upper halves. Values must be
/// below 2^20 at either scale.
IQ_INLINE vi iq_round_pair(const iq_lane_blocks *lanes, int k, vf inverse, vf inverse_high) {
    // As iq_round_group does. The constant is twice as large because the sum is not halved, and gives the same bits:
    // 0x4BC00000 and the level, which is not negative if the value is not. A negative value has level 0, as 0 has.
    const vf magic = vf_set(25165824.0f);
    vi cells = vi_set(0);
    for (int i = 3; i >= 0; --i) {
        const vf x = vf_max(lanes->x[4 * k + i], vf_set(0));
        const vi low = vf_bits(inverse * x - vf_set(1) + magic);
        const vi high = vf_bits(inverse_high * x - vf_set(1) + magic);
        cells = vi_left(cells, 3) + vi_min_halves(low + vi_left(high, 16), vi_set(0x4BC70007));
    }
    // Of the constant, the upper halves have 1 + 8 + 64 + 512 times 0x4BC0.
    return (cells - vi_set((0x4BC0 * 585 & 0xFFF) << 16)) & vi_set(0x0FFF0FFF);
}

/// Keeps of a row the cells that differ from the one before, and marks them. Returns which these are.
IQ_INLINE uint32_t iq_mark_row(uint16_t *row) {
#if IQ_LANES == 16
    const __m512i cells = _mm512_loadu_si512(row);
    const uint32_t begins = _mm512_cmpneq_epi16_mask(cells, _mm512_loadu_si512(row + 1)) << 1 | 1;
    _mm512_storeu_si512(row, _mm512_maskz_mov_epi16(begins, _mm512_or_si512(cells, _mm512_set1_epi16(IQ_MARK))));
    return begins;
#else
    const __m256i low = _mm256_loadu_si256((const __m256i *)row), high = _mm256_loadu_si256((const __m256i *)(row + 16));
    const __m256i mark = _mm256_set1_epi16(IQ_MARK);
    // The row moved up by one candidate; a mark is no cell, so the first one begins.
    const __m256i before = _mm256_alignr_epi8(low, _mm256_permute2x128_si256(mark, low, 0x20), 14);
    const __m256i before_high = _mm256_alignr_epi8(high, _mm256_permute2x128_si256(low, high, 0x21), 14);
    const __m256i same = _mm256_cmpeq_epi16(low, before), same_high = _mm256_cmpeq_epi16(high, before_high);
    _mm256_storeu_si256((__m256i *)row, _mm256_andnot_si256(same, _mm256_or_si256(low, mark)));
    _mm256_storeu_si256((__m256i *)(row + 16), _mm256_andnot_si256(same_high, _mm256_or_si256(high, mark)));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi16(same, same_high), 0xD8);
    return ~(uint32_t)_mm256_movemask_epi8(both);
#endif
}

/// Rounds all groups at all candidates, and marks in the rows where cells begin.
IQ_INLINE void iq_round_rows(const iq_lattice *format, const iq_lane_blocks *lanes, vf reach, iq_walk *walk) {
    const int candidates = 2 * format->attempts + 1;
    vf inverses[IQ_CANDIDATES];
    for (int n = 0; n < candidates; ++n) inverses[n] = iq_nominal(format, vi_set(n)) / reach;
    for (int k = 0; k < 8; ++k) {
        // A row of cells per lane: candidates 2 n and 2 n + 1 are in one 32-bit element.
        vf pairs[IQ_CANDIDATES / 2];
        for (int n = 0; n < IQ_CANDIDATES; n += 2) {
            pairs[n / 2] = vf_set(0);
            if (n >= candidates) continue;
            pairs[n / 2] = (vf)iq_round_pair(lanes, k, inverses[n], inverses[n + 1 < candidates ? n + 1 : n]);
        }
        for (int n = 0; n < IQ_CANDIDATES / 2; n += IQ_LANES) {
            iq_transpose(pairs + n);
            for (int lane = 0; lane < IQ_LANES; ++lane) vf_store((float *)walk->rows[8 * lane + k] + n, pairs[n + lane]);
        }
    }
}

/// Queues the stretches of all rows, with the candidates at which their cells begin marked.
IQ_INLINE void iq_queue_stretches(const iq_lattice *format, vm present, iq_walk *walk) {
    const int candidates = 2 * format->attempts + 1;
    // Where cells begin: places without their ends, of points as well. One more vector is for whole vectors, and one
    // for the end.
    uint32_t begins[IQ_GROUPS * IQ_CANDIDATES + 2 * IQ_LANES];
    int count = 0;
    for (uint32_t left = vm_bits(present); left != 0; left &= left - 1) {
        for (int group = __builtin_ctz(left) * 8, end = group + 8; group < end; ++group) {
            vi entries[IQ_CANDIDATES / IQ_LANES];
            for (int n = 0; n < candidates; n += IQ_LANES) {
                entries[n / IQ_LANES] =
                    vi_load_halves(walk->rows[group] + n) | (vi_left(vi_count(), 18) + vi_set(group << 23 | n << 18));
            }
            const uint32_t marked = iq_mark_row(walk->rows[group]) & (uint32_t)((1ull << candidates) - 1);
            for (int n = 0; n < candidates; n += IQ_LANES) {
                const uint32_t some = marked >> n & IQ_ALL_LANES;
                vi_store((int32_t *)begins + count, vi_compress(vm_of(some), entries[n / IQ_LANES]));
                count += __builtin_popcount(some);
            }
        }
    }
    vi_store((int32_t *)begins + count, vi_set(0));
    for (int at = 0; at < count; at += IQ_LANES) {
        // A stretch ends before the next one, or, where that begins at candidate 0, at the last candidate.
        const vi begin = vi_load((const int32_t *)begins + at), next = vi_load((const int32_t *)begins + at + 1);
        vi end = next & vi_set(31 << 18);
        end = vi_select(vi_equal(end, vi_set(0)), vi_set(candidates << 18), end) - vi_set(1 << 18);
        const vi lists = vi_gather((const int32_t *)walk->grid->contender_lists, begin & vi_set(0xFFF));
        iq_push_by_length(walk, vm_first(count - at), (begin & vi_set(~0x1FFF)) | vi_right(end, 5), lists);
    }
}

/// Whether all lanes in `present` have values of which no distance comes near to what overflows, underflows, or is no
/// number.
IQ_INLINE int iq_is_tame(const iq_lane_blocks *lanes, vm present, vf reach) {
    // Sums, unlike maxima, keep what is no number.
    vf extent = vf_set(0), weight = vf_set(0);
    for (int j = 0; j < 32; ++j) {
        extent = extent + vf_abs(lanes->x[j]);
        weight = weight + lanes->weight[j];
    }
    vm tame = vm_and(vf_less(vf_set(0x1p-40f), reach), vf_less(reach, vf_set(0x1p40f)));
    tame = vm_and(tame, vm_and(vf_less(extent, vf_set(0x1p14f) * reach), vf_less(weight, vf_set(0x1p80f))));
    return (vm_bits(present) & ~vm_bits(tame)) == 0;
}

/// Tries all candidates of IQ_LANES sub-blocks and keeps the best in `best`, `scale`, `kept` and `kept_off`. Returns 0,
/// with nothing done, if values are not tame.
IQ_INLINE int iq_fit_by_stretches(const iq_lattice *format, const iq_lane_blocks *lanes, vm present, vf reach,
                                  iq_walk *walk, vf *best, vf *scale, vi *kept, vm *kept_off) {
    if (!iq_is_tame(lanes, present, reach)) return 0;
    walk->format = format;
    walk->grid = lanes->grid;
    walk->reach = reach;
    walk->inverse_reach = vf_set(1) / reach;
    for (int group = 0; group < IQ_GROUPS; ++group) {
        const iq_natural *natural = &lanes->natural[group / 8];
        memcpy(walk->groups[group].x, natural->x + group % 8 * 4, sizeof walk->groups[group].x);
        memcpy(walk->groups[group].root, natural->root + group % 8 * 4, sizeof walk->groups[group].root);
    }
    for (int n = 0; n < IQ_LENGTHS; ++n) walk->by_length[n].count = 0;
    walk->parts.count = walk->exact.count = 0;
    walk->after_rows = 0;

    iq_round_rows(format, lanes, reach, walk);
    iq_queue_stretches(format, present, walk);
    iq_walk_all(walk);
    if (walk->exact.count != 0) iq_search_exact(walk);

    vf pairs[8][IQ_CANDIDATES / 2];
    for (int k = 0; k < 8; ++k) {
        for (int n = 0; n < IQ_CANDIDATES / 2; n += IQ_LANES) {
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                pairs[k][n + lane] = vf_load((const float *)walk->rows[8 * lane + k] + n);
            }
            iq_transpose(pairs[k] + n);
        }
    }
    vi cells[8], chosen = vi_set(-1);
    for (int k = 0; k < 8; ++k) cells[k] = vi_set(0);
    for (int n = 0; n <= 2 * format->attempts; ++n) {
        vf qx, qq;
        for (int k = 0; k < 8; ++k) {
            // What has no mark is as the candidate before.
            const vi pair = (vi)pairs[k][n / 2];
            const vm begins = vi_test(pair, vi_set(IQ_MARK << n % 2 * 16));
            cells[k] = vi_select(begins, vi_right(pair, n % 2 * 16), cells[k]);
        }
        iq_fit(format, lanes, cells, &qx, &qq);
        const vm better = vm_and(vf_less(vf_set(0), qq), vf_less(*best * qq, qx * qx));
        const vf fitted = qx / qq;
        *scale = vf_select(better, fitted, *scale);
        *best = vf_select(better, fitted * qx, *best);
        chosen = vi_select(better, vi_set(n), chosen);
        for (int k = 0; k < 8; ++k) kept[k] = vi_select(better, cells[k] & vi_set(0xFFF), kept[k]);
    }

    // Which groups of the chosen candidate were on no point.
    const vm any = vm_not(vi_equal(chosen, vi_set(-1)));
    const vf inverse = iq_nominal(format, chosen) / reach;
    for (int k = 0; k < 8; ++k) {
        const vm off = vm_and(vi_test_bit(lanes->grid->off, iq_round_group(format, lanes, k, inverse)), present);
        kept_off[k] = vm_or(vm_and(any, off), vm_and(vm_not(any), kept_off[k]));
    }
    return 1;
}

/// Rounds the groups in `wanted` to points at one scale for each sub-block, after iq_fit_by_stretches. Other groups are
/// rounded to cells.
IQ_INLINE void iq_round_at(const iq_lattice *format, const iq_lane_blocks *lanes, vf inverse, vf scale, const vm *wanted,
                           iq_walk *walk, vi *cells) {
    walk->scale = scale;
    walk->inverse = inverse;
    for (int k = 0; k < 8; ++k) {
        const vi rounded = iq_round_group(format, lanes, k, inverse);
        vi_store(walk->cells + k * IQ_LANES, rounded);
        iq_push_by_length(walk, wanted[k], vi_left(vi_count(), 26) | vi_set(k << 23),
                          vi_gather((const int32_t *)walk->grid->contender_lists, rounded));
    }
    iq_search_all(walk);
    for (int k = 0; k < 8; ++k) cells[k] = vi_load(walk->cells + k * IQ_LANES);
}
