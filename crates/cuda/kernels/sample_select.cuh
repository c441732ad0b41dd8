// Which tokens are left, and the smallest start of an order that reaches a number of tokens or a mass.
//
// Nothing is sorted and nothing is moved: a filter leaves a threshold, and a token is in if it passes all thresholds so far.
#pragma once

#include "sample_team.cuh"

// The tokens that may still be drawn, as conditions on a token alone.
struct Alive {
    float max, scale;       // of the exponents
    bool all_finite;        // every logit above -inf counts 1, and nothing below matters (alternatives)
    bool typical;
    float least_e;
    uint32_t mean;          // with `typical`: distance from it at most `dist`, at equal distance the key at least `dist_key`
    uint32_t dist;
    uint64_t dist_key;
    uint64_t least_key;
    uint64_t least_weight;
};

__device__ __forceinline__ Alive all_alive(float max, float scale) {
    Alive a;
    a.max = max;
    a.scale = scale;
    a.all_finite = a.typical = false;
    // 2^40 * 2^-42 rounds to 0.
    a.least_e = -42.0f;
    a.mean = a.dist = 0;
    a.dist_key = a.least_key = 0;
    a.least_weight = 1;
    return a;
}

__device__ __forceinline__ uint32_t distance(float e, uint32_t mean) {
    const uint32_t i = information(e);
    return i > mean ? i - mean : mean - i;
}

// The token's weight, 0 if it is out.
__device__ __forceinline__ uint64_t alive_weight(const Alive& a, float z, int id) {
    if (a.all_finite) return z > -INFINITY;
    const float e = token_exponent(z, a.max, a.scale);
    if (!(e >= a.least_e)) return 0;
    if (a.least_key != 0 && rank_key(id, z) < a.least_key) return 0;
    const uint64_t w = token_weight(e);
    if (w < a.least_weight) return 0;
    if (a.typical) {
        const uint32_t d = distance(e, a.mean);
        if (d > a.dist || (d == a.dist && rank_key(id, z) < a.dist_key)) return 0;
    }
    return w;
}

struct Local {
    Gathered got[2][2];
    uint64_t arrivals[2];
    uint64_t warp[2][SAMPLE_WARPS];
    float best[SAMPLE_SEGMENTS];  // the largest logit of each segment
    uint32_t offset[SAMPLE_MAX_TEAM + 1];
    uint32_t n_list;
    uint64_t found_key;
    uint64_t found_need;
    uint64_t found_total;
    uint32_t found_dist;
    uint32_t found_digit;
    SampleRow row;
};
static_assert(sizeof(Local) <= SAMPLE_LOCAL_BYTES, "as in src/sampling/shape.rs");

// What a block needs to know to work on its part of a row. Functions that are not inlined take it by value and give the team's turn
// back, so that it stays in registers.
struct Block {
    Team team;
    Local* s;
    const float* z;  // this warp's segment in shared memory: -inf past the end of the vocabulary
    int chunk;       // ids of a lane, a multiple of 4
    int first;       // the segment's first id

    // In the histogram's place, which is not in use while a list is.
    __device__ __forceinline__ ulonglong2* pairs() const { return (ulonglong2*)team.near_hist; }
    __device__ __forceinline__ uint64_t* list() const { return team.near_hist + 2 * SAMPLE_LIST; }
    __device__ __forceinline__ uint64_t* sorted() const { return team.near_hist + 4 * SAMPLE_LIST; }
    __device__ __forceinline__ uint64_t* starts() const { return team.near_hist + 5 * SAMPLE_LIST; }
    __device__ __forceinline__ uint32_t* counts() const { return (uint32_t*)team.near_hist; }
};

// Calls f(logit, id) for the lane's tokens, which are consecutive, in the order of ids.
template <class F>
__device__ __forceinline__ void each(const Block& b, F f) {
    const int start = (threadIdx.x & 31) * b.chunk;
    const float* z = b.z + start;
    const int id = b.first + start;
#pragma unroll 2
    for (int i = 0; i < b.chunk; i += 4) {
        const float4 v = *(const float4*)(z + i);
        f(v.x, id + i);
        f(v.y, id + i + 1);
        f(v.z, id + i + 2);
        f(v.w, id + i + 3);
    }
}

// Sum over the block's threads, in all of them. `slot` 0 or 1: not the one used last.
__device__ __forceinline__ uint64_t block_sum(const Block& b, int slot, uint64_t v) {
    v = warp_sum64(v);
    if ((threadIdx.x & 31) == 0) b.s->warp[slot][threadIdx.x >> 5] = v;
    __syncthreads();
    uint64_t sum = 0;
#pragma unroll
    for (int w = 0; w < SAMPLE_WARPS; w++) sum += b.s->warp[slot][w];
    return sum;
}

