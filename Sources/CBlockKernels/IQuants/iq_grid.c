#include "iq_grid.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

// MARK: Neighbours

/// Storage for one codebook; the sizes are those of the complete lists, filled up to whole vectors.
#define STORAGE(name, cells, neighbour_count)                                                                \
    static uint32_t name##_off[((cells) + 31) / 32], name##_lists[cells], name##_nibbles[neighbour_count];  \
    static uint16_t name##_positions[cells], name##_neighbours[neighbour_count];                             \
    static iq_grid name##_grid = {0, 0, name##_off, name##_lists, name##_positions, name##_neighbours, name##_nibbles, 0, 0}

STORAGE(iq2_xxs, IQ_CELLS_8D, 161136);
STORAGE(iq2_xs, IQ_CELLS_8D, 230560);
STORAGE(iq2_s, IQ_CELLS_8D, 100576);
STORAGE(iq1, IQ_CELLS_8D, 362352);
STORAGE(iq3_xxs, IQ_CELLS_4D, 34304);
STORAGE(iq3_s, IQ_CELLS_4D, 36456);

static uint32_t iq3_xxs_contender_lists[IQ_CELLS_4D], iq3_s_contender_lists[IQ_CELLS_4D];
static uint16_t iq3_xxs_contenders[33072], iq3_s_contenders[32928];

uint64_t iq_members[256];

static uint32_t nibbles_of(uint32_t cell, int bits) {
    uint32_t nibbles = 0;
    for (int i = 0; i < (bits == 3 ? 4 : 8); ++i) {
        const uint32_t level = cell >> (bits * i) & ((1u << bits) - 1);
        const uint32_t table = bits == 3 ? (uint32_t)(i & 1) << 3 : (uint32_t)(i & 3) << 2;
        nibbles |= (level | table) << (4 * i);
    }
    return nibbles;
}

/// Fills the tables of one codebook.
///
/// - bits: per coordinate.
/// - top: the largest coordinate of a cell.
/// - shells: at how many distinct distances, from the smallest, a point still is a neighbour.
static void build(iq_grid *grid, const uint16_t *points, uint32_t count, int bits, int top, int shells,
                  uint32_t *off, uint32_t *lists, uint16_t *positions, uint16_t *neighbours, uint32_t *nibbles) {
    enum { MAXIMUM_POINTS = 2048 };
    static const int unused = -1;
    int8_t coordinates[8][MAXIMUM_POINTS];
    int16_t distances[MAXIMUM_POINTS];
    const int dimensions = bits == 3 ? 4 : 8;
    const uint32_t mask = (1u << bits) - 1;
    const uint32_t cells = bits == 3 ? IQ_CELLS_4D : IQ_CELLS_8D;

    for (uint32_t cell = 0; cell < cells; ++cell) off[cell / 32] |= 1u << (cell % 32);
    for (uint32_t p = 0; p < count; ++p) {
        for (int i = 0; i < dimensions; ++i) coordinates[i][p] = (int8_t)(points[p] >> (bits * i) & mask);
        off[points[p] / 32] &= ~(1u << (points[p] % 32));
        positions[points[p]] = (uint16_t)p;
    }

    uint32_t used = 0;
    for (uint32_t cell = 0; cell < cells; ++cell) {
        if (!(off[cell / 32] >> (cell % 32) & 1)) continue;
        int inside = 1;
        for (int i = 0; i < dimensions; ++i) inside &= (int)(cell >> (bits * i) & mask) <= top;
        if (!inside) continue;

        for (uint32_t p = 0; p < count; ++p) distances[p] = 0;
        for (int i = 0; i < dimensions; ++i) {
            const int8_t own = (int8_t)(cell >> (bits * i) & mask);
            for (uint32_t p = 0; p < count; ++p) {
                const int16_t difference = (int16_t)(coordinates[i][p] - own);
                distances[p] = (int16_t)(distances[p] + difference * difference);
            }
        }
        const uint32_t first = used;
        int previous = unused;
        for (int shell = 0; shell < shells; ++shell) {
            int distance = INT_MAX;
            for (uint32_t p = 0; p < count; ++p) {
                if (distances[p] > previous && distances[p] < distance) distance = distances[p];
            }
            for (uint32_t p = 0; p < count; ++p) {
                if (distances[p] != distance) continue;
                neighbours[used] = points[p];
                nibbles[used++] = nibbles_of(points[p], bits);
            }
            previous = distance;
        }
        lists[cell] = first << 9 | (used - first);
        // The rest of the last vector repeats the last neighbour, which then is as near as its copies, and comes first.
        const uint32_t last = used - 1;
        const uint32_t vector = bits == 3 ? 8 : 16;
        for (; (used - first) % vector != 0; ++used) {
            neighbours[used] = neighbours[last];
            nibbles[used] = nibbles[last];
        }
    }
    grid->points = points;
    grid->count = count;
}

/// Whether point a is never farther than b from what rounds to the cell; see iq_grid.contenders.
static int leads(uint32_t a, uint32_t b, uint32_t cell) {
    for (int i = 0; i < 12; i += 3) {
        const int own = (int)(cell >> i & 7), to_a = (int)(a >> i & 7) - own, to_b = (int)(b >> i & 7) - own;
        if (to_a != to_b && abs(to_a) >= abs(to_b)) return 0;
    }
    return 1;
}

