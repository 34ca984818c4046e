/* Byte-level BPE and Unigram with GPT-2's words, as the `tokenizers` library encodes: the same ids, BPE's
   some five times as fast.

   A text is cut into words, each word into tokens once, and what came out is kept by its bytes: of film reviews, nine
   words of ten have been seen before. An encoder belongs to one thread; the text is valid UTF-8. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OTHER, LETTER, NUMBER, SPACE };
enum { LONGEST = 64 }; /* bytes of a word that is kept */
#ifndef WORDS
#define WORDS (1 << 16) /* places for them at first */
#endif
#ifndef KEPT
#define KEPT (1 << 24) /* bytes of words and ids kept, past which all is forgotten: four times as many are no faster */
#endif

/* Of BPE; or a step in Unigram's trie, from the node `left` by the byte `right` to the node `id`, where the piece `rank` ends
   (-1: none). */
typedef struct {
    uint64_t pair; /* left << 32 | right, + 1: 0 is an empty place */
    int32_t rank, id;
} merge;

typedef struct {
    uint64_t hash;
    uint32_t at;           /* in `kept`, the bytes and then, from the next multiple of 4 on, the ids */
    uint16_t length, ids;  /* length 0 is an empty place */
} word;

typedef struct {
    int32_t rank;
    uint32_t at;
} candidate;

typedef struct {
    const uint8_t *classes;
    merge *merges;
    uint64_t merge_mask;
    double *scores; /* Unigram's, by piece; NULL for BPE */
    word *words;
    uint64_t word_mask, word_count;
    uint8_t *kept;
    uint64_t kept_length, kept_room;
    /* Of the word at hand: symbols and their neighbours, and what may be merged, the lowest rank and then place first. For
       Unigram, by the bytes up to there: the last piece of the likeliest cut, where it begins, and the cut's score. */
    int32_t *symbol, *before, *behind;
    candidate *heap;
    double *best;
    uint64_t room;
} encoder;

static uint64_t mixed(uint64_t x) {
    x ^= x >> 32, x *= 0xD6E8FEB86659FD93u, x ^= x >> 32;
    return x * 0xD6E8FEB86659FD93u;
}

static uint64_t hash_of(const uint8_t *text, uint64_t length) {
    uint64_t hash = length, part;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&part, text, 8);
        hash = mixed(hash ^ part);
    }
    part = 0;
    memcpy(&part, text, length);
    hash = mixed(hash ^ part);
    return hash ^ hash >> 32;
}

static merge *place_of(const encoder *e, int32_t left, int32_t right) {
    uint64_t pair = ((uint64_t)left << 32 | (uint32_t)right) + 1, at = mixed(pair);
    for (at ^= at >> 32;; at++) {
        merge *found = &e->merges[at & e->merge_mask];
        if (found->pair == pair || !found->pair) return found;
    }
}

void semigpt_bpe_free(void *of) {
    encoder *e = of;
    if (!e) return;
    free(e->merges), free(e->scores), free(e->words), free(e->kept);
    free(e->symbol), free(e->before), free(e->behind), free(e->heap), free(e->best);
    free(e);
}

/* With room for so many merges, or steps; NULL where there is no memory. */
static encoder *new_encoder(uint64_t count, const uint8_t *classes) {
    encoder *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    uint64_t room = 64;
    while (room < 3 * count) room *= 2;
    e->classes = classes;
    e->merges = calloc(room, sizeof *e->merges);
    e->merge_mask = room - 1;
    e->words = calloc(WORDS, sizeof *e->words);
    e->word_mask = WORDS - 1;
    e->kept = malloc(e->kept_room = 1 << 20);
    if (!e->merges || !e->words || !e->kept) return semigpt_bpe_free(e), NULL;
    return e;
}

static merge merge_of(int32_t left, int32_t right, int32_t rank, int32_t id) {
    return (merge){((uint64_t)left << 32 | (uint32_t)right) + 1, rank, id};
}

/* `merges` [count, 3]: left, right and what they make; the first goes first. `classes` [0x110000] outlives the encoder.
   NULL where there is no memory. */
void *semigpt_bpe_new(int64_t count, const int32_t *merges, const uint8_t *classes) {
    encoder *e = new_encoder((uint64_t)count, classes);
    for (int64_t i = 0; e && i < count; i++) {
        merge *place = place_of(e, merges[3 * i], merges[3 * i + 1]);
        if (!place->pair) *place = merge_of(merges[3 * i], merges[3 * i + 1], (int32_t)i, merges[3 * i + 2]);
    }
    return e;
}

/* `pieces`: the bytes of `count` pieces, one after the other, piece i from ends[i - 1] to ends[i]; all 256 bytes are among
   them. `scores` [count]. */
