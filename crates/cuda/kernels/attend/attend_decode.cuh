// Attention of generated rows: one query position a sequence, all query heads of a key head together (arXiv 2305.13245), the
// positions cut into splits that run in parallel and are combined in order (flash-decoding; online softmax: arXiv 1805.02867).
//
// How positions are cut depends on the row's position, the window and split_shift, which the host derives from the model alone. So a
// row's bits depend on neither the batch nor the grid: gridDim.x is free, a block takes every gridDim.x-th split.
//
// Products are transposed, S' = K Q' and A' = V' P', so that 8 query heads are a matrix instruction's whole N and positions or
// values of the head its M. K and V then go from memory straight to registers in 16-byte loads: the order of k within a dot
// product is free, hence a lane's 8 neighbouring values serve two instructions. Q and P are split in two f16 terms each, about
// 21 bits, for what a second instruction on the same registers costs.
//
// A tile type (attend_tile.cuh, attend_tile_q8.cuh) says how a head's keys and values lie in the cache. Where they are blocks, which the
// product of queries, keys and values cannot make, that product leaves its row in float32, and a row's last split quantises it: it
// takes it from shared memory and writes it to the cache for later steps.
//
// This kernel can also normalise and turn what products leave of queries, keys and values (`T::PLACES`), where no two rows are of one sequence.
// Each block does that for its own heads, and the block with a row's last split for the key and the value, which it takes and writes as above.
//
// Grid (any, n_kv_head * chunks of up to 8 query heads, n_row), 256 threads, 128 for heads of more than 128 values.
#pragma once

#include "attend/attend_stage.cuh"

// Each time anew: what the compiler would keep instead are more registers than there are.
__device__ __forceinline__ uint4 load_shared(const uint4* from) {
    uint4 v;
    asm volatile("ld.volatile.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"((uint32_t)__cvta_generic_to_shared(from))
                 : "memory");
    return v;
}

// Sums and maxima of a row's and chunk's splits.
struct Part {
    float4* sums;  // [split][n_column]
    float2* tops;  // [split][HEADS]
};

template <class T>
__device__ __forceinline__ Part part_of(const AttendDecodeArgs& args, int two_shift) {
    constexpr int HD = T::DIM;
    const size_t index = (size_t)(blockIdx.z * gridDim.y + blockIdx.y) << args.split_shift;
    const size_t all = (size_t)(gridDim.z * gridDim.y) << args.split_shift;
    float4* sums = (float4*)args.part;
    return {sums + ((index * (HD / 2)) << two_shift), (float2*)(sums + ((all * (HD / 2)) << two_shift)) + index * HEADS};
}

// The pages of a warp's tiles of the pass at `at`.
template <class T>
__device__ __forceinline__ void locate(uint32_t (&page)[Shape<T>::TILES], const Job& job, unsigned at, unsigned end) {
#pragma unroll
    for (int u = 0; u < Shape<T>::TILES; u++)
        if (at + u * Shape<T>::STEP < end) page[u] = __ldg(job.pages + (at + u * Shape<T>::STEP) / PAGE);
}

// Fetches a warp's keys and values of the pass at `at` to the second-level cache.
template <class T>
__device__ __forceinline__ void prefetch(const AttendDecodeArgs& args, const Job& job, unsigned at, unsigned end) {
#pragma unroll
    for (int u = 0; u < Shape<T>::TILES; u++) {
        const unsigned here = at + u * Shape<T>::STEP;
        if (here >= end) break;
        const size_t index = (size_t)(__ldg(job.pages + here / PAGE) * args.n_kv_head + job.kv_head);
        T::prefetch(T::page_of(args.k_cache, index), T::page_of(args.v_cache, index), here % PAGE, threadIdx.x & 31);
    }
}

