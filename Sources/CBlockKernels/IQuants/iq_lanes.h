// A vector of IQ_LANES floats or 32-bit integers and what the IQ searches do with it, so that one text of a search
// serves every tier: sixteen lanes of AVX-512, eight of AVX2, one of plain C. The includer defines IQ_LANES and has
// the instruction set switched on.
//
// Every operation is the plain IEEE one, element by element, so each lane computes what scalar code would. The
// arithmetic operators work on all three forms; what they lack is here.
#include <stdint.h>
#include <string.h>

#define IQ_INLINE static inline __attribute__((always_inline, unused))

#if IQ_LANES == 16
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));
typedef __mmask16 vm;

IQ_INLINE vf vf_set(float x) { return _mm512_set1_ps(x); }
IQ_INLINE vi vi_set(int32_t x) { return (vi)_mm512_set1_epi32(x); }
IQ_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
IQ_INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
IQ_INLINE vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
IQ_INLINE vi vi_max(vi a, vi b) { return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b); }
IQ_INLINE vi vi_min(vi a, vi b) { return (vi)_mm512_min_epi32((__m512i)a, (__m512i)b); }
IQ_INLINE vi vi_left(vi a, int n) { return (vi)_mm512_slli_epi32((__m512i)a, (unsigned)n); }
IQ_INLINE vi vi_right(vi a, int n) { return (vi)_mm512_srli_epi32((__m512i)a, (unsigned)n); }
IQ_INLINE vf vi_float(vi a) { return _mm512_cvtepi32_ps((__m512i)a); }
IQ_INLINE vi vf_bits(vf a) { return (vi)_mm512_castps_si512(a); }
IQ_INLINE vm vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
IQ_INLINE vm vf_equal(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
IQ_INLINE vm vi_equal(vi a, vi b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
IQ_INLINE vf vf_select(vm m, vf yes, vf no) { return _mm512_mask_mov_ps(no, m, yes); }
IQ_INLINE vi vi_select(vm m, vi yes, vi no) { return (vi)_mm512_mask_mov_epi32((__m512i)no, m, (__m512i)yes); }
IQ_INLINE vm vm_and(vm a, vm b) { return (vm)(a & b); }
IQ_INLINE vm vm_or(vm a, vm b) { return (vm)(a | b); }
IQ_INLINE vm vm_not(vm a) { return (vm)~a; }
IQ_INLINE uint32_t vm_bits(vm m) { return m; }
IQ_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
IQ_INLINE void vf_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
IQ_INLINE void vi_store(int32_t *p, vi a) { _mm512_storeu_si512(p, (__m512i)a); }
IQ_INLINE void vi_store_bytes(uint8_t *p, vi a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)a));
}
/// Bit `cell % 32` of word `cell / 32`, as a mask.
IQ_INLINE vm vi_test_bit(const uint32_t *words, vi cell) {
    const __m512i word = _mm512_i32gather_epi32(_mm512_srli_epi32((__m512i)cell, 5), words, 4);
    const __m512i bit = _mm512_sllv_epi32(_mm512_set1_epi32(1), _mm512_and_si512((__m512i)cell, _mm512_set1_epi32(31)));
    return _mm512_test_epi32_mask(word, bit);
}
/// 2 l + 1, where l is the lowest three bits.
IQ_INLINE vf vi_odd8(vi a) {
    const vf table = _mm512_setr_ps(1, 3, 5, 7, 9, 11, 13, 15, 1, 3, 5, 7, 9, 11, 13, 15);
    return _mm512_permutexvar_ps((__m512i)a, table);
}
/// 2 l + 1, where l is the lowest two bits.
IQ_INLINE vf vi_odd4(vi a) {
    return _mm512_permutexvar_ps((__m512i)a, _mm512_setr_ps(1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7, 1, 3, 5, 7));
}

