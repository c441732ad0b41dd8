// nvcc: -fmad=false
// The next token of each row from its logits: the steps of crates/model/src/sampling.rs, bit for bit.
//
// A team of blocks (sample_team.cuh) holds one row's logits in shared memory, cut into segments of consecutive ids, one a warp. Plain
// sampling takes two exchanges between the blocks: the largest logit, then the segments' sums of weights, from which the one warp whose
// segment holds the draw finds it. Filters that leave few tokens finish on a list of them in one block; where there is no such list,
// thresholds are found by histograms (sample_select.cuh), whatever the number of tokens.
#include "sample_select.cuh"

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
    d.args->last[row.slot] = token;
    // Not read here: an addition that nobody waits for.
    atomicAdd(&d.args->counts[(size_t)row.slot * d.args->n_vocab + token], 1u);
}

__device__ __forceinline__ void emit_nothing(const Draw& d, const SampleRow& row) {
    d.args->out[d.row].token = 0;
    d.args->out[d.row].chosen = 0;
    d.args->last[row.slot] = 0;
    atomicAdd(&d.args->counts[(size_t)row.slot * d.args->n_vocab], 1u);
}

// Loads the segment, with -inf for what is no finite number, and gives the lane's best by rank.
__device__ __forceinline__ uint64_t load_segment(const float* logits, float* z, int segment, int first, int n_vocab) {
    const int lane = threadIdx.x & 31;
    const bool whole = (n_vocab & 3) == 0 && ((uintptr_t)logits & 15) == 0;
    float best = -INFINITY;
    int best_id = first;
    constexpr int AT_ONCE = 5;
    for (int base = lane * 4; base < segment; base += AT_ONCE * 128) {
        float4 v[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128, id = first + i;
            v[k] = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
            if (i >= segment || id >= n_vocab) continue;
            if (whole) {
                v[k] = *(const float4*)(logits + id);
            } else {
                v[k].x = logits[id];
                if (id + 1 < n_vocab) v[k].y = logits[id + 1];
                if (id + 2 < n_vocab) v[k].z = logits[id + 2];
                if (id + 3 < n_vocab) v[k].w = logits[id + 3];
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int i = base + k * 128;
            if (i >= segment) continue;
            // NaN fails the comparison.
            v[k].x = v[k].x < INFINITY ? v[k].x : -INFINITY;
            v[k].y = v[k].y < INFINITY ? v[k].y : -INFINITY;
            v[k].z = v[k].z < INFINITY ? v[k].z : -INFINITY;
            v[k].w = v[k].w < INFINITY ? v[k].w : -INFINITY;
            *(float4*)(z + i) = v[k];
            if (v[k].x > best) best = v[k].x, best_id = first + i;
            if (v[k].y > best) best = v[k].y, best_id = first + i + 1;
            if (v[k].z > best) best = v[k].z, best_id = first + i + 2;
            if (v[k].w > best) best = v[k].w, best_id = first + i + 3;
        }
    }
    __syncwarp();
    return rank_key(best_id, best);
}

// Steps 1 to 4 on the warp's segment, and the lane's best by rank.
__device__ uint64_t edit_segment(const SampleArgs& args, const SampleRow& row, float* z, int segment, int first) {
    const int lane = threadIdx.x & 31, n_vocab = args.n_vocab;
    __syncwarp();
    if (row.flags & SAMPLE_MASK) {
        for (int i = lane * 4; i < segment && first + i < n_vocab; i += 128) {
            // Four ids of one word: segments are multiples of 128.
            const uint32_t bits = args.area[row.mask + ((first + i) >> 5)] >> ((first + i) & 31);
            for (int k = 0; k < 4; k++)
                if (!(bits >> k & 1)) z[i + k] = -INFINITY;
        }
        __syncwarp();
    }
    if (row.flags & SAMPLE_BIAS) {
        const uint32_t* pairs = args.area + row.bias;
        for (uint32_t k = lane; k < row.n_bias; k += 32) {
            const uint32_t id = pairs[2 * k];
            if ((int)id < first || (int)id >= first + segment || (k > 0 && pairs[2 * k - 2] == id)) continue;
            // Equal ids stand together, in the order of the list.
            float v = z[id - first];
            for (uint32_t j = k; j < row.n_bias && pairs[2 * j] == id; j++) v = v + float_of(pairs[2 * j + 1]);
            z[id - first] = v;
        }
        __syncwarp();
    }
    const bool penalties = row.flags & SAMPLE_PENALTIES;
    const uint32_t* counts = args.counts + (size_t)row.slot * n_vocab;
    float best = -INFINITY;
    int best_id = first;
    for (int i = lane * 4; i < segment; i += 128) {
        for (int k = 0; k < 4; k++) {
            float v = z[i + k];
            const int id = first + i + k;
            const uint32_t count = penalties && id < n_vocab ? counts[id] : 0;
            if (count != 0) {
                v = v > 0.0f ? v / row.repetition : v * row.repetition;
                const uint32_t n = count & 0x7FFFFFFFu;
                if (n > 0) v = (v - (float)n * row.frequency) - row.presence;
                z[i + k] = v;
            }
            if (v > best) best = v, best_id = id;
        }
    }
    __syncwarp();
    return rank_key(best_id, best);
}

// Remembers each segment's largest logit from the exchanged keys. Whoever reads it synchronises first.
__device__ __forceinline__ void keep_best(const Block& b, const Gathered& keys) {
    for (int i = threadIdx.x; i < SAMPLE_SEGMENTS; i += SAMPLE_THREADS)
        b.s->best[i] = i < b.team.size * SAMPLE_WARPS ? key_logit(keys.of[i]) : -INFINITY;
}

// The first coarse bucket up to which at least n tokens lie, going by the segments' largest logits alone; 255, which takes all, if they
// are too few.
__device__ __forceinline__ uint32_t bucket_of_best(const Block& b, float max, float scale, uint32_t n) {
    Local& s = *b.s;
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

// The first n by rank of the row's own logits. Gives the team's turn.
__device__ __noinline__ int alternatives(Block b, Draw d, uint32_t n) {
    Alive finite = all_alive(d.raw_max, SAMPLE_LOG2E);
    finite.all_finite = true;
    const uint32_t bucket = bucket_of_best(b, d.raw_max, SAMPLE_LOG2E, n);
    uint32_t found = gather(b, [&](float z, int) {
        return z > -INFINITY && coarse_bucket(token_exponent(z, d.raw_max, SAMPLE_LOG2E)) <= bucket;
    });
    if (found > SAMPLE_LIST) {
        const Last last = select(b, finite, false, false, n);
        b.team.turn = last.turn;
        found = gather(b, [&](float z, int id) { return z > -INFINITY && rank_key(id, z) >= last.key; });
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
    uint64_t r = high_product(b.s->row.bits, total), own = v[0];
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
        const float z = i < b.chunk ? b.z[at] : -INFINITY;
        const uint64_t w = alive_weight(alive, z, b.first + at), reached = warp_scan64(w), all = __shfl_sync(~0u, reached, 31);
        if (r >= all) {
            r -= all;
            continue;
        }
        if (reached > r && reached - w <= r) emit(d, b.s->row, b.first + at, z);
        return;
    }
}

// Steps 7 to 11 on the list of the n first by rank, in one block. `total` is the mass of step 9 where steps 7 and 8 do nothing.
__device__ __noinline__ void finish_list(Block b, Draw d, Alive alive, uint32_t n, uint64_t total) {
    const SampleRow& row = b.s->row;
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
    const SampleRow& row = b.s->row;
    const uint32_t flags = row.flags;
    bool fewer = false;
    if (row.top_k > 0) {
        const Last last = select(b, alive, false, false, row.top_k);
        b.team.turn = last.turn;
        if (!last.all) {
            alive.least_key = last.key;
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
        const Last last = select(b, alive, true, true, need > 0 ? need : 1);
        b.team.turn = last.turn;
        alive.typical = true;
        alive.dist = last.dist;
        alive.dist_key = last.key;
        fewer = true;
    }
    if (fewer && flags & (SAMPLE_TOP_P | SAMPLE_MIN_P)) {
        uint64_t mass = 0, first = 0;
        each(b, [&](float z, int id) {
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
        const Last last = select(b, alive, false, true, need > 0 ? need : 1);
        b.team.turn = last.turn;
        alive.least_key = last.key;
    }
    if (flags & SAMPLE_MIN_P) {
        const uint64_t heaviest = token_weight(token_exponent(key_logit(best), alive.max, alive.scale));
        const uint64_t least = mass_share(heaviest, row.min_p);
        alive.least_weight = least > 1 ? least : 1;
    }
    uint64_t sum = 0;
    each(b, [&](float z, int id) { sum += alive_weight(alive, z, id); });
    draw(b, d, alive, sum, *exchange<1>(b.team, {warp_sum64(sum)}));
}

// Steps 7 to 11 where any of 7 to 10 does something. `best` and `total` as in finish_any.
__device__ __forceinline__ void filter(const Block& b, const Draw& d, const Alive& alive, uint64_t best, uint64_t total) {
    const SampleRow& row = b.s->row;
    // A list of the first by rank suffices if what lies beyond it is dropped anyway.
    const bool small = d.args->n_vocab <= SAMPLE_LIST;
    uint32_t bucket = 255;
    if (row.top_k > 0) {
        if (row.top_k <= SAMPLE_LIST / 2) bucket = bucket_of_best(b, alive.max, alive.scale, row.top_k);
    } else if ((row.flags & (SAMPLE_TYPICAL | SAMPLE_TOP_P)) == SAMPLE_TOP_P) {
        bucket = bucket_of_best(b, alive.max, alive.scale, 64);
    }
    if (bucket < 255 || small) {
        const uint32_t n = gather(b, [&](float z, int) {
            const float e = token_exponent(z, alive.max, alive.scale);
            return e > -42.0f && (small || coarse_bucket(e) <= bucket) && token_weight(e) > 0;
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

// One row, from logits in shared memory on. `lane_key` is the lane's best by rank. Says whether peers may still read this block's memory.
__device__ __forceinline__ bool sample_row(Block& b, Draw& d, float* z, int segment, uint64_t lane_key) {
    const bool speaks = b.team.rank == 0 && threadIdx.x == 0;
    const SampleRow& row = b.s->row;
    const uint32_t flags = row.flags;
    const Gathered* got = exchange<1>(b.team, {warp_max64(lane_key)});
    uint64_t best = max_of(b.team, *got);
    float max = key_logit(best);
    d.raw_max = max;
    if (max == -INFINITY) {
        if (speaks) emit_nothing(d, row);
        return false;
    }
    const bool lists = row.n_alternatives > 0;
    const bool filters = row.top_k > 0 || flags & (SAMPLE_TYPICAL | SAMPLE_TOP_P | SAMPLE_MIN_P);
    if (lists || filters) keep_best(b, *got);
    if (lists) b.team.turn = alternatives(b, d, row.n_alternatives);
    const bool greedy = flags & SAMPLE_GREEDY;
    const float scale = row.scale, raw_max = max;
    d.edited = flags & (SAMPLE_MASK | SAMPLE_PENALTIES | SAMPLE_BIAS);
    uint64_t raw = 0, sum = 0, total = 0;
    if (d.edited) {
        each(b, [&](float z, int) { raw += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E)); });
        const uint64_t key = edit_segment(*d.args, row, z, segment, b.first);
        got = exchange<2>(b.team, {warp_max64(key), warp_sum64(raw)});
        best = max_of(b.team, got[0]);
        d.raw_total = sum_of(b.team, got[1]);
        if (filters) keep_best(b, got[0]);
        max = key_logit(best);
        // An infinite logit, which a repetition penalty can make of a huge one, leaves no weight to any.
        if (max == -INFINITY || (max == INFINITY && !greedy)) {
            if (speaks) emit_nothing(d, row);
            return lists;
        }
        if (!greedy) {
            each(b, [&](float z, int) { sum += token_weight(token_exponent(z, max, scale)); });
            got = exchange<1>(b.team, {warp_sum64(sum)});
            total = sum_of(b.team, got[0]);
        }
    } else if (greedy || scale == SAMPLE_LOG2E) {
        each(b, [&](float z, int) { sum += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E)); });
        got = exchange<1>(b.team, {warp_sum64(sum)});
        d.raw_total = total = sum_of(b.team, got[0]);
    } else {
        each(b, [&](float z, int) {
            raw += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E));
            sum += token_weight(token_exponent(z, raw_max, scale));
        });
        got = exchange<2>(b.team, {warp_sum64(sum), warp_sum64(raw)});
        total = sum_of(b.team, got[0]);
        d.raw_total = sum_of(b.team, got[1]);
    }
    if (greedy) {
        if (speaks) emit(d, row, key_id(best), max);
        return lists;
    }
    const Alive alive = all_alive(max, scale);
    if (!filters) {
        draw(b, d, alive, sum, got[0]);
        return lists;
    }
    filter(b, d, alive, best, total);
    return true;
}

template <int TEAM>
__device__ __forceinline__ void sample_rows(const SampleArgs& args) {
    extern __shared__ __align__(16) unsigned char shared[];
    const int warp = threadIdx.x >> 5;
    Block b;
    b.s = (Local*)shared;
    b.team.near_hist = (uint64_t*)(shared + SAMPLE_LOCAL_BYTES);
    b.team.rank = blockIdx.x;
    b.team.size = TEAM;
    b.team.turn = 0;
    b.team.got = b.s->got;
    b.team.arrivals = b.s->arrivals;
#ifdef SAMPLE_CLUSTERS
    b.team.mail = (Mail*)b.team.near_hist;
    b.team.counter = nullptr;
#else
    b.team.counter = (uint32_t*)args.scratch + blockIdx.y;
    b.team.mail = (Mail*)(args.scratch + 1024 + (size_t)(blockIdx.y * gridDim.x + blockIdx.x) * SAMPLE_MAIL_BYTES);
#endif
    float* z = (float*)(shared + SAMPLE_LOCAL_BYTES + SAMPLE_NEAR_BYTES) + (size_t)warp * args.segment;
    b.z = z;
    b.chunk = args.segment / 32;
    b.first = (b.team.rank * SAMPLE_WARPS + warp) * args.segment;
    team_arrive(b.team);
    wait_for_previous();
    let_next_start();
    for (int i = blockIdx.y; i < args.n_row; i += gridDim.y) {
        // All loads first: none waits for another, also not those of a row that turns out to be padding.
        const int slot = args.rows[i].slot;
        const uint32_t word = threadIdx.x < sizeof(SampleRow) / 4 ? ((const uint32_t*)(args.rows + i))[threadIdx.x] : 0;
        const uint64_t key = load_segment(args.logits + (size_t)i * args.n_vocab, z, args.segment, b.first, args.n_vocab);
        if (threadIdx.x < sizeof(SampleRow) / 4) ((uint32_t*)&b.s->row)[threadIdx.x] = word;
        __syncthreads();
        if (i == blockIdx.y) team_wait();
        if (slot < 0) continue;
        Draw d;
        d.args = &args;
        d.row = i;
        d.edited = false;
        d.raw_total = 0;
        const bool is_read = sample_row(b, d, z, args.segment, key);
        // Where the last thing was an exchange on a cluster, nobody reads this block's memory any more.
        if (is_read || i + gridDim.y < args.n_row) team_sync(b.team);
    }
}

// Teams of 16 and of 8: the same work. The size of a cluster is a property of the kernel, so that launching it is as ever.
#ifdef SAMPLE_CLUSTERS
#define SAMPLE_TEAM(n) __cluster_dims__(n, 1, 1)
#else
#define SAMPLE_TEAM(n)
#endif

extern "C" __global__ void SAMPLE_TEAM(16) __launch_bounds__(SAMPLE_THREADS, 2) sample_16(const __grid_constant__ SampleArgs args) { sample_rows<16>(args); }

extern "C" __global__ void SAMPLE_TEAM(8) __launch_bounds__(SAMPLE_THREADS, 2) sample_8(const __grid_constant__ SampleArgs args) { sample_rows<8>(args); }

struct SampleBegin {
    uint32_t slot;
    uint32_t first;     // index of the prompt's first id
    uint32_t n;
    uint32_t reserved;
};
static_assert(sizeof(SampleBegin) == 16, "as in src/sampling/args.rs");

struct SampleBeginArgs {
    const SampleBegin* begins;  // [gridDim.y]
    const uint32_t* ids;
    uint32_t* last;
    uint32_t* counts;
    int32_t n_vocab;
    int32_t reserved;
};
static_assert(sizeof(SampleBeginArgs) == 40, "as in src/sampling/args.rs");

// Ids that a block of sample_begin answers for.
constexpr int SAMPLE_BEGIN_IDS = 2048;

// Starts a sequence in a slot: nothing sampled yet, and the prompt's ids are marked. Each block has a range of ids to itself and looks
// through the whole prompt for them.
extern "C" __global__ void __launch_bounds__(256) sample_begin(const SampleBeginArgs args) {
    __shared__ uint32_t marks[SAMPLE_BEGIN_IDS / 32];
    wait_for_previous();
    let_next_start();
    const SampleBegin begin = args.begins[blockIdx.y];
    const uint32_t low = blockIdx.x * SAMPLE_BEGIN_IDS;
    if (threadIdx.x < SAMPLE_BEGIN_IDS / 32) marks[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < begin.n; i += 256) {
        const uint32_t at = args.ids[begin.first + i] - low;
        if (at < SAMPLE_BEGIN_IDS) atomicOr(&marks[at / 32], 1u << (at % 32));
    }
    __syncthreads();
    uint32_t* counts = args.counts + (size_t)begin.slot * args.n_vocab;
    for (uint32_t i = threadIdx.x; i < SAMPLE_BEGIN_IDS && low + i < (uint32_t)args.n_vocab; i += 256)
        counts[low + i] = (marks[i / 32] >> (i % 32) & 1) << 31;
    if (blockIdx.x == 0 && threadIdx.x == 0) args.last[begin.slot] = 0;
}
