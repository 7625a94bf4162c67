// The candidate scales of the four-dimensional codebooks (IQ3_XXS, IQ3_S) without a search of neighbours for each.
// AVX-512 only. Included by iq_search_lattice.h.
//
// From one candidate to the next a group of values mostly rounds to the same cell. Along such a stretch of candidates
// its list of neighbours is the same, and the squared distance to neighbour n is s^2 a(n) - 2 s b(n) + c at scale s.
// The difference between two neighbours' distances, divided by s, is linear in s. So a neighbour that is the nearest
// at both ends of a stretch is the nearest all along it, and only where the ends differ are candidates between them
// looked at.
//
// The reference compares rounded distances, so the nearest must lead by a margin. With u = 2^-24, S the largest scale
// and Q the sum of weight * (15 S)^2 over the group: the rounded s q - x is off by u (s q + |s q - x|) at most, so a
// term by 2 u weight |s q - x| s q and seven more roundings, and a distance d by 2 u sqrt(d Q) + 7 u d, which is no
// more than u (15 d + Q / 8). Two rounded distances keep the order of the exact ones if these differ by more than
// u (31 d + Q / 4), d being the smaller. In between two ends that difference is no less than two thirds of what a
// linear interpolation gives, since the scales are within a factor of 1.5, and d no more than that, since it is convex
// in s. So u (46 d + 0.38 Q) at the ends is enough, or u (77 d + 0.64 Q) of rounded distances. The margin used is
// u (128 d + Q), and a constant for what underflow adds. A neighbour that leads by less is not trusted.

enum { IQ_ATTEMPTS = 32 };  // at most; a row of that many 16-bit cells is one register

/// Candidates `from` to `to` of one lane's group, which rounds to the same cell, off the codebook, at all of them.
typedef struct iq_stretch {
    uint32_t list;
    uint8_t lane, from, to;
    /// The nearest points at the ends, with UNSURE set if they do not lead by the margin.
    uint16_t first, last;
} iq_stretch;

enum { IQ_UNSURE = 0x8000 };

