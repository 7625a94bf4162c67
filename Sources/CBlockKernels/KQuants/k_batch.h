// A batch of sixteen super-blocks on its way from rows of F32 to encoded bytes.
//
//   rows ──transpose──► lanes ──search, per format──► levels and planes ──pack──► planes ──scatter──► blocks
//
// A *plane* is one byte position of the block in all sixteen super-blocks. Formats write planes; `scatter`
// turns sixteen planes at a time into sixteen bytes of each block.

#define K_BATCH 16
#define K_SUPER 256

typedef struct batch {
    uint8_t levels[K_SUPER][K_BATCH];
    uint8_t planes[224][K_BATCH];
} batch;

/// K_LANES super-blocks of a batch, one per lane.
typedef struct lanes {
    vf x[K_SUPER];
    vf importance[K_SUPER];
    vf weights[64];  // search weights of the sub-blocks at hand
    vf scratch[64];  // for the searches
    int weighted;  // whether `importance` is there
    batch *to;
    int at;        // the lanes' place in the batch
} lanes;

K_INLINE void put_plane(const lanes *s, int plane, vi value) {
    *(vb *)&s->to->planes[plane][s->at] = __builtin_convertvector(value, vb);
}

/// A little-endian half in planes `plane` and `plane + 1`.
K_INLINE void put_half(const lanes *s, int plane, vi half) {
    put_plane(s, plane, half);
    put_plane(s, plane + 1, half >> 8);
}

K_INLINE void put_level(const lanes *s, int element, vi level) {
    *(vb *)&s->to->levels[element][s->at] = __builtin_convertvector(level, vb);
}

typedef uint8_t bytes16 __attribute__((ext_vector_type(16)));
typedef uint8_t bytes16_unaligned __attribute__((ext_vector_type(16), aligned(1)));

/// Writes the planes of the first `count` super-blocks as blocks of `size` bytes.
K_INLINE void scatter(const batch *from, size_t count, const size_t size, uint8_t *blocks) {
    for (size_t plane = 0; plane < size; plane += 16) {
        bytes16 a[16], b[16];
#pragma clang loop unroll(full)
        for (int i = 0; i < 16; ++i) a[i] = *(const bytes16 *)from->planes[plane + i];
#pragma clang loop unroll(full)
        for (int round = 0; round < 4; ++round) {
#pragma clang loop unroll(full)
            for (int i = 0; i < 8; ++i) {
                b[2 * i] = __builtin_shufflevector(a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6,
                                                   22, 7, 23);
                b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                                       29, 14, 30, 15, 31);
            }
#pragma clang loop unroll(full)
            for (int i = 0; i < 16; ++i) a[i] = b[i];
        }
        if (plane + 16 <= size) {
            for (size_t i = 0; i < count; ++i) *(bytes16_unaligned *)(blocks + i * size + plane) = a[i];
        } else {
            for (size_t i = 0; i < count; ++i) memcpy(blocks + i * size + plane, &a[i], size % 16);
        }
    }
}

/// Encodes every super-block: `search` fills levels and planes of K_LANES lanes, `pack` the planes of the
/// levels. Lanes beyond the last super-block repeat it.
K_INLINE void encode_rows(const float *values, const float *importance, size_t rows, size_t columns,
                          uint8_t *blocks, const size_t size, void (*const search)(lanes *),
                          void (*const pack)(batch *)) {
    const size_t per_row = columns / K_SUPER;
    const size_t total = rows * per_row;
    // AMD's first-level cache guesses the way of a line by a hash of its address, and lines with equal hashes evict
    // each other. Within one aligned 64 KiB no two differ in bits that the hash would cancel; a working set placed
    // across such a boundary by chance runs at half speed.
    struct {
        lanes s;
        batch b __attribute__((aligned(64)));
    } work __attribute__((aligned(65536)));
    _Static_assert(sizeof(lanes) + sizeof(batch) < 65536, "the working set fits 64 KiB");
    memset(&work.b, 0, sizeof work.b);
    work.s.weighted = importance != NULL;
    work.s.to = &work.b;
    for (size_t first = 0; first < total; first += K_BATCH) {
        const size_t count = total - first < K_BATCH ? total - first : K_BATCH;
        for (size_t at = 0; at < count; at += K_LANES) {
            const float *x[K_LANES], *w[K_LANES];
            for (size_t i = 0; i < K_LANES; ++i) {
                const size_t index = first + (at + i < count ? at + i : count - 1);
                x[i] = values + index * K_SUPER;
                w[i] = importance ? importance + index % per_row * K_SUPER : NULL;
            }
            for (size_t e = 0; e < K_SUPER; e += K_LANES) transpose(x, e, work.s.x + e);
            if (importance) {
                for (size_t e = 0; e < K_SUPER; e += K_LANES) transpose(w, e, work.s.importance + e);
            }
            work.s.at = (int)at;
            search(&work.s);
        }
        pack(&work.b);
        scatter(&work.b, count, size, blocks + first * size);
    }
}
