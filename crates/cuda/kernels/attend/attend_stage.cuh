// What a block of attend_decode.cuh is given and has, and how its queries and a row's own key and value come to shared memory.
#pragma once

#include "attend/attend_tile.cuh"
#include "attend/kv_q8.cuh"
#include "rows/place.cuh"

// Query heads of a block.
constexpr int HEADS = 8;
// Positions of a split's smallest part.
constexpr int PART = 128;
// Up to this many positions are one split: to read on costs less than to combine. Up to SHORT, a split is one part, and two or more
// from there on.
constexpr int ALONE = 2 * PART, SHORT = 8 * PART;

struct AttendDecodeArgs {
    const float* q;         // [n_row, n_head * head_dim], after RoPE; unused where T::PLACES
    uint8_t* k_cache;       // this layer's
    uint8_t* v_cache;
    const Row* rows;        // [n_row]
    const uint32_t* page_tables;
    ActOut out;             // of width n_head * head_dim, column = row
    float* part;            // sums [n_row][chunks][splits][head_dim / 2][1, 2 or 4][4], then [same][same][splits][HEADS][2] maximum, total
    uint32_t* counters;     // [n_row][chunks], 0; left 0
    const float* sinks;     // [n_head] or null
    int32_t n_head;
    int32_t n_kv_head;
    int32_t group;          // n_head / n_kv_head
    int32_t max_pages;
    int32_t window;         // 0: none
    int32_t split_shift;    // at most 1 << split_shift splits
    int32_t early;          // not 0: rows and page tables were complete before this chain of dependent launches
    float scale;
    const float* fresh;     // [n_row][keys, values][n_kv_head * head_dim], of the rows themselves; or null: they are in the cache, or placed
};
static_assert(sizeof(AttendDecodeArgs) == 144, "as in src/launch/attend.rs");

// Of a row whose queries, keys and values are as products left them.
struct AttendPlacedArgs {
    AttendDecodeArgs attend;
    PlaceArgs place;
};
static_assert(sizeof(AttendPlacedArgs) == 288, "as in src/launch/attend.rs");

// How a row's positions are cut.
struct Splits {
    unsigned first;   // a multiple of PAGE
    unsigned length;  // of each, a multiple of PART
    unsigned count;
};

__device__ __forceinline__ Splits splits_of(unsigned position, unsigned first_seen, int shift) {
    Splits s;
    s.first = first_seen & ~(PAGE - 1);
    const unsigned n = position + 1 - s.first, n_part = (n + PART - 1) / PART;
    const unsigned parts = max(ALONE < n && n <= SHORT ? 1u : 2u, (n_part + (1u << shift) - 1) >> shift);
    s.length = PART * parts;
    s.count = parts == 1 ? n_part : parts == 2 ? (n_part + 1) / 2 : (n_part + parts - 1) / parts;
    return s;
}

// What a block is to do.
struct Job {
    int kv_head;
    int head, n_head;    // the block's own
    int two_shift;       // 1 << two_shift pairs of heads have a place in the sums in memory
    const uint32_t* pages;
    unsigned position;
    unsigned first_seen;
    Splits splits;
};

template <class T>
struct Shape {
    static constexpr int HD = T::DIM;
    static constexpr int WARPS = HD <= 128 ? 8 : 4, THREADS = WARPS * 32;
    // Tiles that a warp takes at a time, and positions that a block does.
    static constexpr int TILES = HD <= 64 ? 2 : 1, STEP = WARPS * TILE, PASS = STEP * TILES;
    static constexpr int N16 = HD / 16;
};

template <class T>
struct Shared {
    static constexpr int HD = T::DIM;
    union {
        uint4 q[T::K32][2][32];    // high and low terms as B fragments
        float out[HEADS][HD + 4];  // once no more scores are wanted
    };
    float4 sums[Shape<T>::WARPS][Shape<T>::N16][32];
    float2 tops[Shape<T>::WARPS][HEADS];  // maximum and total
    float sinks[HEADS];  // in base 2, -inf if there are none
    typename T::Fresh fresh;
    Job job;  // read from here by what comes after the products, so that those have the registers
    bool is_last;
};

