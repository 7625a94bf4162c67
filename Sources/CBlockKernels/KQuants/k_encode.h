// What each K format does with its sub-blocks' fits: quantises the scales, finds the final levels, packs
// them. The order of every operation is that of the Swift twins (Quantization/KQuants), which draw the
// layouts.

// MARK: Weights

/// The sum of the squares of n values, in order.
K_INLINE vf sum_of_squares(const vf *x, const int n) {
    vf sum = 0;
    for (int i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

/// Importance-weighted search weights of a sub-block; returns their sum.
K_INLINE vf importance_weights(const lanes *s, const int at, const int n, vf variance, vf *w) {
    vf sum = 0;
    for (int i = 0; i < n; ++i) {
        w[i] = s->importance[at + i] * square_root(variance + s->x[at + i] * s->x[at + i]);
        sum += w[i];
    }
    return sum;
}

// MARK: Packing

/// Two bits of four elements 32 apart in one byte: planes `at` to `at + 63`.
K_INLINE void pack_pairs(batch *b, const int at) {
    for (int half = 0; half < 2; ++half) {
        const uint8_t *l = b->levels[128 * half];
        uint8_t *q = b->planes[at + 32 * half];
        for (int i = 0; i < 32 * K_BATCH; ++i) {
            q[i] = (uint8_t)((l[i] & 3) | (l[i + 32 * K_BATCH] & 3) << 2 | (l[i + 64 * K_BATCH] & 3) << 4 |
                             (l[i + 96 * K_BATCH] & 3) << 6);
        }
    }
}

/// What levels have above `low` bits, one bit, of eight elements 32 apart in one byte: planes `at` to `at + 31`.
K_INLINE void pack_top_bits(batch *b, const int low, const int at) {
    const uint8_t *l = b->levels[0];
    uint8_t *q = b->planes[at];
    for (int i = 0; i < 32 * K_BATCH; ++i) {
        int bits = 0;
        for (int j = 0; j < 8; ++j) bits |= (l[i + 32 * j * K_BATCH] >> low) << j;
        q[i] = (uint8_t)bits;
    }
}

/// Four bits of two elements 32 apart in one byte: planes `at` to `at + 127`.
K_INLINE void pack_nibbles(batch *b, const int at) {
    for (int j = 0; j < 4; ++j) {
        const uint8_t *l = b->levels[64 * j];
        uint8_t *q = b->planes[at + 32 * j];
        for (int i = 0; i < 32 * K_BATCH; ++i) q[i] = (uint8_t)((l[i] & 15) | (l[i + 32 * K_BATCH] & 15) << 4);
    }
}
