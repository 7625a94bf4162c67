// IQ4_NL and IQ4_XS: sixteen levels with uneven gaps, found for one sub-block of 32 elements per lane. Included once
// per tier, after iq_lanes.h.

/// The levels, and where a value turns to the next one: half way. The levels are ggml's (kvalues_iq4nl in
/// ggml-common.h). Comparing with the half-way point decides as the reference does, which compares the differences to
/// both levels: near a half-way point those are exact.
static const float iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// MARK: The nearest level

#if IQ_LANES == 16
// Bins nine wide hold one turn at most. The bin tells which, one comparison tells on which side of it the value is, and
// a value beyond it belongs to the level of the next bin's beginning. No turn is within 0.5 of the edge of a bin (they
// are at multiples of 9), so that it does not matter how the bin's number is rounded.

/// The bin of each of `a`, which must be within -135 ... 135, or the next one if the value is beyond the bin's turn.
IQ_INLINE __m512i iq4_bin(vf a) {
    const float no = __builtin_inff();
    const vf low = _mm512_setr_ps(no, no, no, -115.5f, no, -93.5f, no, -74, no, -57, no, -42, -28.5f, no, -16, -4.5f);
    const vf high = _mm512_setr_ps(7, no, 19, 31.5f, no, 45.5f, 61, no, 79, no, no, 101, no, no, no, no);
    const __m512i bin = _mm512_cvtps_epi32(_mm512_fmadd_ps(a, _mm512_set1_ps(1.0f / 9), _mm512_set1_ps(15.5f)));
    const __mmask16 beyond = _mm512_cmp_ps_mask(a, _mm512_permutex2var_ps(low, bin, high), _CMP_NLT_UQ);
    return _mm512_mask_add_epi32(bin, beyond, bin, _mm512_set1_epi32(1));
}

/// The level nearest to each of `a`, which must be within -135 ... 135 (anything else gives some level).
IQ_INLINE vf iq4_level(vf a) {
    const vf low = _mm512_setr_ps(-127, -127, -127, -127, -104, -104, -83, -83, -65, -65, -49, -49, -35, -22, -22, -10);
    const vf high = _mm512_setr_ps(1, 13, 13, 25, 38, 38, 53, 69, 69, 89, 89, 89, 113, 113, 113, 113);
    return _mm512_permutex2var_ps(low, iq4_bin(a), high);
}

/// The position of the level nearest to each of `a`, whatever that is; NaN gives the last.
IQ_INLINE vi iq4_index(vf a) {
    const __m512i low = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7);
    const __m512i high = _mm512_setr_epi32(8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 14, 14, 15, 15, 15, 15);
    a = _mm512_max_ps(_mm512_min_ps(a, _mm512_set1_ps(127)), _mm512_set1_ps(-127));
    return (vi)_mm512_permutex2var_epi32(low, iq4_bin(a), high);
}

#elif IQ_LANES == 8
/// The position of the level nearest to each of `a`: four halvings; NaN gives the last.
IQ_INLINE vi iq4_index(vf a) {
    const vf second = _mm256_setr_ps(-57, 45.5f, 0, 0, 0, 0, 0, 0);
    const vf third = _mm256_setr_ps(-93.5f, -28.5f, 19, 79, 0, 0, 0, 0);
    const vf fourth = _mm256_setr_ps(-115.5f, -74, -42, -16, 7, 31.5f, 61, 101);
    __m256i n = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cmp_ps(a, _mm256_set1_ps(-4.5f), _CMP_NLT_UQ)), 31);
    __m256 beyond = _mm256_cmp_ps(a, _mm256_permutevar8x32_ps(second, n), _CMP_NLT_UQ);
    n = _mm256_sub_epi32(_mm256_add_epi32(n, n), _mm256_castps_si256(beyond));
    beyond = _mm256_cmp_ps(a, _mm256_permutevar8x32_ps(third, n), _CMP_NLT_UQ);
    n = _mm256_sub_epi32(_mm256_add_epi32(n, n), _mm256_castps_si256(beyond));
    beyond = _mm256_cmp_ps(a, _mm256_permutevar8x32_ps(fourth, n), _CMP_NLT_UQ);
    return (vi)_mm256_sub_epi32(_mm256_add_epi32(n, n), _mm256_castps_si256(beyond));
}

IQ_INLINE vf iq4_level(vf a) {
    const __m256i n = (__m256i)iq4_index(a);
    const vf low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(iq4_levels), n);
    const vf high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(iq4_levels + 8), n);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(n, 28)));
}

#else
IQ_INLINE vi iq4_index(vf a) {
    static const float turns[15] = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101};
    int n = a < turns[7] ? 0 : 8;
    n += a < turns[n + 3] ? 0 : 4;
    n += a < turns[n + 1] ? 0 : 2;
    return n + (a < turns[n] ? 0 : 1);
}

IQ_INLINE vf iq4_level(vf a) { return iq4_levels[iq4_index(a)]; }
#endif

// MARK: The scale

