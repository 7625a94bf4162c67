// Codes with separate scales: the search for the scales of least (weighted) squared error. The definition is
// Schemes/SchemeSearch.swift.
//
// Sixteen groups are searched at once, one in each lane, so that every lane adds in the order of the definition; a row
// that is one group lies across the lanes, and is added up in F64. Differences and weights are brought near 1 by exact
// powers of two first, so that no sum of finite values leaves F32's range.
#pragma STDC FP_CONTRACT OFF

#include "cbk_scheme.h"
#include "scheme_lanes.h"

enum { LARGEST_GROUP = 256, REFITS = 2 };

static const float int4_divisors[] = {7,    7.25f, 7.75f, 8,     8.25f, 8.5f, 8.75f, 9,
                                      9.5f, 10,    10.5f, 11,    12,    13,   14.5f, 16};
static const int32_t code_steps[] = {-1, 1, -2, 2, -3, 3, -4, 4, -5, 5, 6};
static const int32_t exponent_steps[] = {-1, 1, -2};
enum { SHRINK_STEPS = 12 };

#define COUNT(array) (sizeof(array) / sizeof(*array))

/// The multipliers that candidates may have.
CBK_INLINE i32x16 is_usable(f32x16 multiplier) { return (multiplier >= 0x1p-126f) & (multiplier <= 0x1p126f); }

// MARK: Units

/// The power of two that brings numbers of up to this magnitude (as bits) below 4; 2^127 at the most, 2^-126 at the
/// least.
CBK_INLINE u32x16 unit_bits(u32x16 most) {
    const u32x16 exponent = most >> 23;
    return (exponent > 252 ? (u32x16)1 : 254 - exponent) << 23;
}

/// What the sum of scaled terms is multiplied with: the inverses of the units, twice that of the differences.
CBK_INLINE double unscaled(double sum, float unit, float weight_unit) {
    if (sum != sum) sum = __builtin_inf();
    const double inverse = 1.0 / (double)unit;
    return sum * inverse * inverse * (1.0 / (double)weight_unit);
}

// MARK: Groups

/// Element i of sixteen groups, one per lane (magnitudes for floats), with its weight.
typedef struct {
    f32x16 x[LARGEST_GROUP];
    f32x16 w[LARGEST_GROUP]; // in units of its own
    f32x16 unit;             // of x
    f32x16 weight_unit;
} lanes;

/// The best choice of each lane so far.
typedef struct {
    f32x16 error;
    f32x16 multiplier;
    f32x16 inverse;
    u32x16 scale;
    i32x16 multiplies; // by the inverse; else the quotients of the library
} choice;

/// Transposes up to sixteen groups through memory; lanes without a group get zeros. `start` is the index of the first
/// element in its row, `columns` the length of a row.
CBK_INLINE void fill(lanes *b, cbk_codes kind, bool weighted, const float *x, const float *importance, f32x16 amax,
                     size_t start, size_t columns, size_t some, size_t group) {
    uint32_t most[16] = {0};
    float *to = (float *)b->x, *weights = (float *)b->w;
    if (some < 16) {
        memset(b->x, 0, group * sizeof(f32x16));
        memset(b->w, 0, group * sizeof(f32x16));
    }
    for (size_t lane = 0; lane < some; lane++) {
        for (size_t i = 0; i < group; i++) to[16 * i + lane] = x[lane * group + i];
        if (!weighted) continue;
        const float *from = importance + (start + lane * group) % columns;
        for (size_t i = 0; i < group; i++) weights[16 * i + lane] = from[i];
        most[lane] = amax_bits(from, group);
    }
    b->unit = (f32x16)unit_bits((u32x16)amax);
    b->weight_unit = 1;
    if (weighted) {
        u32x16 bits;
        memcpy(&bits, most, sizeof bits);
        b->weight_unit = (f32x16)unit_bits(bits);
        for (size_t i = 0; i < group; i++) b->w[i] *= b->weight_unit;
    }
    if (has_signs(kind)) {
        for (size_t i = 0; i < group; i++) b->x[i] = magnitudes(b->x[i]);
    }
}

CBK_INLINE f32x16 in_order_of_four(const f32x16 *sums) { return (sums[0] + sums[1]) + (sums[2] + sums[3]); }

/// The error of x against its level under quotient q.
CBK_INLINE f32x16 squared_error(cbk_codes kind, bool weighted, f32x16 x, f32x16 w, f32x16 q, f32x16 multiplier,
                                f32x16 unit) {
    const f32x16 e = (x - levels_of(kind, 0, q) * multiplier) * unit;
    return weighted ? w * e * e : e * e;
}