__device__ __forceinline__ uint64_t block_max(const Block& b, int slot, uint64_t v) {
    v = warp_max64(v);
    if ((threadIdx.x & 31) == 0) b.s->warp[slot][threadIdx.x >> 5] = v;
    __syncthreads();
    uint64_t max = 0;
#pragma unroll
    for (int w = 0; w < SAMPLE_WARPS; w++) max = b.s->warp[slot][w] > max ? b.s->warp[slot][w] : max;
    return max;
}

// Over the block's threads before this one.
__device__ __forceinline__ uint64_t block_start(const Block& b, int slot, uint64_t v) {
    uint64_t end = warp_scan64(v);
    if ((threadIdx.x & 31) == 31) b.s->warp[slot][threadIdx.x >> 5] = end;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < SAMPLE_WARPS; w++)
        if (w < (threadIdx.x >> 5)) end += b.s->warp[slot][w];
    return end - v;
}

// Brings the rank keys of all tokens that `want` lets through into every block's list, in no order. Gives their number; above
// SAMPLE_LIST the list is of no use.
template <class F>
__device__ __forceinline__ uint32_t gather(const Block& b, F want) {
    Local& s = *b.s;
    if (threadIdx.x == 0) s.n_list = 0;
    __syncthreads();
    each(b, [&](float z, int id) {
        if (want(z, id)) {
            const uint32_t at = atomicAdd(&s.n_list, 1u);
            if (at < SAMPLE_LIST) b.team.mail->list[at] = rank_key(id, z);
        }
    });
    __syncthreads();
    if (threadIdx.x == 0) b.team.mail->n_list = s.n_list;
    team_sync(b.team);
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x;
        const uint32_t n = lane < b.team.size ? read_peer(&peer(b.team, lane)->n_list) : 0;
        const uint32_t sum = (uint32_t)warp_scan64(n);
        if (lane <= b.team.size) s.offset[lane] = sum - n;
    }
    __syncthreads();
    const uint32_t total = s.offset[b.team.size];
    if (total <= SAMPLE_LIST && threadIdx.x < total) {
        int rank = 0;
        while (s.offset[rank + 1] <= threadIdx.x) rank++;
        b.list()[threadIdx.x] = read_peer(&peer(b.team, rank)->list[threadIdx.x - s.offset[rank]]);
    }
    __syncthreads();
    return total;
}

// For comparing the entries of a list with each other, every entry has `split` adjacent threads; the first speaks for it.
struct Spread {
    uint32_t n, split;
    __device__ __forceinline__ explicit Spread(uint32_t n) : n(n), split(n <= 64 ? 8 : n <= 128 ? 4 : 2) {}
    __device__ __forceinline__ uint32_t entry() const { return threadIdx.x / split; }
    __device__ __forceinline__ uint32_t part() const { return threadIdx.x % split; }
    __device__ __forceinline__ bool live() const { return entry() < n; }
    __device__ __forceinline__ bool first() const { return live() && part() == 0; }
};

// Orders the list of n keys by rank: sorted(), of which thread t gets entry t (0 past the end).
__device__ __forceinline__ uint64_t sort(const Block& b, uint32_t n) {
    const Spread spread(n);
    uint64_t* list = b.list();
    // Read in pairs; 0 comes after every key.
    if (threadIdx.x == 0) list[n] = 0;
    __syncthreads();
    uint32_t place = 0;
    const uint64_t key = spread.live() ? list[spread.entry()] : 0;
    if (spread.live()) {
#pragma unroll 4
        for (uint32_t j = spread.part() * 2; j < n; j += spread.split * 2) {
            const ulonglong2 other = *(const ulonglong2*)(list + j);
            place += (other.x > key) + (other.y > key);
        }
    }
    for (uint32_t o = 1; o < spread.split; o <<= 1) place += __shfl_xor_sync(~0u, place, o);
    if (spread.first()) b.sorted()[place] = key;
    __syncthreads();
    return threadIdx.x < n ? b.sorted()[threadIdx.x] : 0;
}

