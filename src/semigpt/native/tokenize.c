/* Byte-level BPE and Unigram over GPT-2's words, and BPE over whole characters: the ids of the
   `tokenizers` library, which is the oracle; then what their trainers count and learn.
   semigpt.native.tokenize calls this.

   A text is cut into words, each word into tokens once, and the result is cached by the word's
   bytes: of film reviews, nine words of ten have been seen before. An encoder belongs to one
   thread. Text is valid UTF-8. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OTHER, LETTER, NUMBER, SPACE };
enum { LONGEST = 64 }; /* bytes of a word that is cached */
#ifndef CACHE_SLOTS
#define CACHE_SLOTS (1 << 16) /* for words, at first */
#endif
#ifndef CACHE_BYTES
#define CACHE_BYTES (1 << 24) /* of words and ids, past which the cache is emptied */
#endif

/* A slot of the hash table. For BPE: merge `rank` of symbols `left` and `right` makes `id`; over
   characters, rank -1 says that some token holds the two side by side but no merge makes one of
   them. For Unigram, whose pieces lie in a trie: byte `right` leads from node `left` to node `id`,
   where piece `rank` ends (-1: none). */
typedef struct {
    uint64_t key; /* left << 32 | right, + 1: 0 is an empty slot */
    int32_t rank, id;
} rule;

typedef struct {
    uint64_t hash;
    uint32_t at;          /* in `cache`: the bytes and, from the next multiple of 4 on, the ids */
    uint16_t length, ids; /* length 0 is an empty slot */
} word;

typedef struct {
    int32_t rank;
    uint32_t at;
} candidate;

typedef struct {
    const uint8_t *classes;    /* of code points; NULL for BPE over characters */
    const int32_t *characters; /* the symbol of each code point, -1: its bytes; NULL over bytes */
    rule *rules;
    uint64_t rule_mask;
    double *scores; /* Unigram's, by piece; NULL for BPE */
    word *words;
    uint64_t word_mask, word_count;
    uint8_t *cache;
    uint64_t cache_length, cache_capacity;
    /* Workspace for one word. For BPE: its symbols, their neighbours, and the merges that may come
       next, the lowest rank first and then the leftmost. For Unigram, by end: the last piece of the
       likeliest cut up to there (symbol), where it begins (before), and the cut's score (best). */
    int32_t *symbol, *before, *behind;
    candidate *heap;
    double *best;
    uint64_t capacity;
} encoder;

static uint64_t mix(uint64_t x) {
    x ^= x >> 32, x *= 0xD6E8FEB86659FD93u, x ^= x >> 32;
    return x * 0xD6E8FEB86659FD93u;
}

static uint64_t hash_of(const uint8_t *text, uint64_t length) {
    uint64_t hash = length, part;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&part, text, 8);
        hash = mix(hash ^ part);
    }
    part = 0;
    memcpy(&part, text, length);
    hash = mix(hash ^ part);
    return hash ^ hash >> 32;
}

static uint64_t key_of(int32_t left, int32_t right) {
    return ((uint64_t)left << 32 | (uint32_t)right) + 1;
}

/* The slot of a pair: its own, or the empty one where it belongs. */
static rule *find(const encoder *e, int32_t left, int32_t right) {
    uint64_t key = key_of(left, right), at = mix(key);
    for (at ^= at >> 32;; at++) {
        rule *found = &e->rules[at & e->rule_mask];
        if (found->key == key || !found->key) return found;
    }
}

void semigpt_encoder_free(void *encoder_or_null) {
    encoder *e = encoder_or_null;
    if (!e) return;
    free(e->rules), free(e->scores), free(e->words), free(e->cache);
    free(e->symbol), free(e->before), free(e->behind), free(e->heap), free(e->best);
    free(e);
}

