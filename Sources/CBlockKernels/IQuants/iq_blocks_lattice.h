// Blocks of the lattice formats: what the search found, packed. Included once per tier, after iq_search_lattice.h.
//
// Every block begins with a half-precision unit. A sub-block's scale is stored as (2 * level + 1) / 2 units, roughly;
// where the largest scale of a block is 0, the unit and the levels are 0.

/// The largest scale of a block's sub-blocks.
IQ_INLINE float iq_largest_scale(const iq_found *found, int count) {
    float largest = 0;
    for (int s = 0; s < count; ++s) {
        if (found[s].present) largest = largest > found[s].scale ? largest : found[s].scale;
    }
    return largest;
}

IQ_INLINE uint32_t iq_scale_level(float inverse, const iq_found *found) {
    const float scale = found->present ? found->scale : 0;
    return (uint32_t)iq_clamp(iq_nearest(0.5f * (inverse * scale - 1)), 0, 15);
}

/// Seven bits of signs for each eight elements of a sub-block of 32.
IQ_INLINE uint32_t iq_even_signs(const uint8_t signs[4]) {
    uint32_t packed = 0;
    for (int k = 0; k < 4; ++k) packed |= (uint32_t)(signs[k] & 127) << (7 * k);
    return packed;
}

/// Searches all blocks and hands each one's sub-blocks to `write`.
IQ_INLINE void iq_lattice_encode(const iq_lattice *format, const iq_job *job, size_t bytes,
                                 void (*write)(const iq_grid *, const iq_found *, uint8_t *)) {
    const size_t count = job->elements / 256;
    const int each = 256 / format->size;
    const iq_grid *grid = iq_encoding_grid(format->codebook);
    for (size_t first = 0; first < count; first += 8) {
        const int present = (int)(count - first < 8 ? count - first : 8);
        iq_batch batch;
        iq_found found[128];
        iq_batch_start(&batch, job, 256 * first, present);
        for (int s = 0; s < each * present; s += IQ_LANES) {
            const float *values[IQ_LANES], *importance[IQ_LANES];
            vf sums;
            iq_batch_lanes(&batch, s, format->size, values, importance, &sums);
            iq_lattice_search(format, values, importance, sums, found + s);
        }
        for (int b = 0; b < present; ++b) {
            uint8_t *block = job->blocks + bytes * (first + (size_t)b);
            memset(block, 0, bytes);
            write(grid, found + each * b, block);
        }
    }
}

// MARK: IQ3

IQ_INLINE void write_iq3_xxs(const iq_grid *grid, const iq_found *found, uint8_t *block) {
    const float largest = iq_largest_scale(found, 8);
    if (largest == 0) return;
    const float unit = largest / 31, inverse = 1 / unit;
    iq_put16(block, iq_to_half(unit * 1.0125f));
    for (int s = 0; s < 8; ++s) {
        uint32_t tail = iq_scale_level(inverse, &found[s]) << 28;
        if (found[s].present) {
            for (int k = 0; k < 8; ++k) block[2 + 8 * s + k] = (uint8_t)grid->positions[found[s].cells[k]];
            tail |= iq_even_signs(found[s].signs);
        }
        iq_put32(block + 66 + 4 * s, tail);
    }
}

static void encode_iq3_xxs(const iq_job *job) {
    static const iq_lattice format = {
        .codebook = CBK_IQ3_XXS, .size = 32, .group = 4, .top = 7, .attempts = 15, .step = 0.2f, .floor = 1e-8f,
        .even = 1, .refine = IQ_REFINE_OFF_POINTS, .energy_scale = 2, .energy_divisor = 256};
    iq_lattice_encode(&format, job, 98, write_iq3_xxs);
}

IQ_INLINE void write_iq3_s(const iq_grid *grid, const iq_found *found, uint8_t *block) {
    uint8_t *low = block + 2, *high = block + 66, *signs = block + 74, *scales = block + 106;
    for (int s = 0; s < 8; ++s) {
        // The reference does not step over a sub-block that is all zero: later ones take its place in two of the
        // arrays. Files are what they are, so this does the same.
        if (!found[s].present) continue;
        for (int k = 0; k < 8; ++k) {
            const uint32_t position = grid->positions[found[s].cells[k]];
            *low++ = (uint8_t)position;
            high[s] |= (uint8_t)(position >> 8 << k);
        }
        memcpy(signs, found[s].signs, 4);
        signs += 4;
    }
    const float largest = iq_largest_scale(found, 8);
    if (largest == 0) return;
    const float unit = largest / 31, inverse = 1 / unit;
    iq_put16(block, iq_to_half(unit * 1.033f));
    for (int s = 0; s < 8; ++s) scales[s / 2] |= (uint8_t)(iq_scale_level(inverse, &found[s]) << (4 * (s % 2)));
}

