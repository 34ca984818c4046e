/* What n-gram counts say at each position of a batch, on a CPU. The PyTorch code in
   semigpt.ngrams.counts is the oracle; semigpt.native.ngrams calls this.

   N positions of sequences of T tokens, K tokens. Ids are inside the vocabulary: the caller checks.
   Functions that allocate return 0, or -1 where there is no memory. */

#include <stdlib.h>

#include "vectors.h"

#include "counts.h"

/* q [N, vocab]: p of every token after each position. `targets` [N] for leave-one-out and `weights`
   [N, order] may be NULL: see `distribution`. */
void semigpt_distribution(const Counts *c, int N, int T, const int64_t *ids,
                          const int64_t *targets, const float *weights, float *q) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++)
        distribution(c, ids + n / T * T, n % T + 1, targets ? (int32_t)targets[n] : -1, 1.0f,
                     weights ? weights + (size_t)n * c->order : NULL, q + (size_t)n * c->vocab);
}

/* The K likeliest tokens after each position and their p, likeliest first: [N, K] both. */
int semigpt_top_k(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets, int K,
                  int64_t *tokens, float *p) {
    const int vocab = c->vocab, whole = vocab / LANES * LANES;
    float *workspace = malloc(sizeof(float) * vocab * omp_get_max_threads());
    if (!workspace) return -1;
#pragma omp parallel
    {
        float *q = workspace + (size_t)omp_get_thread_num() * vocab;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            int32_t target = targets ? (int32_t)targets[n] : -1;
            distribution(c, ids + n / T * T, n % T + 1, target, 1.0f, NULL, q);
            for (int k = 0; k < K; k++) {
                vfloat most = splat(-1);
                for (int v = 0; v < whole; v += LANES) most = larger(loadf(q + v), most);
                float top = largest_lane(most);
                for (int v = whole; v < vocab; v++) top = q[v] > top ? q[v] : top;
                /* NaN equals nothing, so the search has a bound. */
                int v = 0;
                while (v < vocab - 1 && q[v] != top) v++;
                tokens[(size_t)n * K + k] = v;
                p[(size_t)n * K + k] = top;
                q[v] = -1;
            }
        }
    }
    free(workspace);
    return 0;
}

/* The token that followed the longest earlier match of the tokens that end at each position, the
   latest of several, and the match's length, at most `longest`. Both are 0 without a match.
   [B, T] to [B, T] both. */
int semigpt_longest_match(int B, int T, const int64_t *ids, int longest, int64_t *tokens,
                          int64_t *lengths) {
    const size_t width = (size_t)T + 1;
    int32_t *workspace = malloc(sizeof(int32_t) * width * omp_get_max_threads());
    if (!workspace) return -1;
#pragma omp parallel
    {
        /* runs[s + 1]: how many tokens that end at t equal those that end at s. */
        int32_t *runs = workspace + (size_t)omp_get_thread_num() * width;
#pragma omp for schedule(static)
        for (int b = 0; b < B; b++) {
            const int64_t *sequence = ids + (size_t)b * T;
            memset(runs, 0, sizeof(int32_t) * width);
            for (int t = 0; t < T; t++) {
                int32_t length = 0;
                int at = -1;
                /* Backwards: runs[s] is still that of the position before t. */
                for (int s = t - 1; s >= 0; s--) {
                    int32_t run = sequence[s] == sequence[t] ? runs[s] + 1 : 0;
                    runs[s + 1] = run;
                    run = run < longest ? run : longest;
                    if (run > length) {
                        length = run;
                        at = s;
                    }
                }
                tokens[(size_t)b * T + t] = length ? sequence[at + 1] : 0;
                lengths[(size_t)b * T + t] = length;
            }
        }
    }
    free(workspace);
    return 0;
}

/* p_NK [N, order]: p of each target after its last 0, 1 ... tokens alone. features [N, 2 (order -
   1)]: of each context but the empty one ln(1 + its counts in all) and its backoff, 0 and 1 where
   it was not counted. With `leave_one_out` each target is left out as in `distribution`. */
void semigpt_lookup(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets,
                    int leave_one_out, float *p_NK, float *features) {
#pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) {
        int32_t context[LEVELS], count[LEVELS];
        int known = contexts(c, ids + n / T * T, n % T + 1, context), own = leave_one_out;
        float p = 1.0f / c->vocab, *feature = features + (size_t)n * 2 * (c->order - 1);
        int taken[LEVELS];
        /* From the longest context down: the target's count, and whether it loses an occurrence. */
        for (int k = known; k >= 0; k--) {
            const int32_t *first = c->first_follower[k] + context[k];
            int32_t at = find(c->follower[k], first[0], first[1], (int32_t)targets[n]);
            count[k] = at < 0 ? 0 : c->count[k][at];
            taken[k] = own && count[k] > 0;
            own = taken[k] && count[k] == 1;
        }
        /* And up again: interpolate. */
        for (int k = 0; k < c->order; k++) {
            float total = 0, left = 1;
            if (k <= known) {
                int32_t totals[4], own_count = count[k];
                totals_of(c, k, context[k], totals);
                if (taken[k]) {
                    totals[0]--;
                    totals[bucket(own_count)]--;
                    own_count--;
                    if (own_count) totals[bucket(own_count)]++;
                }
                if (totals[0] > 0) {
                    const float *discount = c->discount[k + 1];
                    total = totals[0];
                    left = backoff(discount, totals);
                    p = (own_count - discount[bucket(own_count)]) / total + left * p;
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
