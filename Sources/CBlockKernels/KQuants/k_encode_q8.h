// Q8_K: one scale for the super-block, no search.

// MARK: Q8_K: scale (F32) 0, levels 4, sums of sixteen 260

static void q8_encode(const float *values, const float *importance, size_t rows, size_t columns,
                      uint8_t *blocks) {
    (void)importance;
    for (size_t block = 0; block < rows * columns / K_SUPER; ++block, values += K_SUPER, blocks += 292) {
        float value = 0, most = 0;
        for (int i = 0; i < K_SUPER; ++i) {
            const float size = __builtin_fabsf(values[i]);
            if (size > most) {
                most = size;
                value = values[i];
            }
        }
        memset(blocks, 0, 292);
        if (most == 0) continue;
        const float inverse = -127.0f / value;
        const float scale = 1 / inverse;
        memcpy(blocks, &scale, 4);
        for (int j = 0; j < 16; ++j) {
            int sum = 0;
            for (int i = 16 * j; i < 16 * j + 16; ++i) {
                const float shifted = inverse * values[i] + K_ROUNDER;
                int32_t level;
                memcpy(&level, &shifted, 4);
                level = (level & 0x7fffff) - 0x400000;
                const int8_t stored = (int8_t)(level > 127 ? 127 : level);
                blocks[4 + i] = (uint8_t)stored;
                sum += stored;
            }
            const int16_t stored = (int16_t)sum;
            memcpy(blocks + 260 + 2 * j, &stored, 2);
        }
    }
}