// What follows is for the walk along stretches (iq_walk.h), whose decisions do not depend on how an operation rounds.
IQ_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
IQ_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
/// The lesser of a and `least`, or the latter where `m` is set.
IQ_INLINE vf vf_min_unless(vm m, vf a, vf least) { return _mm512_mask_min_ps(least, (__mmask16)~m, a, least); }
IQ_INLINE vf vf_lookup(vf table, vi index) { return _mm512_permutexvar_ps((__m512i)index, table); }
IQ_INLINE vi vi_truncate(vf a) { return (vi)_mm512_cvttps_epi32(a); }
IQ_INLINE vm vi_greater(vi a, vi b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
/// Where a has the bit of b.
IQ_INLINE vm vi_test(vi a, vi b) { return _mm512_test_epi32_mask((__m512i)a, (__m512i)b); }
IQ_INLINE vi vi_min_halves(vi a, vi b) { return (vi)_mm512_min_epu16((__m512i)a, (__m512i)b); }
IQ_INLINE vi vi_load(const int32_t *p) { return (vi)_mm512_loadu_si512(p); }
IQ_INLINE vi vi_load_halves(const uint16_t *p) {
    return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
IQ_INLINE vi vi_gather(const int32_t *p, vi index) { return (vi)_mm512_i32gather_epi32((__m512i)index, p, 4); }
/// The lanes' numbers.
IQ_INLINE vi vi_count(void) { return (vi)_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
IQ_INLINE vm vm_of(uint32_t bits) { return (vm)bits; }
/// Set in the first n lanes, or all of them.
IQ_INLINE vm vm_first(int n) { return (vm)(n < 16 ? (1u << n) - 1 : 0xFFFF); }
/// The elements in m, moved together.
IQ_INLINE vi vi_compress(vm m, vi a) { return (vi)_mm512_maskz_compress_epi32(m, (__m512i)a); }
/// By the lowest three bits of a level: a bit above where values begin to round to it, and a bit below where they end.
IQ_INLINE vf vi_floor8(vi a) {
    const float e = 0x1p-14f, all = -0x1p100f;
    const vf table = _mm512_setr_ps(all, 2 + e, 4 + e, 6 + e, 8 + e, 10 + e, 12 + e, 14 + e, all, 2 + e, 4 + e, 6 + e,
                                    8 + e, 10 + e, 12 + e, 14 + e);
    return vf_lookup(table, a);
}
IQ_INLINE vf vi_ceiling8(vi a) {
    const float e = 0x1p-14f, all = 0x1p100f;
    const vf table = _mm512_setr_ps(2 - e, 4 - e, 6 - e, 8 - e, 10 - e, 12 - e, 14 - e, all, 2 - e, 4 - e, 6 - e, 8 - e,
                                    10 - e, 12 - e, 14 - e, all);
    return vf_lookup(table, a);
}
/// Four elements from each of sixteen places, one vector per element.
IQ_INLINE void iq_load_columns(const void *const *places, vi *columns) {
    __m512i r[4];
    for (int p = 0; p < 4; ++p) {
        r[p] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)places[p]));
        r[p] = _mm512_inserti32x4(r[p], _mm_loadu_si128((const __m128i *)places[4 + p]), 1);
        r[p] = _mm512_inserti32x4(r[p], _mm_loadu_si128((const __m128i *)places[8 + p]), 2);
        r[p] = _mm512_inserti32x4(r[p], _mm_loadu_si128((const __m128i *)places[12 + p]), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
    const __m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    columns[0] = (vi)_mm512_unpacklo_epi64(a, c);
    columns[1] = (vi)_mm512_unpackhi_epi64(a, c);
    columns[2] = (vi)_mm512_unpacklo_epi64(b, d);
    columns[3] = (vi)_mm512_unpackhi_epi64(b, d);
}

#elif IQ_LANES == 8
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));
typedef __m256 vm;