/// Finds the points for candidates a and b, of scales `scale_a` and `scale_b`, of one group.
IQ_INLINE void iq_nearest_pair(const iq_grid *grid, uint32_t list, const float *x, const float *root, float scale_a,
                               float scale_b, float margin, int several, uint16_t *at_a, uint16_t *at_b) {
    // The lower half is for a, the upper one for b, whose tables are the upper halves of the registers.
    const __m512 odd = _mm512_setr_ps(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m512i low = _mm512_set1_epi32(0x7777);
    const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0x8888, 0x8888, 0x8888, 0x8888, 0x8888, 0x8888,
                                           0x8888, 0x8888);
    const __m512 scaled = odd * _mm512_mask_mov_ps(_mm512_set1_ps(scale_a), 0xFF00, _mm512_set1_ps(scale_b));
    __m512 terms[4];
    for (int i = 0; i < 4; ++i) {
        const __m512 difference = scaled - _mm512_set1_ps(x[i]);
        terms[i] = _mm512_set1_ps(root[i]) * difference * difference;
    }
    const uint32_t start = list >> 9, count = list & 511;
    __m512 least = _mm512_set1_ps(0), second = _mm512_set1_ps(__builtin_inff());
    __m512i place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i lane = place;
    for (uint32_t from = 0; from == 0 || (several && from < count); from += 8) {
        const __m256i loaded = _mm256_loadu_si256((const __m256i *)(grid->nibbles + start + from));
        // (loaded & low) | half
        const __m512i nibbles = _mm512_ternarylogic_epi32(_mm512_broadcast_i32x8(loaded), low, half, 0xEA);
        __m512 distance = _mm512_permutexvar_ps(nibbles, terms[0]);
        distance = distance + _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4), terms[1]);
        distance = distance + _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 8), terms[2]);
        distance = distance + _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 12), terms[3]);
        // What fills up a list would seem to compete with the neighbour it repeats.
        const __mmask16 listed = _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32((int)(count - from)));
        distance = _mm512_mask_mov_ps(_mm512_set1_ps(__builtin_inff()), listed, distance);
        if (from == 0) {
            least = distance;
        } else {
            const __mmask16 less = _mm512_cmp_ps_mask(distance, least, _CMP_LT_OQ);
            second = _mm512_min_ps(second, _mm512_max_ps(distance, least));
            least = _mm512_min_ps(distance, least);
            place = _mm512_mask_add_epi32(place, less, lane, _mm512_set1_epi32((int)from));
        }
    }
    __m512 all = _mm512_min_ps(least, _mm512_shuffle_f32x4(least, least, 0xB1));
    all = _mm512_min_ps(all, _mm512_permute_ps(all, 0x4E));
    all = _mm512_min_ps(all, _mm512_permute_ps(all, 0xB1));
    const __m512 limit = all + (all * _mm512_set1_ps(0x1p-17f) + _mm512_set1_ps(margin));
    const uint32_t equal = _mm512_cmp_ps_mask(least, all, _CMP_EQ_OQ);
    uint32_t near = _mm512_cmp_ps_mask(least, limit, _CMP_LE_OQ);
    uint32_t a, b, unsure_a = 0, unsure_b = 0;
    if (several) {
        const uint32_t crowded = _mm512_cmp_ps_mask(second, limit, _CMP_LE_OQ);
        unsure_a = crowded & 0xFF;
        unsure_b = crowded >> 8;
        // Places are distinct within a half, so the least is found among those at the least distance.
        const __m512i left = _mm512_mask_mov_epi32(_mm512_set1_epi32(-1), (__mmask16)equal, place);
        __m512i m = _mm512_min_epu32(left, _mm512_shuffle_i32x4(left, left, 0xB1));
        m = _mm512_min_epu32(m, _mm512_shuffle_epi32(m, (_MM_PERM_ENUM)0x4E));
        m = _mm512_min_epu32(m, _mm512_shuffle_epi32(m, (_MM_PERM_ENUM)0xB1));
        a = (uint32_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(m));
        b = (uint32_t)_mm_cvtsi128_si32(_mm512_extracti32x4_epi32(m, 2));
    } else {
        a = _tzcnt_u32(equal);
        b = _tzcnt_u32(equal >> 8);
    }
    const uint32_t near_a = near & 0xFF, near_b = near >> 8;
    unsure_a |= near_a & (near_a - 1);
    unsure_b |= near_b & (near_b - 1);
    *at_a = (uint16_t)(grid->neighbours[start + a] | (unsure_a != 0) << 15);
    *at_b = (uint16_t)(grid->neighbours[start + b] | (unsure_b != 0) << 15);
}

/// The candidate after which the point nearer than the one at the end of a stretch changes from that at its beginning,
/// so far as one can tell from the ends: a guess, which only decides where to look next.
IQ_INLINE int iq_turn(const iq_stretch *stretch, const float *x, const float *root, float reach, float top, float step,
                      int attempts) {
    const __m128i shifts = _mm_setr_epi32(0, 3, 6, 9), seven = _mm_set1_epi32(7);
    const __m128 a = _mm_cvtepi32_ps(_mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32(stretch->first), shifts), seven));
    const __m128 b = _mm_cvtepi32_ps(_mm_and_si128(_mm_srlv_epi32(_mm_set1_epi32(stretch->last), shifts), seven));
    // With the levels 2 a + 1 and 2 b + 1 the distances are equal where s times the first sum is the second one.
    const __m128 weighted = _mm_loadu_ps(root) * (a - b);
    __m128 sums = _mm_hadd_ps(weighted * (a + b + _mm_set1_ps(1)), weighted * _mm_loadu_ps(x));
    sums = _mm_hadd_ps(sums, sums);
    const float inverse = sums[0] / sums[1];
    const float candidate = (inverse * reach - top) / step + (float)attempts;
    // A stretch whose ends agree, though not surely, gives NaN here and is halved.
    if (!(candidate > -1e6f && candidate < 1e6f)) return (stretch->from + stretch->to) / 2;
    const int turn = (int)candidate;
    return turn < stretch->from ? stretch->from : turn >= stretch->to ? stretch->to - 1 : turn;
}

/// Stretches of one group of all lanes, short lists of neighbours apart from long ones.
typedef struct iq_stretches {
    iq_stretch of[2][16 * IQ_ATTEMPTS];
    int count[2];
} iq_stretches;

IQ_INLINE void iq_add_stretch(iq_stretches *stretches, iq_stretch stretch, int wanted) {
    const int several = (stretch.list & 511) > 8;
    stretches->of[several][stretches->count[several]] = stretch;
    stretches->count[several] += wanted;
}

