// Codebooks of the IQ formats, expanded for the kernels at first use.
#ifndef IQ_GRID_H
#define IQ_GRID_H

#include "cbk_iq.h"

/// By the set of eight elements whose bits are set: their numbers in ascending order, a byte each.
extern uint64_t iq_members[256];

extern const uint16_t iq_points_iq2_xxs[256], iq_points_iq2_xs[512], iq_points_iq2_s[1024], iq_points_iq1[2048];
extern const uint16_t iq_points_iq3_xxs[256], iq_points_iq3_s[512];

/// Cells of a codebook: every packed group of coordinates, on a point or not. The largest is 2 in eight fields of two
/// bits, 7 in four fields of three.
enum { IQ_CELLS_8D = 0xAAAB, IQ_CELLS_4D = 4096 };

/// What the encoders need of a codebook.
///
/// The neighbours of a cell that is no point are the points at its few smallest distances, nearest first, then in
/// ascending order. That order is part of the format's arithmetic: the search keeps the first of equals.
typedef struct iq_grid {
    const uint16_t *points;
    uint32_t count;
    /// One bit per cell: set where the cell is no point.
    const uint32_t *off;
    /// Per cell that is no point: first neighbour << 9 | number of neighbours.
    const uint32_t *lists;
    /// Per cell that is a point: its position in the codebook.
    const uint16_t *positions;
    /// The neighbours' cells. Every list is filled up with its last neighbour to a multiple of 8 (IQ3) or 16.
    const uint16_t *neighbours;
    /// The neighbours again, a nibble per coordinate: the coordinate, plus, in the spare high bits, the coordinate's
    /// number, so that a nibble is an index into a register that holds a table for several coordinates.
    const uint32_t *nibbles;
    /// IQ3: the lists once more, of contenders alone, in rows of eight. The first of a list's first row is its head: the
    /// cell, and how many rows follow << 12. The last row is filled up with the last contender. By cell:
    /// first row << 6 | number of contenders.
    /// A neighbour is no contender if another one is in every coordinate as far
    /// from the cell and on the same side, or nearer by a step. A group of values that rounds to the cell is then no
    /// nearer to the first in any coordinate, whatever their weights, unless a value is all but half way to the next
    /// level.
    const uint32_t *contender_lists;
    const uint16_t *contenders;
} iq_grid;

/// The codebook for encoding; built once, by whichever thread comes first.
const iq_grid *iq_encoding_grid(cbk_iq_codebook codebook);

/// The codebooks as the decoders multiply them: eight or four bytes per point, first coordinate in the lowest byte;
/// signed for IQ1. Built once.
typedef struct iq_levels {
    uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024], iq1[2048];
    uint32_t iq3_xxs[256], iq3_s[512];
} iq_levels;

const iq_levels *iq_decoding_levels(void);

#endif
