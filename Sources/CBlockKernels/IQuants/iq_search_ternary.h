// IQ1_S: three levels on a grid shifted by an eighth up or down, found for one sub-block of 32 elements per lane.
// Included once per tier, after iq_lanes.h and iq_nearest.h.
//
// With three levels the best assignment is a split of the sorted elements in three, and every split can be tried. Then
// groups of eight that are on no point of the codebook move to the nearest one.

/// The levels of coordinate 0, 1, 2 with the shift up and with the shift down.
static const float iq1_shifted[2][4] = {{-1 + 0.125f, 0.125f, 1 + 0.125f, 0}, {-1 - 0.125f, -0.125f, 1 - 0.125f, 0}};

/// One sub-block and what is found for it.
typedef struct iq1_found {
    float x[32], weight[32];
    uint8_t order[32];  // by ascending value, equal ones in their own order
    float scale;        // 0 for a sub-block that is all zero
    uint16_t positions[4];
    int down;           // whether the shift is down
    int present;
} iq1_found;

/// Copies a sub-block, weighs and sorts it.
IQ_INLINE void iq1_prepare(const float *x, const float *importance, float energy, iq1_found *found) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) {
        const float square = x[i] * x[i], magnitude = __builtin_fabsf(x[i]);
        found->x[i] = x[i];
        found->weight[i] = importance[i] * __builtin_elementwise_sqrt(energy + square);
        largest = largest > magnitude ? largest : magnitude;
    }
    found->present = !(largest < 1e-12f);
    found->scale = 0;
    found->down = 0;
    for (int k = 0; k < 4; ++k) found->positions[k] = 0;
    for (int i = 0; i < 32; ++i) {
        int rank = i;
        for (; rank > 0 && x[found->order[rank - 1]] > x[i]; --rank) found->order[rank] = found->order[rank - 1];
        found->order[rank] = (uint8_t)i;
    }
}

/// The best split so far of each lane: lower rank << 16 | upper rank << 8 | whether the shift is down; -1 before the first.
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
IQ_INLINE void iq1_settle(const iq1_best *best, const iq_grid *grid, iq1_found *found) {
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
        for (int rank = 0; rank < 32; ++rank) {
            const int i = found->order[rank];
            const int coordinate = rank < lower ? 0 : rank < upper ? 1 : 2;
            cells[i / 8] |= (uint32_t)(mirrored ? 2 - coordinate : coordinate) << (2 * (i % 8));
        }
        found->down = (splits[lane] & 1) ^ mirrored;
        const float *levels = iq1_shifted[found->down];
        int moved = 0;
        for (int k = 0; k < 4; ++k) {
            if (grid->off[cells[k] / 32] >> (cells[k] % 32) & 1) {
                moved = 1;
                cells[k] = grid->neighbours[iq_nearest8(grid, grid->lists[cells[k]], found->x + 8 * k,
                                                        found->weight + 8 * k, scale, levels, 1)];
            }
            found->positions[k] = grid->positions[cells[k]];
        }
        found->scale = scale;
        if (!moved) continue;
        float qx = 0, qq = 0;
        for (int i = 0; i < 32; ++i) {
            const float level = levels[cells[i / 8] >> (2 * (i % 8)) & 3];
            qx += found->weight[i] * level * found->x[i];
            qq += found->weight[i] * level * level;
        }
        if (qx > 0 && qq > 0) found->scale = qx / qq;
    }
}

/// Tries every split with both shifts. The sums of a split are differences of running sums.
IQ_INLINE void iq1_split(const iq1_found *found, iq1_best *best) {
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
                iq1_offer(best, qx, qq, lower << 16 | upper << 8 | down);
            }
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
            high |= (uint32_t)found[s].down << 15;
        }
        iq_put16(block + 34 + 2 * s, (uint16_t)high);
    }
}

static void encode_iq1_s(const iq_job *job) {
    const size_t count = job->elements / 256;
    const iq_grid *grid = iq_encoding_grid(CBK_IQ1);
    for (size_t first = 0; first < count; first += 8) {
        const int present = (int)(count - first < 8 ? count - first : 8);
        iq_batch batch;
        iq1_found found[64];
        iq_batch_start(&batch, job, 256 * first, present);
        for (int s = 0; s < 8 * present; s += IQ_LANES) {
            const float *values[IQ_LANES], *importance[IQ_LANES];
            float energies[IQ_LANES];
            vf sums;
            iq_batch_lanes(&batch, s, 32, values, importance, &sums);
            vf_store(energies, vf_set(2) * sums / vf_set(256));
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                iq1_prepare(values[lane], importance[lane], energies[lane], &found[s + lane]);
            }
            iq1_best best = {vf_set(-0x1.FFFFFEp127f), vf_set(0), vi_set(-1)};
            iq1_split(found + s, &best);
            iq1_settle(&best, grid, found + s);
        }
        for (int b = 0; b < present; ++b) write_iq1_s(found + 8 * b, job->blocks + 50 * (first + (size_t)b));
    }
}
