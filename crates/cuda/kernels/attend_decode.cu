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
// Grid (any, n_kv_head * chunks of up to 8 query heads, n_row), 256 threads, 128 for heads of more than 128 values.
#include "attend.cuh"

// Query heads of a block.
constexpr int HEADS = 8;
// Positions of a matrix instruction, of a split's smallest part.
constexpr int TILE = 16;
constexpr int PART = 128;
// Up to this many positions are one split: to read on costs less than to combine.
constexpr int ALONE = 2 * PART;
constexpr int MAX_SPLITS = 64;

struct AttendDecodeArgs {
    const float* q;         // [n_row, n_head * head_dim], after RoPE
    const __half* k_cache;  // this layer's
    const __half* v_cache;
    const Row* rows;        // [n_row]
    const uint32_t* page_tables;
    ActOut out;             // of width n_head * head_dim, column = row; q must be null unless head_dim is a multiple of 32
    float* part;            // sums [n_row][chunks][splits][heads in twos][head_dim][2], then [same][same][splits][HEADS][2] maximum, total
    uint32_t* counters;     // [n_row][chunks], 0; left 0
    const float* sinks;     // [n_head] or null
    int32_t n_head;
    int32_t n_kv_head;
    int32_t group;          // n_head / n_kv_head
    int32_t max_pages;
    int32_t window;         // 0: none
    int32_t split_shift;    // at most 1 << split_shift splits, up to MAX_SPLITS
    int32_t early;          // rows, page tables and keys before a row's own are older than this chain of dependent launches
    float scale;
};
static_assert(sizeof(AttendDecodeArgs) == 128, "as in src/launch/attend.rs");

// How a row's positions are cut.
struct Splits {
    int first;   // a multiple of PAGE
    int length;  // of each, a multiple of PART
    int count;
};

__device__ __forceinline__ Splits splits_of(int position, int window, int shift) {
    Splits s;
    s.first = window > 0 ? max(0, position + 1 - window) & ~(PAGE - 1) : 0;
    const unsigned n = position + 1 - s.first, n_part = (n + PART - 1) / PART;
    const unsigned parts = max(n <= ALONE ? ALONE / PART : 1u, (n_part + (1u << shift) - 1) >> shift);
    s.length = PART * parts;
    s.count = n <= ALONE ? 1 : parts == 1 ? n_part : (n_part + parts - 1) / parts;
    return s;
}

// 16, 8 or 4 bytes at `from + OFFSET` that are read once; zeros if not `wanted`. By hand, so that rows share an address register.
template <int OFFSET>
__device__ __forceinline__ void load(uint4& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
                 " @p ld.global.nc.L1::no_allocate.v4.b32 {%0,%1,%2,%3}, [%4 + %6]; }"
                 : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

template <int OFFSET>
__device__ __forceinline__ void load(uint2& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %3, 0; mov.b32 %0, 0; mov.b32 %1, 0;"
                 " @p ld.global.nc.L1::no_allocate.v2.b32 {%0,%1}, [%2 + %4]; }"
                 : "=&r"(v.x), "=&r"(v.y)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

template <int OFFSET>
__device__ __forceinline__ void load(uint32_t& v, const __half* from, bool wanted) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %2, 0; mov.b32 %0, 0; @p ld.global.nc.L1::no_allocate.b32 %0, [%1 + %3]; }"
                 : "=&r"(v)
                 : "l"(from), "r"((int)wanted), "n"(OFFSET * 2));
}

// How a head's values are spread over lanes 4g + t. Keys: t holds runs of 8 values of every 32 (of 4 of the last 16, if head_dim
// is no multiple of 32) of positions g and g + 8. Values: g holds runs of 8 of every 64, of 4 of every 32 and of 2 of every 16
// that remain, of positions 2t, 2t + 1, 2t + 8 and 2t + 9.
template <int HD>
struct Tile {
    static constexpr int K32 = HD / 32, K16 = HD % 32 / 16;
    static constexpr int V64 = HD / 64, V32 = HD % 64 / 32, V16 = HD % 32 / 16;
    static constexpr int N16 = HD / 16;

    uint4 k32[K32][2];
    uint2 k16[K16 + 1][2];
    uint4 v64[V64 + 1][4];
    uint2 v32[V32 + 1][4];
    uint32_t v16[V16 + 1][4];

    // Of the positions at `keys`, [16][head_dim].
    __device__ __forceinline__ void load_keys(const __half* keys, int g, int t) {
        load_keys_of<0>(keys + g * HD, t);
        load_keys_of<1>(keys + g * HD, t);
    }

