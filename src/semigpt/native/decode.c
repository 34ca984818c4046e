/* One decoding step of a Qwen3-shaped GPT for a few rows at once, on a CPU. The oracle is
   semigpt.models.gpt.

   A step reads every weight once, so it cannot be faster than the weights' bytes over the memory
   bandwidth. Therefore weights are read in the order they lie in and shared by all rows, a step is
   one parallel region, and nothing is allocated.

   Matrices are packed in panels of 16 outputs. For each input k the 16 weights of a panel are
   adjacent, so a product is one load, and one multiply-add per row, without a sum across lanes.
   bfloat16 keeps inputs 2k and 2k+1 in one 32-bit lane; int8 keeps four, and a float32 scale for
   each output and each 32 inputs. Arithmetic is float32 for all three. The order of additions in an
   output does not depend on the number of rows, so the logits of a sequence are the same bits alone
   and in any batch.

   A row is one position of one sequence. C width, H query heads, K key and value heads, D head
   width, F feed-forward width, V vocabulary, S cache slots. */

#define _GNU_SOURCE
#include <sched.h>

#include "vectors.h"

enum { FLOAT32, BFLOAT16, INT8 };
enum { BLOCK = 32 };
enum { PANEL = 16, VECTORS = PANEL / LANES }; /* outputs, vectors of a panel */

typedef struct {
    const void *weights;
    const float *scales; /* int8 only */
    int32_t panels, inputs; /* inputs is a multiple of 32, padded with zeros */
} Matrix;

typedef struct {
    Matrix qkv, o, gate_up, down; /* gate_up: a panel of gate, a panel of up, and so on */
    const float *input_norm, *post_norm, *q_norm, *k_norm;
} Layer;

typedef struct {
    int32_t format, layers, width, heads, kv_heads, head_width, hidden, vocab, slots;
    float epsilon;
    const float *frequencies; /* D / 2 */
    const float *embedding;   /* V x C */
    const float *final_norm;
    Matrix output;
    const Layer *layer;
    float *scratch;
} Model;

/* Where vector v of a matrix begins, in 32-bit words, of which one holds `together` inputs: a panel
   is VECTORS vectors wide. */
static inline size_t vector_start(const Matrix *m, int v, int together) {
    return (size_t)(v / VECTORS) * m->inputs / together * PANEL + v % VECTORS * LANES;
}

/* `vectors` vectors of outputs, from `first` on, times `rows` rows of x. `format`, `vectors`,
   `rows` and `fetch` are constants where this is called. `fetch`: prefetch the next vectors
   meanwhile, of a panel's the first: they lie in one line. */
