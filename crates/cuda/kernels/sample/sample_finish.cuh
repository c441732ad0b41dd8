// Steps 7 to 11 of crates/model/src/sampling.rs, and what comes back.
#pragma once

#include "sample/sample_select.cuh"

struct Draw {
    const SampleArgs* args;
    int row;
    bool edited;
    float raw_max;
    uint64_t raw_total;
};

// One thread's: the row's result and the slot's history. `z` is the token's logit after steps 1 to 4.
__device__ __forceinline__ void emit(const Draw& d, const SampleRow& row, uint32_t token, float z) {
    SampleOut& out = d.args->out[d.row];
    out.token = token;
    out.chosen = 1;
    out.logit = d.edited ? d.args->logits[(size_t)d.row * d.args->n_vocab + token] : z;
    out.max = d.raw_max;
    out.total = d.raw_total;
    if (row.n_alternatives == 0) out.n_alternatives = 0;
    if (row.flags & SAMPLE_CHECKED) return;
    d.args->last[row.slot] = token;
    // Not read here: an addition that nobody waits for.
    atomicAdd(&d.args->counts[(size_t)row.slot * d.args->n_vocab + token], 1u);
}

__device__ __forceinline__ void emit_nothing(const Draw& d, const SampleRow& row) {
    d.args->out[d.row].token = 0;
    d.args->out[d.row].chosen = 0;
    if (row.flags & SAMPLE_CHECKED) return;
    d.args->last[row.slot] = 0;
    atomicAdd(&d.args->counts[(size_t)row.slot * d.args->n_vocab], 1u);
}

// Remembers each segment's largest logit from the exchanged keys. Whoever reads it synchronises first.
__device__ __forceinline__ void keep_best(const Block& b, const Gathered& keys) {
    for (int i = threadIdx.x; i < SAMPLE_SEGMENTS; i += SAMPLE_THREADS)
        local().best[i] = i < b.team.size * SAMPLE_WARPS ? key_logit(keys.of[i]) : -INFINITY;
}

// The first coarse bucket up to which at least n tokens lie, going by the segments' largest logits alone; 255, which takes all, if they
// are too few.
__device__ __forceinline__ uint32_t bucket_of_best(const Block& b, float max, float scale, uint32_t n) {
    Local& s = local();
    uint32_t* counts = b.counts();
    __syncthreads();
    if (threadIdx.x < 256) counts[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x < SAMPLE_SEGMENTS) {
        const float e = token_exponent(s.best[threadIdx.x], max, scale);
        if (e > -32.0f) atomicAdd(&counts[coarse_bucket(e)], 1u);
    }
    __syncthreads();
    // Every warp for itself: a lane has eight buckets.
    const int lane = threadIdx.x & 31;
    const uint4 a = ((const uint4*)counts)[lane * 2], c = ((const uint4*)counts)[lane * 2 + 1];
    const uint32_t v[8] = {a.x, a.y, a.z, a.w, c.x, c.y, c.z, c.w}, sum = a.x + a.y + a.z + a.w + c.x + c.y + c.z + c.w;
    uint32_t end = sum;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const uint32_t other = __shfl_up_sync(~0u, end, o);
        if (lane >= o) end += other;
    }
    const uint32_t reached = __ballot_sync(~0u, end >= n);
    if (reached == 0) return 255;
    uint32_t bucket = lane * 8, start = end - sum;
#pragma unroll
    for (int j = 0; j < 7; j++) {
        if (bucket == lane * 8 + j && start + v[j] < n) {
            start += v[j];
            bucket++;
        }
    }
    return __shfl_sync(~0u, bucket, __ffs(reached) - 1);
}

// The least exponent in a coarse bucket: the last one has none.
__device__ __forceinline__ float end_of_bucket(uint32_t bucket, float least) {
    return bucket < 255 ? (float)(bucket + 1) * -0.125f : least;
}

// The first n by rank of the row's own logits. Gives the team's turn.
__device__ __noinline__ int alternatives(Block b, Draw d, uint32_t n) {
    Last last{true, 0, 0, b.team.turn};
    const auto gather_down_to = [&](float least_e) {
        return gather(b, [&](auto give) {
            each_down_to(b, d.raw_max, SAMPLE_LOG2E, least_e, [&](float z, int id) {
                const uint64_t key = rank_key(id, z);
                if (z > -INFINITY && (last.all || key >= last.key)) give(key);
            });
        });
    };
    const uint32_t bucket = bucket_of_best(b, d.raw_max, SAMPLE_LOG2E, n);
    uint32_t found = gather_down_to(end_of_bucket(bucket, -INFINITY));
    if (found > SAMPLE_LIST) {
        last = select<false, false>(b, all_finite(d.raw_max, SAMPLE_LOG2E), n);
        b.team.turn = last.turn;
        found = gather_down_to(token_exponent(key_logit(last.key), d.raw_max, SAMPLE_LOG2E));
    }
    if (b.team.rank == 0) {
        const uint64_t key = sort(b, found);
        SampleOut& out = d.args->out[d.row];
        if (threadIdx.x < min(found, n)) {
            out.ids[threadIdx.x] = key_id(key);
            out.logits[threadIdx.x] = key_logit(key);
        }
        if (threadIdx.x == 0) out.n_alternatives = min(found, n);
    }
    __syncthreads();
    return b.team.turn;
}

