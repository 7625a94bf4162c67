// Nearest points for many groups of a four-dimensional codebook (IQ3_XXS, IQ3_S), one in each lane. AVX2 and AVX-512.
// Included by iq_search_lattice.h.
//
// From one candidate scale to the next a group of values mostly rounds to the same cell. Along such a stretch of
// candidates its list of neighbours is the same, and at scale s, with t = 1 / s, the squared distance to a neighbour of
// levels q is s^2 N(t), where N(t) = sum of weight * (q - t x)^2. The difference between two neighbours' N is linear
// in t. So a neighbour that is the nearest at both ends of a stretch is the nearest all along it. Where the ends
// differ, the lines of the two neighbours cross in between, and if the first is the nearest up to there and the last
// from there on, the stretch is settled as well. If not, it is cut there and both parts are walked by themselves.
//
// Stretches are queued by the length of their lists, so that lanes side by side have about as much to do. While one
// vector of them is walked, the values and lists of the next are read.
//
// The largest value of a sub-block is half way between two levels at some candidates. Such an end of a stretch, at the
// edge of its cell, is searched exactly and by itself. What is left of the stretch is well inside, because candidates
// are a hundredth apart.
//
// MARK: Why the result is the reference's
//
// The reference compares rounded distances, so a nearest neighbour must lead by a margin. Let u = 2^-24, R be the sum
// of the weights, and V the sum of weight * (t x)^2 at the first end; elsewhere t is larger by a half at most. With
// 2 sqrt(a b) <= a / c + b c:
//
// - The reference's s q - x is off by u (s q + |s q - x|), and five roundings of each term follow, so its N is off by
//   2 u sqrt(225 R N) + 7 u N, no more than u (15 N + 29 R).
// - Here t x is off by 6 u |t x| from what s as the reference rounds it stands for. That changes N by
//   18 u sqrt(V N), no more than u (54 N + 1.5 V).
// - The sum at the first end is off by 7 u of itself, which is no more than u (14 N + 3.5 V), since N there is at most
//   2 N + V / 2. The slope is off by 6 u in each term, which makes 6 u sqrt(V) (sqrt(N) + sqrt(V) / 2), no more than
//   u (18 N + 3.5 V), and adding both is off by u (N + V / 4).
//
// For two neighbours, N being the smaller, that is u (31 N + 58 R) and u (174 N + 18 V), and u (3 N + 2 V) more where
// the last neighbour's line is followed back. The margin used is u (256 N + 64 R + 32 V), and a term for what
// underflows. The reference's scales are in order, because divisions round monotonically; so what holds at two
// candidates, in exact arithmetic, holds in between. Candidates at which no neighbour leads by the margin are searched
// as the reference does.

enum {
    IQ_CANDIDATES = 32,            // at most; a row of that many 16-bit cells is one or two registers
    IQ_GROUPS = 8 * IQ_LANES,      // of one search
    IQ_LENGTHS = 4,                // kinds of lists by length
    IQ_LONGEST = 40,               // no list is longer
    IQ_MARK = 0x1000,              // set in a row where a cell begins
    IQ_ALL_LANES = (1 << IQ_LANES) - 1
};

static const uint8_t iq_lengths[IQ_LENGTHS] = {4, 7, 12, IQ_LONGEST};

/// Places to search: `group << 23 | from << 18 | to << 13 | row`. The candidates `from` to `to` of the group round to
/// the cell of that row of contenders; among the places to search exactly, the cell itself stands there. A group's
/// number is `lane * 8 + number in its sub-block`.
///
/// Places of a group do not overlap, so there never are more than candidates. Writing whole vectors takes one more.
typedef struct iq_queue {
    int count;
    uint32_t places[IQ_GROUPS * IQ_CANDIDATES + IQ_LANES];
} iq_queue;

/// What the searches of IQ_LANES sub-blocks share.
typedef struct iq_walk {
    const iq_lattice *format;
    const iq_grid *grid;
    vf reach, inverse_reach;
    /// What iq_search_places searches at, and the cells that it finds, `number * IQ_LANES + lane`.
    vf scale, inverse;
    int32_t cells[IQ_GROUPS];
    struct {
        float x[4], root[4];
    } groups[IQ_GROUPS];
    /// Cells by candidate, with IQ_MARK where they begin; 0 elsewhere. What follows the last row is read.
    uint16_t rows[IQ_GROUPS][IQ_CANDIDATES], after_rows;
    /// Stretches, parts of stretches that were cut, and candidates at which no neighbour leads by the margin or values
    /// are at the edge of their cell.
    iq_queue by_length[IQ_LENGTHS], parts, exact;
} iq_walk;

