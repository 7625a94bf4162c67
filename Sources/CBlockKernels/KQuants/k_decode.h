// Decoding: loops over 16 or 32 elements that share a scale, for the compiler to vectorise. Included by every
// form.

K_INLINE float half_at(const uint8_t *bytes) {
    const uint32_t half = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
    const uint32_t magnitude = (half & 0x7fff) << 13;
    float value;
    uint32_t bits;
    memcpy(&value, &magnitude, 4);
    value *= 0x1p112f;
    memcpy(&bits, &value, 4);
    if (magnitude >= 0x0f800000) bits = magnitude | 0x7f800000;
    bits |= (half & 0x8000) << 16;
    memcpy(&value, &bits, 4);
    return value;
}

/// The 6-bit scale and offset of sub-block j in the twelve bytes of Q4_K and Q5_K.
K_INLINE void scale_and_offset(const uint8_t *packed, const int j, int *scale, int *offset) {
    if (j < 4) {
        *scale = packed[j] & 63;
        *offset = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | packed[j - 4] >> 6 << 4;
        *offset = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
    }
}

static void q2_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 84) {
        const float d = half_at(block + 80), dmin = half_at(block + 82);
        for (int j = 0; j < 16; ++j, y += 16) {
            const uint8_t *q = block + 16 + 32 * (j / 8) + 16 * (j % 2);
            const int shift = j / 2 % 4 * 2;
            const float scale = d * (float)(block[j] & 15), offset = dmin * (float)(block[j] >> 4);
            for (int i = 0; i < 16; ++i) y[i] = scale * (float)(q[i] >> shift & 3) - offset;
        }
    }
}

static void q3_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 110) {
        const uint8_t *packed = block + 96;
        const float d = half_at(block + 108);
        for (int j = 0; j < 16; ++j, y += 16) {
            const uint8_t *q = block + 32 + 32 * (j / 8) + 16 * (j % 2);
            const uint8_t *high = block + 16 * (j % 2);
            const int shift = j / 2 % 4 * 2, bit = j / 2;
            const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
            const int level = (low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4) - 32;
            const float scale = d * (float)level;
            for (int i = 0; i < 16; ++i) {
                y[i] = scale * (float)((q[i] >> shift & 3) + (high[i] >> bit & 1) * 4 - 4);
            }
        }
    }
}

static void q4_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 144) {
        const float d = half_at(block), dmin = half_at(block + 2);
        for (int j = 0; j < 8; ++j, y += 32) {
            const uint8_t *q = block + 16 + 32 * (j / 2);
            const int shift = j % 2 * 4;
            int sc, m;
            scale_and_offset(block + 4, j, &sc, &m);
            const float scale = d * (float)sc, offset = dmin * (float)m;
            for (int i = 0; i < 32; ++i) y[i] = scale * (float)(q[i] >> shift & 15) - offset;
        }
    }
}

static void q5_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 176) {
        const float d = half_at(block), dmin = half_at(block + 2);
        for (int j = 0; j < 8; ++j, y += 32) {
            const uint8_t *q = block + 48 + 32 * (j / 2), *high = block + 16;
            const int shift = j % 2 * 4;
            int sc, m;
            scale_and_offset(block + 4, j, &sc, &m);
            const float scale = d * (float)sc, offset = dmin * (float)m;
            for (int i = 0; i < 32; ++i) {
                y[i] = scale * (float)((q[i] >> shift & 15) + (high[i] >> j & 1) * 16) - offset;
            }
        }
    }
}

static void q6_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 210) {
        const float d = half_at(block + 208);
        for (int j = 0; j < 16; ++j, y += 16) {
            const uint8_t *low = block + 64 * (j / 8) + 16 * (j % 4);
            const uint8_t *high = block + 128 + 32 * (j / 8) + 16 * (j % 2);
            const int shift = j / 4 % 2 * 4, high_shift = j / 2 % 4 * 2;
            const float scale = d * (float)(int8_t)block[192 + j];
            for (int i = 0; i < 16; ++i) {
                y[i] = scale * (float)((low[i] >> shift & 15) + (high[i] >> high_shift & 3) * 16 - 32);
            }
        }
    }
}

static void q8_decode(const uint8_t *restrict block, float *restrict y, size_t count) {
    for (; count; count -= K_SUPER, block += 292, y += K_SUPER) {
        float d;
        memcpy(&d, block, 4);
        for (int i = 0; i < K_SUPER; ++i) y[i] = d * (float)(int8_t)block[4 + i];
    }
}
