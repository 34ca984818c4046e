/* A GPT's forward pass in float32 and the losses of targets, for evaluation: a thread takes a
   window of text from its embeddings to its losses, so what it works on stays in its caches and no
   thread waits for another. semigpt.models.gpt is the oracle; semigpt.native.gpt_forward calls
   this.

   Matrices are panels of 16 outputs, [outputs / 16, inputs, 16]. Every number of a window depends
   on that window alone: not on the others of the call, nor on the number of threads.

   B windows of T positions, C width, H heads, D head width, A = H * D, F feed-forward width, V
   vocabulary. Ids are inside the vocabulary: the caller checks. */

#include <float.h>

#include "vectors.h"

#include "tiles.h"

#include "elements.h"

#include "attention.h"

/* Mirrored by `_Layer` and `_Net` in semigpt.native.gpt_forward. */
typedef struct {
    const float *attention_norm, *q_norm, *k_norm, *feedforward_norm;
    const float *qkv, *o, *gate_up, *down;
} Layer;
typedef struct {
    int32_t layers, C, H, D, F, V;
    float epsilon;
    const Layer *layer;
    const float *embedding, *cosine, *sine, *final_norm, *head;
} Net;

enum { CHUNK = 16 * PANEL }; /* logits of a row that are computed before they are priced */

/* A thread's. `wide` takes the projections, the feed-forward and the logits in turn: beside each
   other they would not stay in the second cache. */
typedef struct {
    float *x, *normed, *wide, *gate, *up, *heads;
} Buffers;

/* An odd number of rows is computed with one more. */
static int even(int count) { return count + count % 2; }

static size_t widest(const Net *net) {
    size_t projections = 3 * net->H * net->D, F = net->F, most = projections > F ? projections : F;
    return most > CHUNK ? most : CHUNK;
}

/* Floats that each thread needs of `workspace`. */
int64_t semigpt_forward_workspace(const Net *net, int T) {
    return even(T) * (2 * net->C + widest(net) + 2 * PANEL) + scratch_floats(T, net->D);
}

static Buffers buffers_of(const Net *net, int T, float *p) {
    const size_t rows = even(T);
    Buffers b = {.x = p, .normed = p + rows * net->C};
    b.wide = b.normed + rows * net->C, b.gate = b.wide + rows * widest(net);
    b.up = b.gate + rows * PANEL, b.heads = b.up + rows * PANEL;
    return b;
}

/* y [rows, outputs] = x Wᵀ; rows are `x_row` and `y_row` floats apart. */
static void product(int rows, int inner, int outputs, const float *x, int x_row, const float *w,
                    float *y, int y_row) {
    for (int j = 0; j < outputs; j += PANEL)
        panel(even(rows), inner, x, x_row, 1, w + (size_t)j * inner, PANEL, y + j, y_row, 0);
}

/* y = the RMS norm of x, to which `branch` is added first where it is not NULL; y may be it. */
static void add_norm(int rows, int C, float epsilon, float *x, const float *branch,
                     const float *weight, float *y) {
    for (int r = 0; r < rows; r++, x += C, y += C) {
        vfloat squares = {};
        for (int c = 0; c < C; c += LANES) {
            vfloat value = loadf(x + c);
            if (branch) value += loadf(branch + (size_t)r * C + c);
            storef(x + c, value);
            squares += value * value;
        }
        const float scale = 1.0f / sqrtf(sum_lanes(squares) / C + epsilon);
        for (int c = 0; c < C; c += LANES) storef(y + c, loadf(x + c) * scale * loadf(weight + c));
    }
}

/* normed = attention of normed [T, C], for the positions from `first` on. */
static void attend(const Net *net, const Layer *layer, int first, int T, const Buffers *b) {
    const int C = net->C, H = net->H, D = net->D, A = H * D, row = 3 * A;
    const size_t wanted = (size_t)first * row;
    Scratch s = scratch(T, D, b->heads);
    /* Queries only where they are wanted, keys and values everywhere. */
    product(T - first, C, A, b->normed + (size_t)first * C, C, layer->qkv, b->wide + wanted, row);
    product(T, C, 2 * A, b->normed, C, layer->qkv + (size_t)A * C, b->wide + A, row);
    for (int h = 0; h < H; h++) {
        weights_of(first, T, H, D, net->epsilon, b->wide + h * D, layer->q_norm, layer->k_norm,
                   net->cosine, net->sine, &s);
        sums_of_keys(first, D, &s, s.weights, s.v, s.out);
        /* Queries have been read: their place takes the head's output. */
        for (int t = first; t < T; t++)
            memcpy(b->wide + (size_t)t * row + h * D, s.out + (size_t)t * D, sizeof(float) * D);
    }
    product(T - first, A, C, b->wide + wanted, row, layer->o, b->normed + (size_t)first * C, C);
}