// Positions [begin, end) of a row: the warps' sums, maxima and totals to sm. `page` has the pages of the first tiles. `meanwhile` is done while
// the first loads are under way.
template <class T, typename Meanwhile>
__device__ __forceinline__ void attend_split(Shared<T>& sm, const AttendDecodeArgs& args, const Job& job, unsigned begin, unsigned end,
                                             uint32_t (&page)[Shape<T>::TILES], const Meanwhile& meanwhile) {
    using S = Shape<T>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    float acc[S::N16][4] = {};
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {};
    unsigned at = begin + warp * TILE;
    T tile[S::TILES];
    const auto index = [&](int u) { return (size_t)(page[u] * args.n_kv_head + job.kv_head); };
    const auto query = [&](int i, int term) { return load_shared(&sm.q[i][term][lane]); };
#pragma unroll
    for (int u = 0; u < S::TILES; u++) {
        const unsigned p = at + u * S::STEP;
        if (p >= end) continue;
        tile[u].load_keys(T::page_of(args.k_cache, index(u)), p % PAGE, g, t);
        tile[u].load_values(T::page_of(args.v_cache, index(u)), p % PAGE, end - p, g, t);
    }
    meanwhile();
    __syncthreads();
    while (at < end) {
        const unsigned next = at + S::PASS;
        float s[S::TILES][4];
#pragma unroll
        for (int u = 0; u < S::TILES; u++) {
            const unsigned p = at + u * S::STEP;
            if (p < end) {
                if constexpr (T::Fresh::WANTED)
                    if (job.position - p < TILE) tile[u].take_keys(sm.fresh, job.position - p, g, t);
                tile[u].scores(s[u], query);
                if (next + u * S::STEP < end) {
                    page[u] = __ldg(job.pages + (next + u * S::STEP) / PAGE);
                    tile[u].load_keys(T::page_of(args.k_cache, index(u)), (next + u * S::STEP) % PAGE, g, t);
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const unsigned mine = p + g + (i >> 1) * 8;
                if (mine >= end || mine < job.first_seen) s[u][i] = -INFINITY;
            }
        }
        float shrink[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = m[h];
#pragma unroll
            for (int u = 0; u < S::TILES; u++) top = fmaxf(top, fmaxf(s[u][h], s[u][2 + h]));
#pragma unroll
            for (int o = 4; o < 32; o <<= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, o));
            const float base = finite_max(top);
            shrink[h] = exp2_fast(m[h] - base);
            m[h] = top;
            l[h] *= shrink[h];
#pragma unroll
            for (int u = 0; u < S::TILES; u++) {
                s[u][h] = exp2_fast(s[u][h] - base);
                s[u][2 + h] = exp2_fast(s[u][2 + h] - base);
                l[h] += s[u][h] + s[u][2 + h];
            }
        }
#pragma unroll
        for (int f = 0; f < S::N16; f++) {
#pragma unroll
            for (int i = 0; i < 4; i++) acc[f][i] *= shrink[i & 1];
        }
#pragma unroll
        for (int u = 0; u < S::TILES; u++) {
            if (at + u * S::STEP >= end) break;
            Weights w;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const uint32_t high = pack_half2(s[u][2 * i], s[u][2 * i + 1]);
                const float2 rounded = __half22float2(*(const __half2*)&high);
                w.high[i] = transpose(high);
                w.low[i] = transpose(pack_half2(s[u][2 * i] - rounded.x, s[u][2 * i + 1] - rounded.y));
            }
            if constexpr (T::Fresh::WANTED) {
                const unsigned fresh = job.position - (at + u * S::STEP);
                if (fresh < TILE) tile[u].take_values(sm.fresh, fresh, g, t);
            }
            tile[u].add_values(acc, w);
            const unsigned p = next + u * S::STEP;
            if (p < end) tile[u].load_values(T::page_of(args.v_cache, index(u)), p % PAGE, end - p, g, t);
        }
        at = next;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
        for (int o = 4; o < 32; o <<= 1) l[h] += __shfl_xor_sync(~0u, l[h], o);
        if (g == 0) sm.tops[warp][2 * t + h] = make_float2(m[h], l[h]);
    }
#pragma unroll
    for (int f = 0; f < S::N16; f++) sm.sums[warp][f][lane] = make_float4(acc[f][0], acc[f][1], acc[f][2], acc[f][3]);
    __syncthreads();
}

// What a head's sums must be multiplied by: 1 / (total + 2^(sink - top)).
__device__ __forceinline__ float sink_factor(float sink, float top, float total) {
    const float largest = fmaxf(top, sink), shrink = exp2_fast(top - largest);
    return __fdividef(shrink, total * shrink + exp2_fast(sink - largest));
}

// Sums of a lane's two values of two heads, relative to the heads' maxima.
struct Sums {
    float top[2], total[2];
    float4 sum;  // heads 2t and 2t + 1 of one value, then of the next
};

// Adds N parts in order; those that do not exist have top -inf and zeros.
template <int N>
__device__ __forceinline__ Sums add_parts(const float4 (&tops)[N], const float4 (&sums)[N]) {
    Sums r;
    r.top[0] = tops[0].x, r.top[1] = tops[0].z;
#pragma unroll
    for (int i = 1; i < N; i++) r.top[0] = fmaxf(r.top[0], tops[i].x), r.top[1] = fmaxf(r.top[1], tops[i].z);
    const float base0 = finite_max(r.top[0]), base1 = finite_max(r.top[1]);
    r.total[0] = r.total[1] = 0.0f;
    r.sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float w0 = exp2_fast(tops[i].x - base0), w1 = exp2_fast(tops[i].z - base1);
        r.total[0] += w0 * tops[i].y;
        r.total[1] += w1 * tops[i].w;
        r.sum = make_float4(r.sum.x + w0 * sums[i].x, r.sum.y + w1 * sums[i].y, r.sum.z + w0 * sums[i].z, r.sum.w + w1 * sums[i].w);
    }
    return r;
}

