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

enum { STRETCH = 8 * LANES }; /* tokens */

/* The largest q of the tokens of stretch i. */
static float largest_of_stretch(int vocab, int i, const float *q) {
    const int first = i * STRETCH, end = vocab - first < STRETCH ? vocab : first + STRETCH;
    vfloat most = splat(-1);
    int v = first;
    for (; v + LANES <= end; v += LANES) most = larger(loadf(q + v), most);
    float top = largest_lane(most);
    for (; v < end; v++) top = q[v] > top ? q[v] : top;
    return top;
}

/* The K likeliest tokens after each position and their p, likeliest first: [N, K] both. */
int semigpt_top_k(const Counts *c, int N, int T, const int64_t *ids, const int64_t *targets, int K,
                  int64_t *tokens, float *p) {
    const int vocab = c->vocab, stretches = (vocab + STRETCH - 1) / STRETCH;
    float *workspace = malloc(sizeof(float) * (vocab + stretches) * omp_get_max_threads());
    if (!workspace) return -1;
#pragma omp parallel
    {
        float *q = workspace + (size_t)omp_get_thread_num() * (vocab + stretches);
        float *tops = q + vocab; /* the largest of each stretch */
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            int32_t target = targets ? (int32_t)targets[n] : -1;
            distribution(c, ids + n / T * T, n % T + 1, target, 1.0f, NULL, q);
            for (int i = 0; i < stretches; i++) tops[i] = largest_of_stretch(vocab, i, q);
            for (int k = 0; k < K; k++) {
                int best = 0;
                for (int i = 1; i < stretches; i++) best = tops[i] > tops[best] ? i : best;
                /* NaN equals nothing, so the search has a bound. */
                int v = best * STRETCH;
                while (v < vocab - 1 && q[v] != tops[best]) v++;
                tokens[(size_t)n * K + k] = v;
                p[(size_t)n * K + k] = tops[best];
                q[v] = -1;
                tops[best] = largest_of_stretch(vocab, best, q);
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

/* Counting. An n-gram ends at a position: its context is the `order` - 1 tokens before, its
   follower the token there. `ids` has order - 1 tokens before its first one, so that every position has a
   context. Packed, an n-gram is a number of order * bits bits at the top of 128: the context's
   newest token first, the follower last. */

typedef unsigned __int128 packed;

enum { WORD = 128, DIGIT = 8, DIGITS = 1 << DIGIT };

static packed pack(const int32_t *at, int order, int bits) {
    packed key = 0;
    for (int age = 1; age < order; age++) key = key << bits | (uint32_t)at[-age];
    return (key << bits | (uint32_t)*at) << (WORD - order * bits);
}

/* `keys` [n] ascending by their lowest `used` bits, by a counting sort of each digit.
   `scratch` [n]. */
#define SORT(name, number)                                                                        \
    static void name(number *keys, number *scratch, int64_t n, int used) {                        \
        static _Thread_local uint32_t at[WORD / DIGIT][DIGITS];                                   \
        int digits = (used + DIGIT - 1) / DIGIT;                                                  \
        memset(at, 0, sizeof at[0] * digits);                                                     \
        for (int64_t i = 0; i < n; i++)                                                           \
            for (int d = 0; d < digits; d++) at[d][(uint8_t)(keys[i] >> d * DIGIT)]++;            \
        number *from = keys, *to = scratch;                                                       \
        for (int d = 0; d < digits; d++) {                                                        \
            uint32_t begin = 0, *next = at[d];                                                    \
            if (next[(uint8_t)(from[0] >> d * DIGIT)] == n) continue;                             \
            for (int digit = 0; digit < DIGITS; digit++) {                                        \
                uint32_t count = next[digit];                                                     \
                next[digit] = begin;                                                              \
                begin += count;                                                                   \
            }                                                                                     \
            for (int64_t i = 0; i < n; i++) to[next[(uint8_t)(from[i] >> d * DIGIT)]++] = from[i];\
            from = to;                                                                            \
            to = to == scratch ? keys : scratch;                                                  \
        }                                                                                         \
        if (from != keys) memcpy(keys, from, sizeof *keys * n);                                   \
    }
SORT(sort_packed, packed)
SORT(sort_words, uint64_t)

/* Sort n-grams that share their top digit. Where the rest of one fits a word, words are sorted. */
static void sort_part(packed *keys, packed *scratch, int64_t n, int used) {
    packed top = keys[0] >> (WORD - DIGIT) << (WORD - DIGIT);
    uint64_t *words = (uint64_t *)scratch;
    if (used - DIGIT > 64) {
        for (int64_t i = 0; i < n; i++) keys[i] >>= WORD - used;
        sort_packed(keys, scratch, n, used - DIGIT);
        for (int64_t i = 0; i < n; i++) keys[i] <<= WORD - used;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        words[i] = (uint64_t)(keys[i] << DIGIT >> DIGIT >> (WORD - used));
    sort_words(words, words + n, n, used > DIGIT ? used - DIGIT : 0);
    for (int64_t i = 0; i < n; i++) keys[i] = top | (packed)words[i] << (WORD - used);
}

/* The packed n-grams of a text, ascending: `keys` [n]. First split by their top bits, so that each
   part is sorted in the processor's cache. */
int semigpt_sort_ngrams(int64_t n, const int32_t *ids, int bits, int order, packed *keys) {
    int threads = omp_get_max_threads(), failed = 0;
    int64_t begins[DIGITS + 1] = {0}, *at = calloc((size_t)threads * DIGITS, sizeof *at);
    if (!at) return -1;
#pragma omp parallel for schedule(static)
    for (int thread = 0; thread < threads; thread++)
        for (int64_t i = n * thread / threads; i < n * (thread + 1) / threads; i++)
            at[thread * DIGITS + (int)(pack(ids + i, order, bits) >> (WORD - DIGIT))]++;
    int64_t begin = 0, largest = 0;
    for (int digit = 0; digit < DIGITS; digit++) {
        begins[digit] = begin;
        for (int thread = 0; thread < threads; thread++) {
            int64_t count = at[thread * DIGITS + digit];
            at[thread * DIGITS + digit] = begin;
            begin += count;
        }
        begins[digit + 1] = begin;
        largest = begin - begins[digit] > largest ? begin - begins[digit] : largest;
    }
#pragma omp parallel for schedule(static)
    for (int thread = 0; thread < threads; thread++)
        for (int64_t i = n * thread / threads; i < n * (thread + 1) / threads; i++) {
            packed key = pack(ids + i, order, bits);
            keys[at[thread * DIGITS + (int)(key >> (WORD - DIGIT))]++] = key;
        }
    free(at);
#pragma omp parallel
    {
        packed *scratch = malloc(sizeof *scratch * largest);
        if (!scratch) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int i = 0; i < DIGITS; i++) {
            const int digit = i * 101 % DIGITS; /* all of them: frequent ones are side by side */
            int64_t count = begins[digit + 1] - begins[digit];
            if (scratch && count > 1) sort_part(keys + begins[digit], scratch, count, order * bits);
        }
        free(scratch);
    }
    return failed ? -1 : 0;
}

/* How many leading tokens two packed n-grams share. */
static int shared(packed a, packed b, int order, int bits) {
    uint64_t high = (uint64_t)((a ^ b) >> 64), low = (uint64_t)(a ^ b);
    int equal = high ? __builtin_clzll(high) : low ? 64 + __builtin_clzll(low) : WORD;
    return equal / bits < order ? equal / bits : order;
}

/* Where `parts` about equal parts of the n-grams begin, none inside a run of the same: `begins` [parts
   + 1]. Of each part, how many n-grams begin to differ from the one before at each token: `sizes`
   [parts, order + 1], the last of them how many are the same. The first of all differs at its first
   token. */
void semigpt_ngram_sizes(int64_t n, int bits, int order, const packed *keys, int parts,
                         int64_t *begins, int64_t *sizes) {
    begins[0] = 0;
    for (int part = 1; part < parts; part++) {
        int64_t i = n * part / parts;
        while (i && i < n && shared(keys[i - 1], keys[i], order, bits) == order) i++;
        begins[part] = i;
    }
    begins[parts] = n;
    memset(sizes, 0, sizeof *sizes * parts * (order + 1));
#pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        int64_t own[LEVELS + 1] = {0};
        for (int64_t i = begins[part]; i < begins[part + 1]; i++)
            own[i ? shared(keys[i - 1], keys[i], order, bits) : 0]++;
        memcpy(sizes + (size_t)part * (order + 1), own, sizeof *sizes * (order + 1));
    }
}

/* The tree of contexts, and the followers of the longest ones: `Counts`' tables but for the ends of
   `first_child` and `first_follower`, which the caller writes. The parts and their sizes are those
   of `semigpt_ngram_sizes`. */
void semigpt_ngram_tree(int bits, int order, const packed *keys, int parts, const int64_t *begins,
                        const int64_t *sizes, int32_t *const *oldest, int32_t *const *first_child,
                        int32_t *first_follower, int32_t *follower, int32_t *count) {
    const uint32_t mask = ((uint32_t)1 << bits) - 1;
#pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        /* A context of k tokens is new where fewer than k are the same. The root is new once. */
        int32_t nodes[LEVELS + 1] = {0};
        for (int before = 0; before < part; before++)
            for (int same = 0; same < order; same++)
                for (int k = same + 1; k <= order; k++)
                    nodes[k] += (int32_t)sizes[(size_t)before * (order + 1) + same];
        nodes[0] = begins[part] > 0;
        int32_t ngrams = nodes[order];
        for (int64_t i = begins[part]; i < begins[part + 1]; i++) {
            int same = i ? shared(keys[i - 1], keys[i], order, bits) : -1;
            if (same == order) {
                count[ngrams - 1]++;
                continue;
            }
            for (int k = same + 1; k < order; k++) {
                if (k) oldest[k][nodes[k]] = (int32_t)(keys[i] >> (WORD - k * bits)) & mask;
                if (k < order - 1) first_child[k][nodes[k]] = nodes[k + 1];
                else first_follower[nodes[k]] = ngrams;
                nodes[k]++;
            }
            follower[ngrams] = (int32_t)(keys[i] >> (WORD - order * bits)) & mask;
            count[ngrams++] = 1;
        }
    }
}

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* `semigpt_shorter_ngrams` of the contexts from `from` to `to`, the first of whose n-grams has the
   index `first`. `seen` [vocab] is all zeros and stays so; `tokens` [vocab]. Returns the index behind
   the last. */
static int32_t shorter(int64_t from, int64_t to, int32_t first, int vocab,
                       const int32_t *first_child, const int32_t *first_longer,
                       const int32_t *longer, int32_t *seen, int32_t *tokens,
                       int32_t *first_follower, int32_t *follower, int32_t *count) {
    int32_t ngrams = first;
    for (int64_t context = from; context < to; context++) {
        int32_t begin = first_longer[first_child[context]];
        int32_t end = first_longer[first_child[context + 1]];
        int distinct = 0;
        first_follower[context] = ngrams;
        if (end - begin == 1) {
            follower[ngrams] = longer[begin];
            count[ngrams++] = 1;
            continue;
        }
        for (int32_t i = begin; i < end; i++)
            if (!seen[longer[i]]++) tokens[distinct++] = longer[i];
        if (distinct > vocab / 16) {
            distinct = 0;
            for (int token = 0; token < vocab; token++)
                if (seen[token]) tokens[distinct++] = token;
        } else if (distinct > 16) {
            qsort(tokens, distinct, sizeof *tokens, ascending);
        } else {
            for (int i = 1; i < distinct; i++) {
                int32_t token = tokens[i];
                int j = i;
                for (; j > 0 && tokens[j - 1] > token; j--) tokens[j] = tokens[j - 1];
                tokens[j] = token;
            }
        }
        for (int i = 0; i < distinct; i++) {
            follower[ngrams] = tokens[i];
            count[ngrams++] = seen[tokens[i]];
            seen[tokens[i]] = 0;
        }
    }
    return ngrams;
}

/* The followers of the contexts one token shorter, from those of the longer ones: an n-gram counts
   as often as there are longer contexts that it was seen in. `follower` and `count` have room for
   as many n-grams as there are longer ones. Returns how many there are, or -1 where there is no
   memory. */
int64_t semigpt_shorter_ngrams(int64_t contexts, int vocab, const int32_t *first_child,
                               const int32_t *first_longer, const int32_t *longer,
                               int32_t *first_follower, int32_t *follower, int32_t *count) {
    const int parts = omp_get_max_threads();
    const int64_t all = first_longer[first_child[contexts]];
    int64_t *begins = malloc(sizeof *begins * (parts + 1));
    int32_t *ends = malloc(sizeof *ends * parts);
    int32_t *seen = calloc((size_t)parts * vocab, sizeof *seen);
    int32_t *tokens = malloc(sizeof *tokens * parts * vocab);
    int64_t ngrams = begins && ends && seen && tokens ? 0 : -1;
    if (!ngrams) {
        /* Each part has about as many longer n-grams, and writes where those lie. */
        for (int64_t part = 0, context = 0; part <= parts; part++) {
            while (context < contexts && first_longer[first_child[context]] < all * part / parts)
                context++;
            begins[part] = part < parts ? context : contexts;
        }
#pragma omp parallel for schedule(static)
        for (int part = 0; part < parts; part++)
            ends[part] = shorter(begins[part], begins[part + 1],
                                 first_longer[first_child[begins[part]]], vocab, first_child,
                                 first_longer, longer, seen + (size_t)part * vocab,
                                 tokens + (size_t)part * vocab, first_follower, follower, count);
        for (int part = 0; part < parts; part++) {
            int32_t first = first_longer[first_child[begins[part]]], size = ends[part] - first;
            int32_t gap = first - (int32_t)ngrams;
            for (int64_t context = begins[part]; gap && context < begins[part + 1]; context++)
                first_follower[context] -= gap;
            memmove(follower + ngrams, follower + first, sizeof *follower * size);
            memmove(count + ngrams, count + first, sizeof *count * size);
            ngrams += size;
        }
        first_follower[contexts] = (int32_t)ngrams;
    }
    free(begins), free(ends), free(seen), free(tokens);
    return ngrams;
}

/* `Counts.totals` of one level: [contexts, 4]. */
void semigpt_totals(int64_t contexts, const int32_t *first_follower, const int32_t *count,
                    int32_t *totals) {
#pragma omp parallel for schedule(static)
    for (int64_t context = 0; context < contexts; context++) {
        int32_t *of = totals + 4 * context;
        of[0] = of[1] = of[2] = of[3] = 0;
        for (int32_t e = first_follower[context]; e < first_follower[context + 1]; e++) {
            of[0] += count[e];
            of[bucket(count[e])]++;
        }
    }
}
