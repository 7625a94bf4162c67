// IQ1_S and IQ1_M: three levels on a grid shifted by an eighth up or down, found for one sub-block per lane. Included
// once per tier, after iq_lanes.h and iq_nearest.h.
//
// With three levels the best assignment is a split of the sorted elements in three, and every split can be tried. Then
// groups of eight that are on no point of the codebook move to the nearest one.

/// The levels of coordinate 0, 1, 2 with the shift up and with the shift down.
static const float iq1_shifted[2][4] = {{-1 + 0.125f, 0.125f, 1 + 0.125f, 0}, {-1 - 0.125f, -0.125f, 1 - 0.125f, 0}};

/// One sub-block and what is found for it. `down`: per group, whether the shift is down.
typedef struct iq1_found {
    float x[32], weight[32];
    uint8_t order[32];  // by ascending value, equal ones in their own order
    float scale;        // 0 for a sub-block that is all zero
    uint16_t positions[4];
    uint8_t down[4];
    int present;
} iq1_found;

/// Copies a sub-block, weighs and sorts it.
IQ_INLINE void iq1_prepare(const float *x, const float *importance, float energy, int size, float floor,
                           iq1_found *found) {
    float largest = 0;
    for (int i = 0; i < size; ++i) {
        const float square = x[i] * x[i], magnitude = __builtin_fabsf(x[i]);
        found->x[i] = x[i];
        found->weight[i] = importance ? importance[i] * __builtin_elementwise_sqrt(energy + square) : square;
        largest = largest > magnitude ? largest : magnitude;
    }
    found->present = !(largest < floor);
    found->scale = 0;
    for (int k = 0; k < 4; ++k) {
        found->positions[k] = 0;
        found->down[k] = 0;
    }
    for (int i = 0; i < size; ++i) {
        int rank = i;
        for (; rank > 0 && x[found->order[rank - 1]] > x[i]; --rank) found->order[rank] = found->order[rank - 1];
        found->order[rank] = (uint8_t)i;
    }
}

/// The best split so far of each lane: lower rank << 16 | upper rank << 8 | shifts; -1 before the first.
typedef struct iq1_best {
    vf score, scale;
    vi split;
} iq1_best;

IQ_INLINE void iq1_offer(iq1_best *best, vf qx, vf qq, int split) {
    const vm better = vm_and(vf_less(vf_set(0), qq), vf_less(best->score * qq, qx * qx));
    if (vm_bits(better) == 0) return;
    const vf scale = qx / qq;
    best->scale = vf_select(better, scale, best->scale);
    best->score = vf_select(better, scale * qx, best->score);
    best->split = vi_select(better, vi_set(split), best->split);
}

/// Takes over the best splits: assigns coordinates, moves groups to points and fits the scale again if any moved.
/// `shifts` has a bit per group, set for down.
IQ_INLINE void iq1_settle(const iq1_best *best, const iq_grid *grid, int size, iq1_found *found) {
    float scales[IQ_LANES];
    int32_t splits[IQ_LANES];
    vf_store(scales, best->scale);
    vi_store(splits, best->split);
    for (int lane = 0; lane < IQ_LANES; ++lane, ++found) {
        if (splits[lane] < 0) found->present = 0;
        if (!found->present) continue;
        const int lower = splits[lane] >> 16, upper = splits[lane] >> 8 & 255;
        const int mirrored = scales[lane] < 0;
        const float scale = mirrored ? -scales[lane] : scales[lane];
        uint32_t cells[4] = {0};
        for (int rank = 0; rank < size; ++rank) {
            const int i = found->order[rank];
            const int coordinate = rank < lower ? 0 : rank < upper ? 1 : 2;
            cells[i / 8] |= (uint32_t)(mirrored ? 2 - coordinate : coordinate) << (2 * (i % 8));
        }
        int moved = 0;
        for (int k = 0; k < size / 8; ++k) {
            found->down[k] = (uint8_t)((splits[lane] >> k & 1) ^ mirrored);
            if (grid->off[cells[k] / 32] >> (cells[k] % 32) & 1) {
                moved = 1;
                cells[k] = iq_nearest8(grid, cells[k], found->x + 8 * k, found->weight + 8 * k, scale,
                                       iq1_shifted[found->down[k]]);
            }
            found->positions[k] = grid->positions[cells[k]];
        }
        found->scale = scale;
        if (!moved) continue;
        float qx = 0, qq = 0;
        for (int i = 0; i < size; ++i) {
            const float level = iq1_shifted[found->down[i / 8]][cells[i / 8] >> (2 * (i % 8)) & 3];
            qx += found->weight[i] * level * found->x[i];
            qq += found->weight[i] * level * level;
        }
        if (qx > 0 && qq > 0) found->scale = qx / qq;
    }
}