/* y [rows, C] = the feed-forward of y. */
static void feed_forward(const Net *net, const Layer *layer, int rows, const Buffers *b, float *y) {
    const int C = net->C, F = net->F;
    for (int f = 0; f < F; f += PANEL) {
        product(rows, C, PANEL, y, C, layer->gate_up + (size_t)f * C, b->gate, PANEL);
        product(rows, C, PANEL, y, C, layer->gate_up + (size_t)(F + f) * C, b->up, PANEL);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < PANEL; v += LANES) {
                vfloat gate = loadf(b->gate + r * PANEL + v), up = loadf(b->up + r * PANEL + v);
                storef(b->wide + (size_t)r * F + f + v, gate / (1.0f + vexp(-gate)) * up);
            }
    }
    product(rows, F, C, b->wide, F, layer->down, y, C);
}

/* The cross-entropy of each target, from `hidden` [rows, C]: logits are priced while they are in
   the cache, and a row's sum is scaled whenever a larger one is found. */
static void price(const Net *net, int rows, const float *hidden, const int64_t *targets,
                  float *logits, float *losses) {
    float top[rows], at_target[rows];
    vfloat sums[rows];
    for (int r = 0; r < rows; r++) top[r] = -FLT_MAX, at_target[r] = 0, sums[r] = splat(0);
    for (int j = 0; j < net->V; j += CHUNK) {
        const int count = net->V - j < CHUNK ? net->V - j : CHUNK;
        const int last = (count - 1) / LANES * LANES;
        product(rows, net->C, count, hidden, net->C, net->head + (size_t)j * net->C, logits, CHUNK);
        for (int r = 0; r < rows; r++) {
            const float *x = logits + (size_t)r * CHUNK;
            const int64_t target = targets[r] - j;
            const vfloat tail = first_lanes(count - last, loadf(x + last), -INFINITY);
            vfloat most = tail;
            for (int v = 0; v < last; v += LANES) most = larger(loadf(x + v), most);
            const float found = largest_lane(most);
            if (!(found <= top[r])) { /* NaN too */
                sums[r] *= vexp(splat(top[r] - found));
                top[r] = found;
            }
            vfloat sum = sums[r] + first_lanes(count - last, vexp(tail - top[r]), 0);
            for (int v = 0; v < last; v += LANES) sum += vexp(loadf(x + v) - top[r]);
            sums[r] = sum;
            if (target >= 0 && target < count) at_target[r] = x[target];
        }
    }
    for (int r = 0; r < rows; r++) losses[r] = top[r] - at_target[r] + logf(sum_lanes(sums[r]));
}

/* Of each window of ids [B, T] what the output layer reads, hidden [B, T, C], and the loss of
   each target, [B, T], both from position first[b] on. `added` [B, T, C] is added to the
   embeddings where it is not NULL. `workspace` is a thread's share times the threads. */
void semigpt_forward(const Net *net, int B, int T, const int64_t *ids, const int64_t *targets,
                     const int64_t *first, const float *added, float *workspace, float *hidden,
                     float *losses) {
    const int C = net->C;
#pragma omp parallel for schedule(static)
    for (int w = 0; w < B; w++) {
        Buffers b = buffers_of(
            net, T, workspace + omp_get_thread_num() * (size_t)semigpt_forward_workspace(net, T));
        const size_t at = (size_t)w * T;
        for (int t = 0; t < T; t++) {
            const float *row = net->embedding + (size_t)ids[at + t] * C;
            for (int c = 0; c < C; c += LANES) {
                vfloat value = loadf(row + c);
                if (added) value += loadf(added + (at + t) * C + c);
                storef(b.x + (size_t)t * C + c, value);
            }
        }
        int begin = 0;
        const float *branch = NULL;
        for (int i = 0; i < net->layers; i++) {
            const Layer *layer = net->layer + i;
            add_norm(T, C, net->epsilon, b.x, branch, layer->attention_norm, b.normed);
            /* What is computed of the last layer begins at an even row. */
            if (i == net->layers - 1) begin = (int)first[w] / 2 * 2;
            attend(net, layer, begin, T, &b);
            float *x = b.x + (size_t)begin * C, *y = b.normed + (size_t)begin * C;
            add_norm(T - begin, C, net->epsilon, x, y, layer->feedforward_norm, y);
            feed_forward(net, layer, T - begin, &b, y);
            branch = b.normed;
        }
        const size_t skipped = (size_t)begin * C;
        float *y = b.normed + skipped;
        add_norm(T - begin, C, net->epsilon, b.x + skipped, y, net->final_norm, y);
        memcpy(hidden + at * C + skipped, y, sizeof(float) * (T - begin) * C);
        price(net, T - begin, y, targets + at + begin, b.wide, losses + at + begin);
    }
}

/* The most threads that share it: the caller sizes `workspace` by it. */
int semigpt_threads(void) { return omp_get_max_threads(); }