static inline __attribute__((always_inline)) void
tile(const int format, const int vectors, const int rows, const int fetch, const Matrix *m,
     int first, const float *x, int x_stride, float *y, int y_stride) {
    const int inputs = m->inputs;
    const int together = format == FLOAT32 ? 1 : format == BFLOAT16 ? 2 : 4;
    const int32_t *at[8], *next[8];
    vfloat sum[REGISTERS];
    UNROLL for (int v = 0; v < vectors; v++) {
        at[v] = (const int32_t *)m->weights + vector_start(m, first + v, together);
        next[v] = (const int32_t *)m->weights + vector_start(m, first + vectors + v, together);
    }
    UNROLL for (int i = 0; i < vectors * rows; i++) sum[i] = splat(0);
    if (format == FLOAT32) {
        for (int k = 0; k < inputs; k++) {
            vfloat weight[8];
            UNROLL for (int v = 0; v < vectors; v++) {
                weight[v] = *(const vfloat *)(at[v] + k * PANEL);
                if (fetch && v % VECTORS == 0) __builtin_prefetch(next[v] + k * PANEL, 0, 2);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                const vfloat input = splat(x[r * x_stride + k]);
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[v * rows + r] = multiply_add(weight[v], input, sum[v * rows + r]);
            }
        }
    } else if (format == BFLOAT16) {
        for (int k = 0; k < inputs; k += 2) {
            vuint pair[8];
            UNROLL for (int v = 0; v < vectors; v++) {
                pair[v] = *(const vuint *)(at[v] + k / 2 * PANEL);
                if (fetch && v % VECTORS == 0) __builtin_prefetch(next[v] + k / 2 * PANEL, 0, 2);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                const vfloat even = splat(x[r * x_stride + k]);
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[v * rows + r] =
                        multiply_add((vfloat)(pair[v] << 16), even, sum[v * rows + r]);
            }
            UNROLL for (int r = 0; r < rows; r++) {
                const vfloat odd = splat(x[r * x_stride + k + 1]);
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[v * rows + r] =
                        multiply_add((vfloat)(pair[v] & 0xffff0000u), odd, sum[v * rows + r]);
            }
        }
    } else {
        for (int block = 0; block < inputs; block += BLOCK) {
            vfloat part[REGISTERS][2];
            UNROLL for (int i = 0; i < vectors * rows; i++) part[i][0] = part[i][1] = splat(0);
            for (int k = block; k < block + BLOCK; k += 4)
                UNROLL for (int v = 0; v < vectors; v++) {
                    vint four = *(const vint *)(at[v] + k / 4 * PANEL);
                    if (fetch && v % VECTORS == 0) __builtin_prefetch(next[v] + k / 4 * PANEL, 0, 2);
                    vfloat a = __builtin_convertvector(four << 24 >> 24, vfloat);
                    vfloat b = __builtin_convertvector(four << 16 >> 24, vfloat);
                    vfloat c = __builtin_convertvector(four << 8 >> 24, vfloat);
                    vfloat d = __builtin_convertvector(four >> 24, vfloat);
                    UNROLL for (int r = 0; r < rows; r++) {
                        const float *at = x + r * x_stride + k;
                        vfloat *both = part[v * rows + r];
                        both[0] = multiply_add(a, splat(at[0]), both[0]);
                        both[1] = multiply_add(b, splat(at[1]), both[1]);
                        both[0] = multiply_add(c, splat(at[2]), both[0]);
                        both[1] = multiply_add(d, splat(at[3]), both[1]);
                    }
                }
            UNROLL for (int v = 0; v < vectors; v++) {
                const float *scales = m->scales + vector_start(m, first + v, BLOCK);
                vfloat scale = loadf(scales + block / BLOCK * PANEL);
                UNROLL for (int r = 0; r < rows; r++)
                    sum[v * rows + r] = multiply_add(
                        scale, part[v * rows + r][0] + part[v * rows + r][1], sum[v * rows + r]);
            }
        }
    }
    UNROLL for (int v = 0; v < vectors; v++) UNROLL for (int r = 0; r < rows; r++)
        storef(y + (size_t)r * y_stride + (first + v) * LANES, sum[v * rows + r]);
}

/* `vectors` vectors of outputs times all rows, in tiles of as equal a size as there are registers
   for: the weights stay in a near cache meanwhile. With 16 registers twelve sums, two weights and
   an input fit, but for bfloat16 and int8, whose weights are unpacked in others. A tile of one row
   waits for each of its sums: 5 rows as 4 and 1 took 1.6 times as long as at once. */
static inline __attribute__((always_inline)) void
vectors_times_rows(const int format, const int vectors, const Matrix *m, int v, int rows,
                   const float *x, int x_stride, float *y, int y_stride) {
#define TILE(count)                                                                       \
    case count:                                                                           \
        if (count <= most)                                                                \
            tile(format, vectors, count, 1, m, v, x + (size_t)r * x_stride, x_stride,     \
                 y + (size_t)r * y_stride, y_stride);                                     \
        break
    const int most = format == FLOAT32 && REGISTERS == 16 ? 6 : REGISTERS / 4;
    for (int r = 0, count; r < rows; r += count) {
        const int tiles = (rows - r + most - 1) / most;
        count = (rows - r + tiles - 1) / tiles;
        switch (count) {
            TILE(1);
            TILE(2);
            TILE(3);
            TILE(4);
            TILE(5);
            TILE(6);
            TILE(7);
            TILE(8);
        }
    }
#undef TILE
}

