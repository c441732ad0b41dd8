// Times the two ways of merging a word: a scan over all pairs, and a heap of pairs over a linked list.
//
// cc -O2 -o merge_time merge_time.c && python merge_words.py TOKENIZER.json TEXT | ./merge_time
// Input: the number of merges; "left right id" of each in order of rank; then words, each a line of a length and its ids.
// Output: by length, nanoseconds a word for both, the best of 5 runs over at least 20,000 words. Both must give the same ids.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NONE UINT32_MAX
#define LONGEST 4096

static uint64_t *keys, mask;
static uint32_t *ranks, *made;

// The upper bits, to which all bits of both ids have come.
static uint64_t place(uint64_t pair) { return (pair * 0x9E3779B97F4A7C15u) >> 32 & mask; }

static uint32_t find(uint32_t left, uint32_t right, uint32_t *id) {
    uint64_t pair = (uint64_t)left << 32 | right;
    for (uint64_t i = place(pair); keys[i] != UINT64_MAX; i = (i + 1) & mask)
        if (keys[i] == pair) return *id = made[i], ranks[i];
    return NONE;
}

static int scan(uint32_t *ids, int n) {
    static uint32_t rank[LONGEST], id[LONGEST];
    for (int i = 0; i + 1 < n; i++) rank[i] = find(ids[i], ids[i + 1], &id[i]);
    for (;;) {
        int best = -1;
        for (int i = 0; i + 1 < n; i++)
            if (rank[i] != NONE && (best < 0 || rank[i] < rank[best])) best = i;
        if (best < 0) return n;
        ids[best] = id[best];
        int rest = n - best - 2;
        memmove(ids + best + 1, ids + best + 2, rest * sizeof *ids);
        if (rest > 0) {
            memmove(rank + best + 1, rank + best + 2, (rest - 1) * sizeof *rank);
            memmove(id + best + 1, id + best + 2, (rest - 1) * sizeof *id);
        }
        n--;
        if (best > 0) rank[best - 1] = find(ids[best - 1], ids[best], &id[best - 1]);
        if (best + 1 < n) rank[best] = find(ids[best], ids[best + 1], &id[best]);
    }
}

typedef struct { uint64_t key; uint32_t id, size; } Offer; // key: rank, then the left place

static Offer offers[3 * LONGEST];
static int count;

static void push(Offer offer) {
    int i = count++;
    for (; i && offers[(i - 1) / 2].key > offer.key; i = (i - 1) / 2) offers[i] = offers[(i - 1) / 2];
    offers[i] = offer;
}

static Offer pop(void) {
    Offer top = offers[0], last = offers[--count];
    int i = 0;
    for (int child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && offers[child + 1].key < offers[child].key) child++;
        if (offers[child].key >= last.key) break;
        offers[i] = offers[child];
    }
    offers[i] = last;
    return top;
}

static uint32_t before[LONGEST], after[LONGEST], size[LONGEST];

static void offer(uint32_t *ids, uint32_t left, uint32_t right) {
    uint32_t id, rank;
    if (left != NONE && right != NONE && (rank = find(ids[left], ids[right], &id)) != NONE)
        push((Offer){(uint64_t)rank << 32 | left, id, size[left] + size[right]});
}

static int heap(uint32_t *ids, int n) {
    count = 0;
    for (int i = 0; i < n; i++) before[i] = i ? i - 1 : NONE, after[i] = i + 1 < n ? i + 1 : NONE, size[i] = 1;
    for (int i = 0; i + 1 < n; i++) offer(ids, i, i + 1);
    while (count) {
        Offer top = pop();
        uint32_t left = (uint32_t)top.key, right = after[left];
        // A part only grows to the right, so an offer of the size that the two have now is this pair.
        if (!size[left] || right == NONE || size[left] + size[right] != top.size) continue;
        ids[left] = top.id, size[left] = top.size, size[right] = 0, after[left] = after[right];
        if (after[right] != NONE) before[after[right]] = left;
        offer(ids, before[left], left);
        offer(ids, left, after[left]);
    }
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (size[i]) ids[kept++] = ids[i];
    return kept;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(void) {
    long n_merge;
    if (scanf("%ld", &n_merge) != 1) return 1;
    for (mask = 1; mask < 2 * (uint64_t)n_merge; mask = mask << 1 | 1) {}
    keys = malloc((mask + 1) * 8), ranks = malloc((mask + 1) * 4), made = malloc((mask + 1) * 4);
    memset(keys, 255, (mask + 1) * 8);
    for (uint32_t rank = 0; rank < n_merge; rank++) {
        uint32_t left, right, id;
        if (scanf("%u %u %u", &left, &right, &id) != 3) return 1;
        uint64_t pair = (uint64_t)left << 32 | right, i = place(pair);
        while (keys[i] != UINT64_MAX && keys[i] != pair) i = (i + 1) & mask;
        if (keys[i] == UINT64_MAX) keys[i] = pair, ranks[i] = rank, made[i] = id;
    }
    static uint32_t words[64][LONGEST], work[2][LONGEST];
    int length, n_word = 0, current = 0, more;
    do {
        more = scanf("%d", &length) == 1;
        if (n_word && (!more || length != current || n_word == 64)) {
            double best[2] = {1e18, 1e18};
            int repeat = 1 + 20000 / n_word, kept[2];
            if (current > 200) repeat = 1 + repeat / current;
            for (int way = 0; way < 2; way++)
                for (int run = 0; run < 5; run++) {
                    double start = now();
                    for (int r = 0; r < repeat; r++)
                        for (int w = 0; w < n_word; w++) {
                            memcpy(work[way], words[w], current * 4);
                            kept[way] = way ? heap(work[way], current) : scan(work[way], current);
                        }
                    double each = (now() - start) / repeat / n_word;
                    if (each < best[way]) best[way] = each;
                }
            if (kept[0] != kept[1] || memcmp(work[0], work[1], kept[0] * 4)) return fprintf(stderr, "the two differ\n"), 1;
            printf("%5d symbols  scan %11.0f ns  heap %11.0f ns  %5.2f\n", current, best[0], best[1], best[0] / best[1]);
            n_word = 0;
        }
        if (!more) break;
        for (int i = 0; i < length; i++)
            if (scanf("%u", &words[n_word][i]) != 1) return 1;
        current = length, n_word++;
    } while (1);
}
