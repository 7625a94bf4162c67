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
// Stretches are queued by the length of their lists, so that lanes side by side have about as much to do.
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

static const uint8_t iq_lengths[IQ_LENGTHS] = {4, 6, 8, IQ_LONGEST};

/// Places to search: `group << 22 | from << 17 | to << 12 | cell`. The candidates `from` to `to` of the group round to
/// the cell, which is no point. A group's number is `lane * 8 + number in its sub-block`.
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
    /// Parts of stretches that were cut, stretches near the edge of their cell, and those without a margin.
    iq_queue by_length[IQ_LENGTHS], parts, edges, close;
} iq_walk;

/// How iq_drain searches: stretches along lists of contenders or of all neighbours, or groups at one scale.
typedef enum iq_manner { IQ_CONTENDERS, IQ_NEIGHBOURS, IQ_ONE_SCALE } iq_manner;

IQ_INLINE const int32_t *iq_lists(const iq_walk *walk, iq_manner manner) {
    return (const int32_t *)(manner == IQ_NEIGHBOURS ? walk->grid->lists : walk->grid->contender_lists);
}

IQ_INLINE void iq_push(iq_queue *queue, vm wanted, vi places) {
    vi_store((int32_t *)queue->places + queue->count, vi_compress(wanted, places));
    queue->count += __builtin_popcount(vm_bits(wanted));
}

/// Queues those of `wanted` that have a list.
IQ_INLINE void iq_push_by_length(iq_walk *walk, vm wanted, vi places, vi lists) {
    const vi lengths = lists & vi_set(511);
    vm left = vm_and(wanted, vi_greater(lengths, vi_set(0)));
    for (int n = 0; n < IQ_LENGTHS - 1; ++n) {
        const vm longer = vm_and(left, vi_greater(lengths, vi_set(iq_lengths[n])));
        iq_push(&walk->by_length[n], vm_and(left, vm_not(longer)), places);
        left = longer;
    }
    iq_push(&walk->by_length[IQ_LENGTHS - 1], left, places);
}

/// Moves all places of a queue to those by length.
IQ_INLINE void iq_sort(iq_walk *walk, iq_queue *queue, iq_manner manner) {
    const int count = queue->count;
    queue->count = 0;
    for (int at = 0; at < count; at += IQ_LANES) {
        const vi places = vi_load((const int32_t *)queue->places + at);
        iq_push_by_length(walk, vm_first(count - at), places, vi_gather(iq_lists(walk, manner), places & vi_set(0xFFF)));
    }
}

// MARK: Loading

/// Magnitudes and weights of groups, lane by lane.
IQ_INLINE void iq_load_groups(const iq_walk *walk, const uint32_t *places, vf *x, vf *root) {
    const void *sources[IQ_LANES];
    vi columns[4];
    for (int lane = 0; lane < IQ_LANES; ++lane) sources[lane] = walk->groups[places[lane] >> 22].x;
    iq_load_columns(sources, columns);
    for (int i = 0; i < 4; ++i) x[i] = (vf)columns[i];
    for (int lane = 0; lane < IQ_LANES; ++lane) sources[lane] = walk->groups[places[lane] >> 22].root;
    iq_load_columns(sources, columns);
    for (int i = 0; i < 4; ++i) root[i] = (vf)columns[i];
}

/// The cells of lists, lane by lane. Returns their number, which is `length` or, for IQ_LONGEST, that of the longest.
/// A lane whose list is shorter gets some of its cells again.
IQ_INLINE int iq_load_lists(const uint16_t *neighbours, vi lists, int length, vi *cells) {
    const void *sources[IQ_LANES];
    uint32_t list[IQ_LANES];
    vi_store((int32_t *)list, lists);
    for (int lane = 0; lane < IQ_LANES; ++lane) sources[lane] = neighbours + (list[lane] >> 9);
    for (int n = 0;;) {
        vi columns[4];
        iq_load_columns(sources, columns);
        for (int i = 0; i < 4; ++i) {
            cells[n + 2 * i] = columns[i] & vi_set(0xFFFF);
            cells[n + 2 * i + 1] = vi_right(columns[i], 16);
        }
        n += 8;
        if (length == IQ_LONGEST) {
            length = 8;
            for (int lane = 0; lane < IQ_LANES; ++lane) {
                const int own = (int)(list[lane] & 511);
                length = length < own ? own : length;
            }
        }
        if (length <= n) return length;
        for (int lane = 0; lane < IQ_LANES; ++lane) {
            sources[lane] = neighbours + (list[lane] >> 9) + (n < (int)(list[lane] & 511) ? n : 0);
        }
    }
}