/// Values and lists of IQ_LANES places.
typedef struct iq_loaded {
    vi place, cells[IQ_LONGEST + 8];  // the first one is the row's head
    vf x[4], root[4];
    int length;
} iq_loaded;

/// One element of a vector that was stored, read from memory. What a compiler does with several in a row otherwise, in
/// vectors from which it then extracts them, takes the ports that the searches need.
IQ_INLINE uint32_t iq_element(const uint32_t *elements, int n) {
    uint32_t element = elements[n];
    __asm__("" : "+r"(element));
    return element;
}

IQ_INLINE void iq_push(iq_queue *queue, vm wanted, vi places) {
    vi_store((int32_t *)queue->places + queue->count, vi_compress(wanted, places));
    queue->count += __builtin_popcount(vm_bits(wanted));
}

/// Queues those of `wanted` that have a list, with the numbers of their rows added.
IQ_INLINE void iq_push_by_length(iq_walk *walk, vm wanted, vi places, vi lists) {
    const vi lengths = lists & vi_set(63), located = places | vi_right(lists, 6);
    vm left = vm_and(wanted, vi_greater(lengths, vi_set(0)));
    for (int n = 0; n < IQ_LENGTHS - 1; ++n) {
        const vm longer = vm_and(left, vi_greater(lengths, vi_set(iq_lengths[n])));
        iq_push(&walk->by_length[n], vm_and(left, vm_not(longer)), located);
        left = longer;
    }
    iq_push(&walk->by_length[IQ_LENGTHS - 1], left, located);
}

/// Moves all parts to the queues by length.
static __attribute__((noinline)) void iq_sort_parts(iq_walk *walk) {
    const int count = walk->parts.count;
    walk->parts.count = 0;
    for (int at = 0; at < count; at += IQ_LANES) {
        const vi places = vi_load((const int32_t *)walk->parts.places + at);
        // Beyond the last place there may be anything.
        const vi rows = vi_select(vm_first(count - at), places & vi_set(0x1FFF), vi_set(0));
        const vi cells = vi_gather((const int32_t *)walk->grid->contenders, vi_left(rows, 2)) & vi_set(0xFFF);
        iq_push_by_length(walk, vm_first(count - at), places & vi_set(~0x1FFF),
                          vi_gather((const int32_t *)walk->grid->contender_lists, cells));
    }
}

// MARK: Loading

/// Magnitudes and weights of groups, lane by lane.
IQ_INLINE void iq_load_groups(const iq_walk *walk, const uint32_t *places, vf *x, vf *root) {
    const void *sources[IQ_LANES];
    vi columns[4];
    for (int lane = 0; lane < IQ_LANES; ++lane) sources[lane] = walk->groups[iq_element(places, lane) >> 23].x;
    iq_load_columns(sources, columns);
    for (int i = 0; i < 4; ++i) x[i] = (vf)columns[i];
    for (int lane = 0; lane < IQ_LANES; ++lane) sources[lane] = walk->groups[iq_element(places, lane) >> 23].root;
    iq_load_columns(sources, columns);
    for (int i = 0; i < 4; ++i) root[i] = (vf)columns[i];
}

/// Eight cells from each of some places, lane by lane.
IQ_INLINE void iq_load_cells(const void *const *sources, vi *cells) {
    vi columns[4];
    iq_load_columns(sources, columns);
    for (int i = 0; i < 4; ++i) {
        cells[2 * i] = columns[i] & vi_set(0xFFFF);
        cells[2 * i + 1] = vi_right(columns[i], 16);
    }
}

