/* Newton-Schulz iterations of Muon in float32: X <- a X + (b A + c A^2) X with A = X Xᵀ, `steps`
   times, brings every singular value of X to about 1. semigpt.training.muon has the same with
   PyTorch's products, the oracle; semigpt.native.orthogonal calls this.

   Every step is X <- P X with P = a I + b G + c G^2 of the small G = X Xᵀ, so all of them but the
   last product are of G's size: Q <- Q P and G <- P G P. All are polynomials of the first G, hence
   symmetric, and only their lower half is computed. A matrix of 128 x 384 takes 0.41 of the
   operations, a square one 0.71.

   A thread takes whole matrices, so no bit depends on how many there are or who computes them.
   Sizes are multiples of 16. m is the shorter side, long the other. */

#include "vectors.h"

#include "tiles.h"

/* Of the rows of a small matrix: an odd number of cache lines, since rows that are a power of two
   apart share a few lines of a cache. */
static int small_row(int m) { return m + (m / PANEL % 2 ? 2 : 1) * PANEL; }

/* Floats that each thread needs of `workspace`. */
int64_t semigpt_orthogonal_workspace(int rows, int columns) {
    int64_t m = rows < columns ? rows : columns, longer = rows < columns ? columns : rows;
    return 4 * m * small_row(m) + longer * PANEL + (rows > columns ? m * longer : 0);
}

/* 16 columns of x [rows, ...] one below the other. */
static void pack(int rows, const float *x, int row, float *packed) {
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < PANEL; v += LANES)
            storef(packed + (size_t)r * PANEL + v, loadf(x + (size_t)r * row + v));
}

/* The upper half of a panel of y [m, m] from the lower. */
static void mirror(int m, int first, float *y, int row) {
    for (int i = first + PANEL; i < m; i += PANEL)
        transpose_block(y + (size_t)i * row + first, row, y + (size_t)first * row + i, row);
}

/* y = a b, all symmetric [m, m]. */
static void symmetric_product(int m, const float *a, const float *b, float *packed, float *y) {
    const int row = small_row(m);
    for (int j = 0; j < m; j += PANEL) {
        pack(m, b + j, row, packed);
        panel(m - j, m, a + (size_t)j * row, row, 1, packed, PANEL, y + (size_t)j * row + j, row,
              0);
        mirror(m, j, y, row);
    }
}

/* y [m, m] = x xᵀ of x [m, inner]. */
static void gram(int m, int inner, const float *x, float *packed, float *y) {
    const int row = small_row(m);
    for (int j = 0; j < m; j += PANEL) {
        transposed_panels(PANEL, inner, x + (size_t)j * inner, inner, packed);
        panel(m - j, inner, x + (size_t)j * inner, inner, 1, packed, PANEL,
              y + (size_t)j * row + j, row, 0);
        mirror(m, j, y, row);
    }
}

/* s = a I + b g + c s. */
static void polynomial(int m, float a, float b, float c, const float *g, float *s) {
    for (int i = 0; i < m; i++) {
        const size_t first = (size_t)i * small_row(m);
        for (int j = 0; j < m; j += LANES)
            storef(s + first + j, b * loadf(g + first + j) + c * loadf(s + first + j));
        s[first + i] += a;
    }
}

static void scale(int m, float factor, float *x) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < m; j += LANES) {
            float *p = x + (size_t)i * small_row(m) + j;
            storef(p, factor * loadf(p));
        }
}

/* Buffers of one matrix, [m, small_row(m)] each, and a panel of the longer side. */
typedef struct {
    float *g, *p, *q, *other, *packed;
} Scratch;

/* s->q = the product of the polynomials of `steps` steps from the matrix whose square is s->g. */
static void polynomials(int m, int steps, float a, float b, float c, Scratch *s) {
    float *swap;
    for (int step = 0; step < steps; step++) {
        symmetric_product(m, s->g, s->g, s->packed, s->p);
        polynomial(m, a, b, c, s->g, s->p);
        if (step + 1 < steps) {
            symmetric_product(m, s->g, s->p, s->packed, s->other);
            symmetric_product(m, s->other, s->p, s->packed, s->g);
        }
        if (step) {
            symmetric_product(m, s->q, s->p, s->packed, s->other);
            swap = s->q, s->q = s->other, s->other = swap;
        } else {
            swap = s->q, s->q = s->p, s->p = swap;
        }
    }
}

/* y [rows, columns] = x made half-orthogonal. */
static void orthogonal(int rows, int columns, int steps, float a, float b, float c, const float *x,
                       float *workspace, float *y) {
    const int tall = rows > columns, m = tall ? columns : rows, longer = tall ? rows : columns;
    const int row = small_row(m);
    const size_t each = (size_t)m * row;
    /* A square is multiplied in every step: that costs no more, and its least singular values are
       not lost in the rounding of G. */
    const int at_once = rows == columns ? 1 : steps;
    Scratch s = {workspace, workspace + each, workspace + 2 * each, workspace + 3 * each,
                 workspace + 4 * each};
    float *transposed = s.packed + (size_t)longer * PANEL;
    if (tall)
        for (int i = 0; i < rows; i += PANEL)
            for (int j = 0; j < columns; j += PANEL)
                transpose_block(x + (size_t)i * columns + j, columns,
                                transposed + (size_t)j * rows + i, rows);
    for (int done = 0; done < steps; done += at_once) {
        gram(m, longer, tall ? transposed : x, s.packed, s.g);
        float norm = 1;
        if (!done) {
            float squares = 0; /* of all elements: the largest singular value is at most the root */
            for (int i = 0; i < m; i++) squares += s.g[(size_t)i * row + i];
            norm = sqrtf(squares);
            if (norm < 1e-7f) norm = 1e-7f; /* NaN stays NaN */
            scale(m, 1.0f / norm / norm, s.g);
        }
        polynomials(m, at_once, a, b, c, &s);
        if (!done) scale(m, 1.0f / norm, s.q);
        float *found = x == y ? s.other : y; /* `other` is free between steps of a square */
        if (tall)
            for (int j = 0; j < m; j += PANEL) {
                pack(m, s.q + j, row, s.packed);
                panel(rows, m, x, columns, 1, s.packed, PANEL, found + j, columns, 0);
            }
        else
            for (int j = 0; j < columns; j += PANEL) {
                pack(m, x + j, columns, s.packed);
                panel(m, m, s.q, row, 1, s.packed, PANEL, found + j, columns, 0);
            }
        x = found;
    }
    if (x != y) memcpy(y, x, sizeof(float) * rows * columns);
}

/* y [count, rows, columns] from x; `workspace` is a thread's share times the threads. */
void semigpt_orthogonal(int count, int rows, int columns, int steps, float a, float b, float c,
                        const float *x, float *workspace, float *y) {
#pragma omp parallel for schedule(static)
    for (int i = 0; i < count; i++) {
        const size_t each = (size_t)rows * columns;
        orthogonal(rows, columns, steps, a, b, c, x + i * each,
                   workspace + omp_get_thread_num() *
                                   (size_t)semigpt_orthogonal_workspace(rows, columns),
                   y + i * each);
    }
}

/* The most threads that share it: the caller sizes `workspace` by it. */
int semigpt_threads(void) { return omp_get_max_threads(); }
