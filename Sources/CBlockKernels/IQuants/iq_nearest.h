// The neighbour nearest to a group of values that is on no point of its codebook. Included once per tier, after
// iq_lanes.h.
//
// The distance is the reference's: for each coordinate, in order, weight * difference * difference is added, where the
// difference is scale * level - value. A coordinate has few levels, so the SIMD forms compute that term once per level
// into registers used as tables, and each lane then looks up and adds the terms of one neighbour. The first of equal
// distances wins; if no distance is finite, the first neighbour does.
//
// `iq_nearest4` and `iq_nearest8` take a list (as in iq_grid.lists) and return a position in iq_grid.neighbours. If
// `several` is 0 the list must fit a vector, and the walk has no branch.

/// Neighbours that one step of iq_nearest4 and of iq_nearest8 looks at.
#if IQ_LANES == 16
enum { IQ_STEP4 = 8, IQ_STEP8 = 16 };
#elif IQ_LANES == 8
enum { IQ_STEP4 = 8, IQ_STEP8 = 8 };
#else
enum { IQ_STEP4 = 511, IQ_STEP8 = 511 };
#endif

#if IQ_LANES >= 8
// MARK: Eight neighbours at a time

IQ_INLINE float iq_least8(__m256 a) {
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

/// The place of the least distance in one vector.
IQ_INLINE uint32_t iq_first_least8(__m256 distance) {
    const float least = iq_least8(distance);
    const uint32_t equal = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(distance, _mm256_set1_ps(least), _CMP_EQ_OQ));
    return least < __builtin_inff() ? _tzcnt_u32(equal) : 0;
}

/// The least of the places that hold the least distance.
IQ_INLINE uint32_t iq_place_of_least8(__m256 distance, __m256i place) {
    const float least = iq_least8(distance);
    if (!(least < __builtin_inff())) return 0;
    const __m256i other = _mm256_castps_si256(_mm256_cmp_ps(distance, _mm256_set1_ps(least), _CMP_NEQ_UQ));
    const __m256i left = _mm256_or_si256(place, other);
    __m128i m = _mm_min_epu32(_mm256_castsi256_si128(left), _mm256_extracti128_si256(left, 1));
    m = _mm_min_epu32(m, _mm_shuffle_epi32(m, 0x4E));
    return (uint32_t)_mm_cvtsi128_si32(_mm_min_epu32(m, _mm_shuffle_epi32(m, 0xB1)));
}

/// Walks a list, `TERMS` being the sum of one neighbour's terms by its `nibbles`.
#define IQ_WALK8(TERMS)                                                                                       \
    const uint32_t first = list >> 9, count = list & 511;                            \
    __m256i nibbles = _mm256_loadu_si256((const __m256i *)(grid->nibbles + first));                            \
    __m256 least = (TERMS);                                                                                    \
    if (!several) return first + iq_first_least8(least);                                                        \
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);                                            \
    __m256i place = lane;                                                                                      \
    for (uint32_t from = 8; from < count; from += 8) {                                                         \
        nibbles = _mm256_loadu_si256((const __m256i *)(grid->nibbles + first + from));                         \
        const __m256 distance = (TERMS);                                                                       \
        const __m256 less = _mm256_cmp_ps(distance, least, _CMP_LT_OQ);                                        \
        least = _mm256_blendv_ps(least, distance, less);                                                       \
        place = _mm256_blendv_epi8(place, _mm256_add_epi32(lane, _mm256_set1_epi32((int)from)),                \
                                   _mm256_castps_si256(less));                                                 \
    }                                                                                                          \
    return first + iq_place_of_least8(least, place)

#define IQ_TERM8(table, i) _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(nibbles, 4 * (i)))

/// The terms of coordinate i.
IQ_INLINE __m256 iq_terms4(const float *x, const float *w, __m256 scaled, int i) {
    const __m256 difference = scaled - _mm256_set1_ps(x[i]);
    return _mm256_set1_ps(w[i]) * difference * difference;
}

IQ_INLINE uint32_t iq_nearest4(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                               int several) {
    const __m256 scaled = _mm256_set1_ps(scale) * _mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15);
    const __m256 t0 = iq_terms4(x, w, scaled, 0), t1 = iq_terms4(x, w, scaled, 1);
    const __m256 t2 = iq_terms4(x, w, scaled, 2), t3 = iq_terms4(x, w, scaled, 3);
    IQ_WALK8(IQ_TERM8(t0, 0) + IQ_TERM8(t1, 1) + IQ_TERM8(t2, 2) + IQ_TERM8(t3, 3));
}
#endif

#if IQ_LANES == 16
// MARK: Sixteen neighbours at a time