/// Loads what is at IQ_LANES places. The length is that of their lists, or for IQ_LONGEST that of the longest. A lane
/// whose list is shorter gets some of its cells again.
IQ_INLINE void iq_load_places(const iq_walk *walk, const uint32_t *places, int length, iq_loaded *loaded) {
    const void *sources[IQ_LANES];
    loaded->place = vi_load((const int32_t *)places);
    iq_load_groups(walk, places, loaded->x, loaded->root);
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        sources[lane] = walk->grid->contenders + (iq_element(places, lane) & 0x1FFF) * 8;
    }
    iq_load_cells(sources, loaded->cells);
    if (length > 7) {
        int32_t more[IQ_LANES], most = 0;
        vi_store(more, vi_right(loaded->cells[0], 12));
        for (int lane = 0; lane < IQ_LANES; ++lane) most = most < more[lane] ? more[lane] : most;
        for (int n = 1; n <= most; ++n) {
            const void *next[IQ_LANES];
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                // A list that has ended goes on with its last cells.
                next[lane] = (const uint16_t *)sources[lane] + 8 * (n < more[lane] ? n : more[lane]);
            }
            iq_load_cells(next, loaded->cells + 8 * n);
            // ... of which the first may be a row's head.
            const vm ended = vi_greater(vi_set(n), vi_right(loaded->cells[0], 12));
            loaded->cells[8 * n] = vi_select(ended, loaded->cells[8 * n + 7], loaded->cells[8 * n]);
        }
        length = length < 8 * most + 7 ? length : 8 * most + 7;
    }
    loaded->length = length;
}

/// Which lanes' values times 1 / s are well above where values begin to round to the cell.
IQ_INLINE vm iq_above(vi cell, const vf *x, vf t) {
    vm above = vf_less(vi_floor8(cell), t * x[0]);
    for (int i = 1; i < 4; ++i) above = vm_and(above, vf_less(vi_floor8(vi_right(cell, 3 * i)), t * x[i]));
    return above;
}

/// Which lanes' values times 1 / s are well below where values cease to round to the cell.
IQ_INLINE vm iq_below(vi cell, const vf *x, vf t) {
    vm below = vf_less(t * x[0], vi_ceiling8(cell));
    for (int i = 1; i < 4; ++i) below = vm_and(below, vf_less(t * x[i], vi_ceiling8(vi_right(cell, 3 * i))));
    return below;
}

// MARK: Searching

/// A candidate's reach over scale.
IQ_INLINE vf iq_nominal(const iq_lattice *format, vi candidate) {
    return vf_set((float)(2 * format->top + 1)) + vi_float(candidate - vi_set(format->attempts)) * vf_set(format->step);
}

/// Queues all candidates of some places to be searched exactly.
static __attribute__((noinline)) void iq_push_candidates(iq_walk *walk, vm wanted, vi place, vi from, vi to) {
    int32_t places[IQ_LANES], first[IQ_LANES], last[IQ_LANES];
    vi_store(places, place);
    vi_store(first, from);
    vi_store(last, to);
    for (uint32_t left = vm_bits(wanted); left != 0; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        for (int n = first[lane]; n <= last[lane]; ++n) {
            walk->exact.places[walk->exact.count++] = (uint32_t)(places[lane] | n << 18);
        }
    }
}

