/* What lies between the matrix products of a training step of a GPT, forward and backward, on a
   CPU. Autograd over semigpt.models.gpt is the oracle; semigpt.native.gpt_step calls this.

   The matrix products are PyTorch's, but for attention's in float32 (attention.h). The rest is bound
   by memory, so each pass does all it can while a row is at hand: a sum with its norm, a head's
   norm with its rotation, a loss with its gradient.

   Compiled twice: elements between the products are bfloat16 where BFLOAT16 is defined, else
   float32. The residual stream, all sums and all gradients of weights are float32 in both. Widths
   are multiples of 16, a head's of 32. Each thread sums its own rows and the sums are added in the
   threads' order, so the same number of threads gives the same bits.

   N rows (sequences times positions), B sequences, T positions, C width, H heads, D head width, F
   feed-forward width, V vocabulary. d_x is the gradient of the loss by x. Ids are inside the
   vocabulary: the caller checks. */

#include <float.h>
#include <stdlib.h>

#include "vectors.h"

#include "tiles.h"

#include "counts.h"

#include "elements.h"

/* The first `count` of LANES elements, and `fill` in the other lanes. Memory past them is not
   touched. */
static inline vfloat load_some(const element *p, int count, float fill) {
    element some[LANES];
    vfloat x;
    memcpy(some, p, sizeof(element) * count);
    x = load(some);
    for (int i = count; i < LANES; i++) x[i] = fill;
    return x;
}
static inline void store_some(element *p, int count, vfloat x) {
    element some[LANES];
    store(some, x);
    memcpy(p, some, sizeof(element) * count);
}

static float exp_one(float x) { return vexp(splat(x))[0]; }

/* The most threads that share a loop below: callers size each `workspace` by it. */
int semigpt_threads(void) { return omp_get_max_threads(); }

/* y = x, from float32 to elements: the weights for the matrix products. */
void semigpt_cast(int64_t count, const float *x, element *y) {
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < count / LANES; block++)
        store(y + block * LANES, loadf(x + block * LANES));
    for (int64_t i = count / LANES * LANES; i < count; i++) store_one(y + i, x[i]);
}

/* y = scale x, or y += scale x where `add`: the gradient of a weight. */
void semigpt_accumulate(int64_t count, const element *x, float scale, int add, float *y) {
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < count / LANES; block++) {
        vfloat value = load(x + block * LANES) * scale;
        if (add) value += loadf(y + block * LANES);
        storef(y + block * LANES, value);
    }
    for (int64_t i = count / LANES * LANES; i < count; i++)
        y[i] = load_one(x + i) * scale + (add ? y[i] : 0);
}

/* A hash of 32 bits: lowbias32 of Wellons' hash prospector. */
static inline vuint hash(vuint x) {
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0x735a2d97u;
    return x ^ (x >> 15);
}

/* Dropout: x / (1 - rate), or 0 where the mask says so. The mask is a function of seed and index,
   so the backward pass computes it again instead of keeping it. */
typedef struct {
    uint32_t low, high, below; /* dropped where a random number is less than `below` */
    float scale;
} Dropout;

static Dropout dropout_of(uint64_t seed, float rate) {
    /* Neighbouring seeds must not give one mask shifted by an element (splitmix64, Steele and
       others 2014). */
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return (Dropout){(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(rate * 4294967296.0),
                     1.0f / (1.0f - rate)};
}

/* x, elements from `index` on, with dropout. */
static inline vfloat dropped(const Dropout *d, uint64_t index, vfloat x) {
    const vuint lanes = {EACH_LANE(LANE, 0)};
    vuint random = hash(hash(lanes + (uint32_t)index + d->low) ^ d->high);
    return (vfloat)((vuint)(x * d->scale) & (vuint)(random >= d->below));
}

/* y = x with dropout; y may be x. */
void semigpt_dropout(int64_t count, uint64_t seed, float rate, const element *x, element *y) {
    const Dropout dropout = dropout_of(seed, rate);
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < (count + LANES - 1) / LANES; block++) {
        int64_t first = block * LANES, left = count - first;
        if (left >= LANES)
            store(y + first, dropped(&dropout, first, load(x + first)));
        else
            store_some(y + first, left, dropped(&dropout, first, load_some(x + first, left, 0)));
    }
}