/// Which lanes' values, from `low` to `high` times 1 / s, are well inside of the cell, so that contenders are enough.
IQ_INLINE vm iq_inside(vi cell, const vf *x, vf low, vf high) {
    vm inside = vi_equal(cell, cell);
    for (int i = 0; i < 4; ++i) {
        const vi level = vi_right(cell, 3 * i);
        inside = vm_and(inside, vm_and(vf_less(vi_floor8(level), low * x[i]), vf_less(high * x[i], vi_ceiling8(level))));
    }
    return inside;
}

// MARK: Searching

/// A candidate's reach over scale.
IQ_INLINE vf iq_nominal(const iq_lattice *format, vi candidate) {
    return vf_set((float)(2 * format->top + 1)) + vi_float(candidate - vi_set(format->attempts)) * vf_set(format->step);
}

/// Walks the stretches at IQ_LANES places, of which those in `valid` count and others repeat them.
IQ_INLINE void iq_walk_places(iq_walk *walk, const uint32_t *places, vm valid, int length, iq_manner manner) {
    const iq_lattice *format = walk->format;
    const vi place = vi_load((const int32_t *)places), cell = place & vi_set(0xFFF);
    const vi from = vi_right(place, 17) & vi_set(31), to = vi_right(place, 12) & vi_set(31);
    vf x[4], root[4], y[4];
    iq_load_groups(walk, places, x, root);
    const vf unit = vf_lookup(walk->inverse_reach, vi_right(place, 25)), two_units = unit + unit;
    const vf nominal = iq_nominal(format, from), nominal_to = iq_nominal(format, to);
    const vf t = nominal * unit;
    vf square = vf_set(0), moment = vf_set(0);
    for (int i = 0; i < 4; ++i) {
        y[i] = t * x[i];
        square = vf_fma(root[i] * x[i], x[i], square);
        moment = vf_fma(root[i] * y[i], y[i], moment);
    }
    const vm inside = manner == IQ_CONTENDERS ? vm_and(valid, iq_inside(cell, x, t, nominal_to * unit)) : valid;

    // N is value - slope * span + square * (span / 2)^2 at any t that is larger by span / 2. The last term is the same
    // for all neighbours.
    vf values[IQ_LONGEST], slopes[IQ_LONGEST];
    vi cells[IQ_LONGEST];
    const uint16_t *neighbours = manner == IQ_NEIGHBOURS ? walk->grid->neighbours : walk->grid->contenders;
    length = iq_load_lists(neighbours, vi_gather(iq_lists(walk, manner), cell), length, cells);
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

    int32_t cells_from[IQ_LANES], cells_to[IQ_LANES], offsets[IQ_LANES], offsets_to[IQ_LANES];
    const vi row = vi_left(vi_right(place, 22), 5);
    vi_store(cells_from, first | vi_set(IQ_MARK));
    vi_store(cells_to, last | vi_set(IQ_MARK));
    vi_store(offsets, row + from);
    // Where all of a stretch comes again there must be no second mark. Elsewhere what comes again, or is searched by
    // itself, begins at a mark that is set here and sets it anew.
    vi_store(offsets_to, row + vi_select(inside, after, from));
    uint16_t *const marks = walk->rows[0];
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        marks[(uint32_t)offsets_to[lane]] = (uint16_t)cells_to[lane];
        marks[(uint32_t)offsets[lane]] = (uint16_t)cells_from[lane];
    }

    const vm open = vm_and(inside, vm_not(sure));
    const vm open_to = vm_and(vm_and(inside, vm_not(sure_to)), vi_greater(to, turn));
    // The nearest of a single candidate, or of both ends, is close to another one.
    const vm same = vi_equal(first, last);
    const vm close = vm_and(open, vm_or(same, vi_equal(from, turn)));
    const vm close_to = vm_and(open_to, vm_or(same, vi_equal(to, after)));
    const vi stripped = place & vi_set(~(1023 << 12));
    const vi part = stripped | vi_left(from, 17) | vi_left(turn, 12);
    const vi part_to = stripped | vi_left(after, 17) | vi_left(to, 12);
    iq_push(&walk->parts, vm_and(open, vm_not(close)), part);
    iq_push(&walk->parts, vm_and(open_to, vm_not(close_to)), part_to);
    if (vm_bits(vm_or(close, close_to)) != 0) {
        iq_push(&walk->close, close, part);
        iq_push(&walk->close, close_to, part_to);
    }
    if (manner == IQ_CONTENDERS) iq_push(&walk->edges, vm_and(valid, vm_not(inside)), place);
}