IQ_INLINE vf vf_set(float x) { return _mm256_set1_ps(x); }
IQ_INLINE vi vi_set(int32_t x) { return (vi)_mm256_set1_epi32(x); }
IQ_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
IQ_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
IQ_INLINE vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
IQ_INLINE vi vi_max(vi a, vi b) { return (vi)_mm256_max_epi32((__m256i)a, (__m256i)b); }
IQ_INLINE vi vi_min(vi a, vi b) { return (vi)_mm256_min_epi32((__m256i)a, (__m256i)b); }
IQ_INLINE vi vi_left(vi a, int n) { return (vi)_mm256_slli_epi32((__m256i)a, n); }
IQ_INLINE vi vi_right(vi a, int n) { return (vi)_mm256_srli_epi32((__m256i)a, n); }
IQ_INLINE vf vi_float(vi a) { return _mm256_cvtepi32_ps((__m256i)a); }
IQ_INLINE vi vf_bits(vf a) { return (vi)_mm256_castps_si256(a); }
IQ_INLINE vm vf_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
IQ_INLINE vm vf_equal(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
IQ_INLINE vm vi_equal(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32((__m256i)a, (__m256i)b)); }
IQ_INLINE vf vf_select(vm m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
IQ_INLINE vi vi_select(vm m, vi yes, vi no) {
    return (vi)_mm256_castps_si256(_mm256_blendv_ps((__m256)no, (__m256)yes, m));
}
IQ_INLINE vm vm_and(vm a, vm b) { return _mm256_and_ps(a, b); }
IQ_INLINE vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
IQ_INLINE vm vm_not(vm a) { return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))); }
IQ_INLINE uint32_t vm_bits(vm m) { return (uint32_t)_mm256_movemask_ps(m); }
IQ_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
IQ_INLINE void vf_store(float *p, vf a) { _mm256_storeu_ps(p, a); }
IQ_INLINE void vi_store(int32_t *p, vi a) { _mm256_storeu_si256((__m256i *)p, (__m256i)a); }
IQ_INLINE void vi_store_bytes(uint8_t *p, vi a) {
    const __m128i low = _mm256_castsi256_si128((__m256i)a), high = _mm256_extracti128_si256((__m256i)a, 1);
    const __m128i words = _mm_packus_epi32(low, high);
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
IQ_INLINE vm vi_test_bit(const uint32_t *words, vi cell) {
    const __m256i word = _mm256_i32gather_epi32((const int *)words, _mm256_srli_epi32((__m256i)cell, 5), 4);
    const __m256i place = _mm256_xor_si256((__m256i)cell, _mm256_set1_epi32(31));
    const __m256i top = _mm256_sllv_epi32(word, _mm256_and_si256(place, _mm256_set1_epi32(31)));
    return _mm256_castsi256_ps(_mm256_srai_epi32(top, 31));
}
IQ_INLINE vf vi_odd8(vi a) {
    return _mm256_permutevar8x32_ps(_mm256_setr_ps(1, 3, 5, 7, 9, 11, 13, 15), (__m256i)a);
}
IQ_INLINE vf vi_odd4(vi a) {
    return _mm256_permutevar8x32_ps(_mm256_setr_ps(1, 3, 5, 7, 1, 3, 5, 7), (__m256i)a);
}

IQ_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
IQ_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
IQ_INLINE vf vf_min_unless(vm m, vf a, vf least) {
    return _mm256_min_ps(_mm256_or_ps(m, a), least);  // the second one, where the first is no number
}
IQ_INLINE vf vf_lookup(vf table, vi index) { return _mm256_permutevar8x32_ps(table, (__m256i)index); }
IQ_INLINE vi vi_truncate(vf a) { return (vi)_mm256_cvttps_epi32(a); }
IQ_INLINE vm vi_greater(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpgt_epi32((__m256i)a, (__m256i)b)); }
IQ_INLINE vm vi_test(vi a, vi b) { return vi_equal(a & b, b); }
IQ_INLINE vi vi_min_halves(vi a, vi b) { return (vi)_mm256_min_epu16((__m256i)a, (__m256i)b); }
IQ_INLINE vi vi_load(const int32_t *p) { return (vi)_mm256_loadu_si256((const __m256i *)p); }
IQ_INLINE vi vi_load_halves(const uint16_t *p) {
    return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
IQ_INLINE vi vi_gather(const int32_t *p, vi index) { return (vi)_mm256_i32gather_epi32(p, (__m256i)index, 4); }
IQ_INLINE vi vi_count(void) { return (vi)_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
IQ_INLINE vm vm_of(uint32_t bits) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), each), each));
}
IQ_INLINE vm vm_first(int n) { return vi_greater(vi_set(n), vi_count()); }
IQ_INLINE vi vi_compress(vm m, vi a) {
    const __m128i order = _mm_loadl_epi64((const __m128i *)&iq_members[vm_bits(m)]);
    return (vi)_mm256_permutevar8x32_epi32((__m256i)a, _mm256_cvtepu8_epi32(order));
}
IQ_INLINE vf vi_floor8(vi a) {
    const float e = 0x1p-14f;
    return vf_lookup(_mm256_setr_ps(-0x1p100f, 2 + e, 4 + e, 6 + e, 8 + e, 10 + e, 12 + e, 14 + e), a);
}
IQ_INLINE vf vi_ceiling8(vi a) {
    const float e = 0x1p-14f;
    return vf_lookup(_mm256_setr_ps(2 - e, 4 - e, 6 - e, 8 - e, 10 - e, 12 - e, 14 - e, 0x1p100f), a);
}
IQ_INLINE void iq_load_columns(const void *const *places, vi *columns) {
    __m256i r[4];
    for (int p = 0; p < 4; ++p) {
        r[p] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)places[p]));
        r[p] = _mm256_inserti128_si256(r[p], _mm_loadu_si128((const __m128i *)places[4 + p]), 1);
    }
    const __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpackhi_epi32(r[0], r[1]);
    const __m256i c = _mm256_unpacklo_epi32(r[2], r[3]), d = _mm256_unpackhi_epi32(r[2], r[3]);
    columns[0] = (vi)_mm256_unpacklo_epi64(a, c);
    columns[1] = (vi)_mm256_unpackhi_epi64(a, c);
    columns[2] = (vi)_mm256_unpacklo_epi64(b, d);
    columns[3] = (vi)_mm256_unpackhi_epi64(b, d);
}

