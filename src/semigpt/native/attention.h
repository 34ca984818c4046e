/* Attention in float32 as a training step and an evaluation have it: a thread takes a head of a
   sequence from the projections to its rows of the output while the scores stay in its caches. Only
   what a query sees is multiplied, half of the products. Include vectors.h, tiles.h and elements.h
   first.

   Positions are padded to a multiple of 16, S, with rows of zeros. `first` is the first query
   that is wanted, an even number. */

/* What a thread works in, in floats from each other. */
typedef struct {
    int S, row; /* padded positions; floats from a row of scores to the next */
    float *weights, *scores, *q, *k, *v, *out, *panels, *d_q, *d_k, *d_v;
} Scratch;

static int padded(int T) { return (T + PANEL - 1) / PANEL * PANEL; }

/* An odd number of cache lines: rows that are a power of two apart share a few lines of a cache. */
static int scores_row(int S) { return S + (S / PANEL % 2 ? 2 : 1) * PANEL; }

/* Floats that each thread needs. */
static int64_t scratch_floats(int T, int D) {
    int64_t S = padded(T);
    return 2 * S * scores_row(S) + 8 * S * D;
}

static Scratch scratch(int T, int D, float *p) {
    Scratch s = {.S = padded(T), .row = scores_row(padded(T))};
    const size_t scores = (size_t)s.S * s.row, rows = (size_t)s.S * D;
    s.weights = p, s.scores = p + scores, p += 2 * scores;
    s.q = p, s.k = p + rows, s.v = p + 2 * rows, s.out = p + 3 * rows, s.panels = p + 4 * rows;
    s.d_q = p + 5 * rows, s.d_k = p + 6 * rows, s.d_v = p + 7 * rows;
    return s;
}

/* Zeros in the rows from T on. */
static void pad(int T, int D, const Scratch *s, float *x) {
    memset(x + (size_t)T * D, 0, sizeof(float) * (s->S - T) * D);
}

/* y = x bᵀ where a query sees: panels of 16 keys, for the queries from the first of these on. */
static void scores_of(int first, int D, const Scratch *s, const float *x, const float *b,
                      float *y) {
    transposed_panels(s->S, D, b, D, s->panels);
    for (int j = 0; j < s->S; j += PANEL) {
        const int t = j < first ? first : j;
        panel(s->S - t, D, x + (size_t)t * D, D, 1, s->panels + (size_t)j * D, PANEL,
              y + (size_t)t * s->row + j, s->row, 0);
    }
}

/* y = weights x: each query's sum over the keys that it sees. */
static void sums_of_keys(int first, int D, const Scratch *s, const float *weights, const float *x,
                         float *y) {
    for (int t = first; t < s->S; t += TILE) {
        int rows = s->S - t < TILE ? s->S - t : TILE;
        for (int d = 0; d < D; d += PANEL)
            some_rows(rows, t + rows, weights + (size_t)t * s->row, s->row, 1, x + d, D,
                      y + (size_t)t * D + d, D, 0);
    }
}

/* Row t's softmax over columns 0 to t; zeros beyond, as far as a tile reads. */
static void softmax_rows(int first, const Scratch *s, float *x) {
    x += (size_t)first * s->row;
    for (int t = first; t < s->S; t++, x += s->row) {
        const int last = t / LANES * LANES; /* the first of the last vector's columns */
        vfloat tail = first_lanes(t - last + 1, loadf(x + last), -INFINITY), most = tail;
        for (int k = 0; k < last; k += LANES) most = larger(loadf(x + k), most);
        const float top = largest_lane(most); /* e^0 at most */
        tail = first_lanes(t - last + 1, vexp(tail - top), 0);
        vfloat sums = tail;
        for (int k = 0; k < last; k += LANES) {
            vfloat power = vexp(loadf(x + k) - top);
            storef(x + k, power);
            sums += power;
        }
        const float scale = 1.0f / sum_lanes(sums);
        for (int k = 0; k < last; k += LANES) storef(x + k, loadf(x + k) * scale);
        storef(x + last, tail * scale);
        memset(x + last + LANES, 0, sizeof(float) * PANEL);
    }
}

/* Queries, keys and values of one head, and its attention weights before dropout. `qkv` is the
   head's part of the first row; rows are 3 H D floats. */
static void weights_of(int first, int T, int H, int D, float epsilon, const float *qkv,
                       const float *q_weight, const float *k_weight, const float *cosine,
                       const float *sine, Scratch *s) {
    const float factor = 1.0f / sqrtf(D);
    for (int t = 0; t < T; t++, qkv += 3 * H * D) {
        const float *c = cosine + t * (D / 2), *sin = sine + t * (D / 2);
        if (t >= first)
            head(D, epsilon, qkv, q_weight, c, sin, factor, s->q + (size_t)t * D);
        head(D, epsilon, qkv + H * D, k_weight, c, sin, 1.0f, s->k + (size_t)t * D);
        memcpy(s->v + (size_t)t * D, qkv + 2 * H * D, sizeof(float) * D);
    }
    pad(T, D, s, s->q), pad(T, D, s, s->k), pad(T, D, s, s->v);
    scores_of(first, D, s, s->q, s->k, s->weights);
    softmax_rows(first, s, s->weights);
}