// Threads below n give an entry each, its order and a value: the sum of the values of all entries before the thread's spread.entry(),
// whose own are in `pair`.
__device__ __forceinline__ uint64_t before(const Block& b, const Spread& spread, uint64_t order, uint64_t v, ulonglong2& pair) {
    ulonglong2* pairs = b.pairs();
    if (threadIdx.x < spread.n) pairs[threadIdx.x] = make_ulonglong2(order, v);
    __syncthreads();
    uint64_t sum = 0;
    pair = spread.live() ? pairs[spread.entry()] : make_ulonglong2(0, 0);
    if (spread.live()) {
#pragma unroll 4
        for (uint32_t j = spread.part(); j < spread.n; j += spread.split) {
            const ulonglong2 other = pairs[j];
            sum += other.x < pair.x ? other.y : 0;
        }
    }
    for (uint32_t o = 1; o < spread.split; o <<= 1) sum += __shfl_xor_sync(~0u, sum, o);
    return sum;
}

// The last token of the shortest start of an order whose values reach `need`.
struct Last {
    bool all;        // they never do: everything stays
    uint32_t dist;   // in the typical order
    uint64_t key;
    int turn;        // of the team
};

// The ordinal of a token within the tokens that share its first two digits: first what comes first.
__device__ __forceinline__ uint64_t ordinal(bool typical, uint32_t dist, uint64_t key) {
    const uint64_t rank = (uint64_t)(uint32_t)~(uint32_t)(key >> 32) << 28 | key_id(key);
    return typical ? (uint64_t)(dist & 15) << 60 | rank : rank;
}

// Digit `level` (0 or 1) of a token's place in the order.
__device__ __forceinline__ uint32_t digit_of(bool typical, int level, float e, uint32_t dist) {
    if (typical) return level == 0 ? min(dist >> 15, 2047u) : dist >> 4 & 2047u;
    return level == 0 ? fine_bucket(e) : finer_bucket(e);
}

__device__ __forceinline__ void add_to_bucket(uint64_t* hist, uint32_t bucket, uint64_t v) {
    // Two 32-bit additions with a carry: shared memory adds 64 bits in a loop of compare and swap.
    uint32_t* at = (uint32_t*)(hist + bucket);
    const uint32_t low = (uint32_t)v, old = atomicAdd(at, low);
    const uint32_t high = (uint32_t)(v >> 32) + (old + low < low);
    if (high) atomicAdd(at + 1, high);
}

// From the blocks' histograms to the bucket in which `need` is reached: found_digit, found_need (what is still needed within it)
// and found_total, in every block.
__device__ __forceinline__ void find_bucket(const Block& b, uint64_t need) {
    Local& s = *b.s;
    const Team& team = b.team;
    __syncthreads();
#ifndef SAMPLE_CLUSTERS
    for (int i = threadIdx.x; i < SAMPLE_BUCKETS; i += SAMPLE_THREADS) team.mail->hist[i] = team.near_hist[i];
#endif
    team_sync(team);
    // Each block adds up its share of the buckets, then all read all sums.
    const int share = SAMPLE_BUCKETS / team.size;
    for (int i = threadIdx.x; i < share; i += SAMPLE_THREADS) {
        uint64_t sum = 0;
#pragma unroll 8
        for (int r = 0; r < team.size; r++) sum += read_peer(&peer(team, r)->hist[team.rank * share + i]);
        team.mail->part[i] = sum;
    }
    team_sync(team);
    const int first = threadIdx.x * 4;
    const ulonglong2* from = (const ulonglong2*)(peer(team, first / share)->part + first % share);
    const ulonglong2 a = read_peer(from), c = read_peer(from + 1);
    const uint64_t v[4] = {a.x, a.y, c.x, c.y}, sum = a.x + a.y + c.x + c.y;
    uint64_t end = warp_scan64(sum);
    if ((threadIdx.x & 31) == 31) s.warp[0][threadIdx.x >> 5] = end;
    __syncthreads();
    uint64_t total = 0;
#pragma unroll
    for (int w = 0; w < SAMPLE_WARPS; w++) {
        if (w < (threadIdx.x >> 5)) end += s.warp[0][w];
        total += s.warp[0][w];
    }
    uint64_t start = end - sum;
    if (threadIdx.x == 0) s.found_total = total;
    if (start < need && need <= end) {
        int i = 0;
#pragma unroll
        for (int k = 0; k < 3; k++) {
            if (i == k && need > start + v[k]) {
                start += v[k];
                i++;
            }
        }
        s.found_digit = first + i;
        s.found_need = need - start;
    }
    __syncthreads();
}

