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

/* At most so many threads share a loop below: what `parts` must have room for. */
int semigpt_threads(void) { return omp_get_max_threads(); }

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

/* A number of 32 bits for each place, from two seeds: the mixing of Wellons' hash prospector (lowbias32), twice. */
static inline v16u mixed(v16u x) {
    x = (x ^ (x >> 16)) * 0x21f0aaadu;
    x = (x ^ (x >> 15)) * 0x735a2d97u;
    return x ^ (x >> 15);
}

/* Dropout: x / (1 - rate), or 0 where the coin of its place says so; y may be x. The coins are a function of the seed
   and the place, so backward tosses the same again instead of keeping them. */
void semigpt_drop(int64_t count, uint64_t seed, float rate, const number *x, number *y) {
    /* Seeds that are neighbours must not toss the same coins a place further on (splitmix64, Steele and others 2014). */
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    const uint32_t below = (uint32_t)(rate * 4294967296.0), low = (uint32_t)seed, high = (uint32_t)(seed >> 32);
    const v16u places = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const float scale = 1.0f / (1.0f - rate);
#pragma omp parallel for schedule(static) if (count > 1 << 14)
    for (int64_t block = 0; block < (count + LANES - 1) / LANES; block++) {
        v16u coins = mixed(mixed(places + (uint32_t)(block * LANES) + low) ^ high);
        int64_t first = block * LANES, left = count - first;
        if (left >= LANES) {
            v16u kept = (v16u)(coins >= below);
            store(y + first, (v16)((v16u)(load(x + first) * scale) & kept));
        } else
            for (int i = 0; i < left; i++) store_one(y + first + i, coins[i] >= below ? load_one(x + first + i) * scale : 0);
    }
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

/* The counts of n-grams: semigpt.models.counts.Counts, and what it says of the tokens after a context. A context of k
   tokens is a node of a tree that is read from the newest token to the oldest; level 0 is its root. */
enum { LEVELS = 8 };
typedef struct {
    int32_t order, vocab;
    float discount[LEVELS + 1][4];         /* of order k, for counts of 0, 1, 2 and 3 or more */
    const int32_t *first_child[LEVELS];    /* [contexts of k tokens + 1]: where each one's children begin */
    const int32_t *oldest[LEVELS];         /* [contexts of k tokens] */
    const int32_t *first_follower[LEVELS]; /* [contexts of k tokens + 1]: where what followed each begins */
    const int32_t *follower[LEVELS];       /* the tokens, ascending in a context */
    const int32_t *count[LEVELS];          /* how often each */
    const int32_t *totals[LEVELS];         /* [contexts of k tokens, 4]: see totals_of; NULL: to be added up when asked */
    const float *unigram;                  /* [vocab]: p without a context, the uniform order below in it */
} Counts;

/* The place of `wanted` among sorted[low .. end - 1], -1 where it is not. */
static inline int32_t find(const int32_t *sorted, int32_t low, int32_t end, int32_t wanted) {
    int32_t last = end;
    while (low < end) {
        int32_t middle = low + (end - low) / 2;
        if (sorted[middle] < wanted) low = middle + 1;
        else end = middle;
    }
    return low < last && sorted[low] == wanted ? low : -1;
}

/* The contexts of 1, 2 … tokens that end ids[0 .. seen - 1], as far as they were counted; how many tokens the longest has. */
static inline int contexts(const Counts *c, const int64_t *ids, int seen, int32_t *context) {
    int known = 0;
    context[0] = 0;
    while (known + 1 < c->order && known < seen) {
        const int32_t *first = c->first_child[known] + context[known];
        int32_t child = find(c->oldest[known + 1], first[0], first[1], (int32_t)ids[seen - 1 - known]);
        if (child < 0) break;
        context[++known] = child;
    }
    return known;
}

/* What followed a context: counts in all; followers seen once, twice, three times or more. */
static inline void totals_of(const Counts *c, int k, int32_t context, int32_t totals[4]) {
    if (c->totals[k]) {
        memcpy(totals, c->totals[k] + 4 * (size_t)context, 4 * sizeof *totals);
        return;
    }
    const int32_t *first = c->first_follower[k] + context, *count = c->count[k];
    int32_t all = 0, once = 0, twice = 0;
    for (int32_t e = first[0]; e < first[1]; e++) {
        all += count[e];
        once += count[e] == 1;
        twice += count[e] == 2;
    }
    totals[0] = all, totals[1] = once, totals[2] = twice, totals[3] = first[1] - first[0] - once - twice;
}

static inline float rest(const float *discount, const int32_t *totals) {
    return (discount[1] * totals[1] + discount[2] * totals[2] + discount[3] * totals[3]) / totals[0];
}

/* p of every token after ids[0 .. seen - 1], times `factor`, into q [vocab]; or, where there are `weights` [order], weight k
   times what the last k tokens alone say of it, all of them added up.

   Where `target` is a token (-1 is none) the ids are of the counted text itself, this one came next, and its own occurrence
   is taken out again, as semigpt_recall does with `leave_one_out`. */
static void successors(const Counts *c, const int64_t *ids, int seen, int32_t target, float factor, const float *weights,
                       float *q) {
    int32_t context[LEVELS];
    float kept[LEVELS], left = factor, at_target = 0, stretch = 1, shift = 0;
    int known = contexts(c, ids, seen, context), own = target >= 0, v = 0;
    if (weights) {
        left = 0;
        for (int k = known; k < c->order; k++) left += weights[k];
    }
    for (int k = known; k >= 0; k--) {
        const float *discount = c->discount[k + 1];
        int32_t totals[4];
        float lost = 0;
        totals_of(c, k, context[k], totals);
        if (own) {
            const int32_t *first = c->first_follower[k] + context[k];
            int32_t at = find(c->follower[k], first[0], first[1], target), count = at < 0 ? 0 : c->count[k][at];
            own = count == 1;
            if (count > 0) {
                totals[0]--;
                totals[count < 3 ? count : 3]--;
                lost = count - discount[count < 3 ? count : 3];
                count--;
                if (count > 0) {
                    totals[count < 3 ? count : 3]++;
                    lost -= count - discount[count < 3 ? count : 3];
                }
            }
        }
        if (k > 0) {
            kept[k] = totals[0] > 0 ? left / totals[0] : 0;
            at_target -= kept[k] * lost;
            if (totals[0] > 0) left *= rest(discount, totals);
            if (weights) left += weights[k - 1];
        } else if (lost > 0 && totals[0] > 0) {
            /* unigram is shares over the whole total, and the rest over it for all alike. */
            const int32_t *whole = c->totals[0];
            stretch = (float)whole[0] / totals[0];
            shift = (rest(discount, totals) - rest(discount, whole) * stretch) / c->vocab;
            at_target -= left * lost / totals[0];
        } else if (lost > 0) {
            stretch = 0;
            shift = 1.0f / c->vocab;
        }
    }
    stretch *= left;
    shift *= left;
    for (; v + LANES <= c->vocab; v += LANES) storef(q + v, loadf(c->unigram + v) * stretch + shift);
    for (; v < c->vocab; v++) q[v] = c->unigram[v] * stretch + shift;
    for (int k = 1; k <= known; k++) {
        const int32_t *follower = c->follower[k], *count = c->count[k], *first = c->first_follower[k] + context[k];
        const float *discount = c->discount[k + 1];
        for (int32_t e = first[0]; e < first[1]; e++)
            q[follower[e]] += kept[k] * (count[e] - discount[count[e] < 3 ? count[e] : 3]);
    }
    if (target >= 0) q[target] += at_target;
}

/* The same for the context that ends at each of N positions of texts of T; targets [N] and weights [N, order], or NULL.
   -> [N, vocab] */
void semigpt_successors(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets, const float *weights,
                        float *q) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        successors(c, ids + n / T * T, n % T + 1, targets ? (int32_t)targets[n] : -1, 1.0f,
                   weights ? weights + (size_t)n * c->order : NULL, q + (size_t)n * c->vocab);
}