/* Vectors `from` to `to` times all rows. One row takes eight or four vectors at once, enough
   independent sums to hide the latency of the multiply-add. Many rows take two, so that an
   element of x is loaded once for both; int8 takes one, because its unpacked weights fill the
   registers. */
static inline __attribute__((always_inline)) void
vectors_from_to(const int format, const Matrix *m, int from, int to, int rows, const float *x,
                int x_stride, float *y, int y_stride) {
    int v = from;
    if (rows == 1) {
        if (format != INT8)
            for (; v + 8 <= to; v += 8) tile(format, 8, 1, 0, m, v, x, x_stride, y, y_stride);
        for (; v + 4 <= to; v += 4) tile(format, 4, 1, 0, m, v, x, x_stride, y, y_stride);
    } else if (format != INT8)
        for (; v + 2 <= to; v += 2)
            vectors_times_rows(format, 2, m, v, rows, x, x_stride, y, y_stride);
    for (; v < to; v++) vectors_times_rows(format, 1, m, v, rows, x, x_stride, y, y_stride);
}

/* Panels `from` to `to` times all rows. */
static void product(int format, const Matrix *m, int from, int to, int rows, const float *x,
                    int x_stride, float *y, int y_stride) {
    from *= VECTORS, to *= VECTORS;
    if (format == FLOAT32)
        vectors_from_to(FLOAT32, m, from, to, rows, x, x_stride, y, y_stride);
    else if (format == BFLOAT16)
        vectors_from_to(BFLOAT16, m, from, to, rows, x, x_stride, y, y_stride);
    else
        vectors_from_to(INT8, m, from, to, rows, x, x_stride, y, y_stride);
}

/* x / sqrt(mean(x^2) + epsilon) times the weight */
static void normalise(const float *x, const float *weight, int count, float epsilon, float *y) {
    vfloat squares = {};
    float total = 0;
    int i = 0;
    for (; i + LANES <= count; i += LANES) squares += loadf(x + i) * loadf(x + i);
    for (; i < count; i++) total += x[i] * x[i];
    float scale = 1.0f / sqrtf((total + sum_lanes(squares)) / count + epsilon);
    for (i = 0; i < count; i++) y[i] = x[i] * scale * weight[i];
}

/* Normalise a head and rotate each pair (i, i + D/2) by its position's angle. */
static void normalise_and_rotate(float *x, const float *weight, const float *cos_sin, int D,
                                 float epsilon) {
    normalise(x, weight, D, epsilon, x);
    for (int i = 0; i < D / 2; i++) {
        float left = x[i], right = x[i + D / 2], c = cos_sin[i], s = cos_sin[D / 2 + i];
        x[i] = left * c - right * s;
        x[i + D / 2] = right * c + left * s;
    }
}

/* A barrier that yields its core early. OpenMP's own spins for a millisecond before it yields:
   on a machine with more busy threads than cores a step then took a hundred times as long. */
typedef struct {
    int arrived, generation;
} Barrier;

static void barrier_wait(Barrier *barrier, int all) {
    if (all == 1) return;
    const int generation = __atomic_load_n(&barrier->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == all) {
        barrier->arrived = 0;
        __atomic_store_n(&barrier->generation, generation + 1, __ATOMIC_RELEASE);
        return;
    }
    int spins = 0;
    while (__atomic_load_n(&barrier->generation, __ATOMIC_ACQUIRE) == generation)
        if (spins < 5000) spins++;
        else sched_yield();
}

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

#include "draw.h"