/// Walks the stretches at IQ_LANES places, of which those in `valid` count and others repeat them.
///
/// - next: where the next ones are, to be read in the meantime; NULL if there are none.
IQ_INLINE void iq_walk_places(iq_walk *walk, const iq_loaded *loaded, vm valid, const uint32_t *next, int next_length,
                              iq_loaded *next_loaded) {
    const iq_lattice *format = walk->format;
    const vi place = loaded->place, cell = loaded->cells[0] & vi_set(0xFFF);
    const vi *const cells = loaded->cells + 1;
    const vf *const x = loaded->x, *const root = loaded->root;
    const int length = loaded->length;
    vi from = vi_right(place, 18) & vi_set(31), to = vi_right(place, 13) & vi_set(31);
    const vi row = vi_left(vi_right(place, 23), 5), own = place & vi_set(127 << 23), begin = row + from;
    const vf unit = vf_lookup(walk->inverse_reach, vi_right(place, 26)), two_units = unit + unit;

    // Contenders are enough where values are well inside of their cell; an end where they are not is taken off.
    const vm above = iq_above(cell, x, iq_nominal(format, from) * unit);
    const vm below = iq_below(cell, x, iq_nominal(format, to) * unit);
    if (vm_bits(vm_and(valid, vm_not(vm_and(above, below)))) != 0) {
        const vm ends = vm_and(vm_not(below), vm_or(above, vi_greater(to, from)));
        const vi one = own | cell;
        iq_push(&walk->exact, vm_and(valid, vm_not(above)), one | vi_left(from, 18));
        iq_push(&walk->exact, vm_and(valid, ends), one | vi_left(to, 18));
        from = vi_select(above, from, from + vi_set(1));
        to = vi_select(below, to, to - vi_set(1));
        valid = vm_and(valid, vm_not(vi_greater(from, to)));
    }
    const vf nominal = iq_nominal(format, from), nominal_to = iq_nominal(format, to);
    const vf t = nominal * unit;
    vf square = vf_set(0), y[4];
    for (int i = 0; i < 4; ++i) {
        y[i] = t * x[i];
        square = vf_fma(root[i] * x[i], x[i], square);
    }
    const vf moment = t * t * square;

    // N is value - slope * span + square * (span / 2)^2 at any t that is larger by span / 2. The last term is the same
    // for all neighbours.
    vf values[IQ_LONGEST], slopes[IQ_LONGEST];
    const vf infinite = vf_set(__builtin_inff()), span = (nominal_to - nominal) * two_units;
    vf best = infinite, best_to = infinite, slope = vf_set(0), slope_to = vf_set(0);
    vi first = vi_set(0), last = vi_set(0);
    for (int n = 0; n < length; ++n) {
        vf value = vf_set(0), along = vf_set(0);
        for (int i = 0; i < 4; ++i) {
            const vf difference = vi_odd8(vi_right(cells[n], 3 * i)) - y[i];
            const vf weighted = root[i] * difference;
            value = i == 0 ? weighted * difference : vf_fma(weighted, difference, value);
            along = i == 0 ? weighted * x[i] : vf_fma(weighted, x[i], along);
        }
        const vf value_to = vf_fnma(span, along, value);
        values[n] = value;
        slopes[n] = along;
        const vm less = vf_less(value, best), less_to = vf_less(value_to, best_to);
        best = vf_select(less, value, best);
        slope = vf_select(less, along, slope);
        first = vi_select(less, cells[n], first);
        best_to = vf_select(less_to, value_to, best_to);
        slope_to = vf_select(less_to, along, slope_to);
        last = vi_select(less_to, cells[n], last);
    }

    // Up to `turn` the first neighbour should be the nearest, from `after` on the last one. Any candidate will do for
    // lanes where both are one neighbour, for which this divides 0 by 0.
    const vf ahead = vf_fma(span, slope_to, best_to) - best, behind = vf_fnma(span, slope, best) - best_to;
    vi turn = vi_truncate(ahead / (ahead + behind) * vi_float(to - from)) + from;
    turn = vi_max(vi_min(turn, to - vi_set(1)), from);
    const vi after = vi_min(turn + vi_set(1), to);
    const vf span_turn = (iq_nominal(format, turn) - nominal) * two_units;
    const vf span_after = (iq_nominal(format, after) - nominal) * two_units;
    // Reading takes as long as the division.
    if (next) iq_load_places(walk, next, next_length, next_loaded);
    vf second = infinite, second_turn = infinite, second_after = infinite, second_to = infinite;
    for (int n = 0; n < length; ++n) {
        // What repeats a neighbour is left out with it.
        const vm is_first = vi_equal(cells[n], first), is_last = vi_equal(cells[n], last);
        second = vf_min_unless(is_first, values[n], second);
        second_turn = vf_min_unless(is_first, vf_fnma(span_turn, slopes[n], values[n]), second_turn);
        second_after = vf_min_unless(is_last, vf_fnma(span_after, slopes[n], values[n]), second_after);
        second_to = vf_min_unless(is_last, vf_fnma(span, slopes[n], values[n]), second_to);
    }
    const vf weights = root[0] + root[1] + root[2] + root[3];
    const vf underflow = vf_fma(t, vf_fma(t, vf_set(0x1p-140f), vf_set(0x1p-126f)), vf_set(0x1p-126f));
    const vf fixed = vf_fma(vf_set(0x1p-18f), weights, vf_fma(vf_set(0x1p-19f), moment, underflow));
    const vf with_own = vf_set(1 + 0x1p-16f), rest = vf_set(0x1p-18f) * square;
    const vf best_turn = vf_fnma(span_turn, slope, best), best_after = vf_fma(span - span_after, slope_to, best_to);
    const vf limit = vf_fma(with_own, best, fixed);
    const vf limit_turn = vf_fma(rest * span_turn, span_turn, vf_fma(with_own, best_turn, fixed));
    const vf limit_after = vf_fma(rest * span_after, span_after, vf_fma(with_own, best_after, fixed));
    const vf limit_to = vf_fma(rest * span, span, vf_fma(with_own, best_to, fixed));
    // Without any weight all distances are 0, and the first neighbour is the nearest.
    const vm weightless = vf_equal(weights, vf_set(0));
    const vm sure = vm_or(weightless, vm_and(vf_less(limit, second), vf_less(limit_turn, second_turn)));
    const vm sure_to = vm_or(weightless, vm_and(vf_less(limit_after, second_after), vf_less(limit_to, second_to)));

    // A mark's offset among the rows is in the upper half.
    uint32_t from_marks[IQ_LANES], to_marks[IQ_LANES];
    // Where nothing is left but what is searched exactly, one mark is set that is then set anew. Elsewhere what comes
    // again, or is searched by itself, begins at a mark that is set here as well.
    const vi offset = vi_select(valid, row + from, begin), offset_to = vi_select(valid, row + after, begin);
    vi_store((int32_t *)from_marks, vi_left(offset, 16) | first | vi_set(IQ_MARK));
    vi_store((int32_t *)to_marks, vi_left(offset_to, 16) | last | vi_set(IQ_MARK));
    uint16_t *const marks = walk->rows[0];
#pragma clang loop unroll(full)
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        const uint32_t to_mark = iq_element(to_marks, lane), from_mark = iq_element(from_marks, lane);
        marks[to_mark >> 16] = (uint16_t)to_mark;
        marks[from_mark >> 16] = (uint16_t)from_mark;
    }

    const vm open = vm_and(valid, vm_not(sure));
    const vm open_to = vm_and(vm_and(valid, vm_not(sure_to)), vi_greater(to, turn));
    if (vm_bits(vm_or(open, open_to)) == 0) return;
    // The nearest of a single candidate, or of both ends, is close to another one.
    const vm same = vi_equal(first, last);
    const vm close = vm_and(open, vm_or(same, vi_equal(from, turn)));
    const vm close_to = vm_and(open_to, vm_or(same, vi_equal(to, after)));
    const vi listed = own | (place & vi_set(0x1FFF));
    const vi part = vi_left(from, 18) | vi_left(turn, 13), part_to = vi_left(after, 18) | vi_left(to, 13);
    iq_push(&walk->parts, vm_and(open, vm_not(close)), listed | part);
    iq_push(&walk->parts, vm_and(open_to, vm_not(close_to)), listed | part_to);
    if (vm_bits(vm_or(close, close_to)) != 0) {
        iq_push_candidates(walk, close, own | cell, from, turn);
        iq_push_candidates(walk, close_to, own | cell, after, to);
    }
}

