// Prompt rows and a cache of Q8_0: rows are quantised into it once RoPE has turned them, and a layer's pages are decoded to float16 for
// attention, which so computes as over a cache of float16.
#include "attend/kv_q8.cuh"

#include "attend/attend.cuh"

struct KvStoreArgs {
    const float* qkv;      // [n_row, n_q + 2 n_kv], keys after RoPE; [n_row, n_q + n_kv] without values
    uint8_t* k_cache;
    uint8_t* v_cache;      // or null
    const Row* rows;
    const uint32_t* page_tables;
    int32_t n_q;
    int32_t n_kv_head;
    int32_t head_dim;      // a multiple of 32
    int32_t max_pages;
};
static_assert(sizeof(KvStoreArgs) == 56, "as in src/launch/kv.rs");

// A block a row, a warp a block of 32 values.
extern "C" __global__ void __launch_bounds__(256) kv_q8_store(const __grid_constant__ KvStoreArgs args) {
    let_next_start();
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) return;
    const int lane = threadIdx.x & 31, n_kv = args.n_kv_head * args.head_dim, n_block = n_kv / 32, blocks = args.head_dim / 32;
    const int n_plane = args.v_cache ? 2 : 1;
    const float* in = args.qkv + (size_t)blockIdx.x * (args.n_q + n_plane * n_kv) + args.n_q;
    const size_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    const int within = row.position % PAGE;
    for (int i = threadIdx.x >> 5; i < n_plane * n_block; i += blockDim.x >> 5) {
        const bool is_value = i >= n_block;
        const int head = i % n_block / blocks, block = i % blocks;
        const KvBlock kept = quantize_kv(in[i * 32 + lane]);
        uint8_t* at = (is_value ? args.v_cache : args.k_cache) + (page * args.n_kv_head + head) * page_bytes_q8(args.head_dim);
        at[within * args.head_dim + block * 32 + lane] = (uint8_t)(int8_t)kept.q;
        if (lane == 0) *(__half*)(at + scale_at_q8(args.head_dim, is_value, within, block)) = kept.d;
    }
}

struct KvUnpackArgs {
    const uint8_t* k_cache;
    const uint8_t* v_cache;
    __half* k;                 // as a cache of float16
    __half* v;
    const PromptSpan* spans;
    const uint32_t* page_tables;
    int32_t n_kv_head;
    int32_t head_dim;
    int32_t max_pages;
    int32_t window;            // 0: none
};
static_assert(sizeof(KvUnpackArgs) == 64, "as in src/launch/kv.rs");

// A block a page of a head: those that a row of the span sees. Grid (pages, n_kv_head, spans).
extern "C" __global__ void __launch_bounds__(256) kv_q8_unpack(const __grid_constant__ KvUnpackArgs args) {
    let_next_start();
    wait_for_previous();
    const PromptSpan span = args.spans[blockIdx.z];
    const int first = args.window > 0 ? max(0, span.start + 1 - args.window) / PAGE : 0;
    const int index = first + blockIdx.x;
    if (index * PAGE >= span.start + span.n_row) return;
    const size_t page = (size_t)args.page_tables[(size_t)span.slot * args.max_pages + index] * args.n_kv_head + blockIdx.y;
    const int chunks = args.head_dim / 8;
    for (int i = threadIdx.x; i < 2 * PAGE * chunks; i += blockDim.x) {
        const bool is_value = i >= PAGE * chunks;
        const int at = is_value ? i - PAGE * chunks : i, position = at / chunks, block = at % chunks / 4;
        const uint8_t* from = (is_value ? args.v_cache : args.k_cache) + page * page_bytes_q8(args.head_dim);
        const float d = __half2float(*(const __half*)(from + scale_at_q8(args.head_dim, is_value, position, block)));
        const uint2 q = *(const uint2*)(from + at * 8);
        uint32_t out[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t two = (j < 2 ? q.x : q.y) >> (j % 2 * 16);
            out[j] = pack_half2(d * (float)(int8_t)(two & 0xff), d * (float)(int8_t)(two >> 8 & 0xff));
        }
        *(uint4*)((is_value ? args.v : args.k) + page * (PAGE * args.head_dim) + at * 8) = make_uint4(out[0], out[1], out[2], out[3]);
    }
}