// MARK: The splits

/// IQ1_S: 32 elements with one shift. The sums of a split are differences of running sums.
IQ_INLINE void iq1_split32(const iq1_found *found, iq1_best *best) {
    float flat_x[33][IQ_LANES], flat_w[33][IQ_LANES];
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        float x = 0, w = 0;
        flat_x[0][lane] = flat_w[0][lane] = 0;
        for (int rank = 0; rank < 32; ++rank) {
            const int i = found[lane].order[rank];
            x += found[lane].weight[i] * found[lane].x[i];
            w += found[lane].weight[i];
            flat_x[rank + 1][lane] = x;
            flat_w[rank + 1][lane] = w;
        }
    }
    vf x[33], w[33], last_x[2][33], last_w[2][33];
    for (int rank = 0; rank <= 32; ++rank) {
        x[rank] = vf_load(flat_x[rank]);
        w[rank] = vf_load(flat_w[rank]);
    }
    for (int down = 0; down < 2; ++down) {
        const vf high = vf_set(iq1_shifted[down][2]);
        for (int rank = 0; rank <= 32; ++rank) {
            last_x[down][rank] = (x[32] - x[rank]) * high;
            last_w[down][rank] = (w[32] - w[rank]) * high * high;
        }
    }
    for (int lower = 0; lower <= 32; ++lower) {
        for (int upper = lower; upper <= 32; ++upper) {
            for (int down = 0; down < 2; ++down) {
                const vf low = vf_set(iq1_shifted[down][0]), middle = vf_set(iq1_shifted[down][1]);
                const vf qx = x[lower] * low + (x[upper] - x[lower]) * middle + last_x[down][upper];
                const vf qq = w[lower] * low * low + (w[upper] - w[lower]) * middle * middle + last_w[down][upper];
                iq1_offer(best, qx, qq, lower << 16 | upper << 8 | (down ? 15 : 0));
            }
        }
    }
}

/// The four combinations of two groups' shifts, in the order they are tried; a bit per group, set for down.
static const uint8_t iq1_combinations[4] = {0, 2, 1, 3};

/// IQ1_M: 16 elements, whose two groups have a shift each. Every split's sums are added up from the first element on;
/// splits that begin alike share the beginning.
IQ_INLINE void iq1_split16(const iq1_found *found, iq1_best *best) {
    // What an element adds, by combination, coordinate and rank.
    vf x[4][3][16], w[4][3][16];
    for (int c = 0; c < 4; ++c) {
        for (int coordinate = 0; coordinate < 3; ++coordinate) {
            for (int rank = 0; rank < 16; ++rank) {
                float own_x[IQ_LANES], own_w[IQ_LANES];
                for (int lane = 0; lane < IQ_LANES; ++lane) {
                    const int i = found[lane].order[rank];
                    const float level = iq1_shifted[iq1_combinations[c] >> (i / 8) & 1][coordinate];
                    own_x[lane] = found[lane].weight[i] * level * found[lane].x[i];
                    own_w[lane] = found[lane].weight[i] * level * level;
                }
                x[c][coordinate][rank] = vf_load(own_x);
                w[c][coordinate][rank] = vf_load(own_w);
            }
        }
    }
    vf low_x[4], low_w[4];
    for (int c = 0; c < 4; ++c) low_x[c] = low_w[c] = vf_set(0);
    for (int lower = 0; lower <= 16; ++lower) {
        vf middle_x[4], middle_w[4];
        for (int c = 0; c < 4; ++c) {
            middle_x[c] = low_x[c];
            middle_w[c] = low_w[c];
        }
        for (int upper = lower; upper <= 16; ++upper) {
            vf qx[4], qq[4];
            for (int c = 0; c < 4; ++c) {
                qx[c] = middle_x[c];
                qq[c] = middle_w[c];
            }
            for (int rank = upper; rank < 16; ++rank) {
                for (int c = 0; c < 4; ++c) {
                    qx[c] = qx[c] + x[c][2][rank];
                    qq[c] = qq[c] + w[c][2][rank];
                }
            }
            for (int c = 0; c < 4; ++c) iq1_offer(best, qx[c], qq[c], lower << 16 | upper << 8 | iq1_combinations[c]);
            for (int c = 0; c < 4 && upper < 16; ++c) {
                middle_x[c] = middle_x[c] + x[c][1][upper];
                middle_w[c] = middle_w[c] + w[c][1][upper];
            }
        }
        for (int c = 0; c < 4 && lower < 16; ++c) {
            low_x[c] = low_x[c] + x[c][0][lower];
            low_w[c] = low_w[c] + w[c][0][lower];
        }
    }
}