/// Replaces the cells of a stretch whose ends are known, as far as they tell; the rest is added to `next`.
IQ_INLINE void iq_settle(iq_stretches *next, uint16_t *row, iq_stretch stretch) {
    const int same = (stretch.first == stretch.last) & !(stretch.first & IQ_UNSURE);
    const uint32_t range = (uint32_t)((2ull << stretch.to) - (1ull << stretch.from));
    const uint32_t written = same ? range : 1u << stretch.from;
    const __m512i cell = _mm512_set1_epi16((short)(stretch.first & ~IQ_UNSURE));
    _mm512_mask_storeu_epi16(row, written, cell);
    row[stretch.to] = stretch.last & (uint16_t)~IQ_UNSURE;
    iq_add_stretch(next, stretch, !same & (stretch.to - stretch.from > 1));
}

/// Replaces the cells of some stretches of group k by points.
IQ_INLINE void iq_walk_stretches(const iq_lattice *format, const iq_lane_blocks *lanes, int k, const float *reaches,
                                 float top, const float *margins,
                                 const float (*scales)[16], uint16_t (*rows)[IQ_ATTEMPTS], iq_stretches *now,
                                 iq_stretches *next) {
    next->count[0] = next->count[1] = 0;
    for (int several = 0; several < 2; ++several) {
        for (int n = 0; n < now->count[several]; ++n) {
            iq_stretch s = now->of[several][n];
            const iq_natural *natural = &lanes->natural[s.lane];
            iq_nearest_pair(lanes->grid, s.list, natural->x + 4 * k, natural->root + 4 * k, scales[s.from][s.lane],
                            scales[s.to][s.lane], margins[s.lane], several, &s.first, &s.last);
            iq_settle(next, rows[s.lane], s);
        }
    }
    while (next->count[0] + next->count[1] != 0) {
        iq_stretches *const swapped = now;
        now = next;
        next = swapped;
        next->count[0] = next->count[1] = 0;
        for (int several = 0; several < 2; ++several) {
            for (int n = 0; n < now->count[several]; ++n) {
                // Two candidates in between make three stretches.
                const iq_stretch s = now->of[several][n];
                const iq_natural *natural = &lanes->natural[s.lane];
                const int turn = iq_turn(&s, natural->x + 4 * k, natural->root + 4 * k, reaches[s.lane], top,
                                         format->step, format->attempts);
                iq_stretch low = s, middle = s, high = s;
                low.to = middle.from = (uint8_t)turn;
                middle.to = high.from = (uint8_t)(turn + 1);
                iq_nearest_pair(lanes->grid, s.list, natural->x + 4 * k, natural->root + 4 * k,
                                scales[middle.from][s.lane], scales[middle.to][s.lane], margins[s.lane], several,
                                &middle.first, &middle.last);
                low.last = middle.first;
                high.first = middle.last;
                iq_settle(next, rows[s.lane], low);
                iq_settle(next, rows[s.lane], middle);
                iq_settle(next, rows[s.lane], high);
            }
        }
    }
}

