/* A training step of the `blocks` rung on a CPU, loss and every gradient: the oracle is autograd over
   semigpt.models.attention; semigpt.models.blocks_step calls it.

   The lanes of a vector are sixteen texts. So sums over features and over positions are sums of vectors, never within
   one: norms, softmaxes and attention of heads of 8 over 8 positions fill whole vectors, and a query meets no key that it
   must not see. An activation [T, F] is T * F vectors; a batch is cut into units of sixteen texts, the last filled up
   with texts whose loss does not count.

   A unit runs forward, through the output layer and back by itself, while all that it made is in the caches. Threads share
   the units; each sums the gradients of its own, and the sums are added in the threads' order: the same number of threads
   gives the same bits. One parallel region and one barrier a step.

   T positions, C width, H heads, D head width, F feed-forward width, L layers, V vocabulary, O outputs, I inputs of a
   product. Weights are PyTorch's, [O, I]. */

#include <float.h>

#include "vectors.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { TOKENS, POSITIONS, FIRST_LAYER };
enum { NORM_1, SHIFT_1, QKV, PROJECT, PROJECT_BIAS, NORM_2, SHIFT_2, EXPAND, EXPAND_BIAS, CONTRACT, CONTRACT_BIAS, WEIGHTS };
enum { FINAL_NORM, FINAL_SHIFT, HEAD, LAST_WEIGHTS }; /* after the layers */

/* Of the output layer at a time: 8 positions, 128 texts' rows, of 48 tokens' logits. At width 32 they, the
   rows and the weights are 47 KB: about a first-level cache. */
enum { CHUNK = 48, ROWS = 8 };

typedef struct {
    int32_t B, T, C, H, F, L, V, context;
    int32_t dropped; /* of 256 coins */
    float epsilon, weight;
    const int64_t *ids, *targets;  /* [B, T] */
    const uint8_t *coins;          /* [units, 2 L, T, C, 16] */
    const float *const *weights;
    float *const *gradients;
    const uint8_t *add;            /* for each gradient: to what is there */
    float *room;                   /* semigpt_blocks_room() floats a thread */
    float *by_embedded;            /* [B, T, C] */
    double *losses;                /* a thread */
} Step;

typedef uint8_t v16b __attribute__((vector_size(16), aligned(1), may_alias));

