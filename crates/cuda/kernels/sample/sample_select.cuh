// Which tokens are left, and the smallest start of an order that reaches a number of tokens or a mass.
//
// Nothing is sorted and nothing is moved: a filter leaves a threshold, and a token is in if it passes all thresholds so far.
#pragma once

#include "sample/sample_team.cuh"

// The tokens that may still be drawn, as conditions on a token alone.
struct Alive {
    float max, scale;       // of the exponents
    bool all_finite;        // every logit above -inf counts 1, and nothing below matters (alternatives)
    bool typical;
    float least_e;
    uint32_t mean;          // with `typical`: distance from it at most `dist`, at equal distance the key at least `dist_key`
    uint32_t dist;
    uint64_t dist_key;
    float least_z;          // and at an equal logit the id at most `most_id`
    int most_id;
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
    a.dist_key = 0;
    a.least_z = -INFINITY;
    a.most_id = -1;
    a.least_weight = 1;
    return a;
}

__device__ __forceinline__ uint32_t distance(float e, uint32_t mean) {
    const uint32_t i = information(e);
    return i > mean ? i - mean : mean - i;
}

__device__ __forceinline__ Alive all_finite(float max, float scale) {
    Alive a = all_alive(max, scale);
    a.all_finite = true;
    // The exponent of any finite logit may have overflowed; that of -inf did, and is taken out.
    a.least_e = -INFINITY;
    return a;
}

// Takes out what comes after this key by rank.
__device__ __forceinline__ void end_at(Alive& a, uint64_t key) {
    a.least_z = key_logit(key);
    a.most_id = key_id(key);
    a.least_e = fmaxf(a.least_e, token_exponent(a.least_z, a.max, a.scale));
}

// Takes out what weighs less. An exponent a bit below the weight's is below it however it is rounded.
__device__ __forceinline__ void weigh_at_least(Alive& a, uint64_t least) {
    a.least_weight = least > 1 ? least : 1;
    a.least_e = fmaxf(a.least_e, (float)(63 - __clzll(a.least_weight)) - 41.5f);
}

// The token's weight, 0 if it is out.
__device__ __forceinline__ uint64_t alive_weight(const Alive& a, float z, int id) {
    if (a.all_finite) return z > -INFINITY;
    const float e = token_exponent(z, a.max, a.scale);
    if (!(e >= a.least_e) || z < a.least_z || (z == a.least_z && id > a.most_id)) return 0;
    const uint64_t w = token_weight(e);
    if (w < a.least_weight) return 0;
    if (a.typical) {
        const uint32_t d = distance(e, a.mean);
        if (d > a.dist || (d == a.dist && rank_key(id, z) < a.dist_key)) return 0;
    }
    return w;
}

// What a block needs to know to work on its part of a row. Functions that are not inlined take it by value and give the team's turn
// back, so that it stays in registers.
struct Block {
    Team team;
    int chunk;  // ids of a lane, a multiple of 4
    int first;  // the warp's segment's first id

    // The warp's segment: -inf past the end of the vocabulary.
    __device__ __forceinline__ float* z() const { return row_logits() + (threadIdx.x >> 5) * (chunk * 32); }

    // Scratch for lists and counts, in the histograms' place: neither is in use while the other is.
    __device__ __forceinline__ ulonglong2* pairs() const { return (ulonglong2*)near_hist(); }
    __device__ __forceinline__ uint64_t* list() const { return near_hist() + 2 * SAMPLE_LIST; }
    __device__ __forceinline__ uint64_t* sorted() const { return near_hist() + 4 * SAMPLE_LIST; }
    __device__ __forceinline__ uint64_t* starts() const { return near_hist() + 5 * SAMPLE_LIST; }
    __device__ __forceinline__ uint64_t* own() const { return near_hist() + 7 * SAMPLE_LIST; }
    // In the second histogram's, also while the first is filled.
    __device__ __forceinline__ uint16_t* lines() const { return (uint16_t*)(near_hist() + SAMPLE_BUCKETS); }
    __device__ __forceinline__ uint32_t* counts() const { return (uint32_t*)near_hist(); }
};

// Calls f(logit, id) for the lane's tokens, which are consecutive, in the order of ids.
template <class F>
__device__ __forceinline__ void each(const Block& b, F f) {
    const int start = (threadIdx.x & 31) * b.chunk;
    const float* z = b.z() + start;
    const int id = b.first + start;
#pragma unroll 1
    for (int i = 0; i < b.chunk; i += 4) {
        const float4 v = *(const float4*)(z + i);
        f(v.x, id + i);
        f(v.y, id + i + 1);
        f(v.z, id + i + 2);
        f(v.w, id + i + 3);
    }
}