/// Tries all candidates of 16 sub-blocks and keeps the best in `best`, `scale`, `kept` and `kept_off`. Returns 0, with
/// nothing done, if values are so large that a distance might overflow.
IQ_INLINE int iq_fit_by_stretches(const iq_lattice *format, const iq_lane_blocks *lanes, vm present, float top,
                                  vf reach, vf *best, vf *scale, vi *kept, vm *kept_off) {
    const int candidates = 2 * format->attempts + 1;
    float scales[IQ_ATTEMPTS][16], margins[8][16];
    vf inverses[IQ_ATTEMPTS];
    float lane_reaches[16];
    vf_store(lane_reaches, reach);
    for (int n = 0; n < candidates; ++n) {
        inverses[n] = vf_set(top + (float)(n - format->attempts) * format->step) / reach;
        vf_store(scales[n], vf_set(1) / inverses[n]);
    }
    const vf outermost = vf_set(15) * vf_load(scales[0]);
    vm tame = present;
    for (int k = 0; k < 8; ++k) {
        vf bound = vf_set(0), share = vf_set(0), roots = vf_set(1), reaches = vf_set(1);
        for (int i = 0; i < 4; ++i) {
            const vf root = vf_sqrt(lanes->weight[4 * k + i]), extent = outermost + vf_abs(lanes->x[4 * k + i]);
            bound = bound + root * extent * extent;
            share = share + root * outermost * outermost;
            roots = roots + root;
            reaches = reaches + extent;
        }
        const vf margin = vf_set(0x1p-24f) * share + vf_set(0x1p-140f) * roots * reaches;
        tame = vm_and(tame, vm_and(vf_less(bound, vf_set(0x1p100f)), vf_less(margin, vf_set(0x1p100f))));
        vf_store(margins[k], margin);
    }
    if (vm_bits(tame) != vm_bits(present)) return 0;

    vf pairs[8][16];
    uint16_t rows[16][IQ_ATTEMPTS];
    iq_stretches stretches[2];
    for (int k = 0; k < 8; ++k) {
        // A row of cells per lane: candidates 2 n and 2 n + 1 are in one 32-bit element.
        for (int n = 0; n < 16; ++n) {
            vi pair = vi_set(0);
            if (2 * n < candidates) pair = iq_round_group(format, lanes, k, inverses[2 * n]);
            if (2 * n + 1 < candidates) pair |= vi_left(iq_round_group(format, lanes, k, inverses[2 * n + 1]), 16);
            pairs[k][n] = (vf)pair;
        }
        iq_transpose(pairs[k]);
        memcpy(rows, pairs[k], sizeof rows);
        stretches[0].count[0] = stretches[0].count[1] = 0;
        for (uint32_t left = vm_bits(present); left != 0; left &= left - 1) {
            const int lane = __builtin_ctz(left);
            const __m512i row = (__m512i)pairs[k][lane];
            // The row moved up by one candidate.
            const __m512i before = _mm512_alignr_epi32(row, row, 15);
            const __m512i moved = _mm512_or_si512(_mm512_slli_epi32(row, 16), _mm512_srli_epi32(before, 16));
            const uint64_t end = 1ull << candidates;
            uint64_t starts = (_mm512_cmpneq_epi16_mask(row, moved) & (uint32_t)(end - 1)) | 1 | end;
            while (starts != end) {
                iq_stretch stretch = {.lane = (uint8_t)lane, .from = (uint8_t)_tzcnt_u64(starts)};
                starts &= starts - 1;
                stretch.to = (uint8_t)(_tzcnt_u64(starts) - 1);
                stretch.list = lanes->grid->lists[rows[lane][stretch.from]];
                __builtin_prefetch(lanes->grid->nibbles + (stretch.list >> 9));
                iq_add_stretch(&stretches[0], stretch, stretch.list != 0);
            }
        }
        iq_walk_stretches(format, lanes, k, lane_reaches, top, margins[k], (const float (*)[16])scales, rows,
                          &stretches[0], &stretches[1]);
        memcpy(pairs[k], rows, sizeof rows);
        iq_transpose(pairs[k]);
    }

    vi cells[8], chosen = vi_set(-1);
    for (int n = 0; n < candidates; ++n) {
        vf qx, qq;
        for (int k = 0; k < 8; ++k) cells[k] = vi_right((vi)pairs[k][n / 2], 16 * (n % 2)) & vi_set(0xFFF);
        iq_fit(format, lanes, cells, &qx, &qq);
        const vm better = vm_and(vf_less(vf_set(0), qq), vf_less(*best * qq, qx * qx));
        const vf fitted = qx / qq;
        *scale = vf_select(better, fitted, *scale);
        *best = vf_select(better, fitted * qx, *best);
        chosen = vi_select(better, vi_set(n), chosen);
        for (int k = 0; k < 8; ++k) kept[k] = vi_select(better, cells[k], kept[k]);
    }

    // Which groups of the chosen candidate were on no point.
    const vm any = vm_not(vi_equal(chosen, vi_set(-1)));
    const vf attempt = vi_float(chosen - vi_set(format->attempts));
    const vf inverse = (vf_set(top) + attempt * vf_set(format->step)) / reach;
    for (int k = 0; k < 8; ++k) {
        const vm off = vm_and(vi_test_bit(lanes->grid->off, iq_round_group(format, lanes, k, inverse)), present);
        kept_off[k] = vm_or(vm_and(any, off), vm_and(vm_not(any), kept_off[k]));
    }
    return 1;
}