/* x [N, C] = the rows of `table` that `ids` name. */
void semigpt_embed(int N, int C, const int64_t *ids, const float *table, float *x) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        memcpy(x + (size_t)n * C, table + (size_t)ids[n] * C, sizeof(float) * C);
}

/* d_table += scale d_x. The threads share the columns, so each row is summed in the order of the
   text whatever the number of threads. */
void semigpt_embed_backward(int N, int C, const int64_t *ids, const float *d_x, float scale,
                            float *d_table) {
#pragma omp parallel for schedule(static)
    for (int c = 0; c < C / LANES; c++)
        for (int n = 0; n < N; n++) {
            float *row = d_table + (size_t)ids[n] * C + c * LANES;
            storef(row, loadf(row) + scale * loadf(d_x + (size_t)n * C + c * LANES));
        }
}

/* sum = x + delta, y = its RMS norm times `weight`, scale_N = 1 / RMS of each row. Without `delta`
   (NULL) x itself is normalised and `sum` is not written. */
void semigpt_add_norm(int N, int C, float epsilon, const float *x, const element *delta,
                      const float *weight, float *sum, element *y, float *scale_N) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        const float *row = x + (size_t)n * C;
        vfloat squares = {};
        if (delta) {
            float *out = sum + (size_t)n * C;
            for (int c = 0; c < C; c += LANES) {
                vfloat value = loadf(row + c) + load(delta + (size_t)n * C + c);
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

/* This thread's of the partial sums [threads, count], all zeros. */
static float *own_partial(int count, float *partials) {
    return memset(partials + (size_t)omp_get_thread_num() * count, 0, sizeof(float) * count);
}

/* total [count] = scale * the threads' partial sums [threads, count], or += where `add`. */
static void reduce(int threads, int count, const float *partial, float scale, int add,
                   float *total) {
    for (int i = 0; i < count; i++) {
        float sum = 0;
        for (int t = 0; t < threads; t++) sum += partial[(size_t)t * count + i];
        total[i] = scale * sum + (add ? total[i] : 0);
    }
}

/* Backward through y = norm(x) weight: d_x += what comes back, or d_x = it where `first`; once more
   as elements, for the next products; and d_weight. `workspace`: C floats a thread. */
void semigpt_norm_backward(int N, int C, const float *x, const float *scale_N, const float *weight,
                           const element *d_y, int first, float *d_x, element *d_x_element,
                           float *workspace, float scale, int add, float *d_weight) {
    int threads = 1;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
        float *partial = workspace + (size_t)omp_get_thread_num() * C;
        memset(partial, 0, sizeof(float) * C);
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            const float *row = x + (size_t)n * C;
            const element *d_row = d_y + (size_t)n * C;
            float *out = d_x + (size_t)n * C;
            float rstd = scale_N[n];
            vfloat dots = {};
            for (int c = 0; c < C; c += LANES) {
                vfloat d = load(d_row + c), hat = loadf(row + c) * rstd;
                storef(partial + c, loadf(partial + c) + d * hat);
                dots += d * loadf(weight + c) * hat;
            }
            float mean = sum_lanes(dots) / C;
            for (int c = 0; c < C; c += LANES) {
                vfloat hat = loadf(row + c) * rstd;
                vfloat value = rstd * (load(d_row + c) * loadf(weight + c) - hat * mean);
                if (!first) value += loadf(out + c);
                storef(out + c, value);
                store(d_x_element + (size_t)n * C + c, value);
            }
        }
    }
    reduce(threads, C, workspace, scale, add, d_weight);
}