void *semigpt_unigram_new(
    int64_t count, const uint8_t *pieces, const int64_t *ends, const double *scores, const uint8_t *classes) {
    encoder *e = new_encoder((uint64_t)ends[count - 1], classes);
    if (!e) return NULL;
    e->scores = malloc((uint64_t)count * sizeof *scores);
    if (!e->scores) return semigpt_bpe_free(e), NULL;
    memcpy(e->scores, scores, (uint64_t)count * sizeof *scores);
    int32_t nodes = 1;
    for (int64_t i = 0, at = 0; i < count; i++) {
        merge *step = NULL;
        for (int32_t node = 0; at < ends[i]; node = step->id, at++) {
            step = place_of(e, node, pieces[at]);
            if (!step->pair) *step = merge_of(node, pieces[at], -1, nodes++);
        }
        if (step) step->rank = (int32_t)i;
    }
    return e;
}

static int earlier(candidate a, candidate b) { return a.rank < b.rank || (a.rank == b.rank && a.at < b.at); }

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

/* The word's symbols after every merge, into `ids`: how many. */
static int64_t merged(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    int32_t *symbol = e->symbol, *before = e->before, *behind = e->behind;
    candidate *heap = e->heap;
    uint64_t size = 0;
    for (uint64_t i = 0; i < length; i++) {
        symbol[i] = text[i], before[i] = (int32_t)i - 1, behind[i] = i + 1 < length ? (int32_t)i + 1 : -1;
    }
    for (uint64_t i = 0; i + 1 < length; i++) {
        merge *m = place_of(e, symbol[i], symbol[i + 1]);
        if (m->pair) push(heap, &size, (candidate){m->rank, (uint32_t)i});
    }
    while (size) {
        candidate next = pop(heap, &size);
        int32_t left = (int32_t)next.at, right = behind[left];
        if (symbol[left] < 0 || right < 0) continue;
        merge *m = place_of(e, symbol[left], symbol[right]);
        if (!m->pair || m->rank != next.rank) continue; /* of symbols that are gone */
        symbol[left] = m->id, symbol[right] = -1;
        behind[left] = behind[right];
        if (behind[right] >= 0) before[behind[right]] = left;
        if (before[left] >= 0 && (m = place_of(e, symbol[before[left]], symbol[left]))->pair)
            push(heap, &size, (candidate){m->rank, (uint32_t)before[left]});
        if (behind[left] >= 0 && (m = place_of(e, symbol[left], symbol[behind[left]]))->pair)
            push(heap, &size, (candidate){m->rank, (uint32_t)left});
    }
    int64_t count = 0;
    for (int32_t i = 0; i >= 0; i = behind[i]) ids[count++] = (uint32_t)symbol[i];
    return count;
}

/* The pieces of the word's likeliest cut, into `ids`: how many. Of two cuts as likely, that with the longer last piece. */
static int64_t cut(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    int32_t *last = e->symbol, *begins = e->before;
    double *best = e->best;
    for (uint64_t i = 1; i <= length; i++) best[i] = -INFINITY;
    best[0] = 0;
    for (uint64_t begin = 0; begin < length; begin++) {
        int32_t node = 0;
        for (uint64_t end = begin; end < length; end++) {
            const merge *step = place_of(e, node, text[end]);
            if (!step->pair) break;
            node = step->id;
            if (step->rank < 0 || !(best[begin] + e->scores[step->rank] > best[end + 1])) continue;
            best[end + 1] = best[begin] + e->scores[step->rank];
            last[end + 1] = step->rank, begins[end + 1] = (int32_t)begin;
        }
    }
    int64_t count = 0;
    for (uint64_t end = length; end; end = (uint64_t)begins[end]) count++;
    for (uint64_t end = length, i = (uint64_t)count; end; end = (uint64_t)begins[end]) ids[--i] = (uint32_t)last[end];
    return count;
}

static int64_t tokens_of(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    return e->scores ? cut(e, text, length, ids) : merged(e, text, length, ids);
}

/* Room for a word of so many bytes; 0 where there is none. A merge takes one candidate and adds two at most. */
static int make_room(encoder *e, uint64_t length) {
    if (length < e->room) return 1;
    uint64_t room = 2 * length + 64;
    free(e->symbol), free(e->before), free(e->behind), free(e->heap), free(e->best);
    e->symbol = malloc(room * sizeof *e->symbol), e->before = malloc(room * sizeof *e->before);
    e->behind = malloc(room * sizeof *e->behind), e->heap = malloc(3 * room * sizeof *e->heap);
    e->best = malloc(room * sizeof *e->best);
    e->room = e->symbol && e->before && e->behind && e->heap && e->best ? room : 0;
    return e->room > 0;
}

