// The neighbour nearest to a group of values that is on no point of its codebook. Included once per tier, after
// iq_lanes.h.
//
// The distance is the reference's: for each coordinate, in order, weight * difference * difference is added, where the
// difference is scale * level - value. A coordinate has few levels, so the SIMD forms compute that term once per level
// into registers used as tables, and each lane then looks up and adds the terms of one neighbour. The first of equal
// distances wins; if no distance is finite, the first neighbour does.

#if IQ_LANES == 16
/// The least lane, first of equals, of a list that was searched sixteen at a time.
IQ_INLINE uint32_t iq_least(__m512 distance, __m512i place, int several) {
    const float least = _mm512_reduce_min_ps(distance);
    const uint32_t equal = _mm512_cmp_ps_mask(distance, _mm512_set1_ps(least), _CMP_EQ_OQ) &
                           _mm512_cmp_ps_mask(distance, _mm512_set1_ps(__builtin_inff()), _CMP_LT_OQ);
    if (equal == 0) return 0;
    if (!several) return (uint32_t)__builtin_ctz(equal);
    return (uint32_t)_mm512_mask_reduce_min_epu32((__mmask16)equal, place);
}

/// Walks the neighbours, `TERMS` being the sum of one neighbour's terms by its `nibbles`.
#define IQ_WALK(TERMS)                                                                                        \
    const uint32_t list = grid->lists[cell], first = list >> 9, count = list & 511;                            \
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);              \
    __m512 least = _mm512_set1_ps(__builtin_inff());                                                           \
    __m512i place = lane;                                                                                      \
    uint32_t from = 0;                                                                                         \
    do {                                                                                                       \
        const uint32_t left = count - from;                                                                    \
        const __mmask16 present = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xFFFF;               \
        const __m512i nibbles = _mm512_maskz_loadu_epi32(present, grid->nibbles + first + from);               \
        const __m512 distance = (TERMS);                                                                       \
        const __mmask16 less = _mm512_mask_cmp_ps_mask(present, distance, least, _CMP_LT_OQ);                  \
        least = _mm512_mask_mov_ps(least, less, distance);                                                     \
        place = _mm512_mask_add_epi32(place, less, lane, _mm512_set1_epi32((int)from));                        \
        from += 16;                                                                                            \
    } while (from < count);                                                                                    \
    return grid->neighbours[first + iq_least(least, place, count > 16)]

#define IQ_TERM(table, i) _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4 * (i)), table)

IQ_INLINE uint32_t iq_nearest4(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale) {
    const __m512i pick_low = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m512i pick_high = _mm512_setr_epi32(2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m512 levels = _mm512_setr_ps(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
    const __m512 scaled = _mm512_set1_ps(scale) * levels;
    const __m512 x4 = _mm512_broadcast_f32x4(_mm_loadu_ps(x)), w4 = _mm512_broadcast_f32x4(_mm_loadu_ps(w));
    const __m512 low = scaled - _mm512_permutexvar_ps(pick_low, x4);
    const __m512 high = scaled - _mm512_permutexvar_ps(pick_high, x4);
    const __m512 terms_low = _mm512_permutexvar_ps(pick_low, w4) * low * low;
    const __m512 terms_high = _mm512_permutexvar_ps(pick_high, w4) * high * high;
    IQ_WALK(IQ_TERM(terms_low, 0) + IQ_TERM(terms_low, 1) + IQ_TERM(terms_high, 2) + IQ_TERM(terms_high, 3));
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale,
                               const float levels[4]) {
    const __m512i pick_low = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512 scaled = _mm512_set1_ps(scale) * _mm512_broadcast_f32x4(_mm_loadu_ps(levels));
    const __m512 low = scaled - _mm512_permutexvar_ps(pick_low, _mm512_broadcast_f32x4(_mm_loadu_ps(x)));
    const __m512 high = scaled - _mm512_permutexvar_ps(pick_low, _mm512_broadcast_f32x4(_mm_loadu_ps(x + 4)));
    const __m512 terms_low = _mm512_permutexvar_ps(pick_low, _mm512_broadcast_f32x4(_mm_loadu_ps(w))) * low * low;
    const __m512 terms_high = _mm512_permutexvar_ps(pick_low, _mm512_broadcast_f32x4(_mm_loadu_ps(w + 4))) * high * high;
    IQ_WALK(IQ_TERM(terms_low, 0) + IQ_TERM(terms_low, 1) + IQ_TERM(terms_low, 2) + IQ_TERM(terms_low, 3) +
            IQ_TERM(terms_high, 4) + IQ_TERM(terms_high, 5) + IQ_TERM(terms_high, 6) + IQ_TERM(terms_high, 7));
}

#elif IQ_LANES == 8
IQ_INLINE float iq_least_of(__m256 a) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

IQ_INLINE uint32_t iq_least(__m256 distance, __m256i place, int several) {
    const float least = iq_least_of(distance);
    uint32_t equal = (uint32_t)_mm256_movemask_ps(
        _mm256_and_ps(_mm256_cmp_ps(distance, _mm256_set1_ps(least), _CMP_EQ_OQ),
                      _mm256_cmp_ps(distance, _mm256_set1_ps(__builtin_inff()), _CMP_LT_OQ)));
    if (equal == 0) return 0;
    if (!several) return (uint32_t)__builtin_ctz(equal);
    uint32_t places[8], first = UINT32_MAX;
    _mm256_storeu_si256((__m256i *)places, place);
    for (; equal != 0; equal &= equal - 1) {
        const uint32_t candidate = places[__builtin_ctz(equal)];
        first = candidate < first ? candidate : first;
    }
    return first;
}

#define IQ_WALK(TERMS)                                                                                        \
    const uint32_t list = grid->lists[cell], first = list >> 9, count = list & 511;                            \
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);                                            \
    __m256 least = _mm256_set1_ps(__builtin_inff());                                                           \
    __m256i place = lane;                                                                                      \
    uint32_t from = 0;                                                                                         \
    do {                                                                                                       \
        const __m256i present = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count - from)), lane);              \
        const __m256i nibbles = _mm256_maskload_epi32((const int *)grid->nibbles + first + from, present);     \
        const __m256 distance = (TERMS);                                                                       \
        const __m256 less =                                                                                    \
            _mm256_and_ps(_mm256_cmp_ps(distance, least, _CMP_LT_OQ), _mm256_castsi256_ps(present));           \
        least = _mm256_blendv_ps(least, distance, less);                                                       \
        place = _mm256_blendv_epi8(place, _mm256_add_epi32(lane, _mm256_set1_epi32((int)from)),                \
                                   _mm256_castps_si256(less));                                                 \
        from += 8;                                                                                             \
    } while (from < count);                                                                                    \
    return grid->neighbours[first + iq_least(least, place, count > 8)]