// Calls f(logit, id) for the warp's tokens with an exponent of at least `least_e`, in no order. They are lined up first, so that few of
// them do not keep whole warps busy.
template <class F>
__device__ __forceinline__ void each_down_to(const Block& b, float max, float scale, float least_e, F f) {
    constexpr int LINE = 31 + 128;
    const int lane = threadIdx.x & 31;
    uint16_t* line = b.lines() + (threadIdx.x >> 5) * (LINE + 1);
    int n = 0;
#pragma unroll 1
    for (int i = 0; i < b.chunk * 32 || n > 0; i += 128) {
        bool any = false;
        if (i < b.chunk * 32) {
            const float4 v = *(const float4*)(b.z() + i + lane * 4);
            any = __any_sync(~0u, token_exponent(fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)), max, scale) >= least_e);
            if (any) {
                const float z[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    const bool in = token_exponent(z[k], max, scale) >= least_e;
                    const uint32_t all = __ballot_sync(~0u, in);
                    if (in) line[n + __popc(all & ((1u << lane) - 1))] = (uint16_t)(i + lane * 4 + k);
                    n += __popc(all);
                }
                __syncwarp();
            }
        }
        const bool last = i + 128 >= b.chunk * 32;
#pragma unroll 1
        while (n >= 32 || (last && n > 0)) {
            // From the end.
            const int m = min(n, 32);
            n -= m;
            if (lane < m) {
                const int at = line[n + lane];
                f(b.z()[at], b.first + at);
            }
            __syncwarp();
        }
    }
}

// Sum over the block's threads, in all of them. `slot` 0 or 1: not the one used last.
__device__ __forceinline__ uint64_t block_sum(const Block& b, int slot, uint64_t v) {
    v = warp_sum64(v);
    if ((threadIdx.x & 31) == 0) local().warp[slot][threadIdx.x >> 5] = v;
    __syncthreads();
    return warp_sum64(local().warp[slot][threadIdx.x % SAMPLE_WARPS]) / (32 / SAMPLE_WARPS);
}

__device__ __forceinline__ uint64_t block_max(const Block& b, int slot, uint64_t v) {
    v = warp_max64(v);
    if ((threadIdx.x & 31) == 0) local().warp[slot][threadIdx.x >> 5] = v;
    __syncthreads();
    return warp_max64(local().warp[slot][threadIdx.x % SAMPLE_WARPS]);
}

// Over the block's threads before this one.
__device__ __forceinline__ uint64_t block_start(const Block& b, int slot, uint64_t v) {
    uint64_t end = warp_scan64(v);
    if ((threadIdx.x & 31) == 31) local().warp[slot][threadIdx.x >> 5] = end;
    __syncthreads();
    const int w = threadIdx.x % 32;
    return end - v + warp_sum64(w < (threadIdx.x >> 5) ? local().warp[slot][w] : 0);
}

// Brings the rank keys that `each_wanted` gives to the function it is called with, in all threads, into every block's list, in no
// order. Gives their number, or a greater one than SAMPLE_LIST if they are too many, or too many in one block.
template <class Each>
__device__ __forceinline__ uint32_t gather(const Block& b, Each each_wanted) {
    Local& s = local();
    const int share = SAMPLE_THREADS / b.team.size, from = threadIdx.x / share, at = threadIdx.x % share;
    if (threadIdx.x == 0) s.n_list = 0;
    __syncthreads();
    each_wanted([&](uint64_t key) {
        const uint32_t i = atomicAdd(&s.n_list, 1u);
        if (i < share) b.own()[i] = key;
    });
    __syncthreads();
    // To every block a copy.
    Mail* to = peer(b.team, from);
    if (at < s.n_list) to->lists[b.team.rank * share + at] = b.own()[at];
    if (at == 0) to->n_list[b.team.rank] = s.n_list;
    team_sync(b.team);
    uint32_t total = 0, start = 0, mine = 0;
    bool whole = true;
    for (int r = 0; r < b.team.size; r++) {
        const uint32_t n = read_peer(&b.team.mail()->n_list[r]);
        whole = whole && n <= share;
        if (r < from) start += n;
        if (r == from) mine = n;
        total += n;
    }
    if (!whole) total = SAMPLE_LIST + 1;
    if (total <= SAMPLE_LIST && at < mine) b.list()[start + at] = read_peer(&b.team.mail()->lists[threadIdx.x]);
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
#pragma unroll 2
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
#pragma unroll 2
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
    const uint64_t rank = (uint64_t)(uint32_t)~(uint32_t)(key >> 32) << 26 | key_id(key);
    return typical ? (uint64_t)(dist & 63) << 58 | rank : rank;
}

// Digit `level` (0 or 1) of a token's place in the order.
__device__ __forceinline__ uint32_t digit_of(bool typical, int level, float e, uint32_t dist) {
    // Distances are below 2^26.
    if (typical) return level == 0 ? dist >> 16 : dist >> 6 & 1023u;
    return level == 0 ? fine_bucket(e) : finer_bucket(e);
}

__device__ __forceinline__ void add_to_bucket(uint64_t* hist, uint32_t bucket, uint64_t v) {
    // Two 32-bit additions with a carry: shared memory adds 64 bits in a loop of compare and swap.
    uint32_t* at = (uint32_t*)(hist + bucket);
    const uint32_t low = (uint32_t)v, old = atomicAdd(at, low);
    const uint32_t high = (uint32_t)(v >> 32) + (old + low < low);
    if (high) atomicAdd(at + 1, high);
}

