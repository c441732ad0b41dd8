// Latent attention between its products: which columns each head's matrix has, and rows that are turned, normalised and kept. The
// mathematics is that of model/src/stage.rs.
#include "common.cuh"

constexpr int THREADS = 256;

struct HeadTablesArgs {
    int32_t* active;   // [n_head + 1]: their number, then each of them
    int32_t* offsets;  // [n_head + 1] into `entries`
    int32_t* entries;  // [n_head][n_row]: row * n_head + head
    float* ones;       // [n_row * n_head]
    int32_t n_row;
    int32_t n_head;
};
static_assert(sizeof(HeadTablesArgs) == 40, "as in src/launch/latent.rs");

// Products by head are those of experts, each of which all rows have chosen.
extern "C" __global__ void __launch_bounds__(THREADS) latent_tables(const __grid_constant__ HeadTablesArgs args) {
    let_next_start();
    wait_for_previous();
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < args.n_row * args.n_head) {
        args.entries[i] = i % args.n_row * args.n_head + i / args.n_row;
        args.ones[i] = 1.0f;
    }
    if (i <= args.n_head) {
        args.active[i] = i == 0 ? args.n_head : i - 1;
        args.offsets[i] = i * args.n_row;
    }
}

struct LatentPlaceArgs {
    const float* rotated;  // [n_row, n_head, n_rot]: the parts of queries that turn
    const float* kept;     // [n_row, n_rank + n_rot]: what is kept of a row, before its norm, and the part of all keys that turns
    const float* norm;     // [n_rank]
    float* q;              // [n_row, n_head, n_rot + n_rank]: gets the first n_rot values of each head
    float* own;            // [n_row, n_rot + n_rank]: where the rows' keys go instead of the cache; or null
    __half* cache;         // null where `own` is not
    const Row* rows;
    const uint32_t* page_tables;
    const float2* turns;   // [n_ctx][n_rot / 2]
    int32_t n_head;
    int32_t n_rot;
    int32_t n_rank;
    int32_t max_pages;
    int32_t turning;       // 0: no rotation
    int32_t adjacent;
    float eps;
    int32_t reserved;
};
static_assert(sizeof(LatentPlaceArgs) == 104, "as in src/launch/latent.rs");

// A block a row.
extern "C" __global__ void __launch_bounds__(THREADS) latent_place(const __grid_constant__ LatentPlaceArgs args) {
    let_next_start();
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) return;
    const int n_rot = args.n_rot, half = n_rot / 2, n_rank = args.n_rank, n_key = n_rot + n_rank;
    const float* kept = args.kept + (size_t)blockIdx.x * n_key;
    const float* rotated = args.rotated + (size_t)blockIdx.x * args.n_head * n_rot;
    float* q = args.q + (size_t)blockIdx.x * args.n_head * n_key;
    const float2* turns = args.turns + (size_t)row.position * half;
    const size_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    const size_t at = (page * PAGE + row.position % PAGE) * n_key;
    const auto keep = [&](int i, float v) {
        if (args.own) args.own[(size_t)blockIdx.x * n_key + i] = v;
        else args.cache[at + i] = saturate(v);
    };
    // The key's part comes after those of all heads of queries.
    for (int p = threadIdx.x; p < (args.n_head + 1) * half; p += THREADS) {
        const int head = p / half, j = p - head * half;
        const int i0 = args.adjacent ? 2 * j : j, i1 = args.adjacent ? i0 + 1 : j + half;
        const float* from = head < args.n_head ? rotated + head * n_rot : kept + n_rank;
        float a = from[i0], b = from[i1];
        if (args.turning) {
            const float2 turn = turns[j];
            const float ra = a * turn.x - b * turn.y;
            b = a * turn.y + b * turn.x;
            a = ra;
        }
        if (head < args.n_head) q[head * n_key + i0] = a, q[head * n_key + i1] = b;
        else keep(i0, a), keep(i1, b);
    }
    // Every warp adds up all squares, in one order.
    float sum = 0.0f;
    for (int i = threadIdx.x & 31; i < n_rank; i += 32) sum += kept[i] * kept[i];
    const float scale = 1.0f / sqrtf(warp_sum(sum) / n_rank + args.eps);
    for (int i = threadIdx.x; i < n_rank; i += THREADS) keep(n_rot + i, kept[i] * (scale * args.norm[i]));
}
