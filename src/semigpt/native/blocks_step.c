/* A training step of the `blocks` rung on a CPU, the loss and every gradient. Autograd over
   semigpt.models.attention is the oracle; semigpt.native.blocks_step calls this.

   The lanes of a vector are sequences. Sums over features and over positions are then sums
   of vectors, never within one: norms, softmaxes and attention of heads of 8 over 8 positions fill
   whole vectors, and a query computes no key that it must not see. An activation [T, F] is T * F
   vectors. A batch is cut into units of LANES sequences, the last padded with sequences whose
   loss does not count.

   A unit runs forward, through the output layer and back by itself, while its activations are in
   the caches. Threads share the units. Each sums the gradients of its own, and the sums are added
   in the threads' order, so the same number of threads gives the same bits. There is one parallel
   region and one barrier a step.

   T positions, C width, H heads, D head width, F feed-forward width, L layers, V vocabulary, O
   outputs and I inputs of a product. Weights are PyTorch's, [O, I]. d_x is the gradient of the loss
   by x. Ids are inside the vocabulary: the caller checks. */

#include <float.h>

#include "vectors.h"

#define INLINE static inline __attribute__((always_inline))

enum { TOKENS, POSITIONS, FIRST_LAYER };
enum {
    NORM_1, SHIFT_1, QKV, PROJECT, PROJECT_BIAS,
    NORM_2, SHIFT_2, EXPAND, EXPAND_BIAS, CONTRACT, CONTRACT_BIAS, WEIGHTS
};
enum { FINAL_NORM, FINAL_SHIFT, HEAD, LAST_WEIGHTS }; /* after the layers */

/* The output layer computes 48 tokens' logits at 8 positions of LANES sequences at a time. At width
   32 and 16 lanes the logits, the rows and the weights take 47 KB, about a first-level cache. */
enum { CHUNK = 48, ROWS = 8 };

/* Outputs that a product computes at a time, at four positions: their sums stay in registers. */
enum { OUTPUTS = REGISTERS / 8 };

/* Mirrored by `_Step` in semigpt.native.blocks_step. */
typedef struct {
    int32_t B, T, C, H, F, L, V, context;
    int32_t dropped; /* of 256: an element is dropped where its random byte is less */
    float epsilon, weight;
    const int64_t *ids, *targets; /* [B, T] */
    const uint8_t *mask;          /* [units, 2 L, T, C, LANES]: random bytes of each branch */
    const float *const *weights;
    float *const *gradients;
    const uint8_t *add;           /* for each gradient: add to what is there */
    float *workspace;             /* semigpt_blocks_workspace() floats a thread */
    float *d_embedded;            /* [B, T, C] */
    double *losses;               /* a thread */
} Step;