/* The K likeliest of them alone, likeliest first, and their p: [N, K] both. */
void semigpt_guesses(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets, int K, int64_t *tokens,
                     float *p) {
    const int whole = c->vocab / LANES * LANES;
#pragma omp parallel
    {
        float *q = malloc(sizeof(float) * c->vocab);
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            successors(c, ids + n / T * T, n % T + 1, targets ? (int32_t)targets[n] : -1, 1.0f, NULL, q);
            for (int k = 0; k < K; k++) {
                v16 most = splat(-1);
                for (int v = 0; v < whole; v += LANES) most = larger(loadf(q + v), most);
                float top = largest_lane(most);
                for (int v = whole; v < c->vocab; v++) top = q[v] > top ? q[v] : top;
                int v = 0;
                while (q[v] != top) v++;
                tokens[(size_t)n * K + k] = v;
                p[(size_t)n * K + k] = top;
                q[v] = -1;
            }
        }
        free(q);
    }
}

/* What followed the longest earlier match of the tokens that end at each position, the latest of the longest, and how many
   tokens match, up to `most`; 0 and 0 where nothing does. [B, T] to [B, T] both. */
void semigpt_echoes(int B, int T, const int64_t *ids, int most, int64_t *tokens, int64_t *lengths) {
#pragma omp parallel
    {
        /* runs[s]: how many tokens that end before t and before s are alike, then that end at t and at s. */
        int32_t *runs = malloc(sizeof(int32_t) * (T + 1));
#pragma omp for schedule(static)
        for (int b = 0; b < B; b++) {
            const int64_t *text = ids + (size_t)b * T;
            memset(runs, 0, sizeof(int32_t) * (T + 1));
            for (int t = 0; t < T; t++) {
                int32_t longest = 0;
                int at = -1;
                for (int s = t - 1; s >= 0; s--) {
                    int32_t run = text[s] == text[t] ? runs[s] + 1 : 0;
                    runs[s + 1] = run;
                    run = run < most ? run : most;
                    if (run > longest) {
                        longest = run;
                        at = s;
                    }
                }
                tokens[(size_t)b * T + t] = longest ? text[at + 1] : 0;
                lengths[(size_t)b * T + t] = longest;
            }
        }
        free(runs);
    }
}