// A thread's part of the queries: asked for before keys and values, for it goes through shared memory first.
template <class T>
struct Asked {
    static constexpr int N = (T::DIM / 4 * HEADS + Shape<T>::THREADS - 1) / Shape<T>::THREADS;
    float4 v[N];

    __device__ __forceinline__ void load(const float* q, int n_head) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            const int i = n * Shape<T>::THREADS + threadIdx.x;
            v[n] = i / (T::DIM / 4) < n_head ? *(const float4*)(q + i * 4) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
    }
};

// Queries times `scale` as the two terms of B fragments; a thread takes four values at a time.
template <class T>
__device__ __forceinline__ void stage_queries(Shared<T>& sm, const Asked<T>& asked, float scale) {
    constexpr int HD = T::DIM;
#pragma unroll
    for (int first = 0; first < HD / 4 * HEADS; first += Shape<T>::THREADS) {
        const int i = first + threadIdx.x, g = i / (HD / 4), value = i % (HD / 4) * 4;
        if (HD / 4 * HEADS % Shape<T>::THREADS != 0 && g >= HEADS) break;
        float4 v = asked.v[first / Shape<T>::THREADS];
        const auto limit = [&](float x) { return fminf(fmaxf(x * scale, -65504.0f), 65504.0f); };
        v = make_float4(limit(v.x), limit(v.y), limit(v.z), limit(v.w));
        const uint2 high = make_uint2(pack_half2(v.x, v.y), pack_half2(v.z, v.w));
        const float2 xy = __half22float2(*(const __half2*)&high.x), zw = __half22float2(*(const __half2*)&high.y);
        const uint2 low = make_uint2(pack_half2(v.x - xy.x, v.y - xy.y), pack_half2(v.z - zw.x, v.w - zw.y));
        const int c = value / 32, lane = g * 4 + value % 32 / 8, half = value % 8 / 4;
        ((uint2*)&sm.q[c][0][lane])[half] = high;
        ((uint2*)&sm.q[c][1][lane])[half] = low;
    }
}

// A value of a query times `scale`, as `stage_queries` does it.
template <class T>
__device__ __forceinline__ void stage_query(Shared<T>& sm, int g, int value, float x, float scale) {
    const float v = fminf(fmaxf(x * scale, -65504.0f), 65504.0f);
    const __half high = __float2half_rn(v);
    const int c = value / 32, lane = g * 4 + value % 32 / 8, at = value % 8;
    ((__half*)&sm.q[c][0][lane])[at] = high;
    ((__half*)&sm.q[c][1][lane])[at] = __float2half_rn(v - __half2float(high));
}

// Quantises the keys and values of the row itself, and writes them to the cache if `writes`.
template <class T>
__device__ __forceinline__ void stage_fresh(Shared<T>& sm, const AttendDecodeArgs& args, const Job& job, bool writes) {
    if constexpr (T::Fresh::WANTED && !T::PLACES) {
        constexpr int HD = T::DIM, BLOCKS = HD / 32;
        const int lane = threadIdx.x & 31, within = job.position % PAGE;
        const size_t index = (size_t)__ldg(job.pages + job.position / PAGE) * args.n_kv_head + job.kv_head;
        for (int i = threadIdx.x >> 5; i < 2 * BLOCKS; i += Shape<T>::WARPS) {
            const int is_value = i / BLOCKS, block = i % BLOCKS, at = block * 32 + lane;
            const KvBlock kept =
                quantize_kv(args.fresh[(((size_t)blockIdx.z * 2 + is_value) * args.n_kv_head + job.kv_head) * HD + at]);
            sm.fresh.q[is_value][at] = kept.q;
            if (lane == 0) sm.fresh.d[is_value][block] = kept.d;
            if (!writes) continue;
            uint8_t* page = (is_value ? args.v_cache : args.k_cache) + index * T::Kv::PAGE_BYTES;
            page[within * HD + at] = (uint8_t)(int8_t)kept.q;
            if (lane == 0) *(__half*)(page + T::Kv::scale_at(is_value, within, block)) = kept.d;
        }
    }
}

