/* What lies between the products of a training step of the `gpt` rung, forward and backward, on a CPU: the oracle is
   autograd over semigpt.models.gpt; semigpt.models.step calls it.

   The products themselves are PyTorch's. What is left are passes over memory, so each pass does all that can be done
   while the numbers are at hand: a sum with its norm, a head's norm with its rotation, a loss with its gradient.

   Compiled twice: numbers between the products are bfloat16 where BFLOAT16 is defined, else float32. The stream that
   the blocks add to, all sums and all gradients of weights are float32 in both. Widths are multiples of 16, a head's of
   32. Sums over rows are made by each thread and then added in the threads' order: on one machine with the same number of
   threads the result is the same bits.

   N rows (texts times positions), T positions, C width, H heads, D head width, F feed-forward width, V vocabulary. */

#include <float.h>
#include <stdlib.h>

#include "vectors.h"

#ifdef BFLOAT16
typedef uint16_t number;
typedef uint16_t v16h __attribute__((vector_size(32), aligned(2), may_alias));
static inline v16 load(const number *p) { return (v16)(__builtin_convertvector(*(const v16h *)p, v16u) << 16); }
static inline void store(number *p, v16 x) { /* to the nearest, ties to even */
#ifdef __AVX512BF16__
    __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
    memcpy(p, &rounded, 32);
    return;
#endif
    v16u bits = (v16u)x;
    *(v16h *)p = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, v16h);
}
static inline float load_one(const number *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline void store_one(number *p, float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    *p = (number)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#else
typedef float number;
static inline v16 load(const number *p) { return *(const v16 *)p; }
static inline void store(number *p, v16 x) { *(v16 *)p = x; }
static inline float load_one(const number *p) { return *p; }
static inline void store_one(number *p, float x) { *p = x; }
#endif

static inline v16 loadf(const float *p) { return *(const v16 *)p; }
static inline void storef(float *p, v16 x) { *(v16 *)p = x; }

static float exp_one(float x) { return vexp(splat(x))[0]; }

/* Float32 weights as the numbers of the products. */
void semigpt_round(int64_t count, const float *x, number *y) {
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < count / LANES; block++) store(y + block * LANES, loadf(x + block * LANES));
    for (int64_t i = count / LANES * LANES; i < count; i++) store_one(y + i, x[i]);
}

/* The gradient of a weight: written, or added to what is there. */
void semigpt_gather(int64_t count, const number *x, float scale, int add, float *y) {
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < count / LANES; block++) {
        v16 value = load(x + block * LANES) * scale;
        if (add) value += loadf(y + block * LANES);
        storef(y + block * LANES, value);
    }
    for (int64_t i = count / LANES * LANES; i < count; i++) y[i] = load_one(x + i) * scale + (add ? y[i] : 0);
}

void semigpt_embed(int N, int C, const int64_t *ids, const float *table, float *x) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) memcpy(x + (size_t)n * C, table + (size_t)ids[n] * C, sizeof(float) * C);
}

/* Each row of the table's gradient in the order of the text, whatever the number of threads: they share the columns. */
void semigpt_embed_backward(int N, int C, const int64_t *ids, const float *by_x, float scale, float *by_table) {
#pragma omp parallel for schedule(static)
    for (int c = 0; c < C / LANES; c++)
        for (int n = 0; n < N; n++) {
            float *row = by_table + (size_t)ids[n] * C + c * LANES;
            storef(row, loadf(row) + scale * loadf(by_x + (size_t)n * C + c * LANES));
        }
}

/* x + delta, kept in `sum` (delta may be NULL: then x is only normalised), and its RMS norm times a weight. */
void semigpt_add_norm(int N, int C, float epsilon, const float *x, const number *delta, const float *weight, float *sum,
                      number *y, float *scale_N) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        const float *row = x + (size_t)n * C;
        v16 squares = {};
        if (delta) {
            float *out = sum + (size_t)n * C;
            for (int c = 0; c < C; c += LANES) {
                v16 value = loadf(row + c) + load(delta + (size_t)n * C + c);
                storef(out + c, value);
                squares += value * value;
            }
            row = out;
        } else {
            for (int c = 0; c < C; c += LANES) squares += loadf(row + c) * loadf(row + c);
        }
        float scale = 1.0f / sqrtf(sum_lanes(squares) / C + epsilon);
        scale_N[n] = scale;
        for (int c = 0; c < C; c += LANES)
            store(y + (size_t)n * C + c, loadf(row + c) * scale * loadf(weight + c));
    }
}