static int more_words(encoder *e) {
    uint64_t room = 2 * (e->word_mask + 1);
    word *wider = calloc(room, sizeof *wider);
    if (!wider) return 0;
    for (uint64_t i = 0; i <= e->word_mask; i++) {
        if (!e->words[i].length) continue;
        uint64_t at = e->words[i].hash;
        while (wider[at & (room - 1)].length) at++;
        wider[at & (room - 1)] = e->words[i];
    }
    free(e->words);
    e->words = wider, e->word_mask = room - 1;
    return 1;
}

static int64_t encoded_word(encoder *e, const uint8_t *text, uint64_t length, uint32_t *ids) {
    if (length == 1) return ids[0] = text[0], 1;
    if (length > LONGEST) return make_room(e, length) ? tokens_of(e, text, length, ids) : -1;
    uint64_t hash = hash_of(text, length), at = hash;
    for (;; at++) {
        const word *w = &e->words[at & e->word_mask];
        if (!w->length) break;
        if (w->hash == hash && w->length == length && !memcmp(e->kept + w->at, text, length)) {
            memcpy(ids, e->kept + ((w->at + length + 3) & ~(uint64_t)3), 4 * w->ids);
            return w->ids;
        }
    }
    if (!make_room(e, length)) return -1;
    int64_t count = tokens_of(e, text, length, ids);
    if (e->kept_length + 8 * LONGEST > KEPT) {
        memset(e->words, 0, (e->word_mask + 1) * sizeof *e->words);
        e->word_count = e->kept_length = 0, at = hash;
    }
    if (e->kept_length + 8 * LONGEST > e->kept_room) {
        uint8_t *wider = realloc(e->kept, 2 * e->kept_room);
        if (!wider) return count; /* not kept, no harm done */
        e->kept = wider, e->kept_room *= 2;
    }
    uint64_t first = e->kept_length, then = (first + length + 3) & ~(uint64_t)3;
    memcpy(e->kept + first, text, length);
    memcpy(e->kept + then, ids, 4 * count);
    e->words[at & e->word_mask] = (word){hash, (uint32_t)first, (uint16_t)length, (uint16_t)count};
    e->kept_length = then + 4 * count;
    if (2 * ++e->word_count > e->word_mask && !more_words(e)) {
        memset(e->words, 0, (e->word_mask + 1) * sizeof *e->words);
        e->word_count = e->kept_length = 0;
    }
    return count;
}

static uint64_t width_at(const uint8_t *text) { return *text < 0x80 ? 1 : *text < 0xE0 ? 2 : *text < 0xF0 ? 3 : 4; }

static int class_at(const encoder *e, const uint8_t *t) {
    uint32_t point = *t < 0x80   ? *t
                     : *t < 0xE0 ? (t[0] & 0x1Fu) << 6 | (t[1] & 0x3Fu)
                     : *t < 0xF0 ? (t[0] & 0x0Fu) << 12 | (t[1] & 0x3Fu) << 6 | (t[2] & 0x3Fu)
                                 : (t[0] & 0x07u) << 18 | (t[1] & 0x3Fu) << 12 | (t[2] & 0x3Fu) << 6 | (t[3] & 0x3Fu);
    return e->classes[point];
}

static const uint8_t *run_end(const encoder *e, const uint8_t *at, const uint8_t *end, int class) {
    while (at < end && class_at(e, at) == class) at += width_at(at);
    return at;
}

/* Where the word that begins at `at` ends:
   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const uint8_t *word_end(const encoder *e, const uint8_t *at, const uint8_t *end) {
    if (*at == '\'' && end - at >= 2) {
        if (strchr("stmd", at[1]) && at[1]) return at + 2;
        if (end - at >= 3 && (!memcmp(at + 1, "re", 2) || !memcmp(at + 1, "ve", 2) || !memcmp(at + 1, "ll", 2))) return at + 3;
    }
    int class = class_at(e, at);
    if (class != SPACE) return run_end(e, at, end, class);
    if (*at == ' ' && at + 1 < end && (class = class_at(e, at + 1)) != SPACE) return run_end(e, at + 1, end, class);
    const uint8_t *last = at, *behind = at;
    while (behind < end && class_at(e, behind) == SPACE) last = behind, behind += width_at(behind);
    return behind == end || last == at ? behind : last;
}

/* The ids of a text of `length` bytes, into `ids`, which has room for as many: how many; -1 where there is no memory. */
int64_t semigpt_bpe_encode(void *with, const uint8_t *text, int64_t length, uint32_t *ids) {
    encoder *e = with;
    const uint8_t *end = text + length;
    int64_t count = 0;
    while (text < end) {
        const uint8_t *behind = word_end(e, text, end);
        int64_t more = encoded_word(e, text, (uint64_t)(behind - text), ids + count);
        if (more < 0) return -1;
        count += more, text = behind;
    }
    return count;
}
