// Products of a few vectors with the rows of a matrix, for what BLAS is slow at: one to two dozen tokens.
//
// Unlike the codecs, whose bits are part of a format, these sums may be fused and may differ between tiers.
#include "cbk_products.h"

#define INLINE static inline __attribute__((always_inline))

// One form per instruction set: vectors of WIDTH floats, ROWS x 4 sums side by side.
#define DEFINE_FORM(NAME, TARGET, WIDTH, ROWS, MULTIPLY_ADD)                                                   \
    typedef float NAME##_vector __attribute__((vector_size(WIDTH * 4), aligned(4)));                           \
                                                                                                               \
    /* `rows` and `vectors` are constants wherever this is used, so that all sums stay in registers. */        \
    TARGET INLINE void NAME##_block(const float *x, const float *w, size_t columns, int rows, int vectors,     \
                                    float *y, size_t y_stride) {                                               \
        NAME##_vector sums[ROWS][4] = {0};                                                                     \
        size_t c = 0;                                                                                          \
        for (; c + WIDTH <= columns; c += WIDTH) {                                                             \
            NAME##_vector row[ROWS];                                                                           \
            for (int r = 0; r < rows; r++) row[r] = *(const NAME##_vector *)(w + (size_t)r * columns + c);     \
            for (int t = 0; t < vectors; t++) {                                                                \
                const NAME##_vector v = *(const NAME##_vector *)(x + (size_t)t * columns + c);                 \
                for (int r = 0; r < rows; r++) sums[r][t] = MULTIPLY_ADD(v, row[r], sums[r][t]);               \
            }                                                                                                  \
        }                                                                                                      \
        for (int r = 0; r < rows; r++) {                                                                       \
            for (int t = 0; t < vectors; t++) {                                                                \
                float sum = 0;                                                                                 \
                for (int i = 0; i < WIDTH; i++) sum += sums[r][t][i];                                          \
                for (size_t rest = c; rest < columns; rest++) {                                                \
                    sum += x[(size_t)t * columns + rest] * w[(size_t)r * columns + rest];                      \
                }                                                                                              \
                y[(size_t)t * y_stride + r] = sum;                                                             \
            }                                                                                                  \
        }                                                                                                      \
    }                                                                                                          \
                                                                                                               \
    TARGET INLINE void NAME##_band(const float *x, size_t vectors, const float *w, size_t columns, int rows,   \
                                   float *y, size_t y_stride) {                                                \
        size_t t = 0;                                                                                          \
        for (; t + 4 <= vectors; t += 4) {                                                                     \
            NAME##_block(x + t * columns, w, columns, rows, 4, y + t * y_stride, y_stride);                    \
        }                                                                                                      \
        const float *last = x + t * columns;                                                                   \
        switch (vectors - t) {                                                                                 \
        case 3: NAME##_block(last, w, columns, rows, 3, y + t * y_stride, y_stride); break;                    \
        case 2: NAME##_block(last, w, columns, rows, 2, y + t * y_stride, y_stride); break;                    \
        case 1: NAME##_block(last, w, columns, rows, 1, y + t * y_stride, y_stride); break;                    \
        default: break;                                                                                        \
        }                                                                                                      \
    }                                                                                                          \
                                                                                                               \
    TARGET static void NAME##_products(const float *x, size_t vectors, const float *w, size_t rows,            \
                                       size_t columns, float *y, size_t y_stride) {                            \
        size_t r = 0;                                                                                          \
        for (; r + ROWS <= rows; r += ROWS) {                                                                  \
            NAME##_band(x, vectors, w + r * columns, columns, ROWS, y + r, y_stride);                          \
        }                                                                                                      \
        for (; r < rows; r++) NAME##_band(x, vectors, w + r * columns, columns, 1, y + r, y_stride);           \
    }

#define MULTIPLY_THEN_ADD(a, b, c) ((a) * (b) + (c))
#define FUSED(a, b, c) __builtin_elementwise_fma(a, b, c)

DEFINE_FORM(portable, , 4, 2, MULTIPLY_THEN_ADD)
#if defined(__x86_64__)
DEFINE_FORM(avx2, __attribute__((target("avx2,fma"))), 8, 2, FUSED)
DEFINE_FORM(avx512, __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw"))), 16, 4, FUSED)
#endif

void cbk_row_products(cbk_tier tier, const float *x, size_t vectors, const float *w, size_t rows, size_t columns,
                      float *y, size_t y_stride) {
#if defined(__x86_64__)
    if (tier == CBK_AVX512) return avx512_products(x, vectors, w, rows, columns, y, y_stride);
    if (tier == CBK_AVX2) return avx2_products(x, vectors, w, rows, columns, y, y_stride);
#endif
    (void)tier;
    portable_products(x, vectors, w, rows, columns, y, y_stride);
}
