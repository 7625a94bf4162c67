#pragma STDC FP_CONTRACT OFF

#include "CSHA256.h"

#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define TARGET __attribute__((target("sha,sse4.1,ssse3")))

enum { BLOCK = 64 };

// FIPS 180-4, 4.2.2 and 5.3.3.
static const uint32_t round_constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t initial_words[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

bool csha_is_supported(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 29)) return false;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 9) && (c & 1u << 19);
}

// The instructions keep the eight words in two registers: a, b, e, f and c, d, g, h, from the top down.
typedef struct {
    __m128i abef;
    __m128i cdgh;
} state;

static inline TARGET __attribute__((always_inline)) state load(const uint32_t words[8]) {
    const __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)words), 0xb1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(words + 4)), 0x1b);
    return (state){_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0)};
}

static inline TARGET __attribute__((always_inline)) void store(state s, uint32_t words[8]) {
    const __m128i feba = _mm_shuffle_epi32(s.abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)words, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Takes blocks into `streams` states at a time. Inlined where that number is known, so that all loops over it vanish.
static inline TARGET __attribute__((always_inline)) void take_blocks(uint32_t *const words[], const uint8_t *const bytes[],
                                                                     size_t blocks, const int streams) {
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    state now[2];
    for (int s = 0; s < streams; s++) now[s] = load(words[s]);
    for (size_t block = 0; block < blocks; block++) {
        __m128i schedule[2][4];
        state before[2];
        for (int s = 0; s < streams; s++) {
            const __m128i *from = (const __m128i *)(bytes[s] + block * BLOCK);
            for (int i = 0; i < 4; i++) schedule[s][i] = _mm_shuffle_epi8(_mm_loadu_si128(from + i), big_endian);
            before[s] = now[s];
        }
#pragma clang loop unroll(full)
        for (int step = 0; step < 16; step++) {
            const __m128i constants = _mm_load_si128((const __m128i *)(round_constants + 4 * step));
            for (int s = 0; s < streams; s++) {
                __m128i *w = schedule[s];
                // The words of 16 rounds are there; from then on each four follow from the sixteen before them.
                if (step >= 4) {
                    const __m128i last = w[(step + 3) & 3];
                    const __m128i middle = _mm_alignr_epi8(last, w[(step + 2) & 3], 4);
                    const __m128i first = _mm_sha256msg1_epu32(w[step & 3], w[(step + 1) & 3]);
                    w[step & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(first, middle), last);
                }
                const __m128i sums = _mm_add_epi32(w[step & 3], constants);
                // Two rounds each: what was a, b, e, f has become c, d, g, h.
                now[s].cdgh = _mm_sha256rnds2_epu32(now[s].cdgh, now[s].abef, sums);
                now[s].abef = _mm_sha256rnds2_epu32(now[s].abef, now[s].cdgh, _mm_shuffle_epi32(sums, 0x0e));
            }
        }
        for (int s = 0; s < streams; s++) {
            now[s].abef = _mm_add_epi32(now[s].abef, before[s].abef);
            now[s].cdgh = _mm_add_epi32(now[s].cdgh, before[s].cdgh);
        }
    }
    for (int s = 0; s < streams; s++) store(now[s], words[s]);
}

static TARGET void take_one(uint32_t words[8], const uint8_t *bytes, size_t blocks) {
    take_blocks(&words, &bytes, blocks, 1);
}

static TARGET void take_two(uint32_t one[8], const uint8_t *bytes_of_one, uint32_t other[8], const uint8_t *bytes_of_other,
                            size_t blocks) {
    uint32_t *const words[2] = {one, other};
    const uint8_t *const bytes[2] = {bytes_of_one, bytes_of_other};
    take_blocks(words, bytes, blocks, 2);
}

void csha_begin(csha_stream *stream) {
    memcpy(stream->words, initial_words, sizeof initial_words);
    stream->byte_count = 0;
}

// Completes a block that has begun, if there are bytes enough; returns how many were taken.
static size_t complete_block(csha_stream *stream, const uint8_t *bytes, size_t count) {
    const size_t begun = stream->byte_count % BLOCK;
    if (begun == 0 || count == 0) return 0;
    const size_t some = count < BLOCK - begun ? count : BLOCK - begun;
    memcpy(stream->rest + begun, bytes, some);
    stream->byte_count += some;
    if (begun + some == BLOCK) take_one(stream->words, stream->rest, 1);
    return some;
}

// Takes whole blocks, and keeps what is behind them. No block may have begun.
static void take_rest(csha_stream *stream, const uint8_t *bytes, size_t count) {
    const size_t blocks = count / BLOCK;
    if (blocks > 0) take_one(stream->words, bytes, blocks);
    if (count % BLOCK > 0) memcpy(stream->rest, bytes + blocks * BLOCK, count % BLOCK);
    stream->byte_count += count;
}

void csha_update(csha_stream *stream, const void *bytes, size_t count) {
    const size_t done = complete_block(stream, bytes, count);
    if (done < count) take_rest(stream, (const uint8_t *)bytes + done, count - done);
}

void csha_update_two(csha_stream *one, const void *bytes_of_one, size_t count_of_one, csha_stream *other,
                     const void *bytes_of_other, size_t count_of_other) {
    const uint8_t *from_one = bytes_of_one, *from_other = bytes_of_other;
    size_t done = complete_block(one, from_one, count_of_one);
    size_t done_of_other = complete_block(other, from_other, count_of_other);
    const size_t blocks = (count_of_one - done) / BLOCK;
    const size_t blocks_of_other = (count_of_other - done_of_other) / BLOCK;
    const size_t shared = blocks < blocks_of_other ? blocks : blocks_of_other;
    if (shared > 0) {
        take_two(one->words, from_one + done, other->words, from_other + done_of_other, shared);
        one->byte_count += shared * BLOCK;
        other->byte_count += shared * BLOCK;
        done += shared * BLOCK;
        done_of_other += shared * BLOCK;
    }
    if (done < count_of_one) take_rest(one, from_one + done, count_of_one - done);
    if (done_of_other < count_of_other) take_rest(other, from_other + done_of_other, count_of_other - done_of_other);
}

void csha_digest(const csha_stream *stream, uint8_t digest[32]) {
    uint32_t words[8];
    memcpy(words, stream->words, sizeof words);
    // A one, zeros, and the length in bits: one block more, or two.
    uint8_t end[2 * BLOCK] = {0};
    const size_t rest = stream->byte_count % BLOCK;
    const size_t count = rest + 1 + 8 <= BLOCK ? BLOCK : 2 * BLOCK;
    memcpy(end, stream->rest, rest);
    end[rest] = 0x80;
    for (int i = 0; i < 8; i++) end[count - 1 - i] = (uint8_t)(stream->byte_count << 3 >> 8 * i);
    take_one(words, end, count / BLOCK);
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(words[i / 4] >> (24 - 8 * (i % 4)));
}

#else

// Elsewhere streams are hashed by whoever asks.

bool csha_is_supported(void) { return false; }

void csha_begin(csha_stream *stream) { (void)stream; }

void csha_update(csha_stream *stream, const void *bytes, size_t count) { (void)stream, (void)bytes, (void)count; }

void csha_update_two(csha_stream *one, const void *bytes_of_one, size_t count_of_one, csha_stream *other,
                     const void *bytes_of_other, size_t count_of_other) {
    (void)one, (void)bytes_of_one, (void)count_of_one, (void)other, (void)bytes_of_other, (void)count_of_other;
}

void csha_digest(const csha_stream *stream, uint8_t digest[32]) { (void)stream, (void)digest; }

#endif