static void encode_iq3_s(const iq_job *job) {
    static const iq_lattice format = {
        .codebook = CBK_IQ3_S, .size = 32, .group = 4, .top = 7, .attempts = 9, .step = 0.2f, .floor = 0x1p-149f,
        .refine = IQ_REFINE_IF_ANY_OFF_POINT, .energy_scale = 2, .energy_divisor = 256};
    iq_lattice_encode(&format, job, 110, write_iq3_s);
}

// MARK: IQ2

IQ_INLINE void write_iq2_xxs(const iq_grid *grid, const iq_found *found, uint8_t *block) {
    const float largest = iq_largest_scale(found, 8);
    if (largest == 0) return;
    const float unit = largest / 31, inverse = 1 / unit;
    iq_put16(block, iq_to_half(unit));
    for (int s = 0; s < 8; ++s) {
        uint32_t tail = iq_scale_level(inverse, &found[s]) << 28;
        if (found[s].present) {
            for (int k = 0; k < 4; ++k) block[2 + 8 * s + k] = (uint8_t)grid->positions[found[s].cells[k]];
            tail |= iq_even_signs(found[s].signs);
        }
        iq_put32(block + 6 + 8 * s, tail);
    }
}

static void encode_iq2_xxs(const iq_job *job) {
    static const iq_lattice format = {
        .codebook = CBK_IQ2_XXS, .size = 32, .group = 8, .top = 2, .attempts = 6, .step = 0.1f, .floor = 1e-15f,
        .even = 1, .seeded = 1, .refine = IQ_REFINE_ALWAYS, .energy_scale = 1, .energy_divisor = 256};
    iq_lattice_encode(&format, job, 66, write_iq2_xxs);
}

IQ_INLINE void write_iq2_xs(const iq_grid *grid, const iq_found *found, uint8_t *block) {
    const float largest = iq_largest_scale(found, 16);
    if (largest == 0) return;
    const float unit = largest / 31, inverse = 1 / unit;
    iq_put16(block, iq_to_half(unit));
    for (int s = 0; s < 16; ++s) {
        block[66 + s / 2] |= (uint8_t)(iq_scale_level(inverse, &found[s]) << (4 * (s % 2)));
        if (!found[s].present) continue;
        for (int k = 0; k < 2; ++k) {
            const uint32_t signs = found[s].signs[k] & 127;
            iq_put16(block + 2 + 4 * s + 2 * k, (uint16_t)(grid->positions[found[s].cells[k]] | signs << 9));
        }
    }
}

static void encode_iq2_xs(const iq_job *job) {
    static const iq_lattice format = {
        .codebook = CBK_IQ2_XS, .size = 16, .group = 8, .top = 2, .attempts = 9, .step = 0.1f, .floor = 1e-15f,
        .even = 1, .refine = IQ_REFINE_OFF_POINTS, .energy_scale = 1, .energy_divisor = 256};
    iq_lattice_encode(&format, job, 74, write_iq2_xs);
}

IQ_INLINE void write_iq2_s(const iq_grid *grid, const iq_found *found, uint8_t *block) {
    uint8_t *low = block + 2, *signs = block + 34, *high = block + 66, *scales = block + 74;
    for (int s = 0; s < 16; ++s) {
        if (!found[s].present) continue;
        for (int k = 0; k < 2; ++k) {
            const int group = 2 * s + k;
            const uint32_t position = grid->positions[found[s].cells[k]];
            low[group] = (uint8_t)position;
            high[group / 4] |= (uint8_t)(position >> 8 << (2 * (group % 4)));
            signs[group] = found[s].signs[k];
        }
    }
    const float largest = iq_largest_scale(found, 16);
    if (largest == 0) return;
    const float unit = largest / 31, inverse = 1 / unit;
    iq_put16(block, iq_to_half(unit * 0.9875f));
    for (int s = 0; s < 16; ++s) scales[s / 2] |= (uint8_t)(iq_scale_level(inverse, &found[s]) << (4 * (s % 2)));
}

static void encode_iq2_s(const iq_job *job) {
    static const iq_lattice format = {
        .codebook = CBK_IQ2_S, .size = 16, .group = 8, .top = 2, .attempts = 9, .step = 0.1f, .floor = 1e-8f,
        .refine = IQ_REFINE_OFF_POINTS, .energy_scale = 2, .energy_divisor = 256, .plain_share = 0.25f};
    iq_lattice_encode(&format, job, 82, write_iq2_s);
}