/// With x * inverse.
CBK_INLINE f32x16 error_of(const lanes *b, cbk_codes kind, bool weighted, size_t group, f32x16 inverse,
                           f32x16 multiplier) {
    f32x16 sums[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < group; i += 4) {
#pragma clang loop unroll(full)
        for (size_t k = 0; k < 4; k++) {
            const f32x16 x = b->x[i + k];
            sums[k] += squared_error(kind, weighted, x, b->w[i + k], x * inverse, multiplier, b->unit);
        }
    }
    return in_order_of_four(sums);
}

/// With the quotients of the library.
CBK_INLINE f32x16 absmax_error(const lanes *b, cbk_codes kind, bool rounds, bool weighted, size_t group,
                               f32x16 multiplier) {
    const f32x16 divisor = divisors_of(multiplier);
    f32x16 sums[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < group; i += 4) {
#pragma clang loop unroll(full)
        for (size_t k = 0; k < 4; k++) {
            const f32x16 x = b->x[i + k];
            const f32x16 q = rounds ? rounded_to_bf16(x / divisor) : x / divisor;
            sums[k] += squared_error(kind, weighted, x, b->w[i + k], q, multiplier, b->unit);
        }
    }
    return in_order_of_four(sums);
}

/// Keeps a scale in the lanes where it is better.
CBK_INLINE void attempt(choice *best, const lanes *b, cbk_codes kind, bool weighted, const cbk_scheme *s,
                        size_t group, u32x16 scale, i32x16 applies) {
    const f32x16 multiplier = multipliers_of(s, scale);
    const i32x16 usable = is_usable(multiplier) & applies;
    const f32x16 inverse = 1.0f / (usable ? multiplier : (f32x16)1);
    const f32x16 error = error_of(b, kind, weighted, group, inverse, multiplier);
    const i32x16 better = usable & (error < best->error);
    best->error = better ? error : best->error;
    best->multiplier = better ? multiplier : best->multiplier;
    best->inverse = better ? inverse : best->inverse;
    best->scale = better ? scale : best->scale;
    best->multiplies |= better;
}

CBK_INLINE u32x16 stepped(u32x16 scale, int32_t step, int32_t lowest, int32_t highest) {
    const i32x16 code = (i32x16)scale + step;
    return (u32x16)__builtin_elementwise_max(__builtin_elementwise_min(code, (i32x16)highest), (i32x16)lowest);
}

/// The scale of least squares for the levels of the best choice so far.
CBK_INLINE void refit(choice *best, const lanes *b, cbk_codes kind, bool weighted, const cbk_scheme *s,
                      size_t group) {
    const i32x16 usable = is_usable(best->multiplier);
    const f32x16 inverse = 1.0f / (usable ? best->multiplier : (f32x16)1);
    f32x16 products[4] = {0, 0, 0, 0}, squares[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < group; i += 4) {
#pragma clang loop unroll(full)
        for (size_t k = 0; k < 4; k++) {
            const f32x16 x = b->x[i + k], w = b->w[i + k];
            const f32x16 y = levels_of(kind, 0, x * inverse);
            const f32x16 scaled = x * b->unit;
            products[k] += weighted ? w * scaled * y : scaled * y;
            squares[k] += weighted ? w * y * y : y * y;
        }
    }
    const f32x16 scale = in_order_of_four(products) / in_order_of_four(squares) * (1.0f / b->unit);
    const i32x16 positive = (scale > 0) & (scale < __builtin_inff());
    attempt(best, b, kind, weighted, s, group, stored_scales(s, positive ? scale : (f32x16)1), usable & positive);
}

