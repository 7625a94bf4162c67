// Vectors of K_LANES lanes and the few operations that C does not spell. Included by one file per form, which
// defines K_LANES (4, 8 or 16) and the target instruction set.
//
// A comparison of two vectors gives all ones in the lanes where it holds; `mask ? a : b` chooses lane by
// lane.

typedef float vf __attribute__((ext_vector_type(K_LANES)));
typedef int32_t vi __attribute__((ext_vector_type(K_LANES)));
typedef uint8_t vb __attribute__((ext_vector_type(K_LANES)));

#define K_INLINE static inline __attribute__((always_inline))

K_INLINE vi bits_of(vf v) { return __builtin_bit_cast(vi, v); }
K_INLINE vf float_of_bits(vi v) { return __builtin_bit_cast(vf, v); }
K_INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }
#if K_LANES == 16
// One instruction makes a mask register of a vector; the reductions below would fold it four times.
typedef bool vm __attribute__((ext_vector_type(K_LANES)));
K_INLINE uint16_t mask_register(vi mask) { return __builtin_bit_cast(uint16_t, __builtin_convertvector(mask, vm)); }
K_INLINE int any(vi mask) { return mask_register(mask) != 0; }
K_INLINE int all(vi mask) { return mask_register(mask) == 0xffff; }
#else
K_INLINE int any(vi mask) { return __builtin_reduce_or(mask) != 0; }
K_INLINE int all(vi mask) { return __builtin_reduce_and(mask) != 0; }
#endif
K_INLINE vf absolute(vf v) { return __builtin_elementwise_abs(v); }
K_INLINE vf square_root(vf v) { return __builtin_elementwise_sqrt(v); }
K_INLINE vf lesser(vf a, vf b) { return a < b ? a : b; }
K_INLINE vf greater(vf a, vf b) { return a > b ? a : b; }
K_INLINE vi clamped(vi v, int low, int high) {
    v = v < low ? (vi)low : v;
    return v > high ? (vi)high : v;
}

// Clamping of floats that are not NaN. Their bits compare as integers do when one side is positive; when both
// are negative, as unsigned ones do, the other way round. Integer comparisons leave the multipliers alone.

#if K_LANES > 4 || defined(__aarch64__)
/// max(v, 0)
K_INLINE vf not_below_zero(vf v) { return float_of_bits(__builtin_elementwise_max(bits_of(v), (vi)0)); }
/// min(v, limit), limit > 0
K_INLINE vf at_most(vf v, float limit) {
    return float_of_bits(__builtin_elementwise_min(bits_of(v), bits_of((vf)limit)));
}
/// max(v, limit), limit < 0
K_INLINE vf at_least(vf v, float limit) {
    typedef uint32_t vu __attribute__((ext_vector_type(K_LANES)));
    const vu bits = __builtin_elementwise_min(__builtin_bit_cast(vu, v), __builtin_bit_cast(vu, (vf)limit));
    return __builtin_bit_cast(vf, bits);
}
#else
K_INLINE vf not_below_zero(vf v) { return greater(v, 0); }
K_INLINE vf at_most(vf v, float limit) { return lesser(v, limit); }
K_INLINE vf at_least(vf v, float limit) { return greater(v, limit); }
#endif

// Rounding. The reference adds 1.5 * 2^23 and takes the low mantissa bits, less 2^22, for the integer. For
// |v| < 2^22 the sum lies in [2^23, 2^24), where floats are one apart: its mantissa is the integer nearest to
// v, ties to even, and taking the constant away again is exact. Beyond that range (and for NaN and infinity,
// which give 0 and -2^22) the bits wrap, and only the bits themselves say what the reference does.

#define K_ROUNDER 12582912.0f
/// Products of at most this magnitude may be rounded with `rounded`.
#define K_ROUNDABLE 2097152.0f

/// What the reference makes of any v.
K_INLINE vi nearest(vf v) { return (bits_of(v + K_ROUNDER) & 0x7fffff) - 0x400000; }

/// The same integer as a float, for |v| < 2^22.
K_INLINE vf rounded(vf v) {
#if K_LANES > 4 || defined(__aarch64__)
    return __builtin_elementwise_roundeven(v);
#else
    return (v + K_ROUNDER) - K_ROUNDER;
#endif
}

/// The integer clamped to [low, high], as a float, for any v. Clamps the bits, so that no conversion is
/// needed: 0x4b000000 is 2^23, whose mantissa counts ones.
K_INLINE vf nearest_clamped(vf v, int low, int high) {
    const vi count = clamped(bits_of(v + K_ROUNDER) & 0x7fffff, 0x400000 + low, 0x400000 + high);
    return float_of_bits(count | 0x4b000000) - K_ROUNDER;
}

// Half precision, in integer arithmetic so that it needs no conversion instruction: rare enough not to
// matter.

/// binary16 bits of v, rounded to nearest even; overflow gives infinity, NaN the quiet NaN of its sign.
K_INLINE vi to_half(vf v) {
    const vi bits = bits_of(v);
    const vi sign = (bits >> 16) & 0x8000;
    const vi magnitude = bits & 0x7fffffff;
    // Normal results: rebias the exponent (-112) and round away 13 bits.
    const vi normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    // Subnormal results: adding 0.5 makes one unit of the sum's mantissa 2^-24, the half's smallest step.
    const vi subnormal = bits_of(float_of_bits(magnitude) + 0.5f) - 0x3f000000;
    vi half = magnitude < 0x38800000 ? subnormal : normal;
    half = magnitude >= 0x477ff000 ? (vi)0x7c00 : half;
    half = magnitude > 0x7f800000 ? (vi)0x7e00 : half;
    return sign | half;
}

/// The value of binary16 bits.
K_INLINE vf from_half(vi half) {
    const vi magnitude = (half & 0x7fff) << 13;
    const vi finite = bits_of(float_of_bits(magnitude) * 0x1p112f);
    const vi value = magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : finite;
    return float_of_bits(value | ((half & 0x8000) << 16));
}

// Transposition by perfect shuffles: log2(n) rounds of out[2i], out[2i + 1] = the halves of in[i] and in[i +
// n/2] interleaved.

#if K_LANES == 16
#define K_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define K_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif K_LANES == 8
#define K_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define K_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define K_LOW 0, 4, 1, 5
#define K_HIGH 2, 6, 3, 7
#endif

typedef float vf_unaligned __attribute__((ext_vector_type(K_LANES), aligned(1)));

/// columns[c] lane i = rows[i][c], for K_LANES columns.
K_INLINE void transpose(const float *const *rows, size_t at, vf *columns) {
    vf a[K_LANES], b[K_LANES];
#pragma clang loop unroll(full)
    for (int i = 0; i < K_LANES; ++i) a[i] = *(const vf_unaligned *)(rows[i] + at);
#pragma clang loop unroll(full)
    for (int round = 1; round < K_LANES; round *= 2) {
#pragma clang loop unroll(full)
        for (int i = 0; i < K_LANES / 2; ++i) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + K_LANES / 2], K_LOW);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + K_LANES / 2], K_HIGH);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < K_LANES; ++i) a[i] = b[i];
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < K_LANES; ++i) columns[i] = a[i];
}