INLINE v16 load(const float *p) { return *(const v16 *)p; }
INLINE void store(float *p, v16 x) { *(v16 *)p = x; }
INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE v16 vsqrt(v16 x) {
#ifdef __AVX512F__
    return (v16)_mm512_sqrt_ps((__m512)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (v16i){__VA_ARGS__})
#endif
#define EXCHANGE(step, low, high)                      \
    UNROLL for (int i = 0; i < LANES; i++) if (!(i & step)) { \
        v16 a = x[i], b = x[i + step];                 \
        x[i] = SHUFFLE(a, b, low);                     \
        x[i + step] = SHUFFLE(a, b, high);             \
    }
#define LIST(...) __VA_ARGS__

/* Sixteen vectors as a matrix, transposed. */
INLINE void transpose(v16 x[LANES]) {
    EXCHANGE(1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
             LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
    EXCHANGE(2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
             LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    EXCHANGE(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
             LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    EXCHANGE(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
             LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
}

INLINE void put(float *p, v16 x, int add) {
    if (add) x += load(p);
    store(p, x);
}

/* y [T, F] summed over positions and texts: the gradient of a bias. */
static void column_sums(int T, int F, const v16 *y, float *sums, int add) {
    for (int f = 0; f < F; f += LANES) {
        v16 x[LANES];
        for (int i = 0; i < LANES; i++) {
            x[i] = y[f + i];
            for (int t = 1; t < T; t++) x[i] += y[(size_t)t * F + f + i];
        }
        transpose(x);
        for (int i = 1; i < LANES; i++) x[0] += x[i];
        put(sums + f, x[0], add);
    }
}

/* x [T, F] with the texts in lanes as rows [T, 16, F] of floats. */
static void to_rows(int T, int F, const v16 *x, float *rows) {
    for (int t = 0; t < T; t++)
        for (int f = 0; f < F; f += LANES) {
            v16 block[LANES];
            memcpy(block, x + (size_t)t * F + f, sizeof block);
            transpose(block);
            for (int b = 0; b < LANES; b++) store(rows + ((size_t)t * LANES + b) * F + f, block[b]);
        }
}

/* What is done with a product before it is stored. */
enum { PLAIN, RELU, BRANCH };
typedef struct {
    const v16 *other;     /* RELU backward: what it gave [T, I]. BRANCH: the stream that the branch is added to [T, O] */
    const uint8_t *coins; /* BRANCH: [T, O, 16], or NULL */
    int dropped;
} After;

/* 0 where the coin is dropped, else what keeps the mean. */
INLINE v16 kept(const uint8_t *coins, int dropped) {
    v16i coin = __builtin_convertvector(*(const v16b *)coins, v16i);
    return (v16)((v16i)splat(256.0f / (256 - dropped)) & (coin >= dropped));
}

/* y = x Wᵀ + bias at `count` positions, outputs four by four; y's positions lie `stride` vectors apart. Where O is not a
   multiple of four its last row is computed again, into what follows it. */
INLINE void linear_at(const int count, const int kind, int I, int O, int stride, const v16 *x, const float *w,
                      const float *bias, After after, v16 *y) {
    for (int o = 0; o < O; o += 4) {
        const float *row[4];
        v16 sum[4][4];
        UNROLL for (int j = 0; j < 4; j++) {
            row[j] = w + (size_t)least(o + j, O - 1) * I;
            UNROLL for (int t = 0; t < count; t++) sum[j][t] = splat(bias ? bias[o + j] : 0);
        }
        for (int i = 0; i < I; i++) {
            v16 in[4];
            UNROLL for (int t = 0; t < count; t++) in[t] = x[(size_t)t * I + i];
            UNROLL for (int j = 0; j < 4; j++) {
                float factor = row[j][i];
                UNROLL for (int t = 0; t < count; t++) sum[j][t] += factor * in[t];
            }
        }
        UNROLL for (int t = 0; t < count; t++) UNROLL for (int j = 0; j < 4; j++) {
            size_t at = (size_t)t * stride + o + j;
            v16 value = sum[j][t];
            if (kind == RELU) value = larger(splat(0), value); /* in this order NaN stays NaN */
            if (kind == BRANCH) {
                if (after.coins) value *= kept(after.coins + at * LANES, after.dropped);
                value += after.other[at];
            }
            y[at] = value;
        }
    }
}
INLINE void linear(const int kind, int T, int I, int O, int stride, const v16 *x, const float *w, const float *bias,
                   After after, v16 *y) {
    int t = 0;
    for (; t + 4 <= T; t += 4) {
        After here = {after.other ? after.other + (size_t)t * stride : 0,
                      after.coins ? after.coins + (size_t)t * stride * LANES : 0, after.dropped};
        linear_at(4, kind, I, O, stride, x + (size_t)t * I, w, bias, here, y + (size_t)t * stride);
    }
    for (; t < T; t++) {
        After here = {after.other ? after.other + (size_t)t * stride : 0,
                      after.coins ? after.coins + (size_t)t * stride * LANES : 0, after.dropped};
        linear_at(1, kind, I, O, stride, x + (size_t)t * I, w, bias, here, y + (size_t)t * stride);
    }
}

/* The gradient by x of y = x Wᵀ; through a ReLU that gave x, where kind is RELU. */
INLINE void by_input_at(const int count, const int kind, int I, int O, int stride, const v16 *by_y, const float *w,
                        const v16 *relu, int add, v16 *by_x) {
    for (int i = 0; i < I; i += 4) {
        v16 sum[4][4];
        UNROLL for (int j = 0; j < 4; j++) UNROLL for (int t = 0; t < count; t++)
            sum[j][t] = add ? by_x[(size_t)t * I + i + j] : splat(0);
        for (int o = 0; o < O; o++) {
            const float *row = w + (size_t)o * I + i;
            v16 by[4];
            UNROLL for (int t = 0; t < count; t++) by[t] = by_y[(size_t)t * stride + o];
            UNROLL for (int j = 0; j < 4; j++) {
                float factor = row[j];
                UNROLL for (int t = 0; t < count; t++) sum[j][t] += factor * by[t];
            }
        }
        UNROLL for (int t = 0; t < count; t++) UNROLL for (int j = 0; j < 4; j++) {
            size_t at = (size_t)t * I + i + j;
            v16 value = sum[j][t];
            if (kind == RELU) value = (v16)((v16i)value & (relu[at] > 0));
            by_x[at] = value;
        }
    }
}
INLINE void by_input(const int kind, int T, int I, int O, int stride, const v16 *by_y, const float *w, const v16 *relu,
                     int add, v16 *by_x) {
    int t = 0;
    for (; t + 4 <= T; t += 4)
        by_input_at(4, kind, I, O, stride, by_y + (size_t)t * stride, w, relu + (size_t)t * I, add, by_x + (size_t)t * I);
    for (; t < T; t++)
        by_input_at(1, kind, I, O, stride, by_y + (size_t)t * stride, w, relu + (size_t)t * I, add, by_x + (size_t)t * I);
}

/* The gradient by W of y = x Wᵀ, x as rows [T, 16, I]. by_y has eights of outputs; those from O on are not stored. */
INLINE void by_weight_at(const int columns, int T, int I, int O, int stride, const v16 *by_y, const float *rows, int add,
                         float *by_w) {
    for (int o = 0; o < O; o += 8) {
        v16 sum[8][2];
        UNROLL for (int j = 0; j < 8; j++) UNROLL for (int c = 0; c < columns; c++) sum[j][c] = splat(0);
        for (int t = 0; t < T; t++) {
            const float *by = (const float *)(by_y + (size_t)t * stride + o), *row = rows + (size_t)t * LANES * I;
            for (int b = 0; b < LANES; b++, row += I) {
                v16 in[2];
                UNROLL for (int c = 0; c < columns; c++) in[c] = load(row + c * LANES);
                UNROLL for (int j = 0; j < 8; j++) {
                    float factor = by[j * LANES + b];
                    UNROLL for (int c = 0; c < columns; c++) sum[j][c] += factor * in[c];
                }
            }
        }
        UNROLL for (int j = 0; j < 8; j++) if (o + j < O)
            UNROLL for (int c = 0; c < columns; c++) put(by_w + (size_t)(o + j) * I + c * LANES, sum[j][c], add);
    }
}
static void by_weight(int T, int I, int O, int stride, const v16 *by_y, const float *rows, int add, float *by_w) {
    int i = 0;
    for (; i + 2 * LANES <= I; i += 2 * LANES) by_weight_at(2, T, I, O, stride, by_y, rows + i, add, by_w + i);
    if (i < I) by_weight_at(1, T, I, O, stride, by_y, rows + i, add, by_w + i);
}

static void norm(int T, int C, float epsilon, const v16 *x, const float *weight, const float *shift, v16 *y, v16 *mean_T,
                 v16 *rstd_T) {
    for (int t = 0; t < T; t++, x += C, y += C) {
        v16 sum = {}, squares = {};
        for (int c = 0; c < C; c++) sum += x[c];
        v16 mean = sum / (float)C;
        for (int c = 0; c < C; c++) squares += (x[c] - mean) * (x[c] - mean);
        v16 rstd = 1.0f / vsqrt(squares / (float)C + epsilon);
        for (int c = 0; c < C; c++) y[c] = (x[c] - mean) * rstd * weight[c] + shift[c];
        mean_T[t] = mean;
        rstd_T[t] = rstd;
    }
}

/* by_x gains what comes back through the norm. sums: 2 C vectors to work in. */
static void norm_backward(int T, int C, const v16 *x, const v16 *mean_T, const v16 *rstd_T, const float *weight,
                          const v16 *by_y, v16 *by_x, v16 *sums, float *by_weight, float *by_shift, int add) {
    memset(sums, 0, sizeof(v16) * 2 * C);
    for (int t = 0; t < T; t++, x += C, by_y += C, by_x += C) {
        v16 mean = mean_T[t], rstd = rstd_T[t], sum = {}, dot = {};
        for (int c = 0; c < C; c++) {
            v16 hat = (x[c] - mean) * rstd, by = by_y[c];
            sums[c] += by * hat;
            sums[C + c] += by;
            by *= weight[c];
            sum += by;
            dot += by * hat;
        }
        sum /= (float)C;
        dot /= (float)C;
        for (int c = 0; c < C; c++)
            by_x[c] += rstd * (by_y[c] * weight[c] - sum - (x[c] - mean) * rstd * dot);
    }
    column_sums(1, C, sums, by_weight, add);
    column_sums(1, C, sums + C, by_shift, add);
}

/* qkv [T, 3, H, D] to mixed [T, H, D]; shares: of each head's queries, one after the other, those of the keys they see. */
static void attend(int T, int H, int D, const v16 *qkv, v16 *shares, v16 *mixed) {
    const int C = H * D;
    const float scale = 1.0f / sqrtf(D);
    for (int h = 0; h < H; h++)
        for (int t = 0; t < T; t++, shares += t) {
            const v16 *q = qkv + (size_t)t * 3 * C + h * D, *k = qkv + C + h * D, *v = k + C;
            v16 top = splat(-FLT_MAX), sum = {};
            for (int s = 0; s <= t; s++) {
                v16 even = {}, odd = {};
                for (int d = 0; d < D; d += 2) {
                    even += q[d] * k[(size_t)s * 3 * C + d];
                    odd += q[d + 1] * k[(size_t)s * 3 * C + d + 1];
                }
                shares[s] = (even + odd) * scale;
                top = larger(shares[s], top);
            }
            for (int s = 0; s <= t; s++) {
                shares[s] = vexp(shares[s] - top);
                sum += shares[s];
            }
            sum = 1.0f / sum;
            for (int s = 0; s <= t; s++) shares[s] *= sum;
            for (int d = 0; d < D; d += 4) {
                v16 out[4] = {};
                for (int s = 0; s <= t; s++)
                    UNROLL for (int j = 0; j < 4; j++) out[j] += shares[s] * v[(size_t)s * 3 * C + d + j];
                UNROLL for (int j = 0; j < 4; j++) mixed[(size_t)t * C + h * D + d + j] = out[j];
            }
        }
}

/* by_scores: T vectors to work in. */
static void attend_backward(int T, int H, int D, const v16 *qkv, const v16 *shares, const v16 *by_mixed, v16 *by_scores,
                            v16 *by_qkv) {
    const int C = H * D;
    const float scale = 1.0f / sqrtf(D);
    memset(by_qkv, 0, sizeof(v16) * T * 3 * C);
    for (int h = 0; h < H; h++)
        for (int t = 0; t < T; t++, shares += t) {
            const v16 *q = qkv + (size_t)t * 3 * C + h * D, *k = qkv + C + h * D, *v = k + C;
            const v16 *by = by_mixed + (size_t)t * C + h * D;
            v16 *by_q = by_qkv + (size_t)t * 3 * C + h * D, *by_k = by_qkv + C + h * D, *by_v = by_k + C, dot = {};
            for (int s = 0; s <= t; s++) {
                v16 even = {}, odd = {};
                for (int d = 0; d < D; d += 2) {
                    even += by[d] * v[(size_t)s * 3 * C + d];
                    odd += by[d + 1] * v[(size_t)s * 3 * C + d + 1];
                }
                by_scores[s] = even + odd;
                dot += by_scores[s] * shares[s];
            }
            for (int s = 0; s <= t; s++) by_scores[s] = shares[s] * (by_scores[s] - dot) * scale;
            for (int d = 0; d < D; d += 4) {
                v16 sum[4] = {};
                for (int s = 0; s <= t; s++) {
                    size_t at = (size_t)s * 3 * C + d;
                    UNROLL for (int j = 0; j < 4; j++) {
                        sum[j] += by_scores[s] * k[at + j];
                        by_k[at + j] += by_scores[s] * q[d + j];
                        by_v[at + j] += shares[s] * by[d + j];
                    }
                }
                UNROLL for (int j = 0; j < 4; j++) by_q[d + j] = sum[j];
            }
        }
}

/* What a thread works in. */
typedef struct {
    v16 *x, *normed, *qkv, *shares, *mixed, *middle, *normed_2, *hidden, *mean, *rstd, *mean_2, *rstd_2;
} Layer;
typedef struct {
    Layer layer; /* of the first; each other lies `layer_size` vectors on */
    int64_t layer_size;
    v16 *x, *normed, *mean, *rstd; /* after the last */
    v16 *by_x, *by_found, *by_normed, *by_wide, *sums, *powers, *tops;
    float *rows, *part; /* part: the sums of the gradients, in the weights' order without the first */
} Room;

static int weights(const Step *s) { return FIRST_LAYER + s->L * WEIGHTS + LAST_WEIGHTS; }

static int64_t size(const Step *s, int weight) {
    int64_t C = s->C, F = s->F;
    if (weight == TOKENS) return s->V * C;
    if (weight == POSITIONS) return s->context * C;
    weight -= FIRST_LAYER;
    if (weight >= s->L * WEIGHTS) return weight == s->L * WEIGHTS + HEAD ? s->V * C : C;
    switch (weight % WEIGHTS) {
        case QKV: return 3 * C * C;
        case PROJECT: return C * C;
        case EXPAND: case CONTRACT: return C * F;
        case EXPAND_BIAS: return F;
        default: return C;
    }
}

/* Where in a thread's room what lies; how many floats it is. */
static int64_t lay_out(const Step *s, float *start, Room *room) {
    const int64_t T = s->T, C = s->C, F = s->F, wide = most(3 * C, F), chunks = (s->V + CHUNK - 1) / CHUNK;
    int64_t vectors = 0;
#define TAKE(pointer, count) (pointer = (v16 *)start + vectors, vectors += (count))
    Layer *l = &room->layer;
    TAKE(l->x, T * C), TAKE(l->normed, T * C), TAKE(l->qkv, T * 3 * C), TAKE(l->shares, s->H * T * (T + 1) / 2);
    TAKE(l->mixed, T * C), TAKE(l->middle, T * C), TAKE(l->normed_2, T * C), TAKE(l->hidden, T * F);
    TAKE(l->mean, T), TAKE(l->rstd, T), TAKE(l->mean_2, T), TAKE(l->rstd_2, T);
    room->layer_size = vectors;
    vectors *= s->L;
    TAKE(room->x, T * C), TAKE(room->normed, T * C), TAKE(room->mean, T), TAKE(room->rstd, T);
    TAKE(room->by_x, T * C), TAKE(room->by_found, T * C), TAKE(room->by_normed, T * C), TAKE(room->by_wide, T * wide);
    TAKE(room->sums, most(2 * C, T)), TAKE(room->powers, chunks * ROWS * CHUNK), TAKE(room->tops, chunks * ROWS);
    v16 *rows;
    TAKE(rows, T * most(C, F));
    room->rows = (float *)rows;
    room->part = start + vectors * LANES;
    int64_t floats = vectors * LANES;
    for (int w = 1; w < weights(s); w++) floats += size(s, w);
    return floats;
}

static Layer layer_of(const Room *room, int index) {
    Layer l = room->layer;
    v16 **first = (v16 **)&l;
    for (size_t i = 0; i < sizeof l / sizeof *first; i++) first[i] += index * room->layer_size;
    return l;
}

static float *part_of(const Step *s, const Room *room, int weight) {
    float *part = room->part;
    for (int w = 1; w < weight; w++) part += size(s, w);
    return part;
}

/* The output layer over `count` positions from the t-th on: their loss, by_normed, and the gradient of its weights. A
   token's logit becomes e^(logit - the largest of its chunk) at once, and is divided by the sum when that is known. */
static double output(const Step *s, const Room *room, int first_text, int t, int count, int add) {
    const int C = s->C, V = s->V, T = s->T, texts = least(LANES, s->B - first_text);
    const float *w = s->weights[FIRST_LAYER + s->L * WEIGHTS + HEAD], share = 1.0f / ((float)s->B * T);
    const v16 *normed = room->normed + (size_t)t * C;
    float *by_w = part_of(s, room, FIRST_LAYER + s->L * WEIGHTS + HEAD), logit[ROWS][LANES];
    v16 top[ROWS], sum[ROWS], counts = {};
    double loss = 0;
    for (int r = 0; r < ROWS; r++) top[r] = splat(-FLT_MAX), sum[r] = splat(0);
    for (int b = 0; b < texts; b++) counts[b] = share;
    to_rows(count, C, normed, room->rows);
    for (int first = 0, chunk = 0; first < V; first += CHUNK, chunk++) {
        int some = least(CHUNK, V - first);
        v16 *y = room->powers + (size_t)chunk * ROWS * CHUNK;
        linear(PLAIN, count, C, some, CHUNK, normed, w + (size_t)first * C, 0, (After){0}, y);
        for (int r = 0; r < count; r++, y += CHUNK) {
            const int64_t *target = s->targets + (size_t)first_text * T + t + r;
            for (int b = 0; b < texts; b++) {
                int64_t at = target[(size_t)b * T] - first;
                if (at >= 0 && at < some) logit[r][b] = y[at][b];
            }
            v16 here = y[0], powers = {};
            for (int v = 1; v < some; v++) here = larger(y[v], here);
            for (int v = 0; v < some; v++) {
                y[v] = vexp(y[v] - here);
                powers += y[v];
            }
            room->tops[chunk * ROWS + r] = here;
            v16 both = larger(here, top[r]);
            sum[r] = sum[r] * vexp(top[r] - both) + powers * vexp(here - both);
            top[r] = both;
        }
    }
    for (int r = 0; r < count; r++) {
        for (int b = 0; b < texts; b++) loss += top[r][b] + logf(sum[r][b]) - logit[r][b];
        sum[r] = counts / sum[r];
    }
    for (int first = 0, chunk = 0; first < V; first += CHUNK, chunk++) {
        int some = least(CHUNK, V - first);
        v16 *powers = room->powers + (size_t)chunk * ROWS * CHUNK, *y = powers;
        for (int r = 0; r < count; r++, y += CHUNK) {
            const int64_t *target = s->targets + (size_t)first_text * T + t + r;
            v16 factor = vexp(room->tops[chunk * ROWS + r] - top[r]) * sum[r];
            for (int v = 0; v < some; v++) y[v] *= factor;
            for (int b = 0; b < texts; b++) {
                int64_t at = target[(size_t)b * T] - first;
                if (at >= 0 && at < some) y[at][b] -= share;
            }
        }
        by_input(PLAIN, count, C, some, CHUNK, powers, w + (size_t)first * C, 0, first > 0, room->by_normed + (size_t)t * C);
        by_weight(count, C, some, CHUNK, powers, room->rows, add, by_w + (size_t)first * C);
    }
    return loss;
}

static const v16 *dropped(const Step *s, const v16 *by_x, const uint8_t *coins, v16 *by_found) {
    if (!coins) return by_x;
    for (int i = 0; i < s->T * s->C; i++) by_found[i] = by_x[i] * kept(coins + (size_t)i * LANES, s->dropped);
    return by_found;
}

/* Sixteen texts, forward and back. The summed loss of their tokens. */
static double learn(const Step *s, const Room *room, int unit, int add) {
    const int T = s->T, C = s->C, H = s->H, F = s->F, L = s->L, first_text = unit * LANES;
    const float *tokens = s->weights[TOKENS], *positions = s->weights[POSITIONS];
    const float *const *last = s->weights + FIRST_LAYER + L * WEIGHTS;
    const size_t branch = (size_t)T * C * LANES;
    const uint8_t *coins = s->dropped ? s->coins + (size_t)unit * 2 * L * branch : 0;
    double loss = 0;

    v16 *x = L ? layer_of(room, 0).x : room->x;
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c += LANES) {
            v16 block[LANES];
            for (int b = 0; b < LANES; b++) {
                int64_t id = first_text + b < s->B ? s->ids[(size_t)(first_text + b) * T + t] : 0;
                block[b] = load(tokens + id * C + c) + load(positions + (size_t)t * C + c);
            }
            transpose(block);
            memcpy(x + (size_t)t * C + c, block, sizeof block);
        }
    for (int i = 0; i < L; i++) {
        const float *const *w = s->weights + FIRST_LAYER + i * WEIGHTS;
        Layer l = layer_of(room, i);
        v16 *next = i + 1 < L ? layer_of(room, i + 1).x : room->x;
        norm(T, C, s->epsilon, l.x, w[NORM_1], w[SHIFT_1], l.normed, l.mean, l.rstd);
        linear(PLAIN, T, C, 3 * C, 3 * C, l.normed, w[QKV], 0, (After){0}, l.qkv);
        attend(T, H, C / H, l.qkv, l.shares, l.mixed);
        linear(BRANCH, T, C, C, C, l.mixed, w[PROJECT], w[PROJECT_BIAS],
               (After){l.x, coins ? coins + 2 * i * branch : 0, s->dropped}, l.middle);
        norm(T, C, s->epsilon, l.middle, w[NORM_2], w[SHIFT_2], l.normed_2, l.mean_2, l.rstd_2);
        linear(RELU, T, C, F, F, l.normed_2, w[EXPAND], w[EXPAND_BIAS], (After){0}, l.hidden);
        linear(BRANCH, T, F, C, C, l.hidden, w[CONTRACT], w[CONTRACT_BIAS],
               (After){l.middle, coins ? coins + (2 * i + 1) * branch : 0, s->dropped}, next);
    }
    norm(T, C, s->epsilon, room->x, last[FINAL_NORM], last[FINAL_SHIFT], room->normed, room->mean, room->rstd);
    for (int t = 0; t < T; t += ROWS) loss += output(s, room, first_text, t, least(ROWS, T - t), add || t);

    float *part = part_of(s, room, FIRST_LAYER + L * WEIGHTS);
    v16 *by_x = room->by_x, *by_normed = room->by_normed, *by_wide = room->by_wide;
    memset(by_x, 0, sizeof(v16) * T * C);
    norm_backward(T, C, room->x, room->mean, room->rstd, last[FINAL_NORM], by_normed, by_x, room->sums, part, part + C, add);
    for (int i = L - 1; i >= 0; i--) {
        const float *const *w = s->weights + FIRST_LAYER + i * WEIGHTS;
        Layer l = layer_of(room, i);
        float *by[WEIGHTS];
        by[0] = part_of(s, room, FIRST_LAYER + i * WEIGHTS);
        for (int k = 1; k < WEIGHTS; k++) by[k] = by[k - 1] + size(s, FIRST_LAYER + k - 1);

        const v16 *by_found = dropped(s, by_x, coins ? coins + (2 * i + 1) * branch : 0, room->by_found);
        to_rows(T, F, l.hidden, room->rows);
        by_weight(T, F, C, C, by_found, room->rows, add, by[CONTRACT]);
        column_sums(T, C, by_found, by[CONTRACT_BIAS], add);
        by_input(RELU, T, F, C, C, by_found, w[CONTRACT], l.hidden, 0, by_wide);
        to_rows(T, C, l.normed_2, room->rows);
        by_weight(T, C, F, F, by_wide, room->rows, add, by[EXPAND]);
        column_sums(T, F, by_wide, by[EXPAND_BIAS], add);
        by_input(PLAIN, T, C, F, F, by_wide, w[EXPAND], 0, 0, by_normed);
        norm_backward(T, C, l.middle, l.mean_2, l.rstd_2, w[NORM_2], by_normed, by_x, room->sums, by[NORM_2], by[SHIFT_2],
                      add);

        by_found = dropped(s, by_x, coins ? coins + 2 * i * branch : 0, room->by_found);
        to_rows(T, C, l.mixed, room->rows);
        by_weight(T, C, C, C, by_found, room->rows, add, by[PROJECT]);
        column_sums(T, C, by_found, by[PROJECT_BIAS], add);
        by_input(PLAIN, T, C, C, C, by_found, w[PROJECT], 0, 0, by_normed);
        attend_backward(T, H, C / H, l.qkv, l.shares, by_normed, room->sums, by_wide);
        to_rows(T, C, l.normed, room->rows);
        by_weight(T, C, 3 * C, 3 * C, by_wide, room->rows, add, by[QKV]);
        by_input(PLAIN, T, C, 3 * C, 3 * C, by_wide, w[QKV], 0, 0, by_normed);
        norm_backward(T, C, l.x, l.mean, l.rstd, w[NORM_1], by_normed, by_x, room->sums, by[NORM_1], by[SHIFT_1], add);
    }

    float *by_positions = part_of(s, room, POSITIONS);
    if (!add) memset(by_positions, 0, sizeof(float) * size(s, POSITIONS));
    for (int t = 0; t < T; t++) column_sums(1, C, by_x + (size_t)t * C, by_positions + (size_t)t * C, add);
    to_rows(T, C, by_x, room->rows);
    for (int b = 0; b < least(LANES, s->B - first_text); b++)
        for (int t = 0; t < T; t++)
            memcpy(s->by_embedded + ((size_t)(first_text + b) * T + t) * C, room->rows + ((size_t)t * LANES + b) * C,
                   sizeof(float) * C);
    return loss;
}

/* gradient (+)= weight * the threads' sums, from one float to another. */
static void gather(const Step *s, int weight, const float *first_part, int64_t apart, int threads, int64_t from, int64_t to) {
    float *gradient = s->gradients[weight];
    for (int64_t i = from; i < to; i += LANES) {
        v16 sum = load(first_part + i);
        for (int t = 1; t < threads; t++) sum += load(first_part + t * apart + i);
        put(gradient + i, sum * s->weight, s->add[weight]);
    }
}

/* At most so many threads share a step. */
int semigpt_blocks_threads(void) { return omp_get_max_threads(); }

/* The floats that each of them works in, a multiple of 16. */
int64_t semigpt_blocks_room(const Step *s) {
    Room room;
    return lay_out(s, 0, &room);
}

/* The mean loss in nats; s->weight times its gradients written, or added to what is there. */
double semigpt_blocks_step(const Step *s) {
    const int units = (s->B + LANES - 1) / LANES;
    const int64_t apart = semigpt_blocks_room(s), C = s->C;
    int learning = 1;
#pragma omp parallel
    {
        const int threads = omp_get_num_threads(), thread = omp_get_thread_num();
        const int active = least(threads, units);
        Room room;
        if (thread < active) {
            double loss = 0;
            lay_out(s, s->room + thread * apart, &room);
            const int first = (int)((int64_t)units * thread / active), end = (int)((int64_t)units * (thread + 1) / active);
            for (int unit = first; unit < end; unit++) loss += learn(s, &room, unit, unit > first);
            s->losses[thread] = loss;
        }
#pragma omp barrier
        lay_out(s, s->room, &room);
        if (thread == 0) learning = active;
        const float *part = room.part;
        const int head = weights(s) - 1;
        for (int w = 1; w < head; part += size(s, w), w++) {
            const int64_t blocks = size(s, w) / LANES;
            gather(s, w, part, apart, active, blocks * thread / threads * LANES, blocks * (thread + 1) / threads * LANES);
        }
        /* A thread owns rows of the vocabulary, and finds what is theirs in the order of the text. */
        const int64_t from = (int64_t)s->V * thread / threads, to = (int64_t)s->V * (thread + 1) / threads;
        float *by_tokens = s->gradients[TOKENS];
        gather(s, head, part, apart, active, from * C, to * C);
        if (!s->add[TOKENS] && by_tokens != s->gradients[head]) memset(by_tokens + from * C, 0, sizeof(float) * (to - from) * C);
        for (int64_t n = 0; n < (int64_t)s->B * s->T; n++)
            if (s->ids[n] >= from && s->ids[n] < to)
                for (int64_t c = 0; c < C; c += LANES)
                    put(by_tokens + s->ids[n] * C + c, load(s->by_embedded + n * C + c) * s->weight, 1);
    }
    double loss = 0;
    for (int t = 0; t < learning; t++) loss += s->losses[t];
    return loss / ((double)s->B * s->T);
}