CBK_INLINE void search_groups(cbk_codes kind, bool rounds, bool weighted, const cbk_scheme *s, size_t group,
                              const float *x, const float *importance, size_t groups, size_t columns,
                              uint8_t *codes, uint8_t *scales, cbk_search_errors *errors) {
    double before = 0, after = 0;
    for (size_t first = 0; first < groups; first += 16) {
        const size_t some = groups - first < 16 ? groups - first : 16;
        const float *from = x + first * group;
        lanes b;
        const f32x16 amax = amax_of_groups(from, some, group);
        fill(&b, kind, weighted, from, importance, amax, first * group, columns, some, group);
        const u32x16 absmax = absmax_scales(s, amax);
        choice best = {.scale = absmax, .multiplier = multipliers_of(s, absmax), .inverse = 0, .multiplies = 0};
        const f32x16 found = absmax_error(&b, kind, rounds, weighted, group, best.multiplier);
        best.error = found == found ? found : (f32x16)__builtin_inff();
        const f32x16 first_error = best.error;
        const i32x16 all = (i32x16)-1;
        if (kind == CBK_CODES_INT4) {
#pragma clang loop unroll(disable)
            for (size_t k = 0; k < COUNT(int4_divisors); k++) {
                attempt(&best, &b, kind, weighted, s, group, stored_scales(s, amax / int4_divisors[k]), all);
            }
#pragma clang loop unroll(disable)
            for (int round = 0; round < REFITS; round++) refit(&best, &b, kind, weighted, s, group);
        } else if (group == 16) {
#pragma clang loop unroll(disable)
            for (size_t k = 0; k < COUNT(code_steps); k++) {
                attempt(&best, &b, kind, weighted, s, group, stepped(absmax, code_steps[k], 1, 126), all);
            }
        } else {
#pragma clang loop unroll(disable)
            for (size_t k = 0; k < COUNT(exponent_steps); k++) {
                attempt(&best, &b, kind, weighted, s, group, stepped(absmax, exponent_steps[k], 0, 254), all);
            }
        }
        store_scales(s, best.scale, some, scales + first * scale_bytes(s));
        float factor[16], error[16], absmax_errors[16], units[16], weight_units[16];
        store_f32(factor, best.multiplies ? best.inverse : divisors_of(best.multiplier));
        store_f32(error, best.error);
        store_f32(absmax_errors, first_error);
        store_f32(units, b.unit);
        store_f32(weight_units, b.weight_unit);
        const uint32_t multiplies = lane_mask(best.multiplies);
        for (size_t lane = 0; lane < some; lane++) {
            const bool searched = multiplies >> lane & 1;
            const quotients by = {factor[lane], searched, rounds && !searched};
            encode_group(kind, s, by, from + lane * group, group, codes + (first + lane) * group / 2);
            before += unscaled((double)absmax_errors[lane], units[lane], weight_units[lane]);
            after += unscaled((double)error[lane], units[lane], weight_units[lane]);
        }
    }
    errors->before = before;
    errors->after = after;
}

// MARK: Rows

typedef struct {
    const float *x;
    const float *w; // or NULL
    size_t columns;
    float lowest;
    float unit; // of x
    float weight_unit;
} row;

CBK_INLINE double in_order(f64x16 lanes) {
    double sum = lanes[0];
    for (int lane = 1; lane < 16; lane++) sum += lanes[lane];
    return sum;
}

CBK_INLINE f64x16 wide(f32x16 v) { return __builtin_convertvector(v, f64x16); }

/// Sixteen values and weights (in units of theirs) from i on; zeros beyond the end.
CBK_INLINE void load_row(const row *r, size_t i, f32x16 *x, f32x16 *w) {
    if (r->columns - i >= 16) {
        *x = load_f32(r->x + i);
        *w = r->w ? load_f32(r->w + i) * r->weight_unit : (f32x16)1;
        return;
    }
    float rest[32] = {0};
    memcpy(rest, r->x + i, (r->columns - i) * sizeof(float));
    if (r->w) memcpy(rest + 16, r->w + i, (r->columns - i) * sizeof(float));
    *x = load_f32(rest);
    *w = r->w ? load_f32(rest + 16) * r->weight_unit : (f32x16)1;
}

CBK_INLINE double row_error(const row *r, cbk_codes kind, quotients by, float multiplier) {
    f64x16 sum = 0;
    for (size_t i = 0; i < r->columns; i += 16) {
        f32x16 x, w;
        load_row(r, i, &x, &w);
        if (has_signs(kind)) x = magnitudes(x);
        const f32x16 e = (x - levels_of(kind, r->lowest, quotient_of(by, x)) * multiplier) * r->unit;
        sum += wide(w * e * e);
    }
    const double error = in_order(sum);
    return error == error ? error : __builtin_inf();
}

/// The scale of least squares, or 0.
CBK_INLINE float row_refit(const row *r, cbk_codes kind, float multiplier) {
    if (!(multiplier >= 0x1p-126f && multiplier <= 0x1p126f)) return 0;
    const float inverse = 1.0f / multiplier;
    f64x16 products = 0, squares = 0;
    for (size_t i = 0; i < r->columns; i += 16) {
        f32x16 x, w;
        load_row(r, i, &x, &w);
        if (has_signs(kind)) x = magnitudes(x);
        const f32x16 y = levels_of(kind, r->lowest, x * inverse);
        products += wide(w * (x * r->unit) * y);
        squares += wide(w * y * y);
    }
    const float scale = (float)(in_order(products) / in_order(squares)) * (1.0f / r->unit);
    return scale > 0 && scale < __builtin_inff() ? scale : 0;
}