/* The attention scores of `count` blocks of LANES slots. */
static inline __attribute__((always_inline)) void
score_blocks(const int count, int block, const float *q, const float *keys, int D, float scale,
             float *scores) {
    vfloat a[2] = {}, b[2] = {};
    for (int d = 0; d < D; d += 2)
        UNROLL for (int i = 0; i < count; i++) {
            const float *key = keys + ((size_t)(block + i) * D + d) * LANES;
            a[i] = multiply_add(loadf(key), splat(q[d]), a[i]);
            b[i] = multiply_add(loadf(key + LANES), splat(q[d + 1]), b[i]);
        }
    UNROLL for (int i = 0; i < count; i++)
        storef(scores + (block + i) * LANES, (a[i] + b[i]) * scale);
}

/* `count` vectors, from `d` on, of the values' weighted mean; `scores` are weights that sum to
   1 / `scale`. */
static inline __attribute__((always_inline)) void
mix_values(const int count, int d, const float *scores, const float *values, int seen, int wide,
           float scale, float *mixed) {
    vfloat part[4][4] = {};
    int t = 0;
    for (; t + 4 <= seen; t += 4)
        UNROLL for (int j = 0; j < 4; j++) UNROLL for (int i = 0; i < count; i++) {
            const float *value = values + (size_t)(t + j) * wide + d + i * LANES;
            part[i][j] = multiply_add(loadf(value), splat(scores[t + j]), part[i][j]);
        }
    for (; t < seen; t++)
        UNROLL for (int i = 0; i < count; i++)
            part[i][0] = multiply_add(loadf(values + (size_t)t * wide + d + i * LANES),
                                      splat(scores[t]), part[i][0]);
    UNROLL for (int i = 0; i < count; i++) {
        vfloat sum = (part[i][0] + part[i][1]) + (part[i][2] + part[i][3]);
        storef(mixed + d + i * LANES, sum * scale);
    }
}

/* softmax(q keys^T / sqrt(D)) values over the first `seen` slots. Keys lie in blocks of LANES
   slots, D x LANES each, so that a vector of scores is summed at once; values lie
   S x round_up(D, PANEL).
   Two blocks of keys at once: with four attention took a third longer at D = 64, and prefetching
   gained nothing. */
static void attend(const float *q, const float *keys, const float *values, int seen, int D,
                   float *scores, float *mixed, float *out) {
    const int wide = round_up(D, PANEL);
    const float scale = 1.0f / sqrtf((float)D);
    const int blocks = (seen + LANES - 1) / LANES;
    int block = 0;
    for (; block + 2 <= blocks; block += 2) score_blocks(2, block, q, keys, D, scale, scores);
    if (block < blocks) score_blocks(1, block, q, keys, D, scale, scores);
    for (int t = seen; t < blocks * LANES; t++) scores[t] = -INFINITY;
    vfloat largest = splat(-INFINITY);
    for (int t = 0; t < seen; t += LANES) largest = larger(loadf(scores + t), largest);
    float top = largest[0];
    for (int i = 1; i < LANES; i++) top = largest[i] > top ? largest[i] : top;
    vfloat total = {};
    for (int t = 0; t < seen; t += LANES) {
        vfloat weight = vexp(loadf(scores + t) - top);
        for (int i = seen - t; i < LANES; i++) weight[i] = 0;
        total += weight;
        storef(scores + t, weight);
    }
    const float normalizer = 1.0f / sum_lanes(total);
    int d = 0;
#if REGISTERS == 32
    for (; d + 4 * LANES <= wide; d += 4 * LANES)
        mix_values(4, d, scores, values, seen, wide, normalizer, mixed);
#endif
    for (; d + 2 * LANES <= wide; d += 2 * LANES)
        mix_values(2, d, scores, values, seen, wide, normalizer, mixed);
    for (; d < wide; d += LANES)
        mix_values(1, d, scores, values, seen, wide, normalizer, mixed);
    memcpy(out, mixed, D * sizeof(float));
}

/* Floats from one row of a product's inputs to the next. Not a power of two: all rows would then
   compete for the same few lines of the first-level cache. */
