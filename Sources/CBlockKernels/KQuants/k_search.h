// The searches for a block's scale, one block per lane. Each lane does the operations of the scalar search
// (Quantization/KQuants/KQuantSearch.swift) in the same order; its `if`s become masks. So every lane has the
// bits that the scalar search would have.
//
// `n`, the number of levels and the flags are constants wherever these are called: every function is inlined
// and specialised.

/// Blocks whose greatest magnitude is below this count as zero.
#define K_TINY 1e-15f

/// Blocks searched side by side, so that the wait for one block's divisions and sums is the others' work.
#define K_SIDE 4

/// The element of greatest magnitude, the first of several, with its sign; and that magnitude.
K_INLINE vf extreme(const vf *x, const int n, vf *magnitude) {
    vf value = 0, most = 0;
    for (int i = 0; i < n; ++i) {
        const vf size = absolute(x[i]);
        const vi more = size > most;
        most = more ? size : most;
        value = more ? x[i] : value;
    }
    *magnitude = most;
    return value;
}