#else
typedef float vf;
typedef int32_t vi;
typedef int vm;

IQ_INLINE vf vf_set(float x) { return x; }
IQ_INLINE vi vi_set(int32_t x) { return x; }
IQ_INLINE vf vf_max(vf a, vf b) { return a > b ? a : b; }
IQ_INLINE vf vf_abs(vf a) { return __builtin_fabsf(a); }
IQ_INLINE vf vf_sqrt(vf a) { return __builtin_elementwise_sqrt(a); }
IQ_INLINE vi vi_max(vi a, vi b) { return a > b ? a : b; }
IQ_INLINE vi vi_min(vi a, vi b) { return a < b ? a : b; }
IQ_INLINE vi vi_left(vi a, int n) { return (int32_t)((uint32_t)a << n); }
IQ_INLINE vi vi_right(vi a, int n) { return (int32_t)((uint32_t)a >> n); }
IQ_INLINE vf vi_float(vi a) { return (float)a; }
IQ_INLINE vi vf_bits(vf a) { vi bits; memcpy(&bits, &a, sizeof bits); return bits; }
IQ_INLINE vm vf_less(vf a, vf b) { return a < b; }
IQ_INLINE vm vf_equal(vf a, vf b) { return a == b; }
IQ_INLINE vm vi_equal(vi a, vi b) { return a == b; }
IQ_INLINE vf vf_select(vm m, vf yes, vf no) { return m ? yes : no; }
IQ_INLINE vi vi_select(vm m, vi yes, vi no) { return m ? yes : no; }
IQ_INLINE vm vm_and(vm a, vm b) { return a & b; }
IQ_INLINE vm vm_or(vm a, vm b) { return a | b; }
IQ_INLINE vm vm_not(vm a) { return !a; }
IQ_INLINE uint32_t vm_bits(vm m) { return (uint32_t)m; }
IQ_INLINE vf vf_load(const float *p) { return *p; }
IQ_INLINE void vf_store(float *p, vf a) { *p = a; }
IQ_INLINE void vi_store(int32_t *p, vi a) { *p = a; }
IQ_INLINE void vi_store_bytes(uint8_t *p, vi a) { *p = (uint8_t)a; }
IQ_INLINE vm vi_test_bit(const uint32_t *words, vi cell) { return (int)(words[cell >> 5] >> (cell & 31) & 1); }
IQ_INLINE vf vi_odd8(vi a) { return (float)(2 * (a & 7) + 1); }
IQ_INLINE vf vi_odd4(vi a) { return (float)(2 * (a & 3) + 1); }
#endif

/// The reference's rounding: half to even, by adding 1.5 * 2^23 and reading the low bits of the mantissa. Written out
/// because it is defined for every input, as is what the reference's bytes hold where a quotient overflows.
IQ_INLINE vi vf_nearest(vf a) {
    return (vf_bits(a + vf_set(12582912.0f)) & vi_set(0x7FFFFF)) - vi_set(0x400000);
}

// MARK: Interleaving

#if IQ_LANES >= 8
/// Turns eight rows into eight columns.
IQ_INLINE void iq_transpose8(__m256 *rows) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; ++j) {
            const __m256d a = (__m256d)pairs[i + j], b = (__m256d)pairs[i + 2 + j];
            fours[i + 2 * j] = (__m256)_mm256_unpacklo_pd(a, b);
            fours[i + 2 * j + 1] = (__m256)_mm256_unpackhi_pd(a, b);
        }
    }
    for (int c = 0; c < 4; ++c) {
        rows[c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x20);
        rows[4 + c] = _mm256_permute2f128_ps(fours[c], fours[4 + c], 0x31);
    }
}
#endif