static int row_stride(int inputs) { return round_up(inputs, BLOCK) + PANEL; }

/* Floats of scratch for `rows` rows and `threads` threads. */
int64_t semigpt_scratch(const Model *m, int rows, int threads) {
    int C = row_stride(m->width), F = row_stride(m->hidden);
    int A = row_stride(m->heads * m->head_width);
    int Q = m->layers ? m->layer[0].qkv.panels * PANEL : 0;
    int64_t own = (int64_t)rows * C + m->slots + PANEL + round_up(m->head_width, PANEL);
    return (int64_t)rows * (C + C + Q + A + 2 * F + F + m->head_width) + threads * own + 1024;
}

/* One step: its input, and the activations of its rows in the scratch buffer. A row's stride is Cp
   in x, added and normed, Q in qkv, A in mixed, G in gate_up, Fp in active, D in angles. */
typedef struct {
    const Model *m;
    int rows, distinct;
    const int64_t *tokens, *positions;
    const int32_t *sequences;
    float *keys, *values;
    int Cp, Q, A, G, Fp, wide;
    size_t key_size, value_size; /* of one key head's cache */
    float *x, *added, *qkv, *mixed, *gate_up, *active, *angles;
} Step;

/* A thread, of `all`, and its own buffers: the normalised rows, scores of S slots, one head. */
typedef struct {
    int me, all;
    Barrier *barrier;
    float *normed, *scores, *head;
} Thread;

/* This thread's part of `total` things in groups of `unit`. */
static int part_begin(const Thread *t, int total, int unit) {
    return (int)((int64_t)(total / unit) * t->me / t->all) * unit;
}
static int part_end(const Thread *t, int total, int unit) {
    if (t->me + 1 == t->all) return total;
    return (int)((int64_t)(total / unit) * (t->me + 1) / t->all) * unit;
}

/* The embedding and the angles of this thread's rows; zeros where rows are padded. */
static void embed(const Step *s, const Thread *t) {
    const Model *m = s->m;
    const int C = m->width, D = m->head_width;
    for (int r = t->me; r < s->rows; r += t->all) {
        const float *embedding = m->embedding + (size_t)s->tokens[r] * C;
        memcpy(s->x + (size_t)r * s->Cp, embedding, C * sizeof(float));
        for (int i = 0; i < D / 2; i++) {
            float angle = (float)s->positions[r] * m->frequencies[i];
            s->angles[r * D + i] = cosf(angle);
            s->angles[r * D + D / 2 + i] = sinf(angle);
        }
        for (int i = m->heads * D; i < s->A; i++) s->mixed[(size_t)r * s->A + i] = 0;
        for (int i = m->hidden; i < s->Fp; i++) s->active[(size_t)r * s->Fp + i] = 0;
    }
}

/* Normalise one row of x into row `to` of this thread's own buffer. */
static void normalise_row(const Step *s, const Thread *t, int row, const float *weight, int to) {
    float *y = t->normed + (size_t)to * s->Cp;
    normalise(s->x + (size_t)row * s->Cp, weight, s->m->width, s->m->epsilon, y);
    for (int i = s->m->width; i < s->Cp; i++) y[i] = 0;
}

/* x += this thread's outputs of the product of `input`. */
static void add_product(const Step *s, const Thread *t, const Matrix *matrix, const float *input,
                        int stride) {
    const int C = s->m->width;
    const int from = part_begin(t, matrix->panels, 1), to = part_end(t, matrix->panels, 1);
    product(s->m->format, matrix, from, to, s->rows, input, stride, s->added, s->Cp);
    const int end = to * PANEL < C ? to * PANEL : C;
    for (int r = 0; r < s->rows; r++) {
        const size_t row = (size_t)r * s->Cp;
        for (int i = from * PANEL; i < end; i++) s->x[row + i] += s->added[row + i];
    }
}