/// The nearest of some neighbours, all distances and the choice among equal ones being the reference's.
IQ_INLINE vi iq_nearest_exactly(const vi *cells, int length, const vf *x, const vf *root, vf scale) {
    vf least = vf_set(__builtin_inff());
    vi nearest = cells[0];
    for (int n = 0; n < length; ++n) {
        vf distance = vf_set(0);
        for (int i = 0; i < 4; ++i) {
            const vf difference = scale * vi_odd8(vi_right(cells[n], 3 * i)) - x[i];
            const vf term = root[i] * difference * difference;
            distance = i == 0 ? term : distance + term;
        }
        const vm less = vf_less(distance, least);
        least = vf_select(less, distance, least);
        nearest = vi_select(less, cells[n], nearest);
    }
    return nearest;
}

/// Searches the groups at IQ_LANES places, some of which may be the same, at one scale for each sub-block.
IQ_INLINE void iq_search_places(iq_walk *walk, const uint32_t *places, const iq_loaded *loaded) {
    const vi lanes = vi_right(loaded->place, 26), cell = loaded->cells[0] & vi_set(0xFFF);
    const vf scale = vf_lookup(walk->scale, lanes), t = vf_lookup(walk->inverse, lanes);
    uint32_t found[IQ_LANES];
    vi_store((int32_t *)found, iq_nearest_exactly(loaded->cells + 1, loaded->length, loaded->x, loaded->root, scale));
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        const uint32_t group = iq_element(places, lane) >> 23;
        walk->cells[group % 8 * IQ_LANES + group / 8] = (int32_t)iq_element(found, lane);
    }
    const vm inside = vm_and(iq_above(cell, loaded->x, t), iq_below(cell, loaded->x, t));
    for (uint32_t left = vm_bits(vm_not(inside)); left != 0; left &= left - 1) {
        const uint32_t at = places[__builtin_ctz(left)], group = at >> 23;
        const uint32_t list = walk->grid->lists[walk->grid->contenders[(at & 0x1FFF) * 8] & 0xFFF];
        float scales[IQ_LANES];
        vf_store(scales, walk->scale);
        const uint32_t neighbour = iq_nearest4(walk->grid, list, walk->groups[group].x, walk->groups[group].root,
                                               scales[group / 8], (list & 511) > IQ_STEP4);
        walk->cells[group % 8 * IQ_LANES + group / 8] = walk->grid->neighbours[neighbour];
    }
}