#if IQ_LANES == 16
/// Turns sixteen rows into sixteen columns.
IQ_INLINE void iq_transpose(vf *rows) {
    vf pairs[16], fours[16], eights[16];
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int j = 0; j < 2; ++j) {
            const __m512d a = (__m512d)pairs[i + j], b = (__m512d)pairs[i + 2 + j];
            fours[i + 2 * j] = (__m512)_mm512_unpacklo_pd(a, b);
            fours[i + 2 * j + 1] = (__m512)_mm512_unpackhi_pd(a, b);
        }
    }
    // Column 4 q + c of rows i to i + 3 is in quarter q of fours[i + c].
    for (int i = 0; i < 16; i += 8) {
        for (int c = 0; c < 4; ++c) {
            eights[i + c] = _mm512_shuffle_f32x4(fours[i + c], fours[i + 4 + c], 0x88);
            eights[i + 4 + c] = _mm512_shuffle_f32x4(fours[i + c], fours[i + 4 + c], 0xDD);
        }
    }
    for (int c = 0; c < 4; ++c) {
        rows[c] = _mm512_shuffle_f32x4(eights[c], eights[8 + c], 0x88);
        rows[4 + c] = _mm512_shuffle_f32x4(eights[4 + c], eights[12 + c], 0x88);
        rows[8 + c] = _mm512_shuffle_f32x4(eights[c], eights[8 + c], 0xDD);
        rows[12 + c] = _mm512_shuffle_f32x4(eights[4 + c], eights[12 + c], 0xDD);
    }
}

#elif IQ_LANES == 8
IQ_INLINE void iq_transpose(vf *rows) { iq_transpose8(rows); }

#else
IQ_INLINE void iq_transpose(vf *rows) { (void)rows; }
#endif

/// `count` values, a multiple of sixteen, from each of IQ_LANES places, lane by lane into one vector per element.
IQ_INLINE void iq_interleave(vf *target, const float *const *sources, int count) {
    for (int i = 0; i < count; i += IQ_LANES) {
        for (int lane = 0; lane < IQ_LANES; ++lane) target[i + lane] = vf_load(sources[lane] + i);
        iq_transpose(target + i);
    }
}

// MARK: Batches of super-blocks

/// Up to eight consecutive super-blocks of 256 elements.
typedef struct iq_batch {
    const float *values;
    const float *importance[8];  // NULL for none
    float sums[8];               // of squares
    int present;
} iq_batch;

/// The sums of squares of `count` elements at each of `places` places, at most IQ_LANES or 8. Every sum runs from the
/// first element to the last; several side by side hide the latency of an addition.
IQ_INLINE void iq_energies(const float *const *values, int places, int count, float *sums) {
    for (int p = 0; p < places; ++p) sums[p] = 0;
    for (int i = 0; i < count; ++i) {
        for (int p = 0; p < places; ++p) sums[p] += values[p][i] * values[p][i];
    }
}

/// The sums of squares of 256 elements at each of eight places.
IQ_INLINE void iq_block_energies(const float *const *values, float *sums) {
#if IQ_LANES >= 8
    __m256 sum = _mm256_setzero_ps();
    for (int i = 0; i < 256; i += 8) {
        __m256 columns[8];
        for (int p = 0; p < 8; ++p) columns[p] = _mm256_loadu_ps(values[p] + i);
        iq_transpose8(columns);
        for (int j = 0; j < 8; ++j) sum = sum + columns[j] * columns[j];
    }
    _mm256_storeu_ps(sums, sum);
#else
    iq_energies(values, 8, 256, sums);
#endif
}

IQ_INLINE void iq_batch_start(iq_batch *batch, const iq_job *job, size_t element, int present) {
    const float *values[8];
    batch->values = job->values + element;
    batch->present = present;
    for (int b = 0; b < 8; ++b) {
        const size_t offset = 256 * (size_t)(b < present ? b : 0);
        values[b] = batch->values + offset;
        batch->importance[b] = job->importance ? job->importance + (element + offset) % job->columns : 0;
    }
    iq_block_energies(values, batch->sums);
}

/// The sub-blocks `first` and following, of `size` elements each, as lanes: where they and their importance rows begin
/// and the sum of squares of the super-block around each. Lanes beyond the last sub-block repeat the first lane.
IQ_INLINE void iq_batch_lanes(const iq_batch *batch, int first, int size, const float **values,
                              const float **importance, vf *sums) {
    const int each = 256 / size;
    float around[IQ_LANES];
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        const int s = first + lane < each * batch->present ? first + lane : first;
        const float *row = batch->importance[s / each];
        values[lane] = batch->values + size * s;
        importance[lane] = row ? row + size * (s % each) : 0;
        around[lane] = batch->sums[s / each];
    }
    *sums = vf_load(around);
}