// A head on its way to where a warp places it.
template <class T>
struct Unplaced {
    static constexpr int N = (T::DIM / 2 + 31) / 32;
    float2 weight[N], turn[N], x[N];

    static __device__ __forceinline__ bool has(int k) { return (threadIdx.x & 31) + 32 * k < T::DIM / 2; }

    // What does not depend on the kernel before.
    __device__ __forceinline__ void load_known(const PlacedHead& head, int position) {
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (!has(k)) continue;
            const int j = (threadIdx.x & 31) + 32 * k;
            weight[k] = head.weight(j), turn[k] = head.turn(position, j);
        }
    }
    __device__ __forceinline__ void load(const PlacedHead& head, const float* in) {
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (!has(k)) continue;
            const int j = (threadIdx.x & 31) + 32 * k;
            x[k] = make_float2(in[head.at + head.first_of(j)], in[head.at + head.second_of(j)]);
        }
    }
};

// Which head a block's i-th is: its queries, and then, where it has the row's last split, the key and the value.
__device__ __forceinline__ int head_at(const PlaceArgs& place, const Job& job, int i) {
    if (i < job.n_head) return (job.head + i) * place.head_dim;
    return place.n_q + (i > job.n_head ? place.n_kv : 0) + job.kv_head * place.head_dim;
}

// Places the block's heads: the `n` of `head_at`, of which `first` is the warp's first one. The key and value go to the cache if `writes`.
template <class T>
__device__ __forceinline__ void stage_placed(Shared<T>& sm, const AttendDecodeArgs& args, const PlaceArgs& place, const Job& job, int n,
                                             Unplaced<T>& first, bool writes) {
    if constexpr (T::PLACES) {
        constexpr int HD = T::DIM;
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const float* in = place.qkv + (size_t)blockIdx.z * (place.n_q + 2 * place.n_kv);
        for (int i = warp; i < n; i += Shape<T>::WARPS) {
            const PlacedHead head{place, head_at(place, job, i)};
            if (i != warp) first.load_known(head, job.position), first.load(head, in);
            const float scale = head.scale(in), heat = head.heat(job.position);
            __half* kept = nullptr;
            if (i >= job.n_head && writes) {
                const size_t index = (size_t)__ldg(job.pages + job.position / PAGE) * args.n_kv_head + job.kv_head;
                kept = (__half*)(i > job.n_head ? args.v_cache : args.k_cache) + (index * PAGE + job.position % PAGE) * HD;
            }
#pragma unroll
            for (int k = 0; k < Unplaced<T>::N; k++) {
                if (!first.has(k)) continue;
                const int j = lane + 32 * k, i0 = head.first_of(j), i1 = head.second_of(j);
                const float2 v = head.placed(j, first.x[k], first.weight[k], first.turn[k], scale, heat);
                if (i < job.n_head) {
                    stage_query<T>(sm, i, i0, v.x, args.scale * LOG2_E);
                    stage_query<T>(sm, i, i1, v.y, args.scale * LOG2_E);
                } else {
                    const __half a = saturate(v.x), b = saturate(v.y);
                    sm.fresh.kept[i - job.n_head][i0] = a, sm.fresh.kept[i - job.n_head][i1] = b;
                    if (kept) kept[i0] = a, kept[i1] = b;
                }
            }
        }
        // Heads that there are not.
        for (int g = job.n_head + warp; g < HEADS; g += Shape<T>::WARPS)
            for (int i = lane; i < T::K32 * 8; i += 32) sm.q[i / 8][i / 4 % 2][g * 4 + i % 4] = make_uint4(0, 0, 0, 0);
    }
}