/* Partial sums of the threads, added up in their order. */
static void add_up(int threads, int count, const float *parts, float scale, int add, float *total) {
    for (int i = 0; i < count; i++) {
        float sum = 0;
        for (int t = 0; t < threads; t++) sum += parts[(size_t)t * count + i];
        total[i] = scale * sum + (add ? total[i] : 0);
    }
}

/* by_x gains what comes back through the norm, and is written once more as a number for the next products. `first`: by_x
   is not there yet. `parts`: room for C floats a thread. */
void semigpt_norm_backward(int N, int C, const float *x, const float *scale_N, const float *weight, const number *by_y,
                           int first, float *by_x, number *by_x_number, float *parts, float scale, int add,
                           float *by_weight) {
    int threads = 1;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
        float *part = parts + (size_t)omp_get_thread_num() * C;
        memset(part, 0, sizeof(float) * C);
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            const float *row = x + (size_t)n * C;
            const number *by_row = by_y + (size_t)n * C;
            float *out = by_x + (size_t)n * C;
            float rstd = scale_N[n];
            v16 dots = {};
            for (int c = 0; c < C; c += LANES) {
                v16 by = load(by_row + c), hat = loadf(row + c) * rstd;
                storef(part + c, loadf(part + c) + by * hat);
                dots += by * loadf(weight + c) * hat;
            }
            float mean = sum_lanes(dots) / C;
            for (int c = 0; c < C; c += LANES) {
                v16 hat = loadf(row + c) * rstd;
                v16 value = rstd * (load(by_row + c) * loadf(weight + c) - hat * mean);
                if (!first) value += loadf(out + c);
                storef(out + c, value);
                store(by_x_number + (size_t)n * C + c, value);
            }
        }
    }
    add_up(threads, C, parts, scale, add, by_weight);
}

/* One head: its norm, its rotation by the position's angle (pairs i and i + D/2), times `factor`. */
static inline void head(int D, float epsilon, const number *x, const float *weight, const float *cosine, const float *sine,
                        float factor, number *y) {
    v16 squares = {};
    for (int d = 0; d < D; d += LANES) squares += load(x + d) * load(x + d);
    float scale = factor / sqrtf(sum_lanes(squares) / D + epsilon);
    for (int d = 0; d < D / 2; d += LANES) {
        v16 left = load(x + d) * scale * loadf(weight + d);
        v16 right = load(x + D / 2 + d) * scale * loadf(weight + D / 2 + d);
        v16 c = loadf(cosine + d), s = loadf(sine + d);
        store(y + d, left * c - right * s);
        store(y + D / 2 + d, right * c + left * s);
    }
}

static inline void head_backward(int D, float epsilon, const number *x, const float *weight, const float *cosine,
                                 const float *sine, float factor, const number *by_y, number *by_x, float *by_weight) {
    v16 squares = {}, dots = {};
    for (int d = 0; d < D; d += LANES) squares += load(x + d) * load(x + d);
    float rstd = 1.0f / sqrtf(sum_lanes(squares) / D + epsilon);
    for (int d = 0; d < D / 2; d += LANES) {
        v16 c = loadf(cosine + d), s = loadf(sine + d);
        v16 left = load(by_y + d) * factor, right = load(by_y + D / 2 + d) * factor;
        v16 by_left = left * c + right * s, by_right = right * c - left * s;
        v16 hat_left = load(x + d) * rstd, hat_right = load(x + D / 2 + d) * rstd;
        storef(by_weight + d, loadf(by_weight + d) + by_left * hat_left);
        storef(by_weight + D / 2 + d, loadf(by_weight + D / 2 + d) + by_right * hat_right);
        dots += by_left * loadf(weight + d) * hat_left + by_right * loadf(weight + D / 2 + d) * hat_right;
    }
    float mean = sum_lanes(dots) / D;
    for (int d = 0; d < D / 2; d += LANES) {
        v16 c = loadf(cosine + d), s = loadf(sine + d);
        v16 left = load(by_y + d) * factor, right = load(by_y + D / 2 + d) * factor;
        v16 by_left = (left * c + right * s) * loadf(weight + d), by_right = (right * c - left * s) * loadf(weight + D / 2 + d);
        store(by_x + d, rstd * (by_left - load(x + d) * rstd * mean));
        store(by_x + D / 2 + d, rstd * (by_right - load(x + D / 2 + d) * rstd * mean));
    }
}

