// The generated rows' experts: the router's logits, for prompts as well, which experts each row uses with what weights, and the columns of each.
#include "choose.cuh"

constexpr int THREADS = 256;

struct RouterArgs {
    const float* x;       // [n_row, k_pad], what follows n_embd is 0
    const float* weight;  // [n_expert, n_embd]
    const float* bias;    // [n_expert] or null
    float* logits;        // [n_row, n_expert]
    int32_t k_pad;
    int32_t n_embd;       // a multiple of 4
    int32_t n_expert;
    float eps;
    const float* squares; // [n_row][n_embd / 32]: sums of squares of the rows, which are yet to be scaled (see product.cuh); or null
};
static_assert(sizeof(RouterArgs) == 56, "as in src/launch/route.rs");

// A router's weights of one expert: their beginning is in registers before the kernel before has ended, for it does not depend on that.
template <int AHEAD>
struct RouterRow {
    const float4* w;
    float4 ahead[AHEAD];
    float bias;

    __device__ __forceinline__ RouterRow(const RouterArgs& args, int expert) : w((const float4*)(args.weight + (size_t)expert * args.n_embd)) {
        const int lane = threadIdx.x & 31, n = args.n_embd / 4;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) ahead[i] = i * 32 + lane < n ? __ldg(w + i * 32 + lane) : make_float4(0, 0, 0, 0);
        bias = args.bias ? __ldg(args.bias + expert) : 0.0f;
    }

    // The logit of a row in float32, by a warp, the same for prompts and generated rows: near ties must not fall differently.
    __device__ __forceinline__ float logit(const RouterArgs& args, int row) const {
        const int lane = threadIdx.x & 31, n = args.n_embd / 4;
        const float4* x = (const float4*)(args.x + (size_t)row * args.k_pad);
        const int n_square = args.n_embd / 32;
        const float scale = args.squares ? norm_scale(args.squares + (size_t)row * n_square, n_square, args.eps) : 1.0f;
        float4 sum = make_float4(0, 0, 0, 0);
        const auto add = [&](float4 a, float4 b) {
            sum.x = fmaf(a.x, b.x, sum.x), sum.y = fmaf(a.y, b.y, sum.y), sum.z = fmaf(a.z, b.z, sum.z), sum.w = fmaf(a.w, b.w, sum.w);
        };
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (i * 32 + lane < n) add(ahead[i], x[i * 32 + lane]);
#pragma unroll 8
        for (int i = AHEAD * 32 + lane; i < n; i += 32) add(__ldg(w + i), x[i]);
        return __fadd_rn(__fmul_rn(warp_sum((sum.x + sum.y) + (sum.z + sum.w)), scale), bias);
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) router(const __grid_constant__ RouterArgs args) {
    const int expert = blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5);
    let_next_start();
    if (expert >= args.n_expert) return;
    const RouterRow<8> weights(args, expert);
    wait_for_previous();
    const float logit = weights.logit(args, blockIdx.x);
    if ((threadIdx.x & 31) == 0) args.logits[(size_t)blockIdx.x * args.n_expert + expert] = logit;
}

struct RouteArgs {
    float* logits;        // [n_row, n_expert]; what `choose` makes of them
    const Row* rows;      // [n_row]
    float* weights;       // [n_row * n_used]
    int32_t* active;      // [0]: how many experts are chosen; then their numbers
    int32_t* offsets;     // [n_expert + 1] into `entries`
    int32_t* entries;     // row * n_used + choice, by expert, ascending within
    int32_t n_row;
    int32_t reserved;
    RouterRule rule;
};
static_assert(sizeof(RouteArgs) == 104, "as in src/launch/route.rs");

// The experts of generated rows, in one block: at most 256 rows of 16 choices.
constexpr int MAX_ENTRIES = 4096;