static void build_contenders(iq_grid *grid, uint32_t *lists, uint16_t *contenders) {
    uint32_t rows = 0;
    for (uint32_t cell = 0; cell < IQ_CELLS_4D; ++cell) {
        if (grid->lists[cell] == 0) continue;
        const uint16_t *neighbours = grid->neighbours + (grid->lists[cell] >> 9);
        const uint32_t count = grid->lists[cell] & 511;
        uint16_t *const row = contenders + 8 * rows;
        uint32_t used = 1;
        for (uint32_t n = 0; n < count; ++n) {
            uint32_t other = 0;
            while (other < count && (other == n || !leads(neighbours[other], neighbours[n], cell))) ++other;
            if (other == count) row[used++] = neighbours[n];
        }
        lists[cell] = rows << 6 | (used - 1);
        // Filled up like the lists of neighbours.
        for (; used % 8 != 0; ++used) row[used] = row[used - 1];
        row[0] = (uint16_t)(cell | (used / 8 - 1) << 12);
        rows += used / 8;
    }
    grid->contender_lists = lists;
    grid->contenders = contenders;
}

static void build_members(void) {
    for (uint32_t set = 0; set < 256; ++set) {
        int place = 0;
        for (uint64_t n = 0; n < 8; ++n) {
            if (set >> n & 1) iq_members[set] |= n << 8 * place++;
        }
    }
}

#define BUILDER(name, bits, top, shells)                                                                       \
    static pthread_once_t name##_once = PTHREAD_ONCE_INIT;                                                     \
    static void build_##name(void) {                                                                           \
        build(&name##_grid, iq_points_##name, sizeof iq_points_##name / sizeof *iq_points_##name, bits, top,   \
              shells, name##_off, name##_lists, name##_positions, name##_neighbours, name##_nibbles);          \
    }

BUILDER(iq2_xxs, 2, 2, 2)
BUILDER(iq2_xs, 2, 2, 2)
BUILDER(iq2_s, 2, 2, 1)
BUILDER(iq1, 2, 2, 3)
BUILDER(iq3_xxs, 3, 7, 2)
BUILDER(iq3_s, 3, 7, 3)

// What walks along stretches need besides (iq_walk.h).
static pthread_once_t members_once = PTHREAD_ONCE_INIT;

#define WALK_BUILDER(name)                                                               \
    static pthread_once_t name##_walk_once = PTHREAD_ONCE_INIT;                          \
    static void build_##name##_walk(void) {                                              \
        pthread_once(&name##_once, build_##name);                                        \
        pthread_once(&members_once, build_members);                                      \
        build_contenders(&name##_grid, name##_contender_lists, name##_contenders);       \
    }

WALK_BUILDER(iq3_xxs)
WALK_BUILDER(iq3_s)

const iq_grid *iq_encoding_grid(cbk_iq_codebook codebook) {
    switch (codebook) {
        case CBK_IQ2_XXS: pthread_once(&iq2_xxs_once, build_iq2_xxs); return &iq2_xxs_grid;
        case CBK_IQ2_XS: pthread_once(&iq2_xs_once, build_iq2_xs); return &iq2_xs_grid;
        case CBK_IQ2_S: pthread_once(&iq2_s_once, build_iq2_s); return &iq2_s_grid;
        case CBK_IQ1: pthread_once(&iq1_once, build_iq1); return &iq1_grid;
        case CBK_IQ3_XXS: pthread_once(&iq3_xxs_walk_once, build_iq3_xxs_walk); return &iq3_xxs_grid;
        case CBK_IQ3_S: pthread_once(&iq3_s_walk_once, build_iq3_s_walk); return &iq3_s_grid;
    }
    return 0;
}

// MARK: Points

const uint16_t *cbk_iq_points(cbk_iq_codebook codebook, size_t *count) {
    switch (codebook) {
        case CBK_IQ2_XXS: *count = 256; return iq_points_iq2_xxs;
        case CBK_IQ2_XS: *count = 512; return iq_points_iq2_xs;
        case CBK_IQ2_S: *count = 1024; return iq_points_iq2_s;
        case CBK_IQ1: *count = 2048; return iq_points_iq1;
        case CBK_IQ3_XXS: *count = 256; return iq_points_iq3_xxs;
        case CBK_IQ3_S: *count = 512; return iq_points_iq3_s;
    }
    *count = 0;
    return 0;
}

static iq_levels levels;
static pthread_once_t levels_once = PTHREAD_ONCE_INIT;

static void expand8(uint64_t *target, const uint16_t *points, int count, const uint8_t values[4]) {
    for (int p = 0; p < count; ++p) {
        for (int i = 0; i < 8; ++i) target[p] |= (uint64_t)values[points[p] >> (2 * i) & 3] << (8 * i);
    }
}

static void expand4(uint32_t *target, const uint16_t *points, int count, const uint8_t values[8]) {
    for (int p = 0; p < count; ++p) {
        for (int i = 0; i < 4; ++i) target[p] |= (uint32_t)values[points[p] >> (3 * i) & 7] << (8 * i);
    }
}

// The levels are ggml's as well (iq2*_grid, iq3*_grid and iq1s_grid in ggml-common.h).
static void expand(void) {
    static const uint8_t iq2[4] = {8, 25, 43, 0}, iq1[4] = {0xFF, 0, 1, 0};
    static const uint8_t iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    expand8(levels.iq2_xxs, iq_points_iq2_xxs, 256, iq2);
    expand8(levels.iq2_xs, iq_points_iq2_xs, 512, iq2);
    expand8(levels.iq2_s, iq_points_iq2_s, 1024, iq2);
    expand8(levels.iq1, iq_points_iq1, 2048, iq1);
    expand4(levels.iq3_xxs, iq_points_iq3_xxs, 256, iq3_xxs);
    expand4(levels.iq3_s, iq_points_iq3_s, 512, iq3_s);
}

const iq_levels *iq_decoding_levels(void) {
    pthread_once(&levels_once, expand);
    return &levels;
}
