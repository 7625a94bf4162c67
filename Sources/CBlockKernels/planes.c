// Floats taken apart into planes of bytes, and put together again. The definition is Quantization/BytePlanes.swift.
//
// The loops are left to the compiler's vectorizer, which finds the packing and widening instructions of each set.
#include "cbk_planes.h"

#include "vector.h"

#pragma STDC FP_CONTRACT OFF

CBK_INLINE void split_planes(cbk_tier tier, const uint8_t *restrict elements, size_t count, size_t width,
                             uint8_t *restrict planes) {
    (void)tier;
    uint8_t *restrict first = planes, *restrict second = planes + count;
    if (width == 2) {
        for (size_t i = 0; i < count; i++) {
            uint16_t x;
            memcpy(&x, elements + 2 * i, sizeof x);
            first[i] = (uint8_t)(x >> 7);
            second[i] = (uint8_t)((x >> 8 & 0x80) | (x & 0x7F));
        }
        return;
    }
    uint8_t *restrict third = planes + 2 * count, *restrict fourth = planes + 3 * count;
    for (size_t i = 0; i < count; i++) {
        uint32_t x;
        memcpy(&x, elements + 4 * i, sizeof x);
        first[i] = (uint8_t)(x >> 23);
        second[i] = (uint8_t)((x >> 24 & 0x80) | (x >> 16 & 0x7F));
        third[i] = (uint8_t)(x >> 8);
        fourth[i] = (uint8_t)x;
    }
}

CBK_INLINE void join_planes(cbk_tier tier, const uint8_t *restrict planes, size_t count, size_t width,
                            uint8_t *restrict elements) {
    (void)tier;
    const uint8_t *restrict first = planes, *restrict second = planes + count;
    if (width == 2) {
        for (size_t i = 0; i < count; i++) {
            const uint16_t high = first[i], low = second[i];
            const uint16_t x = (uint16_t)((low & 0x80) << 8 | high << 7 | (low & 0x7F));
            memcpy(elements + 2 * i, &x, sizeof x);
        }
        return;
    }
    const uint8_t *restrict third = planes + 2 * count, *restrict fourth = planes + 3 * count;
    for (size_t i = 0; i < count; i++) {
        const uint32_t high = first[i], low = second[i];
        const uint32_t x = (low & 0x80) << 24 | high << 23 | (low & 0x7F) << 16 | (uint32_t)third[i] << 8 | fourth[i];
        memcpy(elements + 4 * i, &x, sizeof x);
    }
}

CBK_FORMS(split, split_planes, (const uint8_t *elements, size_t count, size_t width, uint8_t *planes), elements, count,
          width, planes)
CBK_FORMS(join, join_planes, (const uint8_t *planes, size_t count, size_t width, uint8_t *elements), planes, count,
          width, elements)

void cbk_split_planes(cbk_tier tier, const uint8_t *elements, size_t count, size_t width, uint8_t *planes) {
    CBK_DISPATCH(split, tier, elements, count, width, planes)
}

void cbk_join_planes(cbk_tier tier, const uint8_t *planes, size_t count, size_t width, uint8_t *elements) {
    CBK_DISPATCH(join, tier, planes, count, width, elements)
}