/* p of each target alone, after the last 0, 1 … tokens: p_NK [N, order]; and what is known of its contexts, features [N, 2 (order - 1)]: of each length ln(1 + its
   counts in all) and the share left to shorter ones (0 and 1 where it was not counted).

   With `leave_one_out` the ids are of the counted text itself, and each target's own occurrence is taken out again: of
   its longest n-gram's count, and where that was the only one, of the shorter one's below. */
void semigpt_recall(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets, int leave_one_out,
                    float *p_NK, float *features) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        int32_t context[LEVELS], count[LEVELS];
        int known = contexts(c, ids + n / T * T, n % T + 1, context), own = leave_one_out;
        float p = 1.0f / c->vocab, *feature = features + (size_t)n * 2 * (c->order - 1);
        int taken[LEVELS];
        for (int k = known; k >= 0; k--) {
            const int32_t *first = c->first_follower[k] + context[k];
            int32_t at = find(c->follower[k], first[0], first[1], (int32_t)targets[n]);
            count[k] = at < 0 ? 0 : c->count[k][at];
            taken[k] = own && count[k] > 0;
            own = taken[k] && count[k] == 1;
        }
        for (int k = 0; k < c->order; k++) {
            float total = 0, left = 1;
            if (k <= known) {
                int32_t totals[4], own_count = count[k];
                totals_of(c, k, context[k], totals);
                if (taken[k]) {
                    totals[0]--;
                    totals[own_count < 3 ? own_count : 3]--;
                    own_count--;
                    if (own_count) totals[own_count < 3 ? own_count : 3]++;
                }
                if (totals[0] > 0) {
                    const float *discount = c->discount[k + 1];
                    total = totals[0];
                    left = rest(discount, totals);
                    p = (own_count - discount[own_count < 3 ? own_count : 3]) / total + left * p;
                }
            }
            p_NK[(size_t)n * c->order + k] = p;
            if (k > 0) {
                feature[2 * (k - 1)] = logf(1.0f + total);
                feature[2 * (k - 1) + 1] = left;
            }
        }
    }
}

/* Logits [N, stride], of which V columns count, become `scale` times the gradient of the loss by them; loss_N in nats.

   Without a memory the loss is the cross-entropy of a target that gives `taught` of its weight to what the counts say
   (`teacher`, or NULL) and the rest to the token that came.

   With one (net_N is not NULL) p is net_N times the softmax's and others_N, and the loss is that of this mixture
   plus `own` times the above. loss_N is the mixture's. */
void semigpt_cross_entropy(int N, int V, int stride, number *logits, const int64_t *targets, float scale, float *loss_N,
                           const Counts *teacher, float taught, int T, const int64_t *ids, const float *net_N,
                           const float *others_N, float own) {
#pragma omp parallel
    {
        float *q = teacher ? malloc(sizeof(float) * stride) : NULL;
#pragma omp for schedule(static)
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
            /* The row's gradient is (mixed + alone) softmax - (mixed + alone (1 - taught)) one-hot - alone taught q. */
            float mixed = 0, alone = scale;
            if (net_N) {
                float by_net = net_N[n] * expf(-loss_N[n]), p = by_net + others_N[n];
                mixed = scale * by_net / p;
                alone = scale * own;
                loss_N[n] = -logf(p);
            }
            float share = (mixed + alone) / total;
            float at_target = exp_one(target - top) * share - mixed - alone * (teacher ? 1.0f - taught : 1.0f);
            if (teacher) {
                successors(teacher, ids + n / T * T, n % T + 1, -1, taught * alone, NULL, q);
                at_target -= q[targets[n]];
                for (int v = 0; v < whole; v += LANES) store(x + v, load(x + v) * share - loadf(q + v));
                for (int v = whole; v < V; v++) store_one(x + v, load_one(x + v) * share - q[v]);
            } else {
                for (int v = 0; v < whole; v += LANES) store(x + v, load(x + v) * share);
                for (int v = whole; v < V; v++) store_one(x + v, load_one(x + v) * share);
            }
            store_one(x + targets[n], at_target);
            memset(x + V, 0, sizeof(number) * (stride - V));
        }
        free(q);
    }
}
