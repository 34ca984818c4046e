/* Attention of a training step in float32, one pass forward and one backward: a thread takes a
   sequence's head from the projections to its rows of the output while the scores stay in its
   caches. Only what a query sees is multiplied, half of the products. Nothing is kept for the
   backward pass, which computes the attention weights again: writing them down and reading them
   takes longer. Include vectors.h, tiles.h and what gpt_step.c defines of heads first.

   Positions are padded to a multiple of 16, S, with rows of zeros. */

/* What a thread works in, in floats from each other. */
typedef struct {
    int S, row; /* padded positions; floats from a row of scores to the next */
    float *weights, *scores, *q, *k, *v, *out, *panels, *d_q, *d_k, *d_v;
} Scratch;

static int padded(int T) { return (T + PANEL - 1) / PANEL * PANEL; }

/* An odd number of cache lines: rows that are a power of two apart share a few lines of a cache. */
static int scores_row(int S) { return S + (S / PANEL % 2 ? 2 : 1) * PANEL; }

/* Floats that each thread needs of `workspace`. */
int64_t semigpt_attention_workspace(int T, int D) {
    int64_t S = padded(T);
    return 2 * S * scores_row(S) + 8 * S * D;
}

static Scratch scratch(int T, int D, float *workspace) {
    Scratch s = {.S = padded(T), .row = scores_row(padded(T))};
    const size_t scores = (size_t)s.S * s.row, rows = (size_t)s.S * D;
    float *p = workspace + omp_get_thread_num() * (size_t)semigpt_attention_workspace(T, D);
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
static void scores_of(int D, const Scratch *s, const float *x, const float *b, float *y) {
    transposed_panels(s->S, D, b, D, s->panels);
    for (int j = 0; j < s->S; j += PANEL)
        panel(s->S - j, D, x + (size_t)j * D, D, 1, s->panels + (size_t)j * D, PANEL,
              y + (size_t)j * s->row + j, s->row, 0);
}

/* y = weights x: each query's sum over the keys that it sees. */
static void sums_of_keys(int D, const Scratch *s, const float *weights, const float *x, float *y) {
    for (int t = 0; t < s->S; t += TILE) {
        int rows = s->S - t < TILE ? s->S - t : TILE;
        for (int d = 0; d < D; d += PANEL)
            some_rows(rows, t + rows, weights + (size_t)t * s->row, s->row, 1, x + d, D,
                      y + (size_t)t * D + d, D, 0);
    }
}

/* y = weightsᵀ x: each key's sum over the queries that see it. */
static void sums_of_queries(int D, const Scratch *s, const float *weights, const float *x,
                            float *y) {
    for (int k = 0; k < s->S; k += TILE) {
        int rows = s->S - k < TILE ? s->S - k : TILE;
        for (int d = 0; d < D; d += PANEL)
            some_rows(rows, s->S - k, weights + (size_t)k * s->row + k, 1, s->row,
                      x + (size_t)k * D + d, D, y + (size_t)k * D + d, D, 0);
    }
}

/* Row t's softmax over columns 0 to t; zeros beyond, as far as a tile reads. */
static void softmax_rows(const Scratch *s, float *x) {
    for (int t = 0; t < s->S; t++, x += s->row) {
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

/* Scores' gradients in place of those of the weights: p (g - sum(p g)); zeros as above. */
static void softmax_rows_backward(const Scratch *s, const float *weights, float *gradients) {
    for (int t = 0; t < s->S; t++) {
        const float *p = weights + (size_t)t * s->row;
        float *g = gradients + (size_t)t * s->row;
        vfloat dots = {};
        for (int k = 0; k <= t; k += LANES) dots += loadf(p + k) * loadf(g + k);
        float dot = sum_lanes(dots);
        for (int k = 0; k <= t; k += LANES) storef(g + k, loadf(p + k) * (loadf(g + k) - dot));
        memset(g + t + 1, 0, sizeof(float) * PANEL);
    }
}

/* y = the weights x with dropout, as semigpt_dropout of all heads' [T, T]; `first` is the index of
   this head's first. */
static void drop_rows(int T, const Scratch *s, const Dropout *dropout, uint64_t first,
                      const float *x, float *y) {
    for (int t = 0; t < s->S; t++, x += s->row, y += s->row) {
        for (int k = 0; k <= t; k += LANES)
            storef(y + k, dropped(dropout, first + (uint64_t)t * T + k, loadf(x + k)));
        memset(y + t + 1, 0, sizeof(float) * PANEL);
    }
}

/* Queries, keys and values of one head, and its attention weights before dropout. `qkv` is the
   head's part of the first row; rows are 3 H D floats. */
static void weights_of(int T, int H, int D, float epsilon, const float *qkv, const float *q_weight,
                       const float *k_weight, const float *cosine, const float *sine, Scratch *s) {
    const float factor = 1.0f / sqrtf(D);
    for (int t = 0; t < T; t++, qkv += 3 * H * D) {
        const float *c = cosine + t * (D / 2), *sin = sine + t * (D / 2);
        head(D, epsilon, qkv, q_weight, c, sin, factor, s->q + (size_t)t * D);
        head(D, epsilon, qkv + H * D, k_weight, c, sin, 1.0f, s->k + (size_t)t * D);
        memcpy(s->v + (size_t)t * D, qkv + 2 * H * D, sizeof(float) * D);
    }
    pad(T, D, s, s->q), pad(T, D, s, s->k), pad(T, D, s, s->v);
    scores_of(D, s, s->q, s->k, s->weights);
    softmax_rows(s, s->weights);
}

/* qkv [N, 3, H, D] to attention's output [N, H, D]; dropout of the weights where rate > 0. */
void semigpt_attention(int B, int T, int H, int D, float epsilon, const float *qkv,
                       const float *q_weight, const float *k_weight, const float *cosine,
                       const float *sine, uint64_t seed, float rate, float *workspace,
                       float *out) {
    const Dropout dropout = dropout_of(seed, rate);
#pragma omp parallel for schedule(static)
    for (int bh = 0; bh < B * H; bh++) {
        const size_t b = bh / H, h = bh % H;
        Scratch s = scratch(T, D, workspace);
        weights_of(T, H, D, epsilon, qkv + (b * T * 3 * H + h) * D, q_weight, k_weight, cosine,
                   sine, &s);
        if (rate > 0)
            drop_rows(T, &s, &dropout, (uint64_t)bh * T * T, s.weights, s.weights);
        sums_of_keys(D, &s, s.weights, s.v, s.out);
        for (int t = 0; t < T; t++)
            memcpy(out + ((b * T + t) * H + h) * D, s.out + (size_t)t * D, sizeof(float) * D);
    }
}

/* d_qkv, and the gradients of the norms' weights times `scale`, added where `add`. */
void semigpt_attention_backward(int B, int T, int H, int D, float epsilon, const float *qkv,
                                const float *q_weight, const float *k_weight, const float *cosine,
                                const float *sine, uint64_t seed, float rate, float *workspace,
                                const float *d_out, float *d_qkv, float *partial_sums, float scale,
                                int add, float *d_q_weight, float *d_k_weight) {
    const float factor = 1.0f / sqrtf(D);
    const Dropout dropout = dropout_of(seed, rate);
    int threads = 1;
    float *q_partials = partial_sums, *k_partials = q_partials + (size_t)omp_get_max_threads() * D;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
        float *q_partial = own_partial(D, q_partials), *k_partial = own_partial(D, k_partials);
#pragma omp for schedule(static)
        for (int bh = 0; bh < B * H; bh++) {
            const size_t b = bh / H, h = bh % H, first = (b * T * 3 * H + h) * D;
            Scratch s = scratch(T, D, workspace);
            weights_of(T, H, D, epsilon, qkv + first, q_weight, k_weight, cosine, sine, &s);
            for (int t = 0; t < T; t++)
                memcpy(s.out + (size_t)t * D, d_out + ((b * T + t) * H + h) * D,
                       sizeof(float) * D);
            pad(T, D, &s, s.out);
            const float *weights = s.weights;
            if (rate > 0) {
                drop_rows(T, &s, &dropout, (uint64_t)bh * T * T, weights, s.scores);
                weights = s.scores;
            }
            sums_of_queries(D, &s, weights, s.out, s.d_v);
            scores_of(D, &s, s.out, s.v, s.scores);
            if (rate > 0)
                drop_rows(T, &s, &dropout, (uint64_t)bh * T * T, s.scores, s.scores);
            softmax_rows_backward(&s, s.weights, s.scores);
            sums_of_keys(D, &s, s.scores, s.k, s.d_q);
            sums_of_queries(D, &s, s.scores, s.q, s.d_k);
            for (int t = 0; t < T; t++) {
                const size_t at = first + (size_t)t * 3 * H * D, row = (size_t)t * D;
                const float *c = cosine + t * (D / 2), *sin = sine + t * (D / 2);
                head_backward(D, epsilon, qkv + at, q_weight, c, sin, factor, s.d_q + row,
                              d_qkv + at, q_partial);
                head_backward(D, epsilon, qkv + at + H * D, k_weight, c, sin, 1.0f, s.d_k + row,
                              d_qkv + at + H * D, k_partial);
                memcpy(d_qkv + at + 2 * H * D, s.d_v + row, sizeof(float) * D);
            }
        }
    }
    reduce(threads, D, q_partials, scale, add, d_q_weight);
    reduce(threads, D, k_partials, scale, add, d_k_weight);
}