typedef uint8_t vbyte __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE int smaller_int(int a, int b) { return a < b ? a : b; }
INLINE int64_t larger_int64(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE vfloat vsqrt(vfloat x) {
#if LANES == 16 && defined(__AVX512F__)
    return (vfloat)_mm512_sqrt_ps((__m512)x);
#elif LANES == 8 && defined(__AVX__)
    return (vfloat)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

INLINE void store_or_add(float *p, vfloat x, int add) {
    if (add) x += loadf(p);
    storef(p, x);
}

/* y [T, F] summed over positions and sequences: the gradient of a bias. */
static void column_sums(int T, int F, const vfloat *y, float *sums, int add) {
    for (int f = 0; f < F; f += LANES) {
        vfloat x[LANES];
        for (int i = 0; i < LANES; i++) {
            x[i] = y[f + i];
            for (int t = 1; t < T; t++) x[i] += y[(size_t)t * F + f + i];
        }
        transpose(x);
        for (int i = 1; i < LANES; i++) x[0] += x[i];
        store_or_add(sums + f, x[0], add);
    }
}

/* x [T, F] with the sequences in lanes as rows [T, LANES, F] of floats. */
static void to_rows(int T, int F, const vfloat *x, float *rows) {
    for (int t = 0; t < T; t++)
        for (int f = 0; f < F; f += LANES) {
            vfloat block[LANES];
            memcpy(block, x + (size_t)t * F + f, sizeof block);
            transpose(block);
            for (int b = 0; b < LANES; b++)
                storef(rows + ((size_t)t * LANES + b) * F + f, block[b]);
        }
}

/* What happens to a product before it is stored. */
enum { PLAIN, RELU, BRANCH };
typedef struct {
    const vfloat *residual; /* BRANCH: the stream that the branch is added to, [T, O] */
    const uint8_t *mask; /* BRANCH: [T, O, LANES], or NULL */
    int dropped;
} Epilogue;

/* 0 where an element is dropped, else the factor that keeps the mean. */
INLINE vfloat dropout_factor(const uint8_t *mask, int dropped) {
    vint random = __builtin_convertvector(*(const vbyte *)mask, vint);
    return (vfloat)((vint)splat(256.0f / (256 - dropped)) & (random >= dropped));
}

/* y = x Wᵀ + bias at `count` positions, OUTPUTS at a time; y's positions are `stride` vectors
   apart. Where O is not a multiple of OUTPUTS its last row is computed again, into what follows
   it. */
INLINE void linear_at(const int count, const int kind, int I, int O, int stride, const vfloat *x,
                      const float *w, const float *bias, Epilogue epilogue, vfloat *y) {
    for (int o = 0; o < O; o += OUTPUTS) {
        const float *row[OUTPUTS];
        vfloat sum[OUTPUTS][4];
        UNROLL for (int j = 0; j < OUTPUTS; j++) {
            row[j] = w + (size_t)smaller_int(o + j, O - 1) * I;
            UNROLL for (int t = 0; t < count; t++) sum[j][t] = splat(bias ? bias[o + j] : 0);
        }
        for (int i = 0; i < I; i++) {
            vfloat in[4];
            UNROLL for (int t = 0; t < count; t++) in[t] = x[(size_t)t * I + i];
            UNROLL for (int j = 0; j < OUTPUTS; j++) {
                float factor = row[j][i];
                UNROLL for (int t = 0; t < count; t++) sum[j][t] += factor * in[t];
            }
        }
        UNROLL for (int t = 0; t < count; t++) UNROLL for (int j = 0; j < OUTPUTS; j++) {
            size_t at = (size_t)t * stride + o + j;
            vfloat value = sum[j][t];
            if (kind == RELU) value = larger(splat(0), value); /* in this order NaN stays NaN */
            if (kind == BRANCH) {
                if (epilogue.mask)
                    value *= dropout_factor(epilogue.mask + at * LANES, epilogue.dropped);
                value += epilogue.residual[at];
            }
            y[at] = value;
        }
    }
}
INLINE Epilogue epilogue_at(Epilogue e, int t, int stride) {
    return (Epilogue){e.residual ? e.residual + (size_t)t * stride : 0,
                      e.mask ? e.mask + (size_t)t * stride * LANES : 0, e.dropped};
}
INLINE void linear(const int kind, int T, int I, int O, int stride, const vfloat *x, const float *w,
                   const float *bias, Epilogue epilogue, vfloat *y) {
    int t = 0;
    for (; t + 4 <= T; t += 4)
        linear_at(4, kind, I, O, stride, x + (size_t)t * I, w, bias,
                  epilogue_at(epilogue, t, stride), y + (size_t)t * stride);
    for (; t < T; t++)
        linear_at(1, kind, I, O, stride, x + (size_t)t * I, w, bias,
                  epilogue_at(epilogue, t, stride), y + (size_t)t * stride);
}

/* d_x of y = x Wᵀ; through the ReLU whose output is x, where kind is RELU. */
INLINE void input_gradient_at(const int count, const int kind, int I, int O, int stride,
                              const vfloat *d_y, const float *w, const vfloat *relu, int add,
                              vfloat *d_x) {
    for (int i = 0; i < I; i += OUTPUTS) {
        vfloat sum[OUTPUTS][4];
        UNROLL for (int j = 0; j < OUTPUTS; j++) UNROLL for (int t = 0; t < count; t++)
            sum[j][t] = add ? d_x[(size_t)t * I + i + j] : splat(0);
        for (int o = 0; o < O; o++) {
            const float *row = w + (size_t)o * I + i;
            vfloat d[4];
            UNROLL for (int t = 0; t < count; t++) d[t] = d_y[(size_t)t * stride + o];
            UNROLL for (int j = 0; j < OUTPUTS; j++) {
                float factor = row[j];
                UNROLL for (int t = 0; t < count; t++) sum[j][t] += factor * d[t];
            }
        }
        UNROLL for (int t = 0; t < count; t++) UNROLL for (int j = 0; j < OUTPUTS; j++) {
            size_t at = (size_t)t * I + i + j;
            vfloat value = sum[j][t];
            if (kind == RELU) value = (vfloat)((vint)value & (relu[at] > 0));
            d_x[at] = value;
        }
    }
}
INLINE void input_gradient(const int kind, int T, int I, int O, int stride, const vfloat *d_y,
                           const float *w, const vfloat *relu, int add, vfloat *d_x) {
    int t = 0;
    for (; t + 4 <= T; t += 4)
        input_gradient_at(4, kind, I, O, stride, d_y + (size_t)t * stride, w, relu + (size_t)t * I,
                          add, d_x + (size_t)t * I);
    for (; t < T; t++)
        input_gradient_at(1, kind, I, O, stride, d_y + (size_t)t * stride, w, relu + (size_t)t * I,
                          add, d_x + (size_t)t * I);
}

/* d_w of y = x Wᵀ, x as rows [T, LANES, I]. d_y has a multiple of eight outputs; those from O on
   are not stored. */
INLINE void weight_gradient_at(const int columns, int T, int I, int O, int stride,
                               const vfloat *d_y, const float *rows, int add, float *d_w) {
    for (int o = 0; o < O; o += 2 * OUTPUTS) {
        vfloat sum[2 * OUTPUTS][2];
        UNROLL for (int j = 0; j < 2 * OUTPUTS; j++)
            UNROLL for (int c = 0; c < columns; c++) sum[j][c] = splat(0);
        for (int t = 0; t < T; t++) {
            const float *d = (const float *)(d_y + (size_t)t * stride + o);
            const float *row = rows + (size_t)t * LANES * I;
            for (int b = 0; b < LANES; b++, row += I) {
                vfloat in[2];
                UNROLL for (int c = 0; c < columns; c++) in[c] = loadf(row + c * LANES);
                UNROLL for (int j = 0; j < 2 * OUTPUTS; j++) {
                    float factor = d[j * LANES + b];
                    UNROLL for (int c = 0; c < columns; c++) sum[j][c] += factor * in[c];
                }
            }
        }
        UNROLL for (int j = 0; j < 2 * OUTPUTS; j++) if (o + j < O)
            UNROLL for (int c = 0; c < columns; c++)
                store_or_add(d_w + (size_t)(o + j) * I + c * LANES, sum[j][c], add);
    }
}
static void weight_gradient(int T, int I, int O, int stride, const vfloat *d_y, const float *rows,
                            int add, float *d_w) {
    int i = 0;
    for (; i + 2 * LANES <= I; i += 2 * LANES)
        weight_gradient_at(2, T, I, O, stride, d_y, rows + i, add, d_w + i);
    if (i < I) weight_gradient_at(1, T, I, O, stride, d_y, rows + i, add, d_w + i);
}

/* y = layer norm of x, and each position's mean and 1 / standard deviation. */
static void norm(int T, int C, float epsilon, const vfloat *x, const float *weight,
                 const float *shift, vfloat *y, vfloat *mean_T, vfloat *rstd_T) {
    for (int t = 0; t < T; t++, x += C, y += C) {
        vfloat sum = {}, squares = {};
        for (int c = 0; c < C; c++) sum += x[c];
        vfloat mean = sum / (float)C;
        for (int c = 0; c < C; c++) squares += (x[c] - mean) * (x[c] - mean);
        vfloat rstd = 1.0f / vsqrt(squares / (float)C + epsilon);
        for (int c = 0; c < C; c++) y[c] = (x[c] - mean) * rstd * weight[c] + shift[c];
        mean_T[t] = mean;
        rstd_T[t] = rstd;
    }
}

/* d_x += what comes back through the norm. `sums`: 2 C vectors of workspace. */
static void norm_backward(int T, int C, const vfloat *x, const vfloat *mean_T, const vfloat *rstd_T,
                          const float *weight, const vfloat *d_y, vfloat *d_x, vfloat *sums,
                          float *d_weight, float *d_shift, int add) {
    memset(sums, 0, sizeof(vfloat) * 2 * C);
    for (int t = 0; t < T; t++, x += C, d_y += C, d_x += C) {
        vfloat mean = mean_T[t], rstd = rstd_T[t], sum = {}, dot = {};
        for (int c = 0; c < C; c++) {
            vfloat hat = (x[c] - mean) * rstd, d = d_y[c];
            sums[c] += d * hat;
            sums[C + c] += d;
            d *= weight[c];
            sum += d;
            dot += d * hat;
        }
        sum /= (float)C;
        dot /= (float)C;
        for (int c = 0; c < C; c++)
            d_x[c] += rstd * (d_y[c] * weight[c] - sum - (x[c] - mean) * rstd * dot);
    }
    column_sums(1, C, sums, d_weight, add);
    column_sums(1, C, sums + C, d_shift, add);
}

/* qkv [T, 3, H, D] to mixed [T, H, D]. `attention`: the weights of the 1, 2 ... T keys that a
   head's queries see, head after head. */
static void attend(int T, int H, int D, const vfloat *qkv, vfloat *attention, vfloat *mixed) {
    const int C = H * D;
    const float scale = 1.0f / sqrtf(D);
    for (int h = 0; h < H; h++)
        for (int t = 0; t < T; t++, attention += t) {
            const vfloat *q = qkv + (size_t)t * 3 * C + h * D, *k = qkv + C + h * D, *v = k + C;
            vfloat top = splat(-FLT_MAX), sum = {};
            for (int s = 0; s <= t; s++) {
                vfloat even = {}, odd = {};
                for (int d = 0; d < D; d += 2) {
                    even += q[d] * k[(size_t)s * 3 * C + d];
                    odd += q[d + 1] * k[(size_t)s * 3 * C + d + 1];
                }
                attention[s] = (even + odd) * scale;
                top = larger(attention[s], top);
            }
            for (int s = 0; s <= t; s++) {
                attention[s] = vexp(attention[s] - top);
                sum += attention[s];
            }
            sum = 1.0f / sum;
            for (int s = 0; s <= t; s++) attention[s] *= sum;
            for (int d = 0; d < D; d += 4) {
                vfloat out[4] = {};
                for (int s = 0; s <= t; s++)
                    UNROLL for (int j = 0; j < 4; j++)
                        out[j] += attention[s] * v[(size_t)s * 3 * C + d + j];
                UNROLL for (int j = 0; j < 4; j++) mixed[(size_t)t * C + h * D + d + j] = out[j];
            }
        }
}

/* `d_scores`: T vectors of workspace. */
static void attend_backward(int T, int H, int D, const vfloat *qkv, const vfloat *attention,
                            const vfloat *d_mixed, vfloat *d_scores, vfloat *d_qkv) {
    const int C = H * D;
    const float scale = 1.0f / sqrtf(D);
    memset(d_qkv, 0, sizeof(vfloat) * T * 3 * C);
    for (int h = 0; h < H; h++)
        for (int t = 0; t < T; t++, attention += t) {
            const vfloat *q = qkv + (size_t)t * 3 * C + h * D, *k = qkv + C + h * D, *v = k + C;
            const vfloat *d_out = d_mixed + (size_t)t * C + h * D;
            vfloat *d_q = d_qkv + (size_t)t * 3 * C + h * D, *d_k = d_qkv + C + h * D;
            vfloat *d_v = d_k + C;
            vfloat dot = {};
            for (int s = 0; s <= t; s++) {
                vfloat even = {}, odd = {};
                for (int d = 0; d < D; d += 2) {
                    even += d_out[d] * v[(size_t)s * 3 * C + d];
                    odd += d_out[d + 1] * v[(size_t)s * 3 * C + d + 1];
                }
                d_scores[s] = even + odd;
                dot += d_scores[s] * attention[s];
            }
            for (int s = 0; s <= t; s++) d_scores[s] = attention[s] * (d_scores[s] - dot) * scale;
            for (int d = 0; d < D; d += 4) {
                vfloat sum[4] = {};
                for (int s = 0; s <= t; s++) {
                    size_t at = (size_t)s * 3 * C + d;
                    UNROLL for (int j = 0; j < 4; j++) {
                        sum[j] += d_scores[s] * k[at + j];
                        d_k[at + j] += d_scores[s] * q[d + j];
                        d_v[at + j] += attention[s] * d_out[d + j];
                    }
                }
                UNROLL for (int j = 0; j < 4; j++) d_q[d + j] = sum[j];
            }
        }
}

/* A thread's workspace. */
typedef struct {
    vfloat *x, *normed, *qkv, *attention, *mixed, *middle, *normed_2, *hidden;
    vfloat *mean, *rstd, *mean_2, *rstd_2;
} Layer;
typedef struct {
    Layer layer; /* the first; the others follow, `layer_size` vectors apart */
    int64_t layer_size;
    vfloat *x, *normed, *mean, *rstd; /* after the last */
    vfloat *d_x, *d_branch, *d_normed, *d_wide, *sums, *powers, *tops;
    float *rows;
    float *partial; /* the gradients' sums of this thread, in the weights' order but the first */
} Workspace;

static int weights(const Step *s) { return FIRST_LAYER + s->L * WEIGHTS + LAST_WEIGHTS; }

static int64_t weight_size(const Step *s, int weight) {
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

/* Lay out a thread's workspace from `start` on. Returns its number of floats. */
static int64_t lay_out(const Step *s, float *start, Workspace *ws) {
    const int64_t T = s->T, C = s->C, F = s->F, wide = larger_int64(3 * C, F);
    const int64_t chunks = (s->V + CHUNK - 1) / CHUNK;
    int64_t vectors = 0;
#define TAKE(pointer, count) (pointer = (vfloat *)start + vectors, vectors += (count))
    Layer *l = &ws->layer;
    TAKE(l->x, T * C), TAKE(l->normed, T * C), TAKE(l->qkv, T * 3 * C);
    TAKE(l->attention, s->H * T * (T + 1) / 2);
    TAKE(l->mixed, T * C), TAKE(l->middle, T * C), TAKE(l->normed_2, T * C), TAKE(l->hidden, T * F);
    TAKE(l->mean, T), TAKE(l->rstd, T), TAKE(l->mean_2, T), TAKE(l->rstd_2, T);
    ws->layer_size = vectors;
    vectors *= s->L;
    TAKE(ws->x, T * C), TAKE(ws->normed, T * C), TAKE(ws->mean, T), TAKE(ws->rstd, T);
    TAKE(ws->d_x, T * C), TAKE(ws->d_branch, T * C), TAKE(ws->d_normed, T * C);
    TAKE(ws->d_wide, T * wide), TAKE(ws->sums, larger_int64(2 * C, T));
    TAKE(ws->powers, chunks * ROWS * CHUNK), TAKE(ws->tops, chunks * ROWS);
    vfloat *rows;
    TAKE(rows, T * larger_int64(C, F));
    ws->rows = (float *)rows;
    ws->partial = start + vectors * LANES;
    int64_t floats = vectors * LANES;
    for (int w = 1; w < weights(s); w++) floats += weight_size(s, w);
    return floats;
}

static Layer layer_of(const Workspace *ws, int index) {
    Layer l = ws->layer;
    vfloat **first = (vfloat **)&l;
    for (size_t i = 0; i < sizeof l / sizeof *first; i++) first[i] += index * ws->layer_size;
    return l;
}

static float *partial_of(const Step *s, const Workspace *ws, int weight) {
    float *partial = ws->partial;
    for (int w = 1; w < weight; w++) partial += weight_size(s, w);
    return partial;
}

/* The output layer at `count` positions from t on: returns their loss, and gives d_normed and d_w.
   A token's logit becomes e^(logit - the largest of its chunk) at once, and is divided by the sum
   when that is known. */
static double output(const Step *s, const Workspace *ws, int first_sequence, int t, int count,
                     int add) {
    const int C = s->C, V = s->V, T = s->T, sequences = smaller_int(LANES, s->B - first_sequence);
    const float *w = s->weights[FIRST_LAYER + s->L * WEIGHTS + HEAD];
    const float scale = 1.0f / ((float)s->B * T); /* the loss is a mean */
    const vfloat *normed = ws->normed + (size_t)t * C;
    float *d_w = partial_of(s, ws, FIRST_LAYER + s->L * WEIGHTS + HEAD), logit[ROWS][LANES];
    vfloat top[ROWS], sum[ROWS], counts = {};
    double loss = 0;
    for (int r = 0; r < ROWS; r++) top[r] = splat(-FLT_MAX), sum[r] = splat(0);
    for (int b = 0; b < sequences; b++) counts[b] = scale;
    to_rows(count, C, normed, ws->rows);
    for (int first = 0, chunk = 0; first < V; first += CHUNK, chunk++) {
        int some = smaller_int(CHUNK, V - first);
        vfloat *y = ws->powers + (size_t)chunk * ROWS * CHUNK;
        linear(PLAIN, count, C, some, CHUNK, normed, w + (size_t)first * C, 0, (Epilogue){0}, y);
        for (int r = 0; r < count; r++, y += CHUNK) {
            const int64_t *target = s->targets + (size_t)first_sequence * T + t + r;
            for (int b = 0; b < sequences; b++) {
                int64_t at = target[(size_t)b * T] - first;
                if (at >= 0 && at < some) logit[r][b] = y[at][b];
            }
            vfloat here = y[0], powers = {};
            for (int v = 1; v < some; v++) here = larger(y[v], here);
            for (int v = 0; v < some; v++) {
                y[v] = vexp(y[v] - here);
                powers += y[v];
            }
            ws->tops[chunk * ROWS + r] = here;
            vfloat both = larger(here, top[r]);
            sum[r] = sum[r] * vexp(top[r] - both) + powers * vexp(here - both);
            top[r] = both;
        }
    }
    for (int r = 0; r < count; r++) {
        for (int b = 0; b < sequences; b++) loss += top[r][b] + logf(sum[r][b]) - logit[r][b];
        sum[r] = counts / sum[r];
    }
    for (int first = 0, chunk = 0; first < V; first += CHUNK, chunk++) {
        int some = smaller_int(CHUNK, V - first);
        vfloat *powers = ws->powers + (size_t)chunk * ROWS * CHUNK, *y = powers;
        for (int r = 0; r < count; r++, y += CHUNK) {
            const int64_t *target = s->targets + (size_t)first_sequence * T + t + r;
            vfloat factor = vexp(ws->tops[chunk * ROWS + r] - top[r]) * sum[r];
            for (int v = 0; v < some; v++) y[v] *= factor;
            for (int b = 0; b < sequences; b++) {
                int64_t at = target[(size_t)b * T] - first;
                if (at >= 0 && at < some) y[at][b] -= scale;
            }
        }
        input_gradient(PLAIN, count, C, some, CHUNK, powers, w + (size_t)first * C, 0, first > 0,
                       ws->d_normed + (size_t)t * C);
        weight_gradient(count, C, some, CHUNK, powers, ws->rows, add, d_w + (size_t)first * C);
    }
    return loss;
}

/* The gradient by a branch before its dropout: in d_branch, or d_x itself without dropout. */
static const vfloat *dropout_backward(const Step *s, const vfloat *d_x, const uint8_t *mask,
                                   vfloat *d_branch) {
    if (!mask) return d_x;
    for (int i = 0; i < s->T * s->C; i++)
        d_branch[i] = d_x[i] * dropout_factor(mask + (size_t)i * LANES, s->dropped);
    return d_branch;
}

/* One unit, forward and backward. Returns the summed loss of its tokens. */
static double forward_backward(const Step *s, const Workspace *ws, int unit, int add) {
    const int T = s->T, C = s->C, H = s->H, F = s->F, L = s->L, first_sequence = unit * LANES;
    const float *tokens = s->weights[TOKENS], *positions = s->weights[POSITIONS];
    const float *const *last = s->weights + FIRST_LAYER + L * WEIGHTS;
    const size_t branch = (size_t)T * C * LANES;
    const uint8_t *mask = s->dropped ? s->mask + (size_t)unit * 2 * L * branch : 0;
    double loss = 0;

    vfloat *x = L ? layer_of(ws, 0).x : ws->x;
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c += LANES) {
            vfloat block[LANES];
            for (int b = 0; b < LANES; b++) {
                int sequence = first_sequence + b;
                int64_t id = sequence < s->B ? s->ids[(size_t)sequence * T + t] : 0;
                block[b] = loadf(tokens + id * C + c) + loadf(positions + (size_t)t * C + c);
            }
            transpose(block);
            memcpy(x + (size_t)t * C + c, block, sizeof block);
        }
    for (int i = 0; i < L; i++) {
        const float *const *w = s->weights + FIRST_LAYER + i * WEIGHTS;
        Layer l = layer_of(ws, i);
        vfloat *next = i + 1 < L ? layer_of(ws, i + 1).x : ws->x;
        norm(T, C, s->epsilon, l.x, w[NORM_1], w[SHIFT_1], l.normed, l.mean, l.rstd);
        linear(PLAIN, T, C, 3 * C, 3 * C, l.normed, w[QKV], 0, (Epilogue){0}, l.qkv);
        attend(T, H, C / H, l.qkv, l.attention, l.mixed);
        linear(BRANCH, T, C, C, C, l.mixed, w[PROJECT], w[PROJECT_BIAS],
               (Epilogue){l.x, mask ? mask + 2 * i * branch : 0, s->dropped}, l.middle);
        norm(T, C, s->epsilon, l.middle, w[NORM_2], w[SHIFT_2], l.normed_2, l.mean_2, l.rstd_2);
        linear(RELU, T, C, F, F, l.normed_2, w[EXPAND], w[EXPAND_BIAS], (Epilogue){0}, l.hidden);
        linear(BRANCH, T, F, C, C, l.hidden, w[CONTRACT], w[CONTRACT_BIAS],
               (Epilogue){l.middle, mask ? mask + (2 * i + 1) * branch : 0, s->dropped}, next);
    }
    norm(T, C, s->epsilon, ws->x, last[FINAL_NORM], last[FINAL_SHIFT], ws->normed, ws->mean,
         ws->rstd);
    for (int t = 0; t < T; t += ROWS)
        loss += output(s, ws, first_sequence, t, smaller_int(ROWS, T - t), add || t);

    float *partial = partial_of(s, ws, FIRST_LAYER + L * WEIGHTS);
    vfloat *d_x = ws->d_x, *d_normed = ws->d_normed, *d_wide = ws->d_wide;
    memset(d_x, 0, sizeof(vfloat) * T * C);
    norm_backward(T, C, ws->x, ws->mean, ws->rstd, last[FINAL_NORM], d_normed, d_x, ws->sums,
                  partial, partial + C, add);
    for (int i = L - 1; i >= 0; i--) {
        const float *const *w = s->weights + FIRST_LAYER + i * WEIGHTS;
        Layer l = layer_of(ws, i);
        float *d_w[WEIGHTS];
        d_w[0] = partial_of(s, ws, FIRST_LAYER + i * WEIGHTS);
        for (int k = 1; k < WEIGHTS; k++) d_w[k] = d_w[k - 1] + weight_size(s, FIRST_LAYER + k - 1);

        /* The feed-forward branch. */
        const uint8_t *branch_mask = mask ? mask + (2 * i + 1) * branch : 0;
        const vfloat *d_branch = dropout_backward(s, d_x, branch_mask, ws->d_branch);
        to_rows(T, F, l.hidden, ws->rows);
        weight_gradient(T, F, C, C, d_branch, ws->rows, add, d_w[CONTRACT]);
        column_sums(T, C, d_branch, d_w[CONTRACT_BIAS], add);
        input_gradient(RELU, T, F, C, C, d_branch, w[CONTRACT], l.hidden, 0, d_wide);
        to_rows(T, C, l.normed_2, ws->rows);
        weight_gradient(T, C, F, F, d_wide, ws->rows, add, d_w[EXPAND]);
        column_sums(T, F, d_wide, d_w[EXPAND_BIAS], add);
        input_gradient(PLAIN, T, C, F, F, d_wide, w[EXPAND], 0, 0, d_normed);
        norm_backward(T, C, l.middle, l.mean_2, l.rstd_2, w[NORM_2], d_normed, d_x, ws->sums,
                      d_w[NORM_2], d_w[SHIFT_2], add);

        /* The attention branch. */
        branch_mask = mask ? mask + 2 * i * branch : 0;
        d_branch = dropout_backward(s, d_x, branch_mask, ws->d_branch);
        to_rows(T, C, l.mixed, ws->rows);
        weight_gradient(T, C, C, C, d_branch, ws->rows, add, d_w[PROJECT]);
        column_sums(T, C, d_branch, d_w[PROJECT_BIAS], add);
        input_gradient(PLAIN, T, C, C, C, d_branch, w[PROJECT], 0, 0, d_normed);
        attend_backward(T, H, C / H, l.qkv, l.attention, d_normed, ws->sums, d_wide);
        to_rows(T, C, l.normed, ws->rows);
        weight_gradient(T, C, 3 * C, 3 * C, d_wide, ws->rows, add, d_w[QKV]);
        input_gradient(PLAIN, T, C, 3 * C, 3 * C, d_wide, w[QKV], 0, 0, d_normed);
        norm_backward(T, C, l.x, l.mean, l.rstd, w[NORM_1], d_normed, d_x, ws->sums, d_w[NORM_1],
                      d_w[SHIFT_1], add);
    }

    float *d_positions = partial_of(s, ws, POSITIONS);
    if (!add) memset(d_positions, 0, sizeof(float) * weight_size(s, POSITIONS));
    for (int t = 0; t < T; t++)
        column_sums(1, C, d_x + (size_t)t * C, d_positions + (size_t)t * C, add);
    to_rows(T, C, d_x, ws->rows);
    for (int b = 0; b < smaller_int(LANES, s->B - first_sequence); b++)
        for (int t = 0; t < T; t++)
            memcpy(s->d_embedded + ((size_t)(first_sequence + b) * T + t) * C,
                   ws->rows + ((size_t)t * LANES + b) * C, sizeof(float) * C);
    return loss;
}

/* gradient (+)= s->weight * the threads' sums, from float `from` up to `to`; the sums are `stride`
   floats apart. */
static void accumulate(const Step *s, int weight, const float *partial, int64_t stride, int threads,
                       int64_t from, int64_t to) {
    float *gradient = s->gradients[weight];
    for (int64_t i = from; i < to; i += LANES) {
        vfloat sum = loadf(partial + i);
        for (int t = 1; t < threads; t++) sum += loadf(partial + t * stride + i);
        store_or_add(gradient + i, sum * s->weight, s->add[weight]);
    }
}

/* The most threads that share a step. */
int semigpt_blocks_threads(void) { return omp_get_max_threads(); }

/* The floats of workspace that each thread needs, a multiple of LANES. */
int64_t semigpt_blocks_workspace(const Step *s) {
    Workspace workspace;
    return lay_out(s, 0, &workspace);
}

/* Returns the mean loss in nats. Its gradients, times s->weight, are written or added. */
double semigpt_blocks_step(const Step *s) {
    const int units = (s->B + LANES - 1) / LANES;
    const int64_t stride = semigpt_blocks_workspace(s), C = s->C;
    int active_threads = 1;
#pragma omp parallel
    {
        const int threads = omp_get_num_threads(), thread = omp_get_thread_num();
        const int active = smaller_int(threads, units);
        Workspace workspace;
        if (thread < active) {
            double loss = 0;
            lay_out(s, s->workspace + thread * stride, &workspace);
            const int first = (int)((int64_t)units * thread / active);
            const int end = (int)((int64_t)units * (thread + 1) / active);
            for (int unit = first; unit < end; unit++)
                loss += forward_backward(s, &workspace, unit, unit > first);
            s->losses[thread] = loss;
        }
#pragma omp barrier
        lay_out(s, s->workspace, &workspace);
        if (thread == 0) active_threads = active;
        const float *partial = workspace.partial;
        const int head = weights(s) - 1;
        for (int w = 1; w < head; partial += weight_size(s, w), w++) {
            const int64_t blocks = weight_size(s, w) / LANES;
            accumulate(s, w, partial, stride, active, blocks * thread / threads * LANES,
                       blocks * (thread + 1) / threads * LANES);
        }
        /* A thread owns rows of the vocabulary and sums theirs in the order of the text. */
        const int64_t from = (int64_t)s->V * thread / threads;
        const int64_t to = (int64_t)s->V * (thread + 1) / threads;
        float *d_tokens = s->gradients[TOKENS];
        accumulate(s, head, partial, stride, active, from * C, to * C);
        if (!s->add[TOKENS] && d_tokens != s->gradients[head])
            memset(d_tokens + from * C, 0, sizeof(float) * (to - from) * C);
        for (int64_t n = 0; n < (int64_t)s->B * s->T; n++)
            if (s->ids[n] >= from && s->ids[n] < to)
                for (int64_t c = 0; c < C; c += LANES)
                    store_or_add(d_tokens + s->ids[n] * C + c,
                                 loadf(s->d_embedded + n * C + c) * s->weight, 1);
    }
    double loss = 0;
    for (int t = 0; t < active_threads; t++) loss += s->losses[t];
    return loss / ((double)s->B * s->T);
}