// `by_mass`: values are weights, else 1 a token. `typical`: the order is by distance, then rank, else by rank.
// `need` is above 0.
__device__ __noinline__ Last select(Block b, Alive alive, bool typical, bool by_mass, uint64_t need) {
    Local& s = *b.s;
    uint64_t* hist = b.team.near_hist;
    uint32_t d0 = 0, d1 = 0;
    uint64_t low = 0, high = ~0ull;
    int shift = 0;
    // Whether a token shares the digits found before this level, by what is cheapest first.
    const auto shares = [&](int level, float z, int id, float e, uint32_t dist) {
        if (level > 0 && digit_of(typical, 0, e, dist) != d0) return false;
        if (level > 1 && digit_of(typical, 1, e, dist) != d1) return false;
        if (level > 2) {
            const uint64_t o = ordinal(typical, dist, rank_key(id, z));
            return o >= low && o <= high;
        }
        return true;
    };
    // Calls f(weight, e, dist, key) for each of them that is alive.
    const auto members = [&](int level, auto f) {
        each(b, [&](float z, int id) {
            const float e = token_exponent(z, alive.max, alive.scale);
            if (!(z > -INFINITY) || (!alive.all_finite && e < alive.least_e)) return;
            const uint32_t dist = typical ? distance(e, alive.mean) : 0;
            if (!shares(level, z, id, e, dist)) return;
            const uint64_t w = alive_weight(alive, z, id);
            if (w != 0) f(w, e, dist, rank_key(id, z));
        });
    };
    for (int level = 0;; level++) {
        if (level == 2) {
            // The buckets divide what the ordinals span.
            uint64_t least = ~0ull, most = 0;
            members(level, [&](uint64_t, float, uint32_t dist, uint64_t key) {
                const uint64_t o = ordinal(typical, dist, key);
                least = o < least ? o : least;
                most = o > most ? o : most;
            });
            const Gathered* got = exchange<2>(b.team, {warp_max64(~least), warp_max64(most)});
            low = ~max_of(b.team, got[0]);
            high = max_of(b.team, got[1]);
            shift = max(0, 64 - __clzll(high - low) - 11);
        }
        for (int i = threadIdx.x; i < SAMPLE_BUCKETS; i += SAMPLE_THREADS) hist[i] = 0;
        __syncthreads();
        members(level, [&](uint64_t w, float e, uint32_t dist, uint64_t key) {
            const uint32_t digit = level < 2 ? digit_of(typical, level, e, dist)
                                             : (uint32_t)((ordinal(typical, dist, key) - low) >> shift);
            add_to_bucket(hist, digit, by_mass ? w : 1);
        });
        find_bucket(b, need);
        if (s.found_total < need) return Last{true, 0, 0, b.team.turn};
        need = s.found_need;
        const uint32_t digit = s.found_digit;
        if (level == 0) d0 = digit;
        if (level == 1) d1 = digit;
        if (level >= 2) {
            low += (uint64_t)digit << shift;
            const uint64_t end = low + ((1ull << shift) - 1);
            high = end < high ? end : high;
            if (shift == 0) {
                const uint64_t key = (uint64_t)(uint32_t)~(uint32_t)(low >> 28) << 32 | (uint32_t)~(uint32_t)(low & 0xFFFFFFFu);
                return Last{false, typical ? d0 << 15 | d1 << 4 | (uint32_t)(low >> 60) : 0, key, b.team.turn};
            }
            shift = max(0, shift - 11);
        }
        // Few are left: compare them with each other.
        const uint32_t n = gather(b, [&](float z, int id) {
            const float e = token_exponent(z, alive.max, alive.scale);
            const uint32_t dist = typical ? distance(e, alive.mean) : 0;
            if (!(z > -INFINITY) || (!alive.all_finite && e < alive.least_e)) return false;
            return shares(level + 1, z, id, e, dist) && alive_weight(alive, z, id) != 0;
        });
        if (n > SAMPLE_LIST) continue;
        const uint64_t key = sort(b, n);
        const float e = token_exponent(key_logit(key), alive.max, alive.scale);
        const uint64_t v = threadIdx.x >= n ? 0 : by_mass ? token_weight(e) : 1;
        if (!typical) {
            const uint64_t start = block_start(b, 0, v);
            if (threadIdx.x < n && start < need && need <= start + v) {
                s.found_key = key;
                s.found_dist = 0;
            }
        } else {
            const uint32_t dist = threadIdx.x < n ? distance(e, alive.mean) : 0;
            const Spread spread(n);
            ulonglong2 pair;
            const uint64_t start = before(b, spread, (uint64_t)dist << 16 | threadIdx.x, v, pair);
            if (spread.first() && start < need && need <= start + pair.y) {
                s.found_key = b.sorted()[spread.entry()];
                s.found_dist = (uint32_t)(pair.x >> 16);
            }
        }
        __syncthreads();
        return Last{false, s.found_dist, s.found_key, b.team.turn};
    }
}