// Puts a lane's two values of two heads to sm.out, divided.
template <class T>
__device__ __forceinline__ void put_out(Shared<T>& sm, int f, int g, int t, const Sums& v) {
    const float f0 = sink_factor(sm.sinks[2 * t], v.top[0], v.total[0]), f1 = sink_factor(sm.sinks[2 * t + 1], v.top[1], v.total[1]);
    const int value = T::value_of(f, g);
    *(float2*)&sm.out[2 * t][value] = make_float2(v.sum.x * f0, v.sum.z * f0);
    *(float2*)&sm.out[2 * t + 1][value] = make_float2(v.sum.y * f1, v.sum.w * f1);
}

// Adds the warps of a split in order: to sm.out if it is the only one, to memory otherwise.
template <class T>
__device__ __forceinline__ void add_warps(Shared<T>& sm, const AttendDecodeArgs& args, const Job& job, unsigned split) {
    using S = Shape<T>;
    constexpr int HD = T::DIM;
    const int t = threadIdx.x & 3, lane = threadIdx.x & 31;
    for (int i = threadIdx.x; i < S::N16 * 32; i += S::THREADS) {
        float4 tops[S::WARPS], sums[S::WARPS];
#pragma unroll
        for (int w = 0; w < S::WARPS; w++) tops[w] = *(const float4*)&sm.tops[w][2 * t], sums[w] = sm.sums[w][i / 32][lane];
        const Sums sum = add_parts<S::WARPS>(tops, sums);
        if (job.splits.count == 1) {
            put_out<T>(sm, i / 32, lane / 4, t, sum);
        } else if (t >> job.two_shift == 0) {
            const Part part = part_of<T>(args, job.two_shift);
            part.sums[(((size_t)split * (HD / 2) + i / 4) << job.two_shift) + t] = sum.sum;
            if (i < 4) *(float4*)&part.tops[split * HEADS + 2 * t] = make_float4(sum.top[0], sum.total[0], sum.top[1], sum.total[1]);
        }
    }
}

