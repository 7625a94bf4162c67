// Four-bit floats between GGML's blocks, where byte j of a group of 2 n elements holds elements j and j + n, and the
// layout of safetensors, where neighbours share a byte. Nothing is computed: codes and scales only move.
#pragma STDC FP_CONTRACT OFF

#include "cbk_scheme.h"
#include "../vector.h"

/// Bytes of elements (j, j + 16), or of two groups of (j, j + 8), to bytes of neighbours.
CBK_INLINE u8x16 neighbours(u8x16 even, u8x16 odd) { return even | odd << 4; }

// MARK: MXFP4

CBK_INLINE void unpack_mxfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales,
                             ptrdiff_t *bad) {
    (void)tier;
    *bad = -1;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *block = blocks + 17 * i;
        const u8x16 bytes = load_u8(block + 1);
        uint8_t scale = block[0];
        if (scale == 255) {
            // 2^128 here, NaN there. Above zeros it makes no difference.
            if (__builtin_reduce_or(bytes & 0x77) != 0) {
                *bad = (ptrdiff_t)i;
                return;
            }
            scale = 0;
        }
        const u8x16 low = bytes & 15, high = bytes >> 4;
        const u8x16 even =
            __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const u8x16 odd =
            __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        store_u8(codes + 16 * i, neighbours(even, odd));
        scales[i] = scale;
    }
}

CBK_INLINE void pack_mxfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count,
                           uint8_t *blocks) {
    (void)tier;
    for (size_t i = 0; i < count; i++) {
        const u8x16 bytes = load_u8(codes + 16 * i);
        const u8x16 even = bytes & 15, odd = bytes >> 4;
        const u8x16 low = __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        const u8x16 high =
            __builtin_shufflevector(even, odd, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        blocks[17 * i] = scales[i];
        store_u8(blocks + 17 * i + 1, low | high << 4);
    }
}

// MARK: NVFP4

CBK_INLINE void unpack_nvfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales,
                             ptrdiff_t *bad) {
    (void)tier;
    *bad = -1;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *block = blocks + 36 * i;
        for (int part = 0; part < 4; part++) {
            // The top bit is ignored. 7F counts as 0, and FF as 480, which E4M3 does not have.
            if (block[part] == 0xFF) {
                *bad = (ptrdiff_t)(4 * i) + part;
                return;
            }
            scales[4 * i + part] = block[part] == 0x7F ? 0 : block[part] & 0x7F;
        }
        for (int pair = 0; pair < 2; pair++) {
            const u8x16 bytes = load_u8(block + 4 + 16 * pair);
            const u8x16 low = bytes & 15, high = bytes >> 4;
            const u8x16 even =
                __builtin_shufflevector(low, high, 0, 2, 4, 6, 16, 18, 20, 22, 8, 10, 12, 14, 24, 26, 28, 30);
            const u8x16 odd =
                __builtin_shufflevector(low, high, 1, 3, 5, 7, 17, 19, 21, 23, 9, 11, 13, 15, 25, 27, 29, 31);
            store_u8(codes + 32 * i + 16 * pair, neighbours(even, odd));
        }
    }
}

CBK_INLINE void pack_nvfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count,
                           uint8_t *blocks) {
    (void)tier;
    for (size_t i = 0; i < count; i++) {
        uint8_t *block = blocks + 36 * i;
        memcpy(block, scales + 4 * i, 4);
        for (int pair = 0; pair < 2; pair++) {
            const u8x16 bytes = load_u8(codes + 32 * i + 16 * pair);
            const u8x16 even = bytes & 15, odd = bytes >> 4;
            const u8x16 low =
                __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27);
            const u8x16 high =
                __builtin_shufflevector(even, odd, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31);
            store_u8(block + 4 + 16 * pair, low | high << 4);
        }
    }
}

// MARK: Scales

/// The first byte that is `value` or more.
CBK_INLINE void first_from(cbk_tier tier, const uint8_t *bytes, size_t count, uint8_t value, ptrdiff_t *found) {
    (void)tier;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        if (__builtin_reduce_max(load_u8(bytes + i)) >= value) break;
    }
    for (; i < count; i++) {
        if (bytes[i] >= value) {
            *found = (ptrdiff_t)i;
            return;
        }
    }
    *found = -1;
}

// MARK: Forms

CBK_FORMS(unpack_mx, unpack_mxfp4,
          (const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales, ptrdiff_t *bad), blocks, count, codes,
          scales, bad)
CBK_FORMS(pack_mx, pack_mxfp4, (const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks), codes,
          scales, count, blocks)
CBK_FORMS(unpack_nv, unpack_nvfp4,
          (const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales, ptrdiff_t *bad), blocks, count, codes,
          scales, bad)
CBK_FORMS(pack_nv, pack_nvfp4, (const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks), codes,
          scales, count, blocks)
CBK_FORMS(first, first_from, (const uint8_t *bytes, size_t count, uint8_t value, ptrdiff_t *found), bytes, count,
          value, found)

ptrdiff_t cbk_unpack_mxfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales) {
    ptrdiff_t bad;
    CBK_DISPATCH(unpack_mx, tier, blocks, count, codes, scales, &bad)
    return bad;
}

void cbk_pack_mxfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks) {
    CBK_DISPATCH(pack_mx, tier, codes, scales, count, blocks)
}

ptrdiff_t cbk_unpack_nvfp4(cbk_tier tier, const uint8_t *blocks, size_t count, uint8_t *codes, uint8_t *scales) {
    ptrdiff_t bad;
    CBK_DISPATCH(unpack_nv, tier, blocks, count, codes, scales, &bad)
    return bad;
}

void cbk_pack_nvfp4(cbk_tier tier, const uint8_t *codes, const uint8_t *scales, size_t count, uint8_t *blocks) {
    CBK_DISPATCH(pack_nv, tier, codes, scales, count, blocks)
}

ptrdiff_t cbk_first_byte_from(cbk_tier tier, const uint8_t *bytes, size_t count, uint8_t value) {
    ptrdiff_t found;
    CBK_DISPATCH(first, tier, bytes, count, value, &found)
    return found;
}