/* Put a row's key and value of one key head into their cache. */
static void store(const Step *s, int layer, int r, int k) {
    const Model *m = s->m;
    const int D = m->head_width, slot = (int)(s->positions[r] % m->slots);
    const size_t at = ((size_t)s->sequences[r] * m->layers + layer) * m->kv_heads + k;
    float *heads = s->qkv + (size_t)r * s->Q, *key = heads + (m->heads + k) * D;
    normalise_and_rotate(key, m->layer[layer].k_norm, s->angles + r * D, D, m->epsilon);
    float *keys = s->keys + at * s->key_size + (size_t)slot / LANES * D * LANES + slot % LANES;
    for (int d = 0; d < D; d++) keys[(size_t)d * LANES] = key[d];
    memcpy(s->values + at * s->value_size + (size_t)slot * s->wide,
           heads + (m->heads + m->kv_heads + k) * D, D * sizeof(float));
}

/* Attention of a row's query heads that share one key head. */
static void attend_group(const Step *s, const Thread *t, int layer, int r, int k) {
    const Model *m = s->m;
    const int D = m->head_width, group = m->heads / m->kv_heads;
    const int seen = s->positions[r] < m->slots ? (int)s->positions[r] + 1 : m->slots;
    const size_t at = ((size_t)s->sequences[r] * m->layers + layer) * m->kv_heads + k;
    for (int h = k * group; h < (k + 1) * group; h++) {
        float *query = s->qkv + (size_t)r * s->Q + h * D;
        normalise_and_rotate(query, m->layer[layer].q_norm, s->angles + r * D, D, m->epsilon);
        attend(query, s->keys + at * s->key_size, s->values + at * s->value_size, seen, D,
               t->scores, t->head, s->mixed + (size_t)r * s->A + h * D);
    }
}

static void attention(const Step *s, const Thread *t, int layer) {
    const Layer *l = s->m->layer + layer;
    const int K = s->m->kv_heads;
    for (int r = 0; r < s->rows; r++) normalise_row(s, t, r, l->input_norm, r);
    const int from = part_begin(t, l->qkv.panels, 1), to = part_end(t, l->qkv.panels, 1);
    product(s->m->format, &l->qkv, from, to, s->rows, t->normed, s->Cp, s->qkv, s->Q);
    barrier_wait(t->barrier, t->all);
    const int first = part_begin(t, s->rows * K, 1), last = part_end(t, s->rows * K, 1);
    for (int i = first; i < last; i++) store(s, layer, i / K, i % K);
    if (!s->distinct) barrier_wait(t->barrier, t->all);
    for (int i = first; i < last; i++) attend_group(s, t, layer, i / K, i % K);
    barrier_wait(t->barrier, t->all);
    add_product(s, t, &l->o, s->mixed, s->A);
    barrier_wait(t->barrier, t->all);
}

/* SwiGLU: down(silu(gate(x)) * up(x)). */
static void feed_forward(const Step *s, const Thread *t, int layer) {
    const Layer *l = s->m->layer + layer;
    for (int r = 0; r < s->rows; r++) normalise_row(s, t, r, l->post_norm, r);
    const int from = part_begin(t, l->gate_up.panels, 2), to = part_end(t, l->gate_up.panels, 2);
    product(s->m->format, &l->gate_up, from, to, s->rows, t->normed, s->Cp, s->gate_up, s->G);
    for (int r = 0; r < s->rows; r++)
        for (int i = from * PANEL / 2; i < to * PANEL / 2; i += LANES) {
            /* Outputs i and up of gate and up lie a panel apart. */
            const float *pair = s->gate_up + (size_t)r * s->G + i + i / PANEL * PANEL;
            vfloat gate = loadf(pair), up = loadf(pair + PANEL);
            vfloat result = gate / (1.0f + vexp(-gate)) * up;
            if (i + LANES <= s->Fp) storef(s->active + (size_t)r * s->Fp + i, result);
        }
    barrier_wait(t->barrier, t->all);
    add_product(s, t, &l->down, s->active, s->Fp);
    barrier_wait(t->barrier, t->all);
}