// MARK: Blocks

static void write_iq1_s(const iq1_found *found, uint8_t *block) {
    float largest = 0;
    for (int s = 0; s < 8; ++s) {
        if (found[s].present) largest = largest > found[s].scale ? largest : found[s].scale;
    }
    const float unit = largest / 15, inverse = 1 / unit;
    iq_put16(block, largest == 0 ? 0 : iq_to_half(unit * 1.125f));
    for (int s = 0; s < 8; ++s) {
        uint32_t high = 0;
        for (int k = 0; k < 4; ++k) {
            block[2 + 4 * s + k] = (uint8_t)found[s].positions[k];
            high |= (uint32_t)(found[s].positions[k] >> 8) << (3 * k);
        }
        if (largest != 0) {
            high |= (uint32_t)iq_clamp(iq_nearest(0.5f * (inverse * found[s].scale - 1)), 0, 7) << 12;
            high |= (uint32_t)found[s].down[0] << 15;
        }
        iq_put16(block + 34 + 2 * s, (uint16_t)high);
    }
}

static void write_iq1_m(const iq_grid *grid, const iq1_found *found, uint8_t *block) {
    float largest = 0;
    for (int s = 0; s < 16; ++s) {
        if (found[s].present) largest = largest > found[s].scale ? largest : found[s].scale;
        block[32 + s] = 0;
        for (int k = 0; k < 2; ++k) {
            block[2 * s + k] = (uint8_t)found[s].positions[k];
            block[32 + s] |= (uint8_t)(found[s].positions[k] >> 8 << (4 * k));
        }
    }
    memset(block + 48, 0, 8);
    if (largest == 0) return;

    // The unit is fitted once more, to all sub-blocks with their rounded scales.
    float unit = largest / 15, qx = 0, qq = 0;
    const float inverse = 1 / unit;
    uint32_t scales[4] = {0};
    for (int s = 0; s < 16; ++s) {
        const int bits = iq_clamp(iq_nearest(0.5f * (inverse * found[s].scale - 1)), 0, 7);
        scales[s / 4] |= (uint32_t)bits << (3 * (s % 4));
        block[32 + s] |= (uint8_t)(found[s].down[0] << 3 | found[s].down[1] << 7);
        for (int i = 0; i < 16; ++i) {
            const uint32_t point = grid->points[found[s].positions[i / 8]];
            const float level = iq1_shifted[found[s].down[i / 8]][point >> (2 * (i % 8)) & 3] * (float)(2 * bits + 1);
            qx += found[s].weight[i] * level * found[s].x[i];
            qq += found[s].weight[i] * level * level;
        }
    }
    if (qq > 0) unit = qx / qq;
    const uint32_t half = iq_to_half(unit * 1.1125f);
    for (int i = 0; i < 4; ++i) iq_put16(block + 48 + 2 * i, (uint16_t)(scales[i] | (half >> (4 * i) & 15) << 12));
}

IQ_INLINE void iq1_encode(const iq_job *job, int size, float floor, size_t bytes) {
    const size_t count = job->elements / 256;
    const int each = 256 / size;
    const iq_grid *grid = iq_encoding_grid(CBK_IQ1);
    for (size_t first = 0; first < count; first += 8) {
        const int present = (int)(count - first < 8 ? count - first : 8);
        iq_batch batch;
        iq1_found found[128];
        iq_batch_start(&batch, job, 256 * first, present);
        for (int s = 0; s < each * present; s += IQ_LANES) {
            const float *values[IQ_LANES], *importance[IQ_LANES];
            float energies[IQ_LANES];
            vf sums;
            iq_batch_lanes(&batch, s, size, values, importance, &sums);
            vf_store(energies, vf_set(2) * sums / vf_set(256));
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                iq1_prepare(values[lane], importance[lane], energies[lane], size, floor, &found[s + lane]);
            }
            iq1_best best = {vf_set(-0x1.FFFFFEp127f), vf_set(0), vi_set(-1)};
            if (size == 32) {
                iq1_split32(found + s, &best);
            } else {
                iq1_split16(found + s, &best);
            }
            iq1_settle(&best, grid, size, found + s);
        }
        for (int b = 0; b < present; ++b) {
            uint8_t *block = job->blocks + bytes * (first + (size_t)b);
            if (size == 32) {
                write_iq1_s(found + each * b, block);
            } else {
                write_iq1_m(grid, found + each * b, block);
            }
        }
    }
}

static void encode_iq1_s(const iq_job *job) { iq1_encode(job, 32, 1e-12f, 50); }

static void encode_iq1_m(const iq_job *job) { iq1_encode(job, 16, 1e-7f, 56); }