/* d_x of one head, and d_weight, which is added to. */
static inline void head_backward(int D, float epsilon, const element *x, const float *weight,
                                 const float *cosine, const float *sine, float factor,
                                 const element *d_y, element *d_x, float *d_weight) {
    const int half = D / 2;
    vfloat squares = {}, dots = {};
    for (int d = 0; d < D; d += LANES) squares += load(x + d) * load(x + d);
    float rstd = 1.0f / sqrtf(sum_lanes(squares) / D + epsilon);
    /* Rotate the gradient back; sum what the norm's own gradient needs. */
    for (int d = 0; d < half; d += LANES) {
        vfloat c = loadf(cosine + d), s = loadf(sine + d);
        vfloat left = load(d_y + d) * factor, right = load(d_y + half + d) * factor;
        vfloat d_left = left * c + right * s, d_right = right * c - left * s;
        vfloat hat_left = load(x + d) * rstd, hat_right = load(x + half + d) * rstd;
        storef(d_weight + d, loadf(d_weight + d) + d_left * hat_left);
        storef(d_weight + half + d, loadf(d_weight + half + d) + d_right * hat_right);
        dots += d_left * loadf(weight + d) * hat_left +
                d_right * loadf(weight + half + d) * hat_right;
    }
    float mean = sum_lanes(dots) / D;
    for (int d = 0; d < half; d += LANES) {
        vfloat c = loadf(cosine + d), s = loadf(sine + d);
        vfloat left = load(d_y + d) * factor, right = load(d_y + half + d) * factor;
        vfloat d_left = (left * c + right * s) * loadf(weight + d);
        vfloat d_right = (right * c - left * s) * loadf(weight + half + d);
        store(d_x + d, rstd * (d_left - load(x + d) * rstd * mean));
        store(d_x + half + d, rstd * (d_right - load(x + half + d) * rstd * mean));
    }
}

/* qkv [N, 3, H, D] to heads [3, B, H, T, D]: q and k normalised and rotated, q times D^-1/2. */
void semigpt_heads(int B, int T, int H, int D, float epsilon, const element *qkv,
                   const float *q_weight, const float *k_weight, const float *cosine,
                   const float *sine, element *heads) {
    const size_t all = (size_t)B * H * T * D;
    const float factor = 1.0f / sqrtf(D);
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++) {
        int b = n / T, t = n % T;
        const float *c = cosine + t * (D / 2), *s = sine + t * (D / 2);
        for (int h = 0; h < H; h++) {
            const element *in = qkv + ((size_t)n * 3 * H + h) * D;
            element *out = heads + (((size_t)b * H + h) * T + t) * D;
            head(D, epsilon, in, q_weight, c, s, factor, out);
            head(D, epsilon, in + H * D, k_weight, c, s, 1.0f, out + all);
            memcpy(out + 2 * all, in + 2 * H * D, sizeof(element) * D);
        }
    }
}

/* `workspace`: 2 D floats a thread. */
void semigpt_heads_backward(int B, int T, int H, int D, float epsilon, const element *qkv,
                            const float *q_weight, const float *k_weight, const float *cosine,
                            const float *sine, const element *d_heads, element *d_qkv,
                            float *workspace, float scale, int add, float *d_q_weight,
                            float *d_k_weight) {
    const size_t all = (size_t)B * H * T * D;
    const float factor = 1.0f / sqrtf(D);
    int threads = 1;
    float *q_partials = workspace, *k_partials = workspace + (size_t)omp_get_max_threads() * D;
#pragma omp parallel
    {
#pragma omp single
        threads = omp_get_num_threads();
        float *q_partial = own_partial(D, q_partials), *k_partial = own_partial(D, k_partials);
#pragma omp for schedule(static)
        for (int n = 0; n < B * T; n++) {
            int b = n / T, t = n % T;
            const float *c = cosine + t * (D / 2), *s = sine + t * (D / 2);
            for (int h = 0; h < H; h++) {
                const element *x = qkv + ((size_t)n * 3 * H + h) * D;
                const element *d_y = d_heads + (((size_t)b * H + h) * T + t) * D;
                element *d_x = d_qkv + ((size_t)n * 3 * H + h) * D;
                head_backward(D, epsilon, x, q_weight, c, s, factor, d_y, d_x, q_partial);
                x += H * D, d_x += H * D, d_y += all;
                head_backward(D, epsilon, x, k_weight, c, s, 1.0f, d_y, d_x, k_partial);
                memcpy(d_x + H * D, d_y + all, sizeof(element) * D);
            }
        }
    }
    reduce(threads, D, q_partials, scale, add, d_q_weight);
    reduce(threads, D, k_partials, scale, add, d_k_weight);
}

/* [B, H, T, D] to [N, H * D]. */
void semigpt_merge_heads(int B, int T, int H, int D, const element *heads, element *rows) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++)
        for (int h = 0; h < H; h++)
            memcpy(rows + ((size_t)n * H + h) * D,
                   heads + (((size_t)(n / T) * H + h) * T + n % T) * D, sizeof(element) * D);
}