#define IQ_TERM16(table, i) _mm512_permutexvar_ps(_mm512_srli_epi32(nibbles, 4 * (i)), table)
#define IQ_SUM16                                                                                         \
    (IQ_TERM16(low, 0) + IQ_TERM16(low, 1) + IQ_TERM16(low, 2) + IQ_TERM16(low, 3) + IQ_TERM16(high, 4) + \
     IQ_TERM16(high, 5) + IQ_TERM16(high, 6) + IQ_TERM16(high, 7))

/// The terms of four coordinates.
IQ_INLINE __m512 iq_terms16(const float *x, const float *w, __m512 scaled) {
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512 difference = scaled - _mm512_permutexvar_ps(pick, _mm512_broadcast_f32x4(_mm_loadu_ps(x)));
    return _mm512_permutexvar_ps(pick, _mm512_broadcast_f32x4(_mm_loadu_ps(w))) * difference * difference;
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                               const float levels[4], int several) {
    const __m512 scaled = _mm512_set1_ps(scale) * _mm512_broadcast_f32x4(_mm_loadu_ps(levels));
    const __m512 low = iq_terms16(x, w, scaled), high = iq_terms16(x + 4, w + 4, scaled);
    const uint32_t first = list >> 9, count = list & 511;
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i nibbles = _mm512_loadu_si512(grid->nibbles + first), place = lane;
    __m512 distance = IQ_SUM16;
    for (uint32_t from = 16; several && from < count; from += 16) {
        nibbles = _mm512_loadu_si512(grid->nibbles + first + from);
        const __m512 other = IQ_SUM16;
        const __mmask16 less = _mm512_cmp_ps_mask(other, distance, _CMP_LT_OQ);
        distance = _mm512_mask_mov_ps(distance, less, other);
        place = _mm512_mask_add_epi32(place, less, lane, _mm512_set1_epi32((int)from));
    }
    const __m256 upper = _mm512_extractf32x8_ps(distance, 1), lower = _mm512_castps512_ps256(distance);
    const float least = iq_least8(_mm256_min_ps(lower, upper));
    const __mmask16 equal = _mm512_cmp_ps_mask(distance, _mm512_set1_ps(least), _CMP_EQ_OQ);
    const uint32_t best = several ? _mm512_mask_reduce_min_epu32(equal, place) : _tzcnt_u32(equal);
    return least < __builtin_inff() ? first + best : first;
}

#elif IQ_LANES == 8
/// The terms of coordinates i and i + 1.
IQ_INLINE __m256 iq_terms8(const float *x, const float *w, __m256 scaled, int i) {
    const __m256i pick = _mm256_setr_epi32(i, i, i, i, i + 1, i + 1, i + 1, i + 1);
    const __m256 difference = scaled - _mm256_permutevar8x32_ps(_mm256_loadu_ps(x), pick);
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(w), pick) * difference * difference;
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                               const float levels[4], int several) {
    const __m256 scaled = _mm256_set1_ps(scale) * _mm256_broadcast_ps((const __m128 *)levels);
    const __m256 t0 = iq_terms8(x, w, scaled, 0), t2 = iq_terms8(x, w, scaled, 2);
    const __m256 t4 = iq_terms8(x, w, scaled, 4), t6 = iq_terms8(x, w, scaled, 6);
    IQ_WALK8(IQ_TERM8(t0, 0) + IQ_TERM8(t0, 1) + IQ_TERM8(t2, 2) + IQ_TERM8(t2, 3) + IQ_TERM8(t4, 4) +
             IQ_TERM8(t4, 5) + IQ_TERM8(t6, 6) + IQ_TERM8(t6, 7));
}

#else
// MARK: One neighbour at a time

IQ_INLINE uint32_t iq_nearest_plain(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                                    int dimensions, int bits, const float *levels) {
    const uint32_t first = list >> 9, count = list & 511;
    const uint16_t *neighbours = grid->neighbours + first;
    float least = __builtin_inff();
    uint32_t nearest = 0;
    for (uint32_t n = 0; n < count; ++n) {
        float distance = 0;
        for (int i = 0; i < dimensions; ++i) {
            const float difference = scale * levels[neighbours[n] >> (bits * i) & ((1 << bits) - 1)] - x[i];
            distance += w[i] * difference * difference;
        }
        if (distance < least) {
            least = distance;
            nearest = n;
        }
    }
    return first + nearest;
}

IQ_INLINE uint32_t iq_nearest4(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                               int several) {
    (void)several;
    static const float levels[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    return iq_nearest_plain(grid, list, x, w, scale, 4, 3, levels);
}

IQ_INLINE uint32_t iq_nearest8(const iq_grid *grid, uint32_t list, const float *x, const float *w, float scale,
                               const float levels[4], int several) {
    (void)several;
    return iq_nearest_plain(grid, list, x, w, scale, 8, 2, levels);
}
#endif