    template <int I>
    __device__ __forceinline__ void load_keys_of(const __half* row, int t) {
        load_run<8 * I * HD, 32, K32>([&](int c) -> uint4& { return k32[c][I]; }, row + t * 8, true);
        if constexpr (K16 > 0) load<8 * I * HD + K32 * 32>(k16[0][I], row + t * 4, true);
    }

    // Positions from n_seen on may hold anything, also what is not a number: they are taken as 0.
    __device__ __forceinline__ void load_values(const __half* values, int n_seen, int g, int t) {
        const __half* row = values + 2 * t * HD;
        load_values_of<0, 0>(row, 2 * t < n_seen, g);
        load_values_of<1, 1>(row, 2 * t + 1 < n_seen, g);
        load_values_of<2, 8>(row, 2 * t + 8 < n_seen, g);
        load_values_of<3, 9>(row, 2 * t + 9 < n_seen, g);
    }

    template <int I, int P>
    __device__ __forceinline__ void load_values_of(const __half* row, bool seen, int g) {
        load_run<P * HD, 64, V64>([&](int c) -> uint4& { return v64[c][I]; }, row + g * 8, seen);
        if constexpr (V32 > 0) load<P * HD + V64 * 64>(v32[0][I], row + g * 4, seen);
        if constexpr (V16 > 0) load<P * HD + V64 * 64 + V32 * 32>(v16[0][I], row + g * 2, seen);
    }

    template <int OFFSET, int STEP, int N, int C = 0, typename To>
    static __device__ __forceinline__ void load_run(const To& to, const __half* from, bool wanted) {
        if constexpr (C < N) {
            load<OFFSET + C * STEP>(to(C), from, wanted);
            load_run<OFFSET, STEP, N, C + 1>(to, from, wanted);
        }
    }

    // Which value of the head stands in row g of fragment f of the sums; the next one stands in row g + 8.
    static __device__ __forceinline__ int value_of(int f, int g) {
        if (f < V64 * 4) return f / 4 * 64 + g * 8 + f % 4 * 2;
        if (f < V64 * 4 + V32 * 2) return V64 * 64 + g * 4 + (f - V64 * 4) * 2;
        return V64 * 64 + V32 * 32 + g * 2;
    }
};

template <int HD>
struct Shape {
    static constexpr int WARPS = HD <= 128 ? 8 : 4, THREADS = WARPS * 32;
    // Tiles that a warp takes at a time, and positions that a block does.
    static constexpr int TILES = HD <= 64 ? 2 : 1, STEP = WARPS * TILE, PASS = STEP * TILES;
    static constexpr int N16 = HD / 16;
};

template <int HD>
struct Shared {
    union {
        uint4 q[Tile<HD>::K32 + Tile<HD>::K16][2][32];  // high and low terms as B fragments
        float out[HEADS][HD + 4];                       // once no more scores are wanted
    };
    float4 sums[Shape<HD>::WARPS][Shape<HD>::N16][32];
    float2 tops[Shape<HD>::WARPS][HEADS];  // maximum and total
    float weights[MAX_SPLITS][HEADS];
    float factor[HEADS];
    bool is_last;
};

// Eight values as their high or low f16 terms.
__device__ __forceinline__ uint4 f16_terms(const float (&v)[8], bool low) {
    uint32_t r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint32_t high = pack_half2(v[2 * i], v[2 * i + 1]);
        const float2 rounded = __half22float2(*(const __half2*)&high);
        r[i] = low ? pack_half2(v[2 * i] - rounded.x, v[2 * i + 1] - rounded.y) : high;
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}