// Step 11. `mine` is the lane's sum of what is alive, `sums` are the segments'.
__device__ __forceinline__ void draw(const Block& b, const Draw& d, const Alive& alive, uint64_t mine, const Gathered& sums) {
    const int lane = threadIdx.x & 31;
    // Groups of 32 segments, the group in which it falls, and the segment.
    constexpr int GROUPS = SAMPLE_SEGMENTS / 32;
    uint64_t v[GROUPS], of[GROUPS], total = 0;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        v[g] = g * 32 < b.team.size * SAMPLE_WARPS ? sums.of[g * 32 + lane] : 0;
        of[g] = warp_sum64(v[g]);
        total += of[g];
    }
    uint64_t r = high_product(local().row.bits, total), own = v[0];
    int group = 0;
#pragma unroll
    for (int g = 0; g < GROUPS - 1; g++) {
        if (group == g && r >= of[g]) {
            r -= of[g];
            group++;
            own = v[g + 1];
        }
    }
    uint64_t end = warp_scan64(own);
    const int owner = __ffs(__ballot_sync(~0u, end > r)) - 1;
    r = __shfl_sync(~0u, r - (end - own), owner);
    if (group * 32 + owner != b.team.rank * SAMPLE_WARPS + (int)(threadIdx.x >> 5)) return;
    // This warp's: first the lane whose tokens they are, then all lanes look at these.
    end = warp_scan64(mine);
    const int holder = __ffs(__ballot_sync(~0u, end > r)) - 1;
    r = __shfl_sync(~0u, r - (end - mine), holder);
    for (int i = lane; i - lane < b.chunk; i += 32) {
        const int at = holder * b.chunk + i;
        const float z = i < b.chunk ? b.z()[at] : -INFINITY;
        const uint64_t w = alive_weight(alive, z, b.first + at), reached = warp_scan64(w), all = __shfl_sync(~0u, reached, 31);
        if (r >= all) {
            r -= all;
            continue;
        }
        if (reached > r && reached - w <= r) emit(d, local().row, b.first + at, z);
        return;
    }
}

// Steps 7 to 11 on the list of the n first by rank, in one block. `total` is the mass of step 9 where steps 7 and 8 do nothing.
__device__ __noinline__ void finish_list(Block b, Draw d, Alive alive, uint32_t n, uint64_t total) {
    const SampleRow& row = local().row;
    const uint64_t key = sort(b, n);
    const float e = threadIdx.x < n ? token_exponent(key_logit(key), alive.max, alive.scale) : 0.0f;
    uint64_t w = threadIdx.x < n ? token_weight(e) : 0;
    if (row.top_k > 0 && threadIdx.x >= row.top_k) w = 0;
    if (row.flags & SAMPLE_TYPICAL) {
        const uint64_t info = information(e);
        const uint64_t mass = block_sum(b, 0, w);
        const uint64_t high = block_sum(b, 1, (w >> 20) * info);
        __syncthreads();
        const uint64_t low = block_sum(b, 0, (w & 0xFFFFF) * info);
        const uint64_t dist = distance(e, mean_information(high, low, mass));
        const uint64_t need = mass_share(mass, row.typical_p);
        const Spread spread(n);
        ulonglong2 pair;
        const uint64_t start = before(b, spread, dist << 16 | threadIdx.x, w, pair);
        if (spread.first()) b.starts()[spread.entry()] = start;
        __syncthreads();
        if (threadIdx.x < n && b.starts()[threadIdx.x] > 0 && b.starts()[threadIdx.x] >= need) w = 0;
    }
    if (row.flags & SAMPLE_TOP_P) {
        __syncthreads();
        if (row.top_k > 0 || row.flags & SAMPLE_TYPICAL) total = block_sum(b, 1, w);
        const uint64_t start = block_start(b, 0, w);
        if (start > 0 && start >= mass_share(total, row.top_p)) w = 0;
    }
    if (row.flags & SAMPLE_MIN_P) {
        __syncthreads();
        const uint64_t best = block_max(b, 1, w ? key : 0);
        const uint64_t heaviest = token_weight(token_exponent(key_logit(best), alive.max, alive.scale));
        if (w < mass_share(heaviest, row.min_p)) w = 0;
    }
    __syncthreads();
    const uint64_t r = high_product(row.bits, block_sum(b, 0, w));
    // Those left are among the first by rank.
    const Spread spread((uint32_t)block_max(b, 1, w ? threadIdx.x + 1 : 0));
    ulonglong2 pair;
    const uint64_t start = before(b, spread, key_id(key), w, pair);
    if (spread.first() && start <= r && r < start + pair.y)
        emit(d, row, (uint32_t)pair.x, key_logit(b.sorted()[spread.entry()]));
}

