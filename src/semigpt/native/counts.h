/* The counts of n-grams as semigpt.ngrams.counts.Counts lays them out, and the distribution over
   the next token that interpolated modified Kneser-Ney gives (semigpt.ngrams.kneser_ney says
   how).

   A context of k tokens is a node at level k of a tree that is read from the newest token to the
   oldest; level 0 is its root, the empty context. An n-gram of k + 1 tokens is a context of k
   tokens and one of its followers. */

enum { LEVELS = 8 };

/* Mirrored by `Tables` in semigpt.native.ngrams. */
typedef struct {
    int32_t order, vocab;
    float discount[LEVELS + 1][4];         /* of order k, for counts of 0, 1, 2 and 3 or more */
    const int32_t *first_child[LEVELS];    /* [contexts of k tokens + 1]: its children's start */
    const int32_t *oldest[LEVELS];         /* [contexts of k tokens]: the oldest token */
    const int32_t *first_follower[LEVELS]; /* [contexts of k tokens + 1]: its followers' start */
    const int32_t *follower[LEVELS];       /* the tokens, ascending in a context */
    const int32_t *count[LEVELS];          /* of each follower */
    const int32_t *totals[LEVELS];         /* [contexts of k tokens, 4], or NULL: see totals_of */
    const float *unigram;                  /* [vocab]: p without a context */
} Counts;

/* The index of `wanted` in sorted[low .. end - 1], or -1. */
static inline int32_t find(const int32_t *sorted, int32_t low, int32_t end, int32_t wanted) {
    int32_t last = end;
    while (low < end) {
        int32_t middle = low + (end - low) / 2;
        if (sorted[middle] < wanted) low = middle + 1;
        else end = middle;
    }
    return low < last && sorted[low] == wanted ? low : -1;
}

/* The nodes of the contexts of 0, 1, 2 ... tokens that end ids[0 .. seen - 1], as far as they were
   counted. Returns the length of the longest. */
static inline int contexts(const Counts *c, const int64_t *ids, int seen, int32_t *context) {
    int known = 0;
    context[0] = 0;
    while (known + 1 < c->order && known < seen) {
        const int32_t *first = c->first_child[known] + context[known];
        int32_t token = (int32_t)ids[seen - 1 - known];
        int32_t child = find(c->oldest[known + 1], first[0], first[1], token);
        if (child < 0) break;
        context[++known] = child;
    }
    return known;
}

/* The index of a count of `n` in `discount` and `totals`. */
static inline int32_t bucket(int32_t n) { return n < 3 ? n : 3; }

/* A context's counts in all; how many followers have a count of 1, of 2, of 3 or more. Kept for
   short contexts, summed on demand for the many long ones. */
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
    totals[0] = all, totals[1] = once, totals[2] = twice;
    totals[3] = first[1] - first[0] - once - twice;
}

/* The probability that a context leaves to the shorter one: all that was discounted. */
static inline float backoff(const float *discount, const int32_t *totals) {
    return (discount[1] * totals[1] + discount[2] * totals[2] + discount[3] * totals[3]) /
           totals[0];
}

/* q [vocab]: p of every token after ids[0 .. seen - 1], times `factor`. With `weights` [order] it
   is the sum over k of weights[k] times the p that the last k tokens alone give.

   Leave-one-out: where `target` is a token (-1: none), the ids are the counted text itself and the
   target came next. Its own occurrence is taken out of its longest n-gram's count, and where that
   was the only one, of the shorter one's below. */
static __attribute__((noinline)) void distribution(const Counts *c, const int64_t *ids, int seen,
                                                   int32_t target, float factor,
                                                   const float *weights, float *q) {
    int32_t context[LEVELS];
    float scale[LEVELS], left = factor, at_target = 0, stretch = 1, shift = 0;
    int known = contexts(c, ids, seen, context), own = target >= 0, v = 0;
    if (weights) {
        left = 0;
        for (int k = known; k < c->order; k++) left += weights[k];
    }
    /* From the longest context down: the factor of each level's counts, and what is left below. */
    for (int k = known; k >= 0; k--) {
        const float *discount = c->discount[k + 1];
        int32_t totals[4];
        float lost = 0; /* negative where D(2) > 1 + D(1), in a small text */
        int taken = 0;
        totals_of(c, k, context[k], totals);
        if (own) {
            const int32_t *first = c->first_follower[k] + context[k];
            int32_t at = find(c->follower[k], first[0], first[1], target);
            int32_t count = at < 0 ? 0 : c->count[k][at];
            own = count == 1;
            if (count > 0) {
                taken = 1;
                totals[0]--;
                totals[bucket(count)]--;
                lost = count - discount[bucket(count)];
                count--;
                if (count > 0) {
                    totals[bucket(count)]++;
                    lost -= count - discount[bucket(count)];
                }
            }
        }
        if (k > 0) {
            scale[k] = totals[0] > 0 ? left / totals[0] : 0;
            at_target -= scale[k] * lost;
            if (totals[0] > 0) left *= backoff(discount, totals);
            if (weights) left += weights[k - 1];
        } else if (taken && totals[0] > 0) {
            /* `unigram` holds the counts over the whole total plus a uniform backoff: stretch the
               first to the smaller total, and shift the second to what it is now. */
            const int32_t *whole = c->totals[0];
            stretch = (float)whole[0] / totals[0];
            shift = (backoff(discount, totals) - backoff(discount, whole) * stretch) / c->vocab;
            at_target -= left * lost / totals[0];
        } else if (taken) {
            stretch = 0;
            shift = 1.0f / c->vocab;
        }
    }
    /* The unigram for every token, then each context's followers on top of it. */
    stretch *= left;
    shift *= left;
    for (; v + LANES <= c->vocab; v += LANES)
        storef(q + v, loadf(c->unigram + v) * stretch + shift);
    for (; v < c->vocab; v++) q[v] = c->unigram[v] * stretch + shift;
    for (int k = 1; k <= known; k++) {
        const int32_t *follower = c->follower[k], *count = c->count[k];
        const int32_t *first = c->first_follower[k] + context[k];
        const float *discount = c->discount[k + 1];
        for (int32_t e = first[0]; e < first[1]; e++)
            q[follower[e]] += scale[k] * (count[e] - discount[bucket(count[e])]);
    }
    if (target >= 0) q[target] += at_target;
}
