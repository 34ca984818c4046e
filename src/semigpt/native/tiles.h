/* Products of small float32 matrices, for passes that keep their operands in the caches. Include
   vectors.h first.

   A result is computed 16 columns at a time, a panel, and in a panel some rows at a time, whose
   sums stay in registers: 6 of 2 vectors with AVX2, which reaches 102 GFLOP/s a core of E where
   4 reach 66. Every element is summed in the order of `inner`, so its bits depend on its row and
   column alone. */

#define PANEL 16
#define PANEL_VECTORS (PANEL / LANES)
enum { TILE = LANES == 16 ? 12 : REGISTERS / PANEL_VECTORS < 8 ? 2 : 6 };

/* GCC reads b anew for each row of 4, which then reach 65 GFLOP/s a core of E and not 100. */
#if LANES == 8 && defined(__AVX__) && !defined(__clang__)
#define IN_REGISTER(x) ({ vfloat kept = (x); __asm__("" : "+v"(kept)); kept; })
#else
#define IN_REGISTER(x) (x)
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* c [rows, 16] = a [rows, inner] b [inner, 16], or += where `add`. Element (r, k) of a lies at
   r * row + k * column; rows of b and c are `b_row` and `c_row` apart. */
ALWAYS_INLINE void tile(const int rows, int inner, const float *a, int row, int column,
                        const float *b, int b_row, float *c, int c_row, const int add) {
    vfloat sums[TILE][PANEL_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        sums[r][v] = add ? loadf(c + (size_t)r * c_row + v * LANES) : splat(0);
    for (int k = 0; k < inner; k++) {
        vfloat right[PANEL_VECTORS];
        UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
            right[v] = IN_REGISTER(loadf(b + (size_t)k * b_row + v * LANES));
        UNROLL for (int r = 0; r < rows; r++) {
            vfloat left = splat(a[(size_t)r * row + (size_t)k * column]);
            UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
                sums[r][v] = multiply_add(left, right[v], sums[r][v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
        storef(c + (size_t)r * c_row + v * LANES, sums[r][v]);
}

/* The same for `rows` rows, an even number of at most TILE. */
ALWAYS_INLINE void some_rows(int rows, int inner, const float *a, int row, int column,
                             const float *b, int b_row, float *c, int c_row, const int add) {
    if (rows == TILE) {
        tile(TILE, inner, a, row, column, b, b_row, c, c_row, add);
        return;
    }
    for (; rows >= 4; rows -= 4, a += 4 * row, c += 4 * c_row)
        tile(4, inner, a, row, column, b, b_row, c, c_row, add);
    if (rows) tile(2, inner, a, row, column, b, b_row, c, c_row, add);
}

/* How many of so many rows to begin with. The last 8 are 4 and 4: the sums of 2 alone would wait
   for each other. */
ALWAYS_INLINE int rows_at_once(int rows) {
    return TILE == 6 && rows == 8 ? 4 : rows < TILE ? rows : TILE;
}

/* A panel: c [rows, 16] = a b as above, for any even number of rows. */
ALWAYS_INLINE void panel(int rows, int inner, const float *a, int row, int column, const float *b,
                         int b_row, float *c, int c_row, const int add) {
    for (int r = 0, some; r < rows; r += some) {
        some = rows_at_once(rows - r);
        some_rows(some, inner, a + (size_t)r * row, row, column, b, b_row, c + (size_t)r * c_row,
                  c_row, add);
    }
}

/* y [16, 16] = x transposed; rows are `x_row` and `y_row` floats apart. */
static inline void transpose_block(const float *x, int x_row, float *y, int y_row) {
    for (int i = 0; i < PANEL; i += LANES)
        for (int j = 0; j < PANEL; j += LANES) {
            vfloat block[LANES];
            UNROLL for (int l = 0; l < LANES; l++)
                block[l] = loadf(x + (size_t)(i + l) * x_row + j);
            transpose(block);
            UNROLL for (int l = 0; l < LANES; l++)
                storef(y + (size_t)(j + l) * y_row + i, block[l]);
        }
}

/* x [rows, inner] as panels [rows / 16, inner, 16] of its transpose: what `panel` takes as b for
   a xᵀ. Both sizes are multiples of 16. */
static void transposed_panels(int rows, int inner, const float *x, int x_row, float *panels) {
    for (int r = 0; r < rows; r += PANEL)
        for (int k = 0; k < inner; k += PANEL)
            transpose_block(x + (size_t)r * x_row + k, x_row,
                            panels + (size_t)r * inner + k * PANEL, PANEL);
}