/// Searches what is queued by length. Reading goes ahead of searching, so that neither waits for the other.
IQ_INLINE void iq_drain_lengths(iq_walk *walk, int at_one_scale) {
    for (int n = 0; n < IQ_LENGTHS; ++n) {
        iq_queue *const queue = &walk->by_length[n];
        int count = queue->count, rest = count % IQ_LANES;
        queue->count = 0;
        if (rest != 0) {
            uint32_t *const places = queue->places + (count - rest);
            const vi last = vi_load((const int32_t *)places);
            if (n + 1 < IQ_LENGTHS) {
                // What does not fill a vector goes along with longer lists.
                iq_push(&walk->by_length[n + 1], vm_first(rest), last);
                count -= rest;
                rest = 0;
            } else {
                vi_store((int32_t *)places, vi_select(vm_first(rest), last, vi_set((int32_t)places[0])));
            }
        }
        if (count == 0) continue;
        iq_loaded loaded[2];
        iq_load_places(walk, queue->places, iq_lengths[n], &loaded[0]);
        for (int at = 0, turn = 0; at < count; at += IQ_LANES, turn ^= 1) {
            const uint32_t *const next = at + IQ_LANES < count ? queue->places + at + IQ_LANES : 0;
            if (at_one_scale) {
                if (next) iq_load_places(walk, next, iq_lengths[n], &loaded[turn ^ 1]);
                iq_search_places(walk, queue->places + at, &loaded[turn]);
            } else {
                iq_walk_places(walk, &loaded[turn], vm_first(count - at), next, iq_lengths[n], &loaded[turn ^ 1]);
            }
        }
    }
}

/// Walks what is queued by length, and the parts of it that come back, until nothing is left.
static __attribute__((noinline)) void iq_walk_all(iq_walk *walk) {
    for (;;) {
        iq_drain_lengths(walk, 0);
        if (walk->parts.count == 0) return;
        iq_sort_parts(walk);
    }
}

/// Searches what is queued by length at one scale for each sub-block.
static __attribute__((noinline)) void iq_search_all(iq_walk *walk) { iq_drain_lengths(walk, 1); }

/// Searches single candidates among all neighbours, as the reference does.
static __attribute__((noinline)) void iq_search_exact(iq_walk *walk) {
    uint32_t *const places = walk->exact.places;
    const int count = walk->exact.count;
    walk->exact.count = 0;
    vi_store((int32_t *)places + count, vi_set((int32_t)places[0]));
    for (int at = 0; at < count; at += IQ_LANES) {
        const vi place = vi_load((const int32_t *)places + at);
        vf x[4], root[4];
        vi cells[IQ_LONGEST];
        iq_load_groups(walk, places + at, x, root);
        uint32_t lists[IQ_LANES], length = 0;
        for (int lane = 0; lane < IQ_LANES; ++lane) {
            lists[lane] = walk->grid->lists[iq_element(places, at + lane) & 0xFFF];
            length = length < (lists[lane] & 511) ? lists[lane] & 511 : length;
        }
        for (uint32_t n = 0; n < length; n += 8) {
            const void *sources[IQ_LANES];
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                sources[lane] = walk->grid->neighbours + (lists[lane] >> 9) + (n < (lists[lane] & 511) ? n : 0);
            }
            iq_load_cells(sources, cells + n);
        }
        const vf inverse = iq_nominal(walk->format, vi_right(place, 18) & vi_set(31)) /
                           vf_lookup(walk->reach, vi_right(place, 26));
        uint32_t found[IQ_LANES];
        const vi nearest = iq_nearest_exactly(cells, (int)length, x, root, vf_set(1) / inverse);
        vi_store((int32_t *)found, nearest | vi_set(IQ_MARK));
        for (int lane = 0; lane < IQ_LANES; ++lane) {
            walk->rows[0][iq_element(places, at + lane) >> 18] = (uint16_t)iq_element(found, lane);
        }
    }
}