/// The best scale of each of IQ_LANES sub-blocks.
///
/// - values, importance: Where each sub-block and its importance row begin; `importance[0]` is NULL for none.
/// - energy: Twice the mean square of the block around each sub-block; used with importance only.
/// - scales: Receives IQ_LANES scales.
static void iq4_search(const float *const *values, const float *const *importance, vf energy, float *scales) {
    vf x[32], weight[32];
    iq_interleave(x, values, 32);
    if (importance[0]) {
        iq_interleave(weight, importance, 32);
        for (int j = 0; j < 32; ++j) weight[j] = weight[j] * vf_sqrt(energy + x[j] * x[j]);
    } else {
        for (int j = 0; j < 32; ++j) weight[j] = x[j] * x[j];
    }

    // The element of the largest magnitude, with its sign; the first of equals.
    vf largest = vf_set(0), extreme = vf_set(0);
    for (int j = 0; j < 32; ++j) {
        const vf magnitude = vf_abs(x[j]);
        const vm more = vf_less(largest, magnitude);
        largest = vf_select(more, magnitude, largest);
        extreme = vf_select(more, x[j], extreme);
    }

    vf scale = vf_set(0), best = vf_set(0);
    for (int attempt = -8; attempt <= 7; ++attempt) {
        // The first attempt maps the extreme element to the lowest level, the others to 15 points around it.
        const vf inverse = attempt == -8 ? vf_set(1) / (-extreme / vf_set(-127)) : vf_set((float)(attempt - 127)) / extreme;
        vf qx = vf_set(0), qq = vf_set(0);
        for (int j = 0; j < 32; ++j) {
            const vf level = iq4_level(inverse * x[j]);
            const vf weighted = weight[j] * level;
            qx = qx + weighted * x[j];
            qq = qq + weighted * level;
        }
        const vm usable = vf_less(vf_set(0), qq);
        const vf fitted = qx / qq;
        if (attempt == -8) {
            scale = vf_select(usable, fitted, vf_set(0));
            best = scale * qx;
        } else {
            const vm better = vm_and(usable, vf_less(best * qq, qx * qx));
            scale = vf_select(better, fitted, scale);
            best = vf_select(better, fitted * qx, best);
        }
    }
    vf_store(scales, vf_select(vf_less(largest, vf_set(1e-15f)), vf_set(0), scale));
}

/// Writes 32 elements as the positions of their levels, in 16 bytes: the first half in the low nibbles.
IQ_INLINE void iq4_pack(const float *x, float inverse, uint8_t *target) {
    for (int j = 0; j < 16; j += IQ_LANES) {
        const vi low = iq4_index(vf_set(inverse) * vf_load(x + j));
        const vi high = iq4_index(vf_set(inverse) * vf_load(x + 16 + j));
        vi_store_bytes(target + j, low | vi_left(high, 4));
    }
}

// MARK: Blocks

static void encode_iq4_nl(const iq_job *job) {
    const size_t blocks = job->elements / 32;
    for (size_t first = 0; first < blocks; first += IQ_LANES) {
        const float *values[IQ_LANES], *importance[IQ_LANES] = {0};
        float energies[IQ_LANES], scales[IQ_LANES];
        for (size_t lane = 0; lane < IQ_LANES; ++lane) {
            // Lanes beyond the last block repeat the first one.
            const size_t element = 32 * (first + lane < blocks ? first + lane : first);
            values[lane] = job->values + element;
            if (job->importance) importance[lane] = job->importance + element % job->columns;
        }
        iq_energies(values, IQ_LANES, 32, energies);
        for (int lane = 0; lane < IQ_LANES; ++lane) energies[lane] *= 2.0f / 32;
        iq4_search(values, importance, vf_load(energies), scales);
        for (size_t lane = 0; lane < IQ_LANES && first + lane < blocks; ++lane) {
            uint8_t *block = job->blocks + 18 * (first + lane);
            iq_put16(block, iq_to_half(scales[lane]));
            iq4_pack(values[lane], scales[lane] != 0 ? 1 / scales[lane] : 0, block + 2);
        }
    }
}

static void write_iq4_xs(const float *x, const float *scales, uint8_t *block) {
    float extreme = 0, largest = 0;
    for (int s = 0; s < 8; ++s) {
        const float magnitude = __builtin_fabsf(scales[s]);
        if (magnitude > largest) {
            largest = magnitude;
            extreme = scales[s];
        }
    }
    const float unit = -extreme / 32;
    const float inverse = unit != 0 ? 1 / unit : 0;
    uint32_t high = 0;
    memset(block, 0, 8);
    for (int s = 0; s < 8; ++s) {
        const int level = iq_clamp(iq_nearest(inverse * scales[s]), -32, 31);
        const float own = unit * (float)level;
        iq4_pack(x + 32 * s, own != 0 ? 1 / own : 0, block + 8 + 16 * s);
        block[4 + s / 2] |= (uint8_t)(((level + 32) & 15) << (4 * (s % 2)));
        high |= (uint32_t)(level + 32) >> 4 << (2 * s);
    }
    iq_put16(block, iq_to_half(unit));
    iq_put16(block + 2, (uint16_t)high);
}

static void encode_iq4_xs(const iq_job *job) {
    const size_t count = job->elements / 256;
    for (size_t first = 0; first < count; first += 8) {
        const int present = (int)(count - first < 8 ? count - first : 8);
        iq_batch batch;
        iq_batch_start(&batch, job, 256 * first, present);
        float scales[64];
        for (int s = 0; s < 8 * present; s += IQ_LANES) {
            const float *values[IQ_LANES], *importance[IQ_LANES];
            vf energy;
            iq_batch_lanes(&batch, s, 32, values, importance, &energy);
            iq4_search(values, importance, energy * vf_set(2.0f / 256), scales + s);
        }
        for (int b = 0; b < present; ++b) {
            write_iq4_xs(batch.values + 256 * b, scales + 8 * b, job->blocks + 136 * (first + (size_t)b));
        }
    }
}