/// Searches the groups at IQ_LANES places, some of which may be the same, at one scale for each sub-block. Distances
/// are the reference's, and so is the choice among equal ones.
IQ_INLINE void iq_search_places(iq_walk *walk, const uint32_t *places, int length) {
    const vi place = vi_load((const int32_t *)places), cell = place & vi_set(0xFFF);
    vf x[4], root[4];
    vi cells[IQ_LONGEST];
    iq_load_groups(walk, places, x, root);
    length = iq_load_lists(walk->grid->contenders, vi_gather(iq_lists(walk, IQ_ONE_SCALE), cell), length, cells);
    const vf scale = vf_lookup(walk->scale, vi_right(place, 25)), t = vf_lookup(walk->inverse, vi_right(place, 25));
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
    int32_t found[IQ_LANES];
    vi_store(found, nearest);
    for (int lane = 0; lane < IQ_LANES; ++lane) {
        const uint32_t group = places[lane] >> 22;
        walk->cells[group % 8 * IQ_LANES + group / 8] = found[lane];
    }
    for (uint32_t left = vm_bits(vm_not(iq_inside(cell, x, t, t))); left != 0; left &= left - 1) {
        const uint32_t at = places[__builtin_ctz(left)], group = at >> 22, list = walk->grid->lists[at & 0xFFF];
        float scales[IQ_LANES];
        vf_store(scales, walk->scale);
        const uint32_t neighbour = iq_nearest4(walk->grid, list, walk->groups[group].x, walk->groups[group].root,
                                               scales[group / 8], (list & 511) > IQ_STEP4);
        walk->cells[group % 8 * IQ_LANES + group / 8] = walk->grid->neighbours[neighbour];
    }
}

IQ_INLINE void iq_search_some(iq_walk *walk, const uint32_t *places, int count, int length, iq_manner manner) {
    if (manner == IQ_ONE_SCALE) {
        iq_search_places(walk, places, length);
    } else {
        iq_walk_places(walk, places, vm_first(count), length, manner);
    }
}

/// Searches what is queued by length, and the parts of it that come back, until nothing is left.
static __attribute__((noinline)) void iq_drain(iq_walk *walk, iq_manner manner) {
    for (;;) {
        for (int n = 0; n < IQ_LENGTHS; ++n) {
            iq_queue *const queue = &walk->by_length[n];
            const int count = queue->count;
            int at = 0;
            for (; at + IQ_LANES <= count; at += IQ_LANES) {
                iq_search_some(walk, queue->places + at, IQ_LANES, iq_lengths[n], manner);
            }
            queue->count = 0;
            if (at == count) continue;
            const vi rest = vi_load((const int32_t *)queue->places + at);
            if (n + 1 < IQ_LENGTHS) {
                // What does not fill a vector goes along with longer lists.
                iq_push(&walk->by_length[n + 1], vm_first(count - at), rest);
            } else {
                vi_store((int32_t *)queue->places + at, vi_select(vm_first(count - at), rest,
                                                                  vi_set((int32_t)queue->places[at])));
                iq_search_some(walk, queue->places + at, count - at, iq_lengths[n], manner);
            }
        }
        if (walk->parts.count == 0) return;
        iq_sort(walk, &walk->parts, manner);
    }
}

/// Searches candidates one by one, as the reference does.
static __attribute__((noinline)) void iq_search_close(iq_walk *walk) {
    const iq_lattice *format = walk->format;
    float reaches[IQ_LANES];
    vf_store(reaches, walk->reach);
    for (int p = 0; p < walk->close.count; ++p) {
        const uint32_t place = walk->close.places[p], group = place >> 22, list = walk->grid->lists[place & 0xFFF];
        for (int n = (int)(place >> 17 & 31); n <= (int)(place >> 12 & 31); ++n) {
            const float nominal = (float)(2 * format->top + 1) + (float)(n - format->attempts) * format->step;
            const float inverse = nominal / reaches[group / 8];
            const uint32_t nearest = iq_nearest4(walk->grid, list, walk->groups[group].x, walk->groups[group].root,
                                                 1 / inverse, (list & 511) > IQ_STEP4);
            walk->rows[group][n] = IQ_MARK | walk->grid->neighbours[nearest];
        }
    }
    walk->close.count = 0;
}
