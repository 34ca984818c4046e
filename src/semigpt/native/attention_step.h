/* Attention of a training step in float32, one pass forward and one backward. Nothing is kept
   for the backward pass, which computes the attention weights again: writing them down and
   reading them takes longer. Include attention.h and what gpt_step.c defines of dropout first. */

/* Floats that each thread needs of `workspace`. */
int64_t semigpt_attention_workspace(int T, int D) { return scratch_floats(T, D); }

static Scratch own_scratch(int T, int D, float *workspace) {
    return scratch(T, D, workspace + omp_get_thread_num() * (size_t)scratch_floats(T, D));
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

/* qkv [N, 3, H, D] to attention's output [N, H, D]; dropout of the weights where rate > 0. */
void semigpt_attention(int B, int T, int H, int D, float epsilon, const float *qkv,
                       const float *q_weight, const float *k_weight, const float *cosine,
                       const float *sine, uint64_t seed, float rate, float *workspace,
                       float *out) {
    const Dropout dropout = dropout_of(seed, rate);
#pragma omp parallel for schedule(static)
    for (int bh = 0; bh < B * H; bh++) {
        const size_t b = bh / H, h = bh % H;
        Scratch s = own_scratch(T, D, workspace);
        weights_of(0, T, H, D, epsilon, qkv + (b * T * 3 * H + h) * D, q_weight, k_weight, cosine,
                   sine, &s);
        if (rate > 0)
            drop_rows(T, &s, &dropout, (uint64_t)bh * T * T, s.weights, s.weights);
        sums_of_keys(0, D, &s, s.weights, s.v, s.out);
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
            Scratch s = own_scratch(T, D, workspace);
            weights_of(0, T, H, D, epsilon, qkv + first, q_weight, k_weight, cosine, sine, &s);
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
            scores_of(0, D, &s, s.out, s.v, s.scores);
            if (rate > 0)
                drop_rows(T, &s, &dropout, (uint64_t)bh * T * T, s.scores, s.scores);
            softmax_rows_backward(&s, s.weights, s.scores);
            sums_of_keys(0, D, &s, s.scores, s.k, s.d_q);
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