extern "C" __global__ void __launch_bounds__(THREADS) route_decode(const __grid_constant__ RouteArgs args) {
    __shared__ int16_t chosen[MAX_ENTRIES];
    __shared__ int counts[MAX_EXPERTS];
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, n_expert = args.rule.n_expert, n_used = args.rule.n_used, n_entry = args.n_row * n_used;
    for (int row = threadIdx.x >> 5; row < args.n_row; row += THREADS / 32) {
        const Choice choice = choose(args.rule, args.logits + (size_t)row * n_expert);
        if (lane < n_used) {
            args.weights[row * n_used + lane] = choice.weight;
            chosen[row * n_used + lane] = args.rows[row].slot < 0 ? -1 : (int16_t)choice.expert;
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n_expert; e += THREADS) {
        int n = 0;
        for (int i = 0; i < n_entry; i++) n += chosen[i] == e;
        counts[e] = n;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n_expert; e += THREADS) {
        int offset = 0, index = 0;
        for (int i = 0; i < e; i++) offset += counts[i], index += counts[i] > 0;
        args.offsets[e] = offset;
        if (counts[e] > 0) args.active[1 + index] = e;
        if (e == n_expert - 1) {
            args.offsets[n_expert] = offset + counts[e];
            args.active[0] = index + (counts[e] > 0);
        }
        for (int i = 0; i < n_entry; i++)
            if (chosen[i] == e) args.entries[offset++] = i;
    }
}

struct RouteFewArgs {
    RouterArgs router;
    RouteArgs route;
};
static_assert(sizeof(RouteFewArgs) == 160, "as in src/launch/route.rs");

// Router and choice in one, for few rows and at most 32 experts: a cluster of 8 blocks, a warp an expert; the first block has the logits and
// chooses.
constexpr int FEW_ROWS = 4, FEW_EXPERTS = 32, FEW_THREADS = 128, FEW_AHEAD = 24;

extern "C" __global__ void __launch_bounds__(FEW_THREADS) route_few(const __grid_constant__ RouteFewArgs args) {
    __shared__ float logits[FEW_ROWS][FEW_EXPERTS];
    __shared__ int16_t chosen[FEW_ROWS * FEW_EXPERTS];
    const RouteArgs& route = args.route;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_expert = route.rule.n_expert, n_used = route.rule.n_used;
    const int expert = blockIdx.x * (FEW_THREADS / 32) + warp, n_entry = route.n_row * n_used;
    let_next_start();
    cluster_join();
    const RouterRow<FEW_AHEAD> weights(args.router, min(expert, n_expert - 1));
    wait_for_previous();
    // Rows were complete before this chain of dependent launches.
    const bool is_active = warp < route.n_row && route.rows[warp].slot >= 0;
    cluster_wait();
    for (int row = 0; row < route.n_row; row++) {
        const float logit = weights.logit(args.router, row);
        if (lane == 0 && expert < n_expert) store_to_first(&logits[row][expert], logit);
    }
    cluster_arrive();
    cluster_wait();
    if (blockIdx.x > 0) return;
    if (warp < route.n_row) {
        const Choice choice = choose<1>(route.rule, logits[warp]);
        if (lane < n_used) {
            route.weights[warp * n_used + lane] = choice.weight;
            chosen[warp * n_used + lane] = is_active ? (int16_t)choice.expert : (int16_t)-1;
        }
    }
    __syncthreads();
    if (warp > 0) return;
    int n = 0;
    for (int i = 0; i < n_entry; i++) n += chosen[i] == lane;
    int offset = n;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const int before = __shfl_up_sync(~0u, offset, o);
        if (lane >= o) offset += before;
    }
    const uint32_t used = __ballot_sync(~0u, n > 0);
    if (lane < n_expert) route.offsets[lane + 1] = offset;
    if (lane == 0) route.offsets[0] = 0, route.active[0] = __popc(used);
    if (n > 0) route.active[1 + __popc(used & ((1u << lane) - 1))] = lane;
    offset -= n;
    for (int i = 0; i < n_entry; i++)
        if (chosen[i] == lane) route.entries[offset++] = i;
}