/* An encoder with slots for `count` rules; NULL where there is no memory. */
static encoder *new_encoder(uint64_t count) {
    encoder *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    uint64_t slots = 64;
    while (slots < 3 * count) slots *= 2;
    e->rules = calloc(slots, sizeof *e->rules);
    e->rule_mask = slots - 1;
    e->words = calloc(CACHE_SLOTS, sizeof *e->words);
    e->word_mask = CACHE_SLOTS - 1;
    e->cache = malloc(e->cache_capacity = 1 << 20);
    if (!e->rules || !e->words || !e->cache) return semigpt_encoder_free(e), NULL;
    return e;
}

/* `merges` [count, 3]: left, right and what they make; the first goes first. Over characters those
   that make -1 come last: they only say what is side by side in some token. `classes` or
   `characters`, [0x110000], the other NULL, outlives the encoder. NULL where there is no memory. */
void *semigpt_bpe_new(int64_t count, const int32_t *merges, const uint8_t *classes,
                      const int32_t *characters) {
    encoder *e = new_encoder((uint64_t)count);
    if (!e) return NULL;
    e->classes = classes, e->characters = characters;
    for (int64_t i = 0; i < count; i++) {
        int32_t left = merges[3 * i], right = merges[3 * i + 1], made = merges[3 * i + 2];
        rule *slot = find(e, left, right);
        if (!slot->key) *slot = (rule){key_of(left, right), made < 0 ? -1 : (int32_t)i, made};
    }
    return e;
}

/* `pieces`: the bytes of `count` pieces, one after the other, piece i from ends[i - 1] to ends[i].
   All 256 bytes are among them. `scores` [count]. NULL where there is no memory. */
void *semigpt_unigram_new(int64_t count, const uint8_t *pieces, const int64_t *ends,
                          const double *scores, const uint8_t *classes) {
    encoder *e = new_encoder((uint64_t)ends[count - 1]);
    if (!e) return NULL;
    e->classes = classes;
    e->scores = malloc((uint64_t)count * sizeof *scores);
    if (!e->scores) return semigpt_encoder_free(e), NULL;
    memcpy(e->scores, scores, (uint64_t)count * sizeof *scores);
    int32_t nodes = 1;
    for (int64_t i = 0, at = 0; i < count; i++) {
        rule *step = NULL;
        for (int32_t node = 0; at < ends[i]; node = step->id, at++) {
            step = find(e, node, pieces[at]);
            if (!step->key) *step = (rule){key_of(node, pieces[at]), -1, nodes++};
        }
        if (step) step->rank = (int32_t)i;
    }
    return e;
}

/* The bytes of the character at `text`. */
static uint64_t width_at(const uint8_t *text) {
    return *text < 0x80 ? 1 : *text < 0xE0 ? 2 : *text < 0xF0 ? 3 : 4;
}

/* The code point of the character at `t`. */
static uint32_t point_at(const uint8_t *t) {
    switch (width_at(t)) {
        case 1: return *t;
        case 2: return (t[0] & 0x1Fu) << 6 | (t[1] & 0x3Fu);
        case 3: return (t[0] & 0x0Fu) << 12 | (t[1] & 0x3Fu) << 6 | (t[2] & 0x3Fu);
        default:
            return (t[0] & 0x07u) << 18 | (t[1] & 0x3Fu) << 12 | (t[2] & 0x3Fu) << 6 |
                   (t[3] & 0x3Fu);
    }
}