/* [N, H * D] to [B, H, T, D]. */
void semigpt_split_heads(int B, int T, int H, int D, const element *rows, element *heads) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < B * T; n++)
        for (int h = 0; h < H; h++)
            memcpy(heads + (((size_t)(n / T) * H + h) * T + n % T) * D,
                   rows + ((size_t)n * H + h) * D, sizeof(element) * D);
}

/* Scores [count, rows, T] of the last `rows` of T positions become attention weights: position t's
   softmax over columns 0 to t, 0 beyond. */
void semigpt_causal_softmax(int count, int rows, int T, element *scores) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < count * rows; row++) {
        element *x = scores + (size_t)row * T;
        int seen = T - rows + row % rows + 1, whole = seen / LANES * LANES, left = seen - whole;
        vfloat tail = left ? load_some(x + whole, left, -INFINITY) : splat(-INFINITY), most = tail;
        /* Subtract the largest: e^0 at most. */
        for (int s = 0; s < whole; s += LANES) most = larger(load(x + s), most);
        float top = largest_lane(most);
        vfloat sums = {};
        if (left) {
            tail = vexp(tail - top);
            for (int i = left; i < LANES; i++) tail[i] = 0;
            sums = tail;
        }
        for (int s = 0; s < whole; s += LANES) {
            vfloat power = vexp(load(x + s) - top);
            store(x + s, power);
            sums += power;
        }
        float scale = 1.0f / sum_lanes(sums);
        for (int s = 0; s < whole; s += LANES) store(x + s, load(x + s) * scale);
        if (left) store_some(x + whole, left, tail * scale);
        memset(x + seen, 0, sizeof(element) * (T - seen));
    }
}

/* d_weights becomes the gradient by the scores: p (g - sum(p g)), 0 where a query sees nothing. */
void semigpt_causal_softmax_backward(int count, int T, const element *weights,
                                     element *d_weights) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < count * T; row++) {
        const element *p = weights + (size_t)row * T;
        element *g = d_weights + (size_t)row * T;
        int seen = row % T + 1, whole = seen / LANES * LANES, left = seen - whole;
        vfloat dots = {}, p_tail = {}, g_tail = {};
        for (int s = 0; s < whole; s += LANES) dots += load(p + s) * load(g + s);
        if (left) {
            p_tail = load_some(p + whole, left, 0);
            g_tail = load_some(g + whole, left, 0);
            dots += p_tail * g_tail;
        }
        float dot = sum_lanes(dots);
        for (int s = 0; s < whole; s += LANES) store(g + s, load(p + s) * (load(g + s) - dot));
        if (left) store_some(g + whole, left, p_tail * (g_tail - dot));
        memset(g + seen, 0, sizeof(element) * (T - seen));
    }
}
#ifndef BFLOAT16
#include "attention.h"

#include "attention_step.h"
#endif

/* gate_up [N, 2, F] to y [N, F] = silu(gate) up. */
void semigpt_swiglu(int N, int F, const element *gate_up, element *y) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f += LANES) {
            vfloat gate = load(gate_up + (size_t)n * 2 * F + f);
            vfloat up = load(gate_up + ((size_t)n * 2 + 1) * F + f);
            store(y + (size_t)n * F + f, gate / (1.0f + vexp(-gate)) * up);
        }
}

void semigpt_swiglu_backward(int N, int F, const element *gate_up, const element *d_y,
                             element *d_gate_up) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f += LANES) {
            size_t at = (size_t)n * 2 * F + f;
            vfloat gate = load(gate_up + at), up = load(gate_up + at + F);
            vfloat d = load(d_y + (size_t)n * F + f);
            vfloat sigmoid = 1.0f / (1.0f + vexp(-gate));
            store(d_gate_up + at, d * up * sigmoid * (1.0f + gate * (1.0f - sigmoid)));
            store(d_gate_up + at + F, d * gate * sigmoid);
        }
}

/* The largest of V elements. */
static inline float largest(const element *x, int V) {
    const int whole = V / LANES * LANES;
    vfloat most = splat(-FLT_MAX);
    for (int v = 0; v < whole; v += LANES) most = larger(load(x + v), most);
    float top = largest_lane(most);
    for (int v = whole; v < V; v++) top = load_one(x + v) > top ? load_one(x + v) : top;
    return top;
}