// From the blocks' histograms to the bucket in which `need` is reached: found_digit, found_need (what is still needed within it),
// found_mass (what it has) and found_total, in every block.
__device__ __forceinline__ void find_bucket(const Block& b, uint64_t need) {
    Local& s = local();
    const Team& team = b.team;
    __syncthreads();
#ifndef SAMPLE_CLUSTERS
    for (int i = threadIdx.x; i < SAMPLE_BUCKETS; i += SAMPLE_THREADS) team.mail()->hist[i] = near_hist()[i];
#endif
    team_sync(team);
    // Each block adds up its share of the buckets, several threads a bucket, and gives the sums to all.
    const int share = SAMPLE_BUCKETS / team.size, split = SAMPLE_THREADS / share;
    const int bucket = team.rank * share + threadIdx.x / split;
    uint64_t whole = 0;
    for (int r = threadIdx.x % split; r < team.size; r += split) whole += read_peer(&peer(team, r)->hist[bucket]);
    for (int o = 1; o < split; o <<= 1) whole += __shfl_xor_sync(~0u, whole, o);
    for (int r = threadIdx.x % split; r < team.size; r += split) peer(team, r)->sums[bucket] = whole;
    team_sync(team);
    const int first = threadIdx.x * 2;
    const ulonglong2 v = read_peer((const ulonglong2*)(team.mail()->sums + first));
    const uint64_t sum = v.x + v.y;
    uint64_t end = warp_scan64(sum);
    if ((threadIdx.x & 31) == 31) s.warp[0][threadIdx.x >> 5] = end;
    __syncthreads();
    const int w = threadIdx.x % 32;
    const uint64_t of_warp = w < SAMPLE_WARPS ? s.warp[0][w] : 0, total = warp_sum64(of_warp);
    end += warp_sum64(w < (threadIdx.x >> 5) ? of_warp : 0);
    const uint64_t start = end - sum;
    if (threadIdx.x == 0) s.found_total = total;
    if (start < need && need <= end) {
        const bool second = need > start + v.x;
        s.found_digit = first + second;
        s.found_need = need - start - (second ? v.x : 0);
        s.found_mass = second ? v.y : v.x;
    }
    __syncthreads();
}

// By mass values are weights, else 1 a token. The typical order is by distance, then rank; else the order is by rank. `need` is above 0.
template <bool TYPICAL, bool BY_MASS>
__device__ __noinline__ Last select(Block b, Alive alive, uint64_t need) {
    constexpr bool typical = TYPICAL, by_mass = BY_MASS;
    Local& s = local();
    uint64_t* hist = near_hist();
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
        // Down to the end of the first digit's bucket, and a bit for rounding.
        float least_e = alive.least_e;
        if (level > 0 && typical) least_e = fmaxf(least_e, -((float)alive.mean + (float)(d0 + 1) * 65536.0f) / 1048576.0f - 0.01f);
        if (level > 0 && !typical && d0 < SAMPLE_BUCKETS - 1) least_e = fmaxf(least_e, (float)(d0 + 1) / -24.0f - 0.01f);
        each_down_to(b, alive.max, alive.scale, least_e, [&](float z, int id) {
            const float e = token_exponent(z, alive.max, alive.scale);
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
            shift = max(0, 64 - __clzll(high - low) - 10);
        }
        for (int i = threadIdx.x; i < SAMPLE_BUCKETS; i += SAMPLE_THREADS) hist[i] = 0;
        __syncthreads();
        members(level, [&](uint64_t w, float e, uint32_t dist, uint64_t key) {
            const uint32_t digit = level < 2 ? digit_of(typical, level, e, dist)
                                             : (uint32_t)((ordinal(typical, dist, key) - low) >> shift);
            if (by_mass)
                add_to_bucket(hist, digit, w);
            else
                atomicAdd((uint32_t*)(hist + digit), 1u);
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
                const uint64_t key = (uint64_t)(uint32_t)~(uint32_t)(low >> 26) << 32 | (uint32_t)~(uint32_t)(low & 0x3FFFFFFu);
                return Last{false, typical ? d0 << 16 | d1 << 6 | (uint32_t)(low >> 58) : 0, key, b.team.turn};
            }
            shift = max(0, shift - 10);
        }
        // About how many share the bucket, where all weigh about the same: too many for a list?
        if (level == 0 && by_mass && !typical && digit < SAMPLE_BUCKETS - 1) {
            const float weight = exp2f(40.0f - (float)digit / 24.0f);
            if ((float)s.found_mass > weight * (SAMPLE_LIST * 1.2f)) continue;
        }
        // Few are left: compare them with each other.
        const uint32_t n = gather(b, [&](auto give) {
            members(level + 1, [&](uint64_t, float, uint32_t, uint64_t key) { give(key); });
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