static int earlier(candidate a, candidate b) {
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void push(candidate *heap, uint64_t *size, candidate x) {
    uint64_t at = (*size)++;
    for (; at && earlier(x, heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = x;
}

static candidate pop(candidate *heap, uint64_t *size) {
    candidate first = heap[0], last = heap[--*size];
    uint64_t at = 0, child;
    while ((child = 2 * at + 1) < *size) {
        if (child + 1 < *size && earlier(heap[child + 1], heap[child])) child++;
        if (!earlier(heap[child], last)) break;
        heap[at] = heap[child], at = child;
    }
    heap[at] = last;
    return first;
}

/* BPE: queue the merge of the symbols at `left` and `right`, if there is one. */
static void offer(encoder *e, int32_t left, int32_t right, uint64_t *size) {
    if (left < 0 || right < 0) return;
    const rule *m = find(e, e->symbol[left], e->symbol[right]);
    if (m->key && m->rank >= 0) push(e->heap, size, (candidate){m->rank, (uint32_t)left});
}

/* BPE: the symbols that a word begins as, its characters or bytes. Returns how many. */
static int32_t spell(encoder *e, const uint8_t *text, uint64_t length) {
    int32_t count = 0;
    for (const uint8_t *end = text + length; text < end;) {
        int32_t id = e->characters ? e->characters[point_at(text)] : -1;
        if (id >= 0) {
            e->symbol[count++] = id, text += width_at(text);
            continue;
        }
        for (uint64_t width = width_at(text); width; width--) e->symbol[count++] = *text++;
    }
    return count;
}

/* BPE: the word's symbols after every merge, into `ids`. Returns how many. */
static int64_t merge(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    int32_t *symbol = e->symbol, *before = e->before, *behind = e->behind;
    candidate *heap = e->heap;
    uint64_t size = 0;
    int32_t symbols = spell(e, text, length);
    for (int32_t i = 0; i < symbols; i++) {
        before[i] = i - 1;
        behind[i] = i + 1 < symbols ? i + 1 : -1;
        offer(e, i - 1, i, &size);
    }
    while (size) {
        candidate next = pop(heap, &size);
        int32_t left = (int32_t)next.at, right = behind[left];
        if (symbol[left] < 0 || right < 0) continue;
        rule *m = find(e, symbol[left], symbol[right]);
        if (!m->key || m->rank != next.rank) continue; /* the symbols have changed since */
        symbol[left] = m->id, symbol[right] = -1;
        behind[left] = behind[right];
        if (behind[right] >= 0) before[behind[right]] = left;
        offer(e, before[left], left, &size);
        offer(e, left, behind[left], &size);
    }
    int64_t count = 0;
    for (int32_t i = 0; i >= 0; i = behind[i]) ids[count++] = (uint32_t)symbol[i];
    return count;
}

/* Unigram: the pieces of the word's likeliest cut (Viterbi), into `ids`. Returns how many. Of two
   cuts as likely, the one with the longer last piece. */
static int64_t cut(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    int32_t *last = e->symbol, *begins = e->before;
    double *best = e->best;
    best[0] = 0;
    /* A single byte ends everywhere: the way back below has an end whatever the scores are. */
    for (uint64_t end = 1; end <= length; end++) {
        best[end] = -INFINITY;
        begins[end] = (int32_t)end - 1;
        last[end] = find(e, 0, text[end - 1])->rank;
    }
    for (uint64_t begin = 0; begin < length; begin++) {
        int32_t node = 0;
        for (uint64_t end = begin; end < length; end++) {
            const rule *step = find(e, node, text[end]);
            if (!step->key) break;
            node = step->id;
            if (step->rank < 0) continue;
            double score = best[begin] + e->scores[step->rank];
            if (!(score > best[end + 1])) continue;
            best[end + 1] = score;
            last[end + 1] = step->rank, begins[end + 1] = (int32_t)begin;
        }
    }
    int64_t count = 0;
    for (uint64_t end = length; end; end = (uint64_t)begins[end]) count++;
    for (uint64_t end = length, i = (uint64_t)count; end; end = (uint64_t)begins[end])
        ids[--i] = (uint32_t)last[end];
    return count;
}

static int64_t tokenize(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    return e->scores ? cut(e, text, length, ids) : merge(e, text, length, ids);
}

/* Workspace for a word of `length` bytes. Returns 0 where there is no memory. A merge takes one
   candidate from the heap and adds two at most. */
static int reserve(encoder *e, uint64_t length) {
    if (length < e->capacity) return 1;
    uint64_t capacity = 2 * length + 64;
    free(e->symbol), free(e->before), free(e->behind), free(e->heap), free(e->best);
    e->symbol = malloc(capacity * sizeof *e->symbol);
    e->before = malloc(capacity * sizeof *e->before);
    e->behind = malloc(capacity * sizeof *e->behind);
    e->heap = malloc(3 * capacity * sizeof *e->heap);
    e->best = malloc(capacity * sizeof *e->best);
    int whole = e->symbol && e->before && e->behind && e->heap && e->best;
    e->capacity = whole ? capacity : 0;
    return whole;
}

static void empty_cache(encoder *e) {
    memset(e->words, 0, (e->word_mask + 1) * sizeof *e->words);
    e->word_count = e->cache_length = 0;
}

/* Twice as many slots for words. Returns 0 where there is no memory. */
static int grow_cache(encoder *e) {
    uint64_t slots = 2 * (e->word_mask + 1);
    word *wider = calloc(slots, sizeof *wider);
    if (!wider) return 0;
    for (uint64_t i = 0; i <= e->word_mask; i++) {
        if (!e->words[i].length) continue;
        uint64_t at = e->words[i].hash;
        while (wider[at & (slots - 1)].length) at++;
        wider[at & (slots - 1)] = e->words[i];
    }
    free(e->words);
    e->words = wider, e->word_mask = slots - 1;
    return 1;
}

/* The ids of one word, of this hash unless it is too long for the cache. Returns how many; -1 where
   there is no memory. */
static int64_t encode_word(encoder *e, const uint8_t *text, uint64_t length, uint64_t hash,
                           uint32_t *ids) {
    if (length == 1 && !e->characters) return ids[0] = text[0], 1;
    if (length > LONGEST) return reserve(e, length) ? tokenize(e, text, length, ids) : -1;
    /* Known already? */
    uint64_t at = hash;
    for (;; at++) {
        const word *w = &e->words[at & e->word_mask];
        if (!w->length) break;
        if (w->hash == hash && w->length == length && !memcmp(e->cache + w->at, text, length)) {
            memcpy(ids, e->cache + ((w->at + length + 3) & ~(uint64_t)3), 4 * w->ids);
            return w->ids;
        }
    }
    if (!reserve(e, length)) return -1;
    int64_t count = tokenize(e, text, length, ids);
    /* Make space in the cache. */
    if (e->cache_length + 8 * LONGEST > CACHE_BYTES) {
        empty_cache(e);
        at = hash;
    }
    if (e->cache_length + 8 * LONGEST > e->cache_capacity) {
        uint8_t *wider = realloc(e->cache, 2 * e->cache_capacity);
        if (!wider) return count; /* not cached, no harm done */
        e->cache = wider, e->cache_capacity *= 2;
    }
    /* Add the word. */
    uint64_t first = e->cache_length, then = (first + length + 3) & ~(uint64_t)3;
    memcpy(e->cache + first, text, length);
    memcpy(e->cache + then, ids, 4 * count);
    e->words[at & e->word_mask] =
        (word){hash, (uint32_t)first, (uint16_t)length, (uint16_t)count};
    e->cache_length = then + 4 * count;
    if (2 * ++e->word_count > e->word_mask && !grow_cache(e)) empty_cache(e);
    return count;
}

static int class_at(const encoder *e, const uint8_t *text) { return e->classes[point_at(text)]; }

/* The end of the run of characters of one class. */
static const uint8_t *run_end(const encoder *e, const uint8_t *at, const uint8_t *end, int class) {
    while (at < end && class_at(e, at) == class) at += width_at(at);
    return at;
}

/* The end of the word that begins at `at`: a run of one class with the spaces before it, or a line
   end and the white space behind it. */
static const uint8_t *run_word_end(const encoder *e, const uint8_t *at, const uint8_t *end) {
    if (*at != ' ') return run_end(e, at, end, class_at(e, at));
    while (at < end && *at == ' ') at++;
    return at == end || class_at(e, at) == SPACE ? at : run_end(e, at, end, class_at(e, at));
}

/* The end of GPT-2's word that begins at `at`:
   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const uint8_t *word_end(const encoder *e, const uint8_t *at, const uint8_t *end) {
    if (*at == '\'' && end - at >= 2) {
        if (strchr("stmd", at[1]) && at[1]) return at + 2;
        if (end - at >= 3 && (!memcmp(at + 1, "re", 2) || !memcmp(at + 1, "ve", 2) ||
                              !memcmp(at + 1, "ll", 2)))
            return at + 3;
    }
    /* A run of white space leaves its last character to the word behind it. */
    const uint8_t *last = at, *behind = at;
    while (behind < end && class_at(e, behind) == SPACE) last = behind, behind += width_at(behind);
    if (behind == end) return behind;
    return last > at ? last : run_word_end(e, at, end);
}

/* The end of the run of characters that begins at `at`, each side by side with the next in some
   token: no merge reaches across a cut between two others. */
static const uint8_t *joined_end(const encoder *e, const uint8_t *at, const uint8_t *end) {
    int32_t left = e->characters[point_at(at)];
    at += width_at(at);
    while (left >= 0 && at < end) {
        int32_t right = e->characters[point_at(at)];
        if (right < 0 || !find(e, left, right)->key) break;
        left = right, at += width_at(at);
    }
    return at;
}

/* The ids of a text of `length` bytes, into `ids`, which has room for as many. Returns how many; -1
   where there is no memory.

   The cache of words is larger than the processor's: of some words ahead the slots are asked for,
   then what they lead to, before any is waited for. */
int64_t semigpt_encode(void *with, const uint8_t *text, int64_t length, uint32_t *ids) {
    enum { AHEAD = 16 };
    struct {
        const uint8_t *text;
        uint64_t length, hash;
    } words[AHEAD];
    encoder *e = with;
    const uint8_t *end = text + length;
    int64_t count = 0;
    while (text < end) {
        int ahead = 0;
        for (; ahead < AHEAD && text < end; ahead++) {
            const uint8_t *behind = (e->characters ? joined_end : word_end)(e, text, end);
            uint64_t bytes = (uint64_t)(behind - text);
            uint64_t hash = bytes > LONGEST ? 0 : hash_of(text, bytes);
            __builtin_prefetch(e->words + (hash & e->word_mask));
            words[ahead].text = text, words[ahead].length = bytes, words[ahead].hash = hash;
            text = behind;
        }
        for (int i = 0; i < ahead; i++)
            __builtin_prefetch(e->cache + e->words[words[i].hash & e->word_mask].at);
        for (int i = 0; i < ahead; i++) {
            int64_t more =
                encode_word(e, words[i].text, words[i].length, words[i].hash, ids + count);
            if (more < 0) return -1;
            count += more;
        }
    }
    return count;
}

/* Counting words, and fitting a Unigram model to them: what semigpt.tokenizers learns from. */

typedef struct {
    uint64_t hash, at; /* in `bytes` */
    int64_t length, count; /* a count of 0 is an empty slot */
} counted;

typedef struct {
    encoder words; /* only its classes */
    const uint8_t *(*word_end)(const encoder *, const uint8_t *, const uint8_t *);
    counted *slots;
    uint64_t mask, size;
    uint8_t *bytes;
    uint64_t used, capacity;
} counter;

void semigpt_words_free(void *counter_or_null) {
    counter *c = counter_or_null;
    if (!c) return;
    free(c->slots), free(c->bytes), free(c);
}

/* Counts GPT-2's words, or runs of one class. `classes` [0x110000] outlives the counter. NULL where
   there is no memory. */
void *semigpt_words_new(const uint8_t *classes, int runs) {
    counter *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->words.classes = classes;
    c->word_end = runs ? run_word_end : word_end;
    c->mask = (1 << 16) - 1;
    c->slots = calloc(c->mask + 1, sizeof *c->slots);
    c->bytes = malloc(c->capacity = 1 << 20);
    if (!c->slots || !c->bytes) return semigpt_words_free(c), NULL;
    return c;
}

static int grow_counter(counter *c) {
    uint64_t mask = 2 * c->mask + 1;
    counted *wider = calloc(mask + 1, sizeof *wider);
    if (!wider) return 0;
    for (uint64_t i = 0; i <= c->mask; i++) {
        if (!c->slots[i].count) continue;
        uint64_t at = c->slots[i].hash;
        while (wider[at & mask].count) at++;
        wider[at & mask] = c->slots[i];
    }
    free(c->slots);
    c->slots = wider, c->mask = mask;
    return 1;
}

/* Count the words of a document. Returns 0, or -1 where there is no memory. */
int64_t semigpt_words_add(void *to, const uint8_t *text, int64_t length) {
    counter *c = to;
    const uint8_t *end = text + length, *behind;
    for (; text < end; text = behind) {
        behind = c->word_end(&c->words, text, end);
        uint64_t bytes = (uint64_t)(behind - text), hash = hash_of(text, bytes), at = hash;
        counted *slot;
        while ((slot = &c->slots[at & c->mask])->count &&
               (slot->hash != hash || (uint64_t)slot->length != bytes ||
                memcmp(c->bytes + slot->at, text, bytes)))
            at++;
        if (slot->count++) continue;
        if (c->used + bytes > c->capacity) {
            uint8_t *wider = realloc(c->bytes, 2 * (c->capacity + bytes));
            if (!wider) return slot->count = 0, -1;
            c->bytes = wider, c->capacity = 2 * (c->capacity + bytes);
        }
        memcpy(c->bytes + c->used, text, bytes);
        slot->hash = hash, slot->at = c->used, slot->length = (int64_t)bytes;
        c->used += bytes;
        if (2 * ++c->size > c->mask && !grow_counter(c)) return -1;
    }
    return 0;
}

/* How many different words there are, and their bytes in all. */
int64_t semigpt_words_size(const void *of, int64_t *bytes) {
    const counter *c = of;
    *bytes = (int64_t)c->used;
    return (int64_t)c->size;
}

/* The words' bytes one after the other, where each ends, and how often it occurs. */
void semigpt_words_get(const void *of, uint8_t *bytes, int64_t *ends, int64_t *counts) {
    const counter *c = of;
    int64_t used = 0;
    for (uint64_t i = 0; i <= c->mask; i++) {
        const counted *slot = &c->slots[i];
        if (!slot->count) continue;
        memcpy(bytes + used, c->bytes + slot->at, (size_t)slot->length);
        *ends++ = used += slot->length;
        *counts++ = slot->count;
    }
}

/* A product is rounded before it is added, as NumPy does it, so that the sums are the same. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#define ROUNDED
#else
#define ROUNDED __attribute__((optimize("fp-contract=off")))
#endif

/* How often each piece is expected: the middle of `_Lattice.fit`, whose names these are. Pieces of
   l + 1 characters end at ends[l], in row j from starts[l][j] to starts[l][j + 1]. `expected[l]`
   has a place for each, `forward` and `backward` [places] are zeros. */
ROUNDED void semigpt_unigram_expect(int rows, int lengths, const int64_t *first, const int64_t *n,
                                    const int64_t *const *ends, const int64_t *const *ids,
                                    const int64_t *const *starts, const double *p,
                                    const double *weight, double least, double *const *expected,
                                    double *forward, double *backward, double *count) {
    for (int64_t i = 0; i < n[0]; i++) forward[i] = 1;
    for (int j = 1; j <= rows; j++)
        for (int l = 0; l < lengths && l < j; l++) {
            int64_t back = first[j] - first[j - l - 1];
            for (int64_t i = starts[l][j]; i < starts[l][j + 1]; i++) {
                double more = forward[ends[l][i] - back] * p[ids[l][i]];
                forward[ends[l][i]] += more;
            }
        }
    for (int j = rows; j > 0; j--) {
        /* The words that end in this row are its last. */
        for (int64_t i = j < rows ? n[j + 1] : 0; i < n[j]; i++) {
            double here = forward[first[j] + i];
            backward[first[j] + i] = weight[i] / (here > least ? here : least);
        }
        for (int l = 0; l < lengths && l < j; l++) {
            int64_t back = first[j] - first[j - l - 1];
            for (int64_t i = starts[l][j]; i < starts[l][j + 1]; i++) {
                double more = p[ids[l][i]] * backward[ends[l][i]];
                backward[ends[l][i] - back] += more;
                expected[l][i] = more * forward[ends[l][i] - back];
            }
        }
    }
    for (int l = 0; l < lengths; l++)
        for (int64_t i = starts[l][0]; i < starts[l][rows + 1]; i++)
            count[ids[l][i]] += expected[l][i];
}

/* Learning the merges of BPE: `_merges` of semigpt.tokenizers.bpe_trainer, whose names these are,
   with the same merges. */

typedef struct {
    uint64_t pair;
    int64_t place;
} pair_at;

/* A pair and where it stood when it was counted: its count is at most this much now. */
typedef struct {
    int64_t count, size, *places;
    uint64_t pair;
} queued_pair;

typedef struct {
    int32_t *symbols;
    const int64_t *weights;
    int64_t *sizes, longest, min_count;
    queued_pair *queue; /* a heap: the most frequent first, then the pair of lower ids */
    int64_t queued, capacity;
} merger;

static int goes_first(const queued_pair *a, const queued_pair *b) {
    return a->count != b->count ? a->count > b->count : a->pair < b->pair;
}

static int enqueue(merger *m, queued_pair one) {
    if (m->queued == m->capacity) {
        int64_t more = m->capacity ? 2 * m->capacity : 1 << 16;
        queued_pair *wider = realloc(m->queue, (size_t)more * sizeof *wider);
        if (!wider) return free(one.places), 0;
        m->queue = wider, m->capacity = more;
    }
    int64_t at = m->queued++;
    for (; at && goes_first(&one, &m->queue[(at - 1) / 2]); at = (at - 1) / 2)
        m->queue[at] = m->queue[(at - 1) / 2];
    m->queue[at] = one;
    return 1;
}

static queued_pair dequeue(merger *m) {
    queued_pair first = m->queue[0], last = m->queue[--m->queued];
    int64_t at = 0, child;
    while ((child = 2 * at + 1) < m->queued) {
        child += child + 1 < m->queued && goes_first(&m->queue[child + 1], &m->queue[child]);
        if (!goes_first(&m->queue[child], &last)) break;
        m->queue[at] = m->queue[child], at = child;
    }
    m->queue[at] = last;
    return first;
}

static int by_pair_and_place(const void *one, const void *other) {
    const pair_at *a = one, *b = other;
    if (a->pair != b->pair) return a->pair < b->pair ? -1 : 1;
    return (a->place > b->place) - (a->place < b->place);
}

/* Queue the distinct pairs of those found. Returns 0 where there is no memory. */
static int enqueue_all(merger *m, pair_at *found, int64_t n) {
    qsort(found, (size_t)n, sizeof *found, by_pair_and_place);
    for (int64_t first = 0, end; first < n; first = end) {
        uint64_t pair = found[first].pair;
        int64_t count = 0;
        for (end = first; end < n && found[end].pair == pair; end++)
            count += m->weights[found[end].place];
        if (count < m->min_count) continue;
        if (m->sizes[pair >> 32] + m->sizes[(uint32_t)pair] > m->longest) continue;
        int64_t *places = malloc((size_t)(end - first) * sizeof *places);
        if (!places) return 0;
        for (int64_t i = first; i < end; i++) places[i - first] = found[i].place;
        if (!enqueue(m, (queued_pair){count, end - first, places, pair})) return 0;
    }
    return 1;
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)left << 32 | (uint32_t)right;
}

/* Up to `most` merges into `merges` [most][3]: left, right, count. `symbols` and `weights` [n] are
   what `_lay_out` gives; `sizes` [alphabet + most] has the alphabet's. Returns how many merges; -1
   where there is no memory. */
int64_t semigpt_merges(int32_t *symbols, const int64_t *weights, int64_t n, int64_t *sizes,
                       int64_t alphabet, int64_t longest, int64_t min_count, int64_t most,
                       int64_t *merges) {
    enum { ABSORBED = -2 };
    merger m = {.symbols = symbols, .weights = weights, .sizes = sizes};
    m.longest = longest, m.min_count = min_count;
    int64_t made = 0, have = 0, done = -1;
    int32_t *lengths = malloc((size_t)n * sizeof *lengths);
    pair_at *found = malloc((size_t)n * sizeof *found);
    if (!lengths || !found) goto end;
    for (int64_t i = 0; i < n; i++) lengths[i] = 1;
    for (int64_t i = 0; i + 1 < n; i++)
        if (symbols[i] >= 0 && symbols[i + 1] >= 0)
            found[have++] = (pair_at){pair_of(symbols[i], symbols[i + 1]), i};
    if (!enqueue_all(&m, found, have)) goto end;

    while (made < most && m.queued) {
        queued_pair pair = dequeue(&m);
        int32_t left = (int32_t)(pair.pair >> 32), right = (int32_t)pair.pair;
        int64_t count = 0, still = 0;
        for (int64_t i = 0; i < pair.size; i++) {
            int64_t at = pair.places[i];
            if (symbols[at] != left || symbols[at + lengths[at]] != right) continue;
            pair.places[still++] = at, count += weights[at];
        }
        pair.size = still;
        if (count < pair.count) { /* it may not be the most frequent any more */
            pair.count = count;
            if (count < min_count)
                free(pair.places);
            else if (!enqueue(&m, pair))
                goto end;
            continue;
        }
        int32_t new = (int32_t)(alphabet + made);
        sizes[new] = sizes[left] + sizes[right];
        merges[3 * made] = left, merges[3 * made + 1] = right, merges[3 * made++ + 2] = count;
        int64_t merged = 0;
        for (int64_t i = 0; i < pair.size; i++) {
            int64_t at = pair.places[i], then = at + lengths[at];
            /* Of equal symbols, the one before may have taken this one: `aaa` at 0. */
            if (symbols[at] != left || symbols[then] != right) continue;
            int32_t length = lengths[at] + lengths[then];
            symbols[at] = new, symbols[then] = ABSORBED;
            lengths[at] = lengths[at + length - 1] = length;
            pair.places[merged++] = at;
        }
        have = 0;
        for (int64_t i = 0; i < merged; i++) {
            int64_t at = pair.places[i], before = at - lengths[at - 1], behind = at + lengths[at];
            if (symbols[before] >= 0)
                found[have++] = (pair_at){pair_of(symbols[before], new), before};
            /* Where two merged places touch, their pair is counted at the second. */
            if (symbols[behind] >= 0 && symbols[behind] != new)
                found[have++] = (pair_at){pair_of(new, symbols[behind]), at};
        }
        free(pair.places);
        if (!enqueue_all(&m, found, have)) goto end;
    }
    done = made;
end:
    for (int64_t i = 0; i < m.queued; i++) free(m.queue[i].places);
    free(m.queue), free(lengths), free(found);
    return done;
}