/* Read one token in each of `rows` rows, and write the logits after some of them.

   tokens, sequences, positions: of each row: its id, the index of its sequence's cache, and its
   position there. Rows of one sequence come in the order of their positions; they all fit the
   cache, or there is only one.
   distinct: no two rows are of one sequence.
   keys, values: the caches: sequence, layer, key head, then as `attend` reads them.
   wanted: the `count` rows whose logits are wanted.
   logits: count x (16 x panels of the output).

   Returns -1, or the first row whose id is outside the vocabulary; then nothing is read. */
int semigpt_step(const Model *m, int rows, const int64_t *tokens, const int32_t *sequences,
                 const int64_t *positions, int distinct, float *keys, float *values, int count,
                 const int32_t *wanted, float *logits, int threads) {
    for (int r = 0; r < rows; r++)
        if (tokens[r] < 0 || tokens[r] >= m->vocab) return r;
    const int S = m->slots, D = m->head_width;
    Step s = {.m = m, .rows = rows, .distinct = distinct, .tokens = tokens, .positions = positions,
              .sequences = sequences, .keys = keys, .values = values};
    s.Cp = row_stride(m->width), s.A = row_stride(m->heads * D), s.Fp = row_stride(m->hidden);
    s.Q = m->layer[0].qkv.panels * PANEL, s.G = m->layer[0].gate_up.panels * PANEL;
    s.wide = round_up(D, PANEL);
    s.key_size = (size_t)D * round_up(S, PANEL), s.value_size = (size_t)S * s.wide;
    s.x = m->scratch, s.added = s.x + (size_t)rows * s.Cp, s.qkv = s.added + (size_t)rows * s.Cp;
    s.mixed = s.qkv + (size_t)rows * s.Q, s.gate_up = s.mixed + (size_t)rows * s.A;
    s.active = s.gate_up + (size_t)rows * s.G, s.angles = s.active + (size_t)rows * s.Fp;
    float *own = s.angles + (size_t)rows * D;
    Barrier barrier = {0, 0};

#pragma omp parallel num_threads(threads)
    {
        Thread t = {omp_get_thread_num(), omp_get_num_threads(), &barrier, NULL, NULL, NULL};
        t.normed = own + (size_t)t.me * ((size_t)rows * s.Cp + S + PANEL + s.wide);
        t.scores = t.normed + (size_t)rows * s.Cp, t.head = t.scores + S + PANEL;
        embed(&s, &t);
        barrier_wait(&barrier, t.all);
        for (int layer = 0; layer < m->layers; layer++) {
            attention(&s, &t, layer);
            feed_forward(&s, &t, layer);
        }
        for (int j = 0; j < count; j++) normalise_row(&s, &t, wanted[j], m->final_norm, j);
        const int panels = m->output.panels;
        const int from = part_begin(&t, panels, 1), to = part_end(&t, panels, 1);
        product(m->format, &m->output, from, to, count, t.normed, s.Cp, logits, panels * PANEL);
    }
    return -1;
}

/* Draw one token from each row of logits, with its own cuts, at its own uniform number in [0, 1).

   stride: floats from one row of logits to the next.
   forbidden: of each row V bytes, 1 where a token may not follow, or null.
   row, sums, order: what `draw` works in.
   tokens: -1 where every token is forbidden, -2 where an allowed logit is NaN or +infinity. */
void semigpt_draw(int rows, int V, const float *logits, int stride, const uint8_t *const *forbidden,
                  const Cuts *cuts, const double *uniforms, float *row, double *sums,
                  uint64_t *order, int64_t *tokens) {
    for (int r = 0; r < rows; r++)
        tokens[r] = draw(logits + (size_t)r * stride, V, forbidden[r], cuts + r, uniforms[r], row,
                         sums, order);
}