/* loss_N: the cross-entropy of each target in nats, of logits [N, stride] of which V columns
   count. */
void semigpt_losses(int N, int V, int stride, const element *logits, const int64_t *targets,
                    float *loss_N) {
    const int whole = V / LANES * LANES;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        const element *x = logits + (size_t)n * stride;
        float top = largest(x, V), total = 0;
        vfloat sums = {};
        for (int v = 0; v < whole; v += LANES) sums += vexp(load(x + v) - top);
        for (int v = whole; v < V; v++) total += exp_one(load_one(x + v) - top);
        loss_N[n] = top - load_one(x + targets[n]) + logf(total + sum_lanes(sums));
    }
}

/* q [S] = p of each sampled token times its weight, scaled to the sum `total`. */
static void sampled(int S, const float *p, const int64_t *sample, const float *weight, float total,
                    float *q) {
    float sum = 0;
    for (int s = 0; s < S; s++) sum += q[s] = p[sample[s]] * weight[s];
    for (int s = 0; s < S; s++) q[s] *= total / sum;
}

/* Logits [N, stride], of which V columns count, become `scale` times the gradient of the loss by
   them; loss_N in nats.

   The loss is the cross-entropy with a target distribution: `distillation` times the teacher's
   (NULL: none), the rest on the token that came.

   With a memory (net_weight_N is not NULL) p is net_weight_N times the softmax's plus others_p_N.
   The gradient is that of -ln p plus `own` times the loss above; loss_N is -ln p.

   With a sample (NULL: none) column v is token sample[v], and stands for weight[v] tokens: the
   logits have ln weight added, and targets are columns. The teacher's distribution is that over
   the columns, weighted and normalised.

   Returns 0, or -1 where there is no memory. */
int semigpt_cross_entropy(int N, int V, int stride, element *logits, const int64_t *targets,
                          float scale, float *loss_N, const Counts *teacher, float distillation,
                          int T, const int64_t *ids, const float *net_weight_N,
                          const float *others_p_N, float own, const int64_t *sample,
                          const float *weight) {
    const int whole = V / LANES * LANES;
    size_t size = 0;
    float *workspace = NULL;
    if (teacher) {
        size = stride + (sample ? teacher->vocab : 0);
        workspace = malloc(sizeof(float) * size * omp_get_max_threads());
        if (!workspace) return -1;
    }
#pragma omp parallel
    {
        float *q = teacher ? workspace + (size_t)omp_get_thread_num() * size : NULL;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            element *x = logits + (size_t)n * stride;
            float target = load_one(x + targets[n]), top = largest(x, V), total = 0;
            vfloat sums = {};
            /* Keep the powers for the moment: rounding them costs less than a second
               exponential. */
            for (int v = 0; v < whole; v += LANES) {
                vfloat power = vexp(load(x + v) - top);
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
            /* The row's gradient is (mixture + alone) softmax
               - (mixture + alone (1 - distillation)) one-hot - alone distillation q. */
            float mixture = 0, alone = scale;
            if (net_weight_N) {
                float p_net = net_weight_N[n] * expf(-loss_N[n]), p = p_net + others_p_N[n];
                mixture = scale * p_net / p;
                alone = scale * own;
                loss_N[n] = -logf(p);
            }
            float factor = (mixture + alone) / total;
            float at_target = exp_one(target - top) * factor - mixture -
                              alone * (teacher ? 1.0f - distillation : 1.0f);
            if (teacher) {
                float part = distillation * alone;
                distribution(teacher, ids + n / T * T, n % T + 1, -1, sample ? 1.0f : part, NULL,
                             sample ? q + stride : q);
                if (sample) sampled(V, q + stride, sample, weight, part, q);
                at_target -= q[targets[n]];
                for (int v = 0; v < whole; v += LANES)
                    store(x + v, load(x + v) * factor - loadf(q + v));
                for (int v = whole; v < V; v++) store_one(x + v, load_one(x + v) * factor - q[v]);
            } else {
                for (int v = 0; v < whole; v += LANES) store(x + v, load(x + v) * factor);
                for (int v = whole; v < V; v++) store_one(x + v, load_one(x + v) * factor);
            }
            store_one(x + targets[n], at_target);
            memset(x + V, 0, sizeof(element) * (stride - V));
        }
    }
    free(workspace);
    return 0;
}
