// The IQ decoders, one text for every tier: plain loops over groups of eight, which the compiler turns into the vectors
// of whatever instruction set is switched on. The includer defines IQ_NAME, which puts the tier into a function's name.
//
// The block layouts are drawn in the Swift twins (Sources/Quantization/IQuants).

/// Eight magnitudes with signs. The product with -1 or 1 comes last, as in the reference.
static inline void IQ_NAME(signed8)(float *values, float scale, uint64_t levels, uint32_t signs) {
    for (int i = 0; i < 8; ++i) {
        const float level = (float)(int)(levels >> (8 * i) & 255);
        values[i] = scale * level * (signs >> i & 1 ? -1.0f : 1.0f);
    }
}

/// Eight ternary levels on a shifted grid.
static inline void IQ_NAME(shifted8)(float *values, float scale, uint64_t levels, float shift) {
    for (int i = 0; i < 8; ++i) values[i] = scale * ((float)(int8_t)(levels >> (8 * i)) + shift);
}

/// Seven signs and the eighth, which makes their number even.
static inline uint32_t IQ_NAME(even)(uint32_t seven) {
    seven &= 127;
    return seven | (uint32_t)(__builtin_popcount(seven) & 1) << 7;
}

static void IQ_NAME(iq2_xxs)(const uint8_t *block, float *values, size_t count) {
    const uint64_t *levels = iq_decoding_levels()->iq2_xxs;
    for (size_t n = 0; n < count; n += 256, block += 66) {
        const float unit = iq_from_half(iq_get16(block));
        for (int s = 0; s < 8; ++s) {
            const uint8_t *points = block + 2 + 8 * s;
            const uint32_t tail = iq_get32(points + 4);
            const float scale = unit * (0.5f + (float)(int)(tail >> 28)) * 0.25f;
            for (int k = 0; k < 4; ++k, values += 8) {
                IQ_NAME(signed8)(values, scale, levels[points[k]], IQ_NAME(even)(tail >> (7 * k)));
            }
        }
    }
}

static void IQ_NAME(iq2_xs)(const uint8_t *block, float *values, size_t count) {
    const uint64_t *levels = iq_decoding_levels()->iq2_xs;
    for (size_t n = 0; n < count; n += 256, block += 74) {
        const float unit = iq_from_half(iq_get16(block));
        for (int s = 0; s < 16; ++s) {
            const float scale = unit * (0.5f + (float)(block[66 + s / 2] >> (4 * (s % 2)) & 15)) * 0.25f;
            for (int k = 0; k < 2; ++k, values += 8) {
                const uint32_t group = iq_get16(block + 2 + 4 * s + 2 * k);
                IQ_NAME(signed8)(values, scale, levels[group & 511], IQ_NAME(even)(group >> 9));
            }
        }
    }
}

static void IQ_NAME(iq2_s)(const uint8_t *block, float *values, size_t count) {
    const uint64_t *levels = iq_decoding_levels()->iq2_s;
    for (size_t n = 0; n < count; n += 256, block += 82) {
        const float unit = iq_from_half(iq_get16(block));
        const uint8_t *low = block + 2, *signs = block + 34, *high = block + 66, *scales = block + 74;
        for (int g = 0; g < 32; ++g, values += 8) {
            const float scale = unit * (0.5f + (float)(scales[g / 4] >> (4 * (g / 2 % 2)) & 15)) * 0.25f;
            const uint32_t point = low[g] | (uint32_t)(high[g / 4] >> (2 * (g % 4)) & 3) << 8;
            IQ_NAME(signed8)(values, scale, levels[point], signs[g]);
        }
    }
}

static void IQ_NAME(iq3_xxs)(const uint8_t *block, float *values, size_t count) {
    const uint32_t *levels = iq_decoding_levels()->iq3_xxs;
    for (size_t n = 0; n < count; n += 256, block += 98) {
        const float unit = iq_from_half(iq_get16(block));
        for (int s = 0; s < 8; ++s) {
            const uint8_t *points = block + 2 + 8 * s;
            const uint32_t tail = iq_get32(block + 66 + 4 * s);
            const float scale = unit * (0.5f + (float)(int)(tail >> 28)) * 0.5f;
            for (int k = 0; k < 4; ++k, values += 8) {
                const uint64_t pair = levels[points[2 * k]] | (uint64_t)levels[points[2 * k + 1]] << 32;
                IQ_NAME(signed8)(values, scale, pair, IQ_NAME(even)(tail >> (7 * k)));
            }
        }
    }
}