#define IQ_TERM(table, i) _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(nibbles, 4 * (i)))

/// The terms of coordinate i.
IQ_INLINE __m256 iq_terms4(const float *x, const float *w, __m256 scaled, int i) {
    const __m256 difference = scaled - _mm256_set1_ps(x[i]);
    return _mm256_set1_ps(w[i]) * difference * difference;
}

IQ_INLINE uint32_t iq_nearest4(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale) {
    const __m256 scaled = _mm256_set1_ps(scale) * _mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15);
    const __m256 t0 = iq_terms4(x, w, scaled, 0), t1 = iq_terms4(x, w, scaled, 1);
    const __m256 t2 = iq_terms4(x, w, scaled, 2), t3 = iq_terms4(x, w, scaled, 3);
    IQ_WALK(IQ_TERM(t0, 0) + IQ_TERM(t1, 1) + IQ_TERM(t2, 2) + IQ_TERM(t3, 3));
}

/// The terms of coordinates i and i + 1.
IQ_INLINE __m256 iq_terms8(const float *x, const float *w, __m256 scaled, int i) {
    const __m256i pick = _mm256_setr_epi32(i, i, i, i, i + 1, i + 1, i + 1, i + 1);
    const __m256 difference = scaled - _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), pick);
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(w), pick) * difference * difference;
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale,
                               const float levels[4]) {
    const __m256 scaled = _mm256_set1_ps(scale) * _mm256_broadcast_ps((const __m128 *)levels);
    const __m256 t0 = iq_terms8(x, w, scaled, 0), t2 = iq_terms8(x, w, scaled, 2);
    const __m256 t4 = iq_terms8(x, w, scaled, 4), t6 = iq_terms8(x, w, scaled, 6);
    IQ_WALK(IQ_TERM(t0, 0) + IQ_TERM(t0, 1) + IQ_TERM(t2, 2) + IQ_TERM(t2, 3) + IQ_TERM(t4, 4) + IQ_TERM(t4, 5) +
            IQ_TERM(t6, 6) + IQ_TERM(t6, 7));
}

#else
IQ_INLINE uint32_t iq_nearest_plain(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale,
                                    int dimensions, int bits, const float *levels) {
    const uint32_t list = grid->lists[cell], count = list & 511;
    const uint16_t *neighbours = grid->neighbours + (list >> 9);
    float least = __builtin_inff();
    uint32_t nearest = neighbours[0];
    for (uint32_t n = 0; n < count; ++n) {
        float distance = 0;
        for (int i = 0; i < dimensions; ++i) {
            const float difference = scale * levels[neighbours[n] >> (bits * i) & ((1 << bits) - 1)] - x[i];
            distance += w[i] * difference * difference;
        }
        if (distance < least) {
            least = distance;
            nearest = neighbours[n];
        }
    }
    return nearest;
}

IQ_INLINE uint32_t iq_nearest4(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale) {
    static const float levels[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    return iq_nearest_plain(grid, cell, x, w, scale, 4, 3, levels);
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t cell, const float *x, const float *w, float scale,
                               const float levels[4]) {
    return iq_nearest_plain(grid, cell, x, w, scale, 8, 2, levels);
}
#endif
