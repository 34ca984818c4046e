/* Drawing a token from a row of logits, each row with its own settings. The oracle is
   semigpt.generation.sampling: the same order of cuts, of equal tokens the first. */

#include <stdlib.h>

enum { CHUNK = 256 };    /* tokens whose weights are summed at once */
enum { BUCKETS = 2048 }; /* of keys, by their upper 11 bits: eight for each power of two */
enum { NOTHING = -1, NOT_FINITE = -2 };

typedef struct {
    float temperature; /* 0 takes the likeliest */
    int32_t top_k;     /* 0: no cut */
    double top_p;      /* 1: no cut */
    double min_p;      /* 0: no cut */
} Cuts;

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Keys order tokens, the likeliest first. Of a logit minus the largest, x <= 0: */
static uint32_t logit_key(float x) { return bits_of(x) & 0x7fffffffu; }
/* of a weight, e^x: */
static uint32_t weight_key(float x) {
    const uint32_t one = 0x3f800000u, bits = bits_of(x);
    return bits < one ? one - bits : 0;
}

static int compare_keys(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Leave the k likeliest tokens, and those as likely as the last of them; others become -inf. Only
   the bucket with the last one is sorted. x: logits minus the largest. */
static void cut_top_k(float *x, int V, int k, uint64_t *order) {
    int32_t counts[BUCKETS] = {0};
    for (int i = 0; i < V; i++)
        if (x[i] > -INFINITY) counts[logit_key(x[i]) >> 20]++;
    int before = 0, bucket = 0;
    while (bucket < BUCKETS && before + counts[bucket] < k) before += counts[bucket++];
    if (bucket == BUCKETS) return;
    int found = 0;
    for (int i = 0; i < V; i++)
        if (x[i] > -INFINITY && (int)(logit_key(x[i]) >> 20) == bucket)
            order[found++] = logit_key(x[i]);
    qsort(order, found, sizeof *order, compare_keys);
    const uint32_t last = (uint32_t)order[k - before - 1];
    for (int i = 0; i < V; i++)
        if (logit_key(x[i]) > last) x[i] = -INFINITY;
}

/* Zero each weight for which the larger ones reach `top_p` of the total already. */
static void cut_top_p(float *weights, int V, double top_p, uint64_t *order) {
    double sums[BUCKETS] = {0}, total = 0, larger = 0;
    for (int i = 0; i < V; i++)
        if (weights[i] > 0) sums[weight_key(weights[i]) >> 20] += weights[i];
    for (int bucket = 0; bucket < BUCKETS; bucket++) total += sums[bucket];
    const double target = top_p * total;
    int bucket = 0;
    while (bucket < BUCKETS && larger + sums[bucket] < target) larger += sums[bucket++];
    if (bucket == BUCKETS) return;
    int found = 0;
    for (int i = 0; i < V; i++) {
        const uint32_t key = weight_key(weights[i]);
        if (weights[i] > 0 && (int)(key >> 20) == bucket)
            order[found++] = (uint64_t)key << 32 | (uint32_t)i;
    }
    qsort(order, found, sizeof *order, compare_keys);
    uint64_t last = (uint64_t)bucket << 52; /* the last key and token that stays */
    for (int i = 0; i < found && larger < target; i++) {
        last = order[i];
        larger += weights[(uint32_t)order[i]];
    }
    for (int i = 0; i < V; i++)
        if (((uint64_t)weight_key(weights[i]) << 32 | (uint32_t)i) > last) weights[i] = 0;
}

/* Replace logits by exp((logit - top) / temperature), -inf by 0, and write the sum of each chunk.
   Divided, as NumPy does, so that the same logits are equal after it. Returns the total. */
static double exponentials(float *x, int V, float top, float temperature, double *sums) {
    double total = 0;
    for (int from = 0; from < V; from += CHUNK) {
        vfloat sum = {};
        for (int i = from; i < from + CHUNK && i < V; i += LANES) {
            vfloat some = loadf(x + i), weight = some - top;
            if (temperature != 1) weight /= temperature;
            weight = vexp(weight);
            weight = select_lanes(some == -INFINITY, splat(0), weight);
            storef(x + i, weight);
            sum += weight;
        }
        total += sums[from / CHUNK] = sum_lanes(sum);
    }
    return total;
}

/* The sum of each chunk of weights. Returns the total. */
static double sum_chunks(const float *weights, int V, double *sums) {
    double total = 0;
    for (int from = 0; from < V; from += CHUNK) {
        vfloat sum = {};
        for (int i = from; i < from + CHUNK && i < V; i += LANES) sum += loadf(weights + i);
        total += sums[from / CHUNK] = sum_lanes(sum);
    }
    return total;
}

/* The token at which the cumulative sum of the weights passes `target`. */
static int find_token(const float *row, int V, const double *sums, double target) {
    double sum = 0;
    int last = -1;
    for (int from = 0; from < V; from += CHUNK) {
        if (sum + sums[from / CHUNK] <= target) {
            sum += sums[from / CHUNK];
            continue;
        }
        for (int i = from; i < from + CHUNK && i < V; i++) {
            if (row[i] > 0) last = i;
            sum += row[i];
            if (sum > target && row[i] > 0) return i;
        }
    }
    /* Rounding can put the target just above the sum; then it is the last token that can be
       drawn. */
    if (last < 0)
        for (last = V - 1; last > 0 && row[last] == 0; last--) {}
    return last;
}

/* Draw one token from a row of logits over the tokens where `no` is 0, by inverting the cumulative
   sum of the weights that the cuts leave at `uniform`.

   row: round_up(V, LANES) floats to work in.
   sums, order: V / CHUNK + 1 and V elements to work in. */
static int draw(const float *logits, int V, const uint8_t *no, const Cuts *cuts, double uniform,
                float *row, double *sums, uint64_t *order) {
    if (no)
        for (int i = 0; i < V; i++) row[i] = no[i] ? -INFINITY : logits[i];
    else
        memcpy(row, logits, V * sizeof *row);
    for (int i = V; i < round_up(V, LANES); i++) row[i] = -INFINITY;
    vfloat largest = splat(-INFINITY);
    vint nan = {};
    for (int i = 0; i < V; i += LANES) {
        vfloat some = loadf(row + i);
        largest = larger(some, largest);
        nan |= some != some;
    }
    float top = largest_lane(largest), temperature = cuts->temperature;
    int finite = top < INFINITY;
    for (int i = 0; i < LANES; i++) finite &= !nan[i];
    if (!finite) return NOT_FINITE;
    if (top == -INFINITY) return NOTHING;
    if (temperature == 0) {
        int i = 0;
        while (row[i] != top) i++;
        return i;
    }
    if (cuts->top_k) {
        for (int i = 0; i < V; i += LANES) storef(row + i, (loadf(row + i) - top) / temperature);
        cut_top_k(row, V, cuts->top_k, order);
        top = 0, temperature = 1;
    }
    double total = exponentials(row, V, top, temperature, sums);
    if (cuts->top_p < 1) cut_top_p(row, V, cuts->top_p, order);
    if (cuts->min_p > 0) /* the largest weight is 1 */
        for (int i = 0; i < V; i++) row[i] = row[i] < cuts->min_p ? 0 : row[i];
    if (cuts->top_p < 1 || cuts->min_p > 0) total = sum_chunks(row, V, sums);
    return find_token(row, V, sums, uniform * total);
}