static void IQ_NAME(iq3_s)(const uint8_t *block, float *values, size_t count) {
    const uint32_t *levels = iq_decoding_levels()->iq3_s;
    for (size_t n = 0; n < count; n += 256, block += 110) {
        const float unit = iq_from_half(iq_get16(block));
        const uint8_t *low = block + 2, *high = block + 66, *signs = block + 74, *scales = block + 106;
        for (int g = 0; g < 32; ++g, values += 8) {
            const int s = g / 4;
            const float scale = unit * (float)(1 + 2 * (scales[s / 2] >> (4 * (s % 2)) & 15));
            const uint32_t tops = (uint32_t)high[s] >> (2 * (g % 4));
            const uint64_t pair = levels[low[2 * g] | (tops & 1) << 8] |
                                  (uint64_t)levels[low[2 * g + 1] | (tops & 2) << 7] << 32;
            IQ_NAME(signed8)(values, scale, pair, signs[g]);
        }
    }
}

static void IQ_NAME(iq1_s)(const uint8_t *block, float *values, size_t count) {
    const uint64_t *levels = iq_decoding_levels()->iq1;
    for (size_t n = 0; n < count; n += 256, block += 50) {
        const float unit = iq_from_half(iq_get16(block));
        for (int s = 0; s < 8; ++s) {
            const uint32_t high = iq_get16(block + 34 + 2 * s);
            const float scale = unit * (float)(int)(2 * (high >> 12 & 7) + 1);
            const float shift = high & 0x8000 ? -0.125f : 0.125f;
            for (int k = 0; k < 4; ++k, values += 8) {
                const uint32_t point = block[2 + 4 * s + k] | (high >> (3 * k) & 7) << 8;
                IQ_NAME(shifted8)(values, scale, levels[point], shift);
            }
        }
    }
}

static void IQ_NAME(iq1_m)(const uint8_t *block, float *values, size_t count) {
    const uint64_t *levels = iq_decoding_levels()->iq1;
    for (size_t n = 0; n < count; n += 256, block += 56) {
        const uint8_t *low = block, *high = block + 32;
        uint16_t scales[4], half = 0;
        for (int i = 0; i < 4; ++i) {
            scales[i] = iq_get16(block + 48 + 2 * i);
            half |= (uint16_t)(scales[i] >> 12 << (4 * i));
        }
        const float unit = iq_from_half(half);
        for (int s = 0; s < 16; ++s) {
            const float scale = unit * (float)(2 * (scales[s / 4] >> (3 * (s % 4)) & 7) + 1);
            for (int k = 0; k < 2; ++k, values += 8) {
                const uint32_t top = (uint32_t)high[s] >> (4 * k);
                const float shift = top & 8 ? -0.125f : 0.125f;
                IQ_NAME(shifted8)(values, scale, levels[low[2 * s + k] | (top & 7) << 8], shift);
            }
        }
    }
}

static const int8_t IQ_NAME(levels4)[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/// 32 elements in 16 bytes, the first half in the low nibbles.
static inline void IQ_NAME(nibbles)(float *values, float scale, const uint8_t *packed) {
    int8_t levels[32];
#if IQ_SHUFFLE
    const __m128i bytes = _mm_loadu_si128((const __m128i *)packed), mask = _mm_set1_epi8(15);
    const __m128i table = _mm_loadu_si128((const __m128i *)IQ_NAME(levels4));
    _mm_storeu_si128((__m128i *)levels, _mm_shuffle_epi8(table, _mm_and_si128(bytes, mask)));
    _mm_storeu_si128((__m128i *)(levels + 16), _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(bytes, 4), mask)));
#else
    for (int i = 0; i < 16; ++i) {
        levels[i] = IQ_NAME(levels4)[packed[i] & 15];
        levels[16 + i] = IQ_NAME(levels4)[packed[i] >> 4];
    }
#endif
    for (int i = 0; i < 32; ++i) values[i] = scale * (float)levels[i];
}

static void IQ_NAME(iq4_nl)(const uint8_t *block, float *values, size_t count) {
    for (size_t n = 0; n < count; n += 32, block += 18) {
        IQ_NAME(nibbles)(values + n, iq_from_half(iq_get16(block)), block + 2);
    }
}

static void IQ_NAME(iq4_xs)(const uint8_t *block, float *values, size_t count) {
    for (size_t n = 0; n < count; n += 256, block += 136) {
        const float unit = iq_from_half(iq_get16(block));
        const uint32_t high = iq_get16(block + 2);
        for (int s = 0; s < 8; ++s, values += 32) {
            const int level = (block[4 + s / 2] >> (4 * (s % 2)) & 15) | (int)(high >> (2 * s) & 3) << 4;
            IQ_NAME(nibbles)(values, unit * (float)(level - 32), block + 8 + 16 * s);
        }
    }
}