CBK_INLINE void search_row(const row *r, cbk_codes kind, const cbk_scheme *s, uint8_t *codes, uint8_t *scales,
                           cbk_search_errors *errors) {
    const float absmax = multipliers_of(s, absmax_scales(s, (f32x16)float_of_bits(amax_bits(r->x, r->columns))))[0];
    quotients by = {absmax, .multiplies = false, .rounds = true};
    float best = absmax;
    const double before = row_error(r, kind, by, absmax);
    double least = before;
#pragma clang loop unroll(disable)
    for (int k = 1; k <= SHRINK_STEPS + REFITS; k++) {
        const float scale = k <= SHRINK_STEPS ? absmax * (1.0f - (float)k / 32.0f) : row_refit(r, kind, best);
        if (!(scale >= 0x1p-126f && scale <= 0x1p126f)) continue;
        const quotients trial = {1.0f / scale, .multiplies = true, .rounds = false};
        const double error = row_error(r, kind, trial, scale);
        if (!(error < least)) continue;
        least = error;
        best = scale;
        by = trial;
    }
    memcpy(scales, &best, sizeof best);
    encode_row(kind, s, by, r->x, r->columns, codes);
    errors->before += unscaled(before, r->unit, r->weight_unit);
    errors->after += unscaled(least, r->unit, r->weight_unit);
}

CBK_INLINE void search_rows(cbk_codes kind, const cbk_scheme *s, const float *x, const float *importance,
                            size_t rows, size_t columns, uint8_t *codes, uint8_t *scales,
                            cbk_search_errors *errors) {
    errors->before = errors->after = 0;
    const uint32_t heaviest = importance ? amax_bits(importance, columns) : 0;
    const float weight_unit = importance ? ((f32x16)unit_bits((u32x16)heaviest))[0] : 1;
    for (size_t i = 0; i < rows; i++) {
        const u32x16 most = (u32x16)amax_bits(x + i * columns, columns);
        const row r = {x + i * columns, importance, columns, s->lowest, ((f32x16)unit_bits(most))[0], weight_unit};
        search_row(&r, kind, s, codes + i * columns, scales + i * sizeof(float), errors);
    }
}

// MARK: Forms

CBK_INLINE void search_scheme(cbk_tier tier, const cbk_scheme *s, const float *x, const float *importance,
                              size_t rows, size_t columns, uint8_t *codes, uint8_t *scales,
                              cbk_search_errors *errors) {
    (void)tier;
    const size_t groups = s->group ? rows * (columns / s->group) : 0;
#define CBK_GROUPS(kind, rounds, length)                                                                          \
    if (importance) {                                                                                             \
        search_groups(kind, rounds, true, s, length, x, importance, groups, columns, codes, scales, errors);      \
    } else {                                                                                                      \
        search_groups(kind, rounds, false, s, length, x, NULL, groups, columns, codes, scales, errors);           \
    }
    switch (s->codes) {
        case CBK_CODES_E4M3:
            search_rows(CBK_CODES_E4M3, s, x, importance, rows, columns, codes, scales, errors);
            break;
        case CBK_CODES_INT8:
            search_rows(CBK_CODES_INT8, s, x, importance, rows, columns, codes, scales, errors);
            break;
        case CBK_CODES_INT4: CBK_GROUPS(CBK_CODES_INT4, true, s->group) break;
        case CBK_CODES_E2M1:
            if (s->rounds_quotients) {
                CBK_GROUPS(CBK_CODES_E2M1, true, 32)
            } else if (s->group == 32) {
                CBK_GROUPS(CBK_CODES_E2M1, false, 32)
            } else {
                CBK_GROUPS(CBK_CODES_E2M1, false, 16)
            }
            break;
    }
#undef CBK_GROUPS
}

CBK_FORMS(search, search_scheme,
          (const cbk_scheme *s, const float *x, const float *importance, size_t rows, size_t columns, uint8_t *codes,
           uint8_t *scales, cbk_search_errors *errors),
          s, x, importance, rows, columns, codes, scales, errors)

void cbk_scheme_search(cbk_tier tier, const cbk_scheme *scheme, const float *values, const float *importance,
                       size_t rows, size_t columns, uint8_t *codes, uint8_t *scales, cbk_search_errors *errors) {
    CBK_DISPATCH(search, tier, scheme, values, importance, rows, columns, codes, scales, errors)
}