template <int HD>
__device__ __forceinline__ void stage_queries(Shared<HD>& sm, const float* q, int n_head, float scale) {
    using T = Tile<HD>;
    for (int i = threadIdx.x; i < (T::K32 + T::K16) * 32; i += Shape<HD>::THREADS) {
        const int c = i / 32, lane = i % 32, g = lane >> 2, t = lane & 3;
        float v[8] = {};
        if (g < n_head) {
            const float* from = q + g * HD + c * 32 + t * (c < T::K32 ? 8 : 4);
            *(float4*)&v[0] = *(const float4*)from;
            if (c < T::K32) *(float4*)&v[4] = *(const float4*)(from + 4);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = fminf(fmaxf(v[j] * scale, -65504.0f), 65504.0f);
        sm.q[c][0][lane] = f16_terms(v, false);
        sm.q[c][1][lane] = f16_terms(v, true);
    }
}

// A warp's scores of 16 positions: [0], [1] are position g, heads 2t and 2t + 1; [2], [3] position g + 8.
template <int HD>
__device__ __forceinline__ void scores(float (&s)[4], const Tile<HD>& tile, const Shared<HD>& sm, int lane) {
    float c[2][4] = {};
#pragma unroll
    for (int i = 0; i < Tile<HD>::K32; i++) {
        const uint4 a = tile.k32[i][0], b = tile.k32[i][1];
#pragma unroll
        for (int term = 0; term < 2; term++) {
            const uint4 q = sm.q[i][term][lane];
            mma_f16(c[0], a.x, b.x, a.y, b.y, q.x, q.y);
            mma_f16(c[1], a.z, b.z, a.w, b.w, q.z, q.w);
        }
    }
    if constexpr (Tile<HD>::K16 > 0) {
        const uint2 a = tile.k16[0][0], b = tile.k16[0][1];
#pragma unroll
        for (int term = 0; term < 2; term++) {
            const uint4 q = sm.q[Tile<HD>::K32][term][lane];
            mma_f16(c[term], a.x, b.x, a.y, b.y, q.x, q.y);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = c[0][i] + c[1][i];
}

// The terms of 16 positions' weights as B fragments.
struct Weights {
    uint32_t high[2], low[2];
};

// Adds two values of the head (rows g, g + 8 of a fragment) at the lane's four positions.
__device__ __forceinline__ void add_values(float (&c)[4], uint32_t v0, uint32_t v1, uint32_t v2, uint32_t v3, const Weights& w) {
    const uint32_t a0 = __byte_perm(v0, v1, 0x5410), a1 = __byte_perm(v0, v1, 0x7632);
    const uint32_t a2 = __byte_perm(v2, v3, 0x5410), a3 = __byte_perm(v2, v3, 0x7632);
    mma_f16(c, a0, a1, a2, a3, w.high[0], w.high[1]);
    mma_f16(c, a0, a1, a2, a3, w.low[0], w.low[1]);
}

template <int HD>
__device__ __forceinline__ void add_values(float (&acc)[HD / 16][4], const Tile<HD>& tile, const Weights& w) {
    using T = Tile<HD>;
#pragma unroll
    for (int c = 0; c < T::V64; c++) {
        const uint4(&v)[4] = tile.v64[c];
        add_values(acc[4 * c], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_values(acc[4 * c + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
        add_values(acc[4 * c + 2], v[0].z, v[1].z, v[2].z, v[3].z, w);
        add_values(acc[4 * c + 3], v[0].w, v[1].w, v[2].w, v[3].w, w);
    }
    if constexpr (T::V32 > 0) {
        const uint2(&v)[4] = tile.v32[0];
        add_values(acc[4 * T::V64], v[0].x, v[1].x, v[2].x, v[3].x, w);
        add_values(acc[4 * T::V64 + 1], v[0].y, v[1].y, v[2].y, v[3].y, w);
    }
    if constexpr (T::V16 > 0) {
        const uint32_t(&v)[4] = tile.v16[0];
        add_values(acc[T::N16 - 1], v[0], v[1], v[2], v[3], w);
    }
}

// What a block is to do.
struct Job {
    int kv_head;
    int head, n_head;    // the block's own
    int twos;            // of heads, in `sums`
    const uint32_t* pages;
    int position;
    int first_seen;
    Splits splits;
};

// Sums and maxima of a row's and chunk's splits.
struct Part {
    float4* sums;  // [split][n_column]
    float2* tops;  // [split][HEADS]
};

template <int HD>
__device__ __forceinline__ Part part_of(const AttendDecodeArgs& args, int twos) {
    const size_t index = (blockIdx.z * gridDim.y + blockIdx.y) << args.split_shift;
    const size_t all = (size_t)(gridDim.z * gridDim.y) << args.split_shift;
    float4* sums = (float4*)args.part;
    return {sums + index * (twos * HD / 2), (float2*)(sums + all * (twos * HD / 2)) + index * HEADS};
}

// Fetches a warp's keys and values of the pass at `at` to the second-level cache.
template <int HD>
__device__ __forceinline__ void prefetch(const AttendDecodeArgs& args, const Job& job, int at, int end) {
#pragma unroll
    for (int u = 0; u < Shape<HD>::TILES; u++) {
        const int here = at + u * Shape<HD>::STEP;
        if (here >= end) break;
        const size_t offset = (((size_t)__ldg(job.pages + here / PAGE) * args.n_kv_head + job.kv_head) * PAGE + here % PAGE) * HD;
        // A tile is one run of bytes.
#pragma unroll
        for (int i = 0; i < TILE * HD * 2; i += 32 * 128) {
            const int byte = i + (threadIdx.x & 31) * 128;
            if (byte < TILE * HD * 2) {
                asm volatile("prefetch.global.L2 [%0];" ::"l"((const char*)(args.k_cache + offset) + byte));
                asm volatile("prefetch.global.L2 [%0];" ::"l"((const char*)(args.v_cache + offset) + byte));
            }
        }
    }
}

// Positions [begin, end) of a row: the warps' sums, maxima and totals to sm. `next` is where the block will go on.
template <int HD, typename Begin>
__device__ __forceinline__ void attend_split(Shared<HD>& sm, const AttendDecodeArgs& args, const Job& job, int begin, int end, int next_begin,
                                             const Begin& when_loading) {
    using T = Tile<HD>;
    using S = Shape<HD>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    float acc[S::N16][4] = {};
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {};
    int at = begin + warp * TILE;
    T tile[S::TILES];
    size_t offset[S::TILES];
    const auto locate = [&](int u, int p) {
        offset[u] = (((size_t)__ldg(job.pages + p / PAGE) * args.n_kv_head + job.kv_head) * PAGE + p % PAGE) * HD;
    };
#pragma unroll
    for (int u = 0; u < S::TILES; u++) {
        const int p = at + u * S::STEP;
        if (p >= end) continue;
        locate(u, p);
        tile[u].load_keys(args.k_cache + offset[u], g, t);
        tile[u].load_values(args.v_cache + offset[u], end - p, g, t);
    }
    prefetch<HD>(args, job, at + S::PASS, end);
    when_loading();
    __syncthreads();
    while (at < end) {
        const int next = at + S::PASS;
        prefetch<HD>(args, job, next + S::PASS, end);
        float s[S::TILES][4];
#pragma unroll
        for (int u = 0; u < S::TILES; u++) {
            const int p = at + u * S::STEP;
            if (p < end) {
                scores<HD>(s[u], tile[u], sm, lane);
                if (next + u * S::STEP < end) {
                    locate(u, next + u * S::STEP);
                    tile[u].load_keys(args.k_cache + offset[u], g, t);
                }
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int mine = p + g + (i >> 1) * 8;
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
            add_values<HD>(acc, tile[u], w);
            const int p = next + u * S::STEP;
            if (p < end) tile[u].load_values(args.v_cache + offset[u], end - p, g, t);
        }
        at = next;
    }
    if (next_begin <= job.position) prefetch<HD>(args, job, next_begin + warp * TILE, job.position + 1);
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
__device__ __forceinline__ float sink_factor(const float* sinks, int head, float top, float total) {
    if (!sinks) return 1.0f / total;
    const float sink = sinks[head] * LOG2_E, largest = fmaxf(top, sink), shrink = exp2_fast(top - largest);
    return shrink / (total * shrink + exp2_fast(sink - largest));
}

// Puts a lane's two values of two heads to sm.out.
template <int HD>
__device__ __forceinline__ void put_out(Shared<HD>& sm, int f, int lane, float4 v) {
    const int head = lane % 4 * 2, value = Tile<HD>::value_of(f, lane / 4);
    *(float2*)&sm.out[head][value] = make_float2(v.x, v.z);
    *(float2*)&sm.out[head + 1][value] = make_float2(v.y, v.w);
}

// Adds the warps of a split in order: to sm.out if it is the only one, to memory otherwise.
template <int HD>
__device__ __forceinline__ void add_warps(Shared<HD>& sm, const AttendDecodeArgs& args, const Job& job, int split) {
    using S = Shape<HD>;
    const int t = threadIdx.x & 3, lane = threadIdx.x & 31, columns = job.twos * HD / 2;
    // All of a thread's values are of heads 2t and 2t + 1.
    float weight[S::WARPS][2], top[2], total[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float2 v[S::WARPS];
#pragma unroll
        for (int w = 0; w < S::WARPS; w++) v[w] = sm.tops[w][2 * t + h];
        top[h] = v[0].x;
#pragma unroll
        for (int w = 1; w < S::WARPS; w++) top[h] = fmaxf(top[h], v[w].x);
        total[h] = 0.0f;
#pragma unroll
        for (int w = 0; w < S::WARPS; w++) {
            weight[w][h] = exp2_fast(v[w].x - finite_max(top[h]));
            total[h] += weight[w][h] * v[w].y;
        }
    }
    const bool alone = job.splits.count == 1;
    float factor[2] = {1.0f, 1.0f};
    const Part part = part_of<HD>(args, job.twos);
    if (alone) {
#pragma unroll
        for (int h = 0; h < 2; h++)
            if (2 * t + h < job.n_head) factor[h] = sink_factor(args.sinks, job.head + 2 * t + h, top[h], total[h]);
    } else if (threadIdx.x < 4) {
        *(float4*)&part.tops[split * HEADS + 2 * t] = make_float4(top[0], total[0], top[1], total[1]);
    }
    for (int i = threadIdx.x; i < S::N16 * 32; i += S::THREADS) {
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int w = 0; w < S::WARPS; w++) {
            const float4 v = sm.sums[w][i / 32][lane];
            sum = make_float4(sum.x + weight[w][0] * v.x, sum.y + weight[w][1] * v.y, sum.z + weight[w][0] * v.z,
                              sum.w + weight[w][1] * v.w);
        }
        if (alone) {
            put_out<HD>(sm, i / 32, lane, make_float4(sum.x * factor[0], sum.y * factor[1], sum.z * factor[0], sum.w * factor[1]));
        } else if (t < job.twos) {
            part.sums[(size_t)split * columns + i / 4 * job.twos + t] = sum;
        }
    }
}

// Combines the splits of a row's heads into sm.out.
template <int HD>
__device__ __forceinline__ void combine(Shared<HD>& sm, const AttendDecodeArgs& args, const Job& job) {
    using S = Shape<HD>;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_split = job.splits.count, columns = job.twos * HD / 2;
    const Part part = part_of<HD>(args, job.twos);
    // A thread has a column of float4; `ranks` threads share its splits.
    int ranks = 1;
    while (ranks < 8 && 2 * ranks * columns <= S::THREADS) ranks *= 2;
    constexpr int AHEAD = 8;
    const int rank = ranks > 1 ? threadIdx.x / columns : 0;
    for (int column = threadIdx.x - rank * columns; column < (columns + S::THREADS - 1) / S::THREADS * S::THREADS; column += S::THREADS) {
        const bool works = rank < ranks && column < columns;
        const bool is_first = column < S::THREADS;
        float4 v[AHEAD];
        const float4* from = part.sums + column;
        const auto fetch = [&](int first) {
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int s = first + i * ranks;
                if (works && s < n_split) v[i] = __ldcg(from + (size_t)s * columns);
            }
        };
        fetch(rank);
        if (is_first) {
            for (int h = warp; h < job.n_head; h += S::WARPS) {
                float2 top[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int s = lane + 32 * i;
                    top[i] = s < n_split ? __ldcg(part.tops + s * HEADS + h) : make_float2(-INFINITY, 0.0f);
                }
                const float most = warp_max(fmaxf(top[0].x, top[1].x));
                float total = 0.0f;
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float w = exp2_fast(top[i].x - finite_max(most));
                    sm.weights[lane + 32 * i][h] = w;
                    total += w * top[i].y;
                }
                total = warp_sum(total);
                if (lane == 0) sm.factor[h] = sink_factor(args.sinks, job.head + h, most, total);
            }
            __syncthreads();
        }
        const int row = job.twos == 4 ? column / 4 : column / job.twos, t = column - row * job.twos;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int first = rank; first < n_split; first += AHEAD * ranks) {
            if (first > rank) fetch(first);
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int s = first + i * ranks;
                if (!works || s >= n_split) break;
                const float2 w = *(const float2*)&sm.weights[s][2 * t];
                sum = make_float4(sum.x + w.x * v[i].x, sum.y + w.y * v[i].y, sum.z + w.x * v[i].z, sum.w + w.y * v[i].w);
            }
        }
        float4* ranked = &sm.sums[0][0][0];
        if (ranks > 1) {
            if (works && rank > 0) ranked[threadIdx.x] = sum;
            __syncthreads();
        }
        if (works && rank == 0) {
            for (int r = 1; r < ranks; r++) {
                const float4 more = ranked[threadIdx.x + r * columns];
                sum = make_float4(sum.x + more.x, sum.y + more.y, sum.z + more.z, sum.w + more.w);
            }
            const float2 f = *(const float2*)&sm.factor[2 * t];
            put_out<HD>(sm, row / 8, row % 8 * 4 + t, make_float4(sum.x * f.x, sum.y * f.y, sum.z * f.x, sum.w * f.y));
        }
    }
}

// Writes the block's heads from sm.out to a column of the activations; zeros if not `active`. The last heads write what pads the width
// as well.
template <int HD>
__device__ __forceinline__ void store_heads(const Shared<HD>& sm, const AttendDecodeArgs& args, int head, int n_head, bool active) {
    using S = Shape<HD>;
    const int first = head * HD, width = n_head * HD, column = blockIdx.z;
    const int end = head + n_head == args.n_head ? args.out.k_pad : first + width;
    const auto value = [&](int i) { return active && i < width ? sm.out[i / HD][i % HD] : 0.0f; };
    if constexpr (HD % 32 == 0) {
        const int lane = threadIdx.x & 31;
        for (int kb = first / 32 + (threadIdx.x >> 5); kb < end / 32; kb += S::WARPS)
            store_act_block(args.out, column, kb, value(kb * 32 + lane - first));
    } else {
        for (int i = first + threadIdx.x; i < end; i += S::THREADS) args.out.f[(size_t)column * args.out.k_pad + i] = value(i - first);
    }
}

template <int HD>
__device__ __forceinline__ void attend_decode(const AttendDecodeArgs& args) {
    using S = Shape<HD>;
    __shared__ Shared<HD> sm;
    let_next_start();
    if (!args.early) wait_for_previous();
    const int chunks = (args.group + HEADS - 1) / HEADS;
    Job job;
    job.kv_head = chunks == 1 ? blockIdx.y : blockIdx.y / chunks;
    const int chunk = blockIdx.y - job.kv_head * chunks;
    job.head = job.kv_head * args.group + chunk * HEADS;
    job.n_head = min(HEADS, args.group - chunk * HEADS);
    job.twos = (min(HEADS, args.group) + 1) / 2;
    const Row row = args.rows[blockIdx.z];
    const bool active = row.slot >= 0;
    bool waits = args.early;
    if (active) {
        job.pages = args.page_tables + (size_t)row.slot * args.max_pages;
        job.position = row.position;
        job.first_seen = args.window > 0 ? row.position + 1 - args.window : 0;
        job.splits = splits_of(row.position, args.window, args.split_shift);
        if (blockIdx.x >= job.splits.count) {
            if (waits) wait_for_previous();
            return;
        }
        if (waits) {
            const int begin = job.splits.first + blockIdx.x * job.splits.length;
            prefetch<HD>(args, job, begin + (threadIdx.x >> 5) * TILE, min(begin + job.splits.length, job.position + 1));
            wait_for_previous();
        }
        for (int split = blockIdx.x; split < job.splits.count; split += gridDim.x) {
            const int begin = job.splits.first + split * job.splits.length;
            attend_split<HD>(sm, args, job, begin, min(begin + job.splits.length, job.position + 1), begin + gridDim.x * job.splits.length, [&] {
                if (split == blockIdx.x)
                    stage_queries<HD>(sm, args.q + ((size_t)blockIdx.z * args.n_head + job.head) * HD, job.n_head, args.scale * LOG2_E);
            });
            add_warps<HD>(sm, args, job, split);
        }
        if (job.splits.count > 1) {
            // Whoever comes last finds all splits in memory.
            __syncthreads();
            if (threadIdx.x == 0) {
                uint32_t* counter = args.counters + blockIdx.z * gridDim.y + blockIdx.y;
                __threadfence();
                sm.is_last = atomicAdd(counter, 1) == min((int)gridDim.x, job.splits.count) - 1;
                if (sm.is_last) *counter = 0;
                __threadfence();
            }
            __syncthreads();
            if (!sm.is_last) return;
            combine<HD>(sm, args, job);
        }
        __syncthreads();
    } else {
        if (waits) wait_for_previous();
        if (blockIdx.x > 0) return;
    }
    store_heads<HD>(sm, args, job.head, job.n_head, active);
}

#define ATTEND_DECODE(HD)                                                                                                             extern "C" __global__ void __launch_bounds__(Shape<HD>::THREADS, 2) attend_decode_##HD(const __grid_constant__ AttendDecodeArgs args) {         attend_decode<HD>(args);                                                                                                      }

ATTEND_DECODE(32)
ATTEND_DECODE(64)
ATTEND_DECODE(80)
ATTEND_DECODE(96)
ATTEND_DECODE(128)
ATTEND_DECODE(192)
ATTEND_DECODE(256)