/* qkv [N, 3, H, D] to heads [3, B, H, T, D]: q and k normalised and rotated, q times D^-1/2, v as it is. */
void semigpt_heads(int B, int T, int H, int D, float epsilon, const number *qkv, const float *q_weight,
                   const float *k_weight, const float *cosine, const float *sine, number *heads) {
    const size_t all = (size_t)B * H * T * D;
    const float factor = 1.0f / sqrtf(D);
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++) {
        int b = n / T, t = n % T;
        for (int h = 0; h < H; h++) {
            const number *in = qkv + ((size_t)n * 3 * H + h) * D;
            number *out = heads + (((size_t)b * H + h) * T + t) * D;
            head(D, epsilon, in, q_weight, cosine + t * (D / 2), sine + t * (D / 2), factor, out);
            head(D, epsilon, in + H * D, k_weight, cosine + t * (D / 2), sine + t * (D / 2), 1.0f, out + all);
            memcpy(out + 2 * all, in + 2 * H * D, sizeof(number) * D);
        }
    }
}

void semigpt_heads_backward(int B, int T, int H, int D, float epsilon, const number *qkv, const float *q_weight,
                            const float *k_weight, const float *cosine, const float *sine, const number *by_heads,
                            number *by_qkv, float *parts, float scale, int add, float *by_q_weight,
                            float *by_k_weight) {
    const size_t all = (size_t)B * H * T * D;
    const float factor = 1.0f / sqrtf(D);
    int threads = 1;
    float *k_parts = parts + (size_t)omp_get_max_threads() * D;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
        float *q_part = parts + (size_t)omp_get_thread_num() * D, *k_part = k_parts + (size_t)omp_get_thread_num() * D;
        memset(q_part, 0, sizeof(float) * D);
        memset(k_part, 0, sizeof(float) * D);
#pragma omp for schedule(static)
        for (int n = 0; n < B * T; n++) {
            int b = n / T, t = n % T;
            const float *c = cosine + t * (D / 2), *s = sine + t * (D / 2);
            for (int h = 0; h < H; h++) {
                size_t in = ((size_t)n * 3 * H + h) * D, out = (((size_t)b * H + h) * T + t) * D;
                head_backward(D, epsilon, qkv + in, q_weight, c, s, factor, by_heads + out, by_qkv + in, q_part);
                in += H * D;
                head_backward(D, epsilon, qkv + in, k_weight, c, s, 1.0f, by_heads + all + out, by_qkv + in, k_part);
                memcpy(by_qkv + in + H * D, by_heads + 2 * all + out, sizeof(number) * D);
            }
        }
    }
    add_up(threads, D, parts, scale, add, by_q_weight);
    add_up(threads, D, k_parts, scale, add, by_k_weight);
}

/* [B, H, T, D] to [N, H * D] and back. */
void semigpt_merge_heads(int B, int T, int H, int D, const number *heads, number *rows) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++)
        for (int h = 0; h < H; h++)
            memcpy(rows + ((size_t)n * H + h) * D, heads + (((size_t)(n / T) * H + h) * T + n % T) * D, sizeof(number) * D);
}

void semigpt_split_heads(int B, int T, int H, int D, const number *rows, number *heads) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++)
        for (int h = 0; h < H; h++)
            memcpy(heads + (((size_t)(n / T) * H + h) * T + n % T) * D, rows + ((size_t)n * H + h) * D, sizeof(number) * D);
}

/* The first `count` of 16 numbers; `rest` for the others. What lies beyond them is not touched. */
static inline v16 load_some(const number *p, int count, float rest) {
    number some[LANES];
    v16 x;
    memcpy(some, p, sizeof(number) * count);
    x = load(some);
    for (int i = count; i < LANES; i++) x[i] = rest;
    return x;
}
static inline void store_some(number *p, int count, v16 x) {
    number some[LANES];
    store(some, x);
    memcpy(p, some, sizeof(number) * count);
}