// Combines the splits of a row's heads into sm.out.
template <class T>
__device__ __forceinline__ void combine(Shared<T>& sm, const AttendDecodeArgs& args, const Job& job) {
    using S = Shape<T>;
    constexpr int HD = T::DIM;
    constexpr int BATCH = 8, MOST = S::THREADS / (HD / 2);
    const int n_split = job.splits.count, columns = (HD / 2) << job.two_shift;
    const Part part = part_of<T>(args, job.two_shift);
    // A thread has a column of the sums; `ranks` threads share its splits, eight in turns.
    const int ranks = min(max(1, MOST >> job.two_shift), (n_split + BATCH - 1) / BATCH);
    const int rank = ranks > 1 ? threadIdx.x / (HD / 2) >> job.two_shift : 0;
    for (int column = threadIdx.x - rank * columns; column < columns; column += S::THREADS) {
        const int row = column >> job.two_shift, t = column - (row << job.two_shift);
        Sums sum = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
        if (rank < ranks) {
#pragma unroll 1
            for (int first = rank * BATCH; first < n_split; first += BATCH * ranks) {
                float4 tops[BATCH + 1], sums[BATCH + 1];
#pragma unroll
                for (int i = 0; i < BATCH; i++) {
                    const int s = first + i;
                    tops[i] = make_float4(-INFINITY, 0.0f, -INFINITY, 0.0f), sums[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                    if (s < n_split) {
                        tops[i] = __ldcg((const float4*)&part.tops[s * HEADS + 2 * t]);
                        sums[i] = __ldcg(part.sums + (unsigned)(s * columns + column));
                    }
                }
                tops[BATCH] = make_float4(sum.top[0], sum.total[0], sum.top[1], sum.total[1]), sums[BATCH] = sum.sum;
                sum = add_parts<BATCH + 1>(tops, sums);
            }
        }
        if (ranks > 1) {
            // Only as many columns as threads: all are here.
            float4* shared = &sm.sums[0][0][0];
            shared[2 * threadIdx.x] = make_float4(sum.top[0], sum.total[0], sum.top[1], sum.total[1]);
            shared[2 * threadIdx.x + 1] = sum.sum;
            __syncthreads();
            if (rank > 0) break;
            for (int r = 1; r < ranks; r++) {
                const float4* other = shared + 2 * (threadIdx.x + r * columns);
                sum = add_parts<2>({make_float4(sum.top[0], sum.total[0], sum.top[1], sum.total[1]), other[0]}, {sum.sum, other[1]});
            }
        }
        put_out<T>(sm, row / 8, row % 8, t, sum);
    }
}

// As store_act_block, but four blocks of a column at once: eight lanes a block, each four values that follow each other.
__device__ __forceinline__ void store_act_blocks(const ActOut& out, int column, int kb, float4 v) {
    const int lane = threadIdx.x & 31, e = lane & 7;
    if (out.f) *(float4*)&out.f[(size_t)column * out.k_pad + kb * 32 + e * 4] = v;
    if (out.h) {
        const auto at = [&](int i) { return (__half2*)&out.h[half_place(out.n_col, column, kb, e * 4 + i)]; };
        *at(0) = __halves2half2(act_half(v.x), act_half(v.z));
        *at(1) = __halves2half2(act_half(v.y), act_half(v.w));
    }
    if (!out.q) return;
    const unsigned together = 0xffu << (lane & 24);
    float largest = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
    for (int o = 4; o > 0; o >>= 1) largest = fmaxf(largest, __shfl_xor_sync(together, largest, o));
    const float inverse = largest > 0.0f ? __fdividef(127.0f, largest) : 0.0f;
    const int q0 = __float2int_rn(v.x * inverse), q1 = __float2int_rn(v.y * inverse), q2 = __float2int_rn(v.z * inverse),
              q3 = __float2int_rn(v.w * inverse);
    int sum = (q0 + q1) + (q2 + q3);
    sum += __shfl_xor_sync(together, sum, 1);
    sum += __shfl_xor_sync(together, sum, 2);
    sum += __shfl_xor_sync(together, sum, 4);
    const uint32_t bytes = __byte_perm(__byte_perm(q0, q1, 0x0040), __byte_perm(q2, q3, 0x0040), 0x5410);
    const size_t at = (size_t)kb * out.n_col + column;
    *(uint32_t*)&out.q[at * 32 + (e & 3) * 8 + (e & 4)] = bytes;
    const float d = largest * (1.0f / 127.0f);
    if (e == 0) out.s[at] = ActScale{d, __fmul_rn(d, (float)sum)};
}

// Writes the block's heads from sm.out to a column of the activations; zeros if not `active`. The last heads write what pads the width
// as well.
template <class T>
__device__ __forceinline__ void store_heads(const Shared<T>& sm, const AttendDecodeArgs& args, int head, int n_head, bool active) {
    using S = Shape<T>;
    constexpr int HD = T::DIM;
    const int first = head * HD, width = n_head * HD, column = blockIdx.z;
    const int end = head + n_head == args.n_head ? args.out.k_pad : first + width;
    // A warp's blocks are at most four; lanes of a block stay or go together.
    for (int i = first + threadIdx.x * 4; i < end; i += S::THREADS * 4) {
        const int j = i - first;
        store_act_blocks(args.out, column, i / 32,
                         active && j < width ? *(const float4*)&sm.out[j / HD][j % HD] : make_float4(0.0f, 0.0f, 0.0f, 0.0f));
    }
}

// `place` if T::PLACES.
template <class T>
__device__ __forceinline__ void attend_decode(const AttendDecodeArgs& args, const PlaceArgs* place = nullptr) {
    using S = Shape<T>;
    constexpr int HD = T::DIM;
    __shared__ Shared<T> sm;
    let_next_start();
    if (!args.early) wait_for_previous();
    const int chunks = (args.group + HEADS - 1) / HEADS;
    Job job;
    job.kv_head = chunks == 1 ? blockIdx.y : blockIdx.y / chunks;
    const int chunk = blockIdx.y - job.kv_head * chunks;
    job.head = job.kv_head * args.group + chunk * HEADS;
    job.n_head = min(HEADS, args.group - chunk * HEADS);
    job.two_shift = args.group > 4 ? 2 : args.group > 2 ? 1 : 0;
    const Row row = args.rows[blockIdx.z];
    const bool active = row.slot >= 0;
    bool waits = args.early;
    if (active) {
        job.pages = args.page_tables + (size_t)row.slot * args.max_pages;
        job.position = row.position;
        job.first_seen = args.window > 0 ? max(0, row.position + 1 - args.window) : 0;
        job.splits = splits_of(row.position, job.first_seen, args.split_shift);
        if (blockIdx.x >= job.splits.count) {
            if (waits) wait_for_previous();
            return;
        }
        // What does not depend on the kernel before: where the first keys and values are. They come to the second-level cache.
        uint32_t page[S::TILES];
        const unsigned first = job.splits.first + blockIdx.x * job.splits.length, first_end = min(first + job.splits.length, job.position + 1);
        const unsigned mine = (threadIdx.x >> 5) * TILE;
        locate<T>(page, job, first + mine, first_end);
        const bool has_last = (job.splits.count - 1) % gridDim.x == blockIdx.x;
        const int n_placed = job.n_head + (has_last ? 2 : 0);
        Unplaced<T> unplaced;
        if constexpr (T::PLACES)
            if ((int)threadIdx.x >> 5 < n_placed) unplaced.load_known({*place, head_at(*place, job, threadIdx.x >> 5)}, job.position);
        if (waits) {
            for (unsigned at = first + mine; at < first_end; at += S::PASS) prefetch<T>(args, job, at, first_end);
            wait_for_previous();
        }
        Asked<T> asked;
        if constexpr (T::PLACES) {
            if ((int)threadIdx.x >> 5 < n_placed)
                unplaced.load({*place, head_at(*place, job, threadIdx.x >> 5)}, place->qkv + (size_t)blockIdx.z * (place->n_q + 2 * place->n_kv));
        } else {
            asked.load(args.q + ((size_t)blockIdx.z * args.n_head + job.head) * HD, job.n_head);
        }
        unsigned split = blockIdx.x;
        while (true) {
            {
                const Job now = split == blockIdx.x ? job : sm.job;
                const unsigned begin = now.splits.first + split * now.splits.length, end = min(begin + now.splits.length, now.position + 1);
                if (split != blockIdx.x) locate<T>(page, now, begin + mine, end);
                attend_split<T>(sm, args, now, begin, end, page, [&] {
                    if (split != blockIdx.x) return;
                    if constexpr (T::PLACES) stage_placed<T>(sm, args, *place, job, n_placed, unplaced, chunk == 0);
                    else stage_queries<T>(sm, asked, args.scale * LOG2_E);
                    if (threadIdx.x >= S::THREADS - HEADS) {
                        const int h = threadIdx.x - (S::THREADS - HEADS);
                        sm.sinks[h] = args.sinks && h < job.n_head ? args.sinks[job.head + h] * LOG2_E : -INFINITY;
                    }
                    if (threadIdx.x == 0) sm.job = job;
                    if (!T::PLACES && T::Fresh::WANTED && has_last) stage_fresh<T>(sm, args, job, chunk == 0);
                });
            }
            const unsigned next = split + gridDim.x;
            if (next < sm.job.splits.count)
                prefetch<T>(args, sm.job, sm.job.splits.first + next * sm.job.splits.length + (threadIdx.x >> 5) * TILE, sm.job.position + 1);
            add_warps<T>(sm, args, sm.job, split);
            if (next >= sm.job.splits.count) break;
            split = next;
        }
        if (sm.job.splits.count > 1) {
            // Whoever comes last finds all splits in memory.
            __syncthreads();
            if (threadIdx.x == 0) {
                uint32_t* counter = args.counters + blockIdx.z * gridDim.y + blockIdx.y;
                __threadfence();
                sm.is_last = atomicAdd(counter, 1) == min(gridDim.x, sm.job.splits.count) - 1;
                if (sm.is_last) *counter = 0;
                __threadfence();
            }
            __syncthreads();
            if (!sm.is_last) return;
            combine<T>(sm, args, sm.job);
        }
        __syncthreads();
        job.head = sm.job.head, job.n_head = sm.job.n_head;
    } else {
        if (waits) wait_for_previous();
        if (blockIdx.x > 0) return;
    }
    store_heads<T>(sm, args, job.head, job.n_head, active);
}

// Entry points, of which each file has those of a cache. `few`: of so few blocks that each may have a multiprocessor, and all registers
// that it wants, which larger heads have in any case.
#define ATTEND_DECODE_BY(T, NAME, BLOCKS)                                                                       \
    extern "C" __global__ void __launch_bounds__(Shape<T>::THREADS, BLOCKS)                                     \
        NAME(const __grid_constant__ AttendDecodeArgs args) {                                                   \
        attend_decode<T>(args);                                                                                 \
    }
#define ATTEND_DECODE(TILE, NAME, HD)                                                                           \
    ATTEND_DECODE_BY(TILE<HD>, NAME##_##HD, 2)                                                                  \
    ATTEND_DECODE_BY(TILE<HD>, NAME##_few_##HD, 1)