// Steps 7 to 11 on thresholds, for any number of tokens. `best` is the key of the first by rank, `total` the sum of all weights.
__device__ __noinline__ void finish_any(Block b, Draw d, Alive alive, uint64_t best, uint64_t total) {
    const SampleRow& row = local().row;
    const uint32_t flags = row.flags;
    bool fewer = false;
    if (row.top_k > 0) {
        const Last last = select<false, false>(b, alive, row.top_k);
        b.team.turn = last.turn;
        if (!last.all) {
            end_at(alive, last.key);
            fewer = true;
        }
    }
    if (flags & SAMPLE_TYPICAL) {
        uint64_t mass = 0, high = 0, low = 0;
        each(b, [&](float z, int id) {
            const uint64_t w = alive_weight(alive, z, id);
            if (w == 0) return;
            const uint64_t info = information(token_exponent(z, alive.max, alive.scale));
            mass += w;
            high += (w >> 20) * info;
            low += (w & 0xFFFFF) * info;
        });
        low = warp_sum64(low);
        high = warp_sum64(high) + (low >> 20);
        const Gathered* got = exchange<2>(b.team, {warp_sum64(mass), high});
        mass = sum_of(b.team, got[0]);
        high = sum_of(b.team, got[1]);
        low = sum_of(b.team, *exchange<1>(b.team, {low & 0xFFFFF}));
        alive.mean = mean_information(high, low, mass);
        const uint64_t need = mass_share(mass, row.typical_p);
        const Last last = select<true, true>(b, alive, need > 0 ? need : 1);
        b.team.turn = last.turn;
        alive.typical = true;
        alive.dist = last.dist;
        alive.dist_key = last.key;
        fewer = true;
    }
    if (fewer && flags & (SAMPLE_TOP_P | SAMPLE_MIN_P)) {
        uint64_t mass = 0, first = 0;
        each_down_to(b, alive.max, alive.scale, alive.least_e, [&](float z, int id) {
            const uint64_t w = alive_weight(alive, z, id);
            if (w == 0) return;
            mass += w;
            const uint64_t key = rank_key(id, z);
            first = key > first ? key : first;
        });
        const Gathered* got = exchange<2>(b.team, {warp_sum64(mass), warp_max64(first)});
        total = sum_of(b.team, got[0]);
        best = max_of(b.team, got[1]);
    }
    if (flags & SAMPLE_TOP_P) {
        const uint64_t need = mass_share(total, row.top_p);
        if (!fewer) {
            // What weighs less than an equal part of what is dropped is all dropped. One bit of margin for the weights' rounding.
            const uint64_t part = (total - need) / (uint32_t)d.args->n_vocab;
            if (part > 0) alive.least_e = fmaxf(alive.least_e, (float)(63 - __clzll(part)) - 41.0f);
        }
        const Last last = select<false, true>(b, alive, need > 0 ? need : 1);
        b.team.turn = last.turn;
        end_at(alive, last.key);
    }
    if (flags & SAMPLE_MIN_P) {
        const uint64_t heaviest = token_weight(token_exponent(key_logit(best), alive.max, alive.scale));
        weigh_at_least(alive, mass_share(heaviest, row.min_p));
    }
    uint64_t sum = 0;
    each(b, [&](float z, int id) { sum += alive_weight(alive, z, id); });
    draw(b, d, alive, sum, *exchange<1>(b.team, {warp_sum64(sum)}));
}

// Steps 7 to 11 where any of 7 to 10 does something. `best` and `total` as in finish_any.
__device__ __forceinline__ void filter(const Block& b, const Draw& d, const Alive& alive, uint64_t best, uint64_t total) {
    const SampleRow& row = local().row;
    // A list of the first by rank suffices if what lies beyond it is dropped anyway.
    const bool small = d.args->n_vocab <= SAMPLE_LIST;
    uint32_t bucket = 255;
    if (row.top_k > 0) {
        if (row.top_k <= SAMPLE_LIST / 2) bucket = bucket_of_best(b, alive.max, alive.scale, row.top_k);
    } else if ((row.flags & (SAMPLE_TYPICAL | SAMPLE_TOP_P)) == SAMPLE_TOP_P) {
        bucket = bucket_of_best(b, alive.max, alive.scale, 64);
    }
    if (bucket < 255 || small) {
        const uint32_t n = gather(b, [&](auto give) {
            each_down_to(b, alive.max, alive.scale, end_of_bucket(bucket, alive.least_e), [&](float z, int id) {
                if (token_weight(token_exponent(z, alive.max, alive.scale)) > 0) give(rank_key(id, z));
            });
        });
        bool enough = small || (row.top_k > 0 && n >= row.top_k);
        if (n <= SAMPLE_LIST && !enough && row.flags & SAMPLE_TOP_P) {
            const uint64_t w = threadIdx.x < n ? token_weight(token_exponent(key_logit(b.list()[threadIdx.x]), alive.max, alive.scale)) : 0;
            enough = block_sum(b, 0, w) >= mass_share(total, row.top_p);
        }
        if (n <= SAMPLE_LIST && enough) {
            __syncthreads();
            if (b.team.rank == 0) finish_list(b, d, alive, n, total);
            return;
        }
    }
    finish_any(b, d, alive, best, total);
}