/* Scores [count, T, T] to the shares of what each query sees: row t's softmax over columns 0 to t, 0 beyond. */
void semigpt_causal_softmax(int count, int T, number *scores) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < count * T; row++) {
        number *x = scores + (size_t)row * T;
        int seen = row % T + 1, whole = seen / LANES * LANES, left = seen - whole;
        v16 tail = left ? load_some(x + whole, left, -INFINITY) : splat(-INFINITY), most = tail;
        for (int s = 0; s < whole; s += LANES) most = larger(load(x + s), most);
        float top = largest_lane(most);
        v16 sums = {};
        if (left) {
            tail = vexp(tail - top);
            for (int i = left; i < LANES; i++) tail[i] = 0;
            sums = tail;
        }
        for (int s = 0; s < whole; s += LANES) {
            v16 power = vexp(load(x + s) - top);
            store(x + s, power);
            sums += power;
        }
        float share = 1.0f / sum_lanes(sums);
        for (int s = 0; s < whole; s += LANES) store(x + s, load(x + s) * share);
        if (left) store_some(x + whole, left, tail * share);
        memset(x + seen, 0, sizeof(number) * (T - seen));
    }
}

/* by_shares becomes the gradient of the scores: p (g - sum(p g)). Beyond what a query sees p is 0, and so is this. */
void semigpt_causal_softmax_backward(int count, int T, const number *shares, number *by_shares) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < count * T; row++) {
        const number *p = shares + (size_t)row * T;
        number *g = by_shares + (size_t)row * T;
        int seen = row % T + 1, whole = seen / LANES * LANES, left = seen - whole;
        v16 dots = {}, p_tail = {}, g_tail = {};
        for (int s = 0; s < whole; s += LANES) dots += load(p + s) * load(g + s);
        if (left) {
            p_tail = load_some(p + whole, left, 0);
            g_tail = load_some(g + whole, left, 0);
            dots += p_tail * g_tail;
        }
        float dot = sum_lanes(dots);
        for (int s = 0; s < whole; s += LANES) store(g + s, load(p + s) * (load(g + s) - dot));
        if (left) store_some(g + whole, left, p_tail * (g_tail - dot));
        memset(g + seen, 0, sizeof(number) * (T - seen));
    }
}

/* gate_up [N, 2, F] to silu(gate) * up [N, F]. */
void semigpt_swiglu(int N, int F, const number *gate_up, number *y) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f += LANES) {
            v16 gate = load(gate_up + (size_t)n * 2 * F + f), up = load(gate_up + ((size_t)n * 2 + 1) * F + f);
            store(y + (size_t)n * F + f, gate / (1.0f + vexp(-gate)) * up);
        }
}

void semigpt_swiglu_backward(int N, int F, const number *gate_up, const number *by_y, number *by_gate_up) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f += LANES) {
            size_t at = (size_t)n * 2 * F + f;
            v16 gate = load(gate_up + at), up = load(gate_up + at + F), by = load(by_y + (size_t)n * F + f);
            v16 share = 1.0f / (1.0f + vexp(-gate));
            store(by_gate_up + at, by * up * share * (1.0f + gate * (1.0f - share)));
            store(by_gate_up + at + F, by * gate * share);
        }
}

/* Logits [N, stride], of which V columns count, become `scale` times the gradient of the loss by them; loss_N in nats. */
void semigpt_cross_entropy(int N, int V, int stride, number *logits, const int64_t *targets, float scale, float *loss_N) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        number *x = logits + (size_t)n * stride;
        int whole = V / LANES * LANES;
        float target = load_one(x + targets[n]), top, total = 0;
        v16 most = splat(-FLT_MAX), sums = {};
        for (int v = 0; v < whole; v += LANES) most = larger(load(x + v), most);
        top = largest_lane(most);
        for (int v = whole; v < V; v++) top = load_one(x + v) > top ? load_one(x + v) : top;
        /* Kept unscaled for the moment: a second exponential would cost more than the rounding does. */
        for (int v = 0; v < whole; v += LANES) {
            v16 power = vexp(load(x + v) - top);
            sums += power;
            store(x + v, power);
        }
        for (int v = whole; v < V; v++) {
            float power = exp_one(load_one(x + v) - top);
            total += power;
            store_one(x + v, power);
        }
        total += sum_lanes(sums);
        loss_N[n] = top + logf(total) - target;
        float share = scale / total;
        for (int v = 0; v < whole; v += LANES) store(x + v, load(x + v) * share);
        for (int v = whole; v < V; v++) store_one(x + v, load_one(x + v) * share);
        store_one(x + targets[n], (exp_one(target - top) / total - 1.0f) * scale);
        memset(x + V, 0, sizeof(number) * (stride - V));
    }
}
