// The generated rows' experts: the router's logits, for prompts as well, which experts each row uses with what weights, and the columns of each.
#include "route/choose.cuh"

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
    int32_t n_row;
    int32_t reserved;
};
static_assert(sizeof(RouterArgs) == 64, "as in src/launch/route.rs");

__device__ __forceinline__ void add_products(float4& sum, float4 a, float4 b) {
    sum.x = fmaf(a.x, b.x, sum.x), sum.y = fmaf(a.y, b.y, sum.y), sum.z = fmaf(a.z, b.z, sum.z), sum.w = fmaf(a.w, b.w, sum.w);
}

// A row's factor, where it is yet to be scaled.
__device__ __forceinline__ float router_scale(const RouterArgs& args, int row) {
    const int n_square = args.n_embd / 32;
    return args.squares ? norm_scale(args.squares + (size_t)row * n_square, n_square, args.eps) : 1.0f;
}

// A logit of the sums of a warp's lanes.
__device__ __forceinline__ float router_logit(float4 sum, float scale, float bias) {
    return __fadd_rn(__fmul_rn(warp_sum((sum.x + sum.y) + (sum.z + sum.w)), scale), bias);
}

// Four of a router's weights or inputs. NOW: here and now; else where the compiler puts the load, near to where it is used.
template <bool NOW>
__device__ __forceinline__ float4 load_four(const float4* from) {
    if (!NOW) return *from;
    float4 v;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(from));
    return v;
}

// A router's weights of one expert: their beginning is in registers before the kernel before has ended, for it does not depend on that.
template <int AHEAD, bool NOW = true>
struct RouterRow {
    const float4* w;
    float4 ahead[AHEAD];
    float bias;

    __device__ __forceinline__ RouterRow(const RouterArgs& args, int expert) : w((const float4*)(args.weight + (size_t)expert * args.n_embd)) {
        const int lane = threadIdx.x & 31, n = args.n_embd / 4;
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const float4* from = w + min(i * 32 + lane, n - 1);
            ahead[i] = NOW ? load_four<true>(from) : __ldg(from);
        }
        bias = args.bias ? load_now(args.bias + expert) : 0.0f;
    }

    // The logit of a row in float32, by a warp, the same for prompts and generated rows: near ties must not fall differently.
    __device__ __forceinline__ float logit(const RouterArgs& args, int row) const {
        const int lane = threadIdx.x & 31, n = args.n_embd / 4;
        const float4* x = (const float4*)(args.x + (size_t)row * args.k_pad);
        float4 early[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) early[i] = load_four<NOW>(x + min(i * 32 + lane, n - 1));
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (i * 32 + lane < n) add_products(sum, ahead[i], early[i]);
#pragma unroll 8
        for (int i = AHEAD * 32 + lane; i < n; i += 32) add_products(sum, __ldg(w + i), x[i]);
        return router_logit(sum, router_scale(args, row), bias);
    }
};

template <int AHEAD, bool NOW>
__device__ __forceinline__ void router_row(const RouterArgs& args) {
    const int expert = blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5);
    let_next_start();
    if (expert >= args.n_expert) return;
    const RouterRow<AHEAD, NOW> weights(args, expert);
    wait_for_previous();
    const float logit = weights.logit(args, blockIdx.x);
    if ((threadIdx.x & 31) == 0) args.logits[(size_t)blockIdx.x * args.n_expert + expert] = logit;
}

struct RouterPairArgs {
    RouterArgs both[2];
};
static_assert(sizeof(RouterPairArgs) == 128, "as in src/launch/route.rs");

// One map, and two of the same rows; with so much under way at once that only two blocks have room on a multiprocessor, or with little.
extern "C" __global__ void __launch_bounds__(THREADS, 2) router_ahead(const __grid_constant__ RouterArgs args) { router_row<16, true>(args); }
extern "C" __global__ void __launch_bounds__(THREADS) router(const __grid_constant__ RouterArgs args) { router_row<8, false>(args); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) router_pair_ahead(const __grid_constant__ RouterPairArgs args) {
    router_row<16, true>(args.both[blockIdx.z]);
}
extern "C" __global__ void __launch_bounds__(THREADS) router_pair(const __grid_constant__ RouterPairArgs args) { router_row<8, false>(args.both[blockIdx.z]); }

// Of several rows: ROWS times EXPERTS logits a warp, so that what is read serves several; the same bits.
template <int EXPERTS, int ROWS>
__device__ __forceinline__ void router_many(const RouterArgs& args) {
    const int lane = threadIdx.x & 31, n = args.n_embd / 4, row0 = blockIdx.x * ROWS;
    const int expert0 = (blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5)) * EXPERTS;
    let_next_start();
    if (expert0 >= args.n_expert) return;
    const float4 *w[EXPERTS], *x[ROWS];
#pragma unroll
    for (int e = 0; e < EXPERTS; e++) w[e] = (const float4*)(args.weight + (size_t)min(expert0 + e, args.n_expert - 1) * args.n_embd);
    // Weights do not depend on the previous kernel: one block has them on their way from memory.
    if (blockIdx.x == 0)
#pragma unroll
        for (int e = 0; e < EXPERTS; e++)
            for (int i = lane * 8; i < n; i += 32 * 8) asm volatile("prefetch.global.L2 [%0];" ::"l"(w[e] + i));
    wait_for_previous();
#pragma unroll
    for (int r = 0; r < ROWS; r++) x[r] = (const float4*)(args.x + (size_t)min(row0 + r, args.n_row - 1) * args.k_pad);
    float4 sum[EXPERTS][ROWS];
#pragma unroll
    for (int e = 0; e < EXPERTS; e++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) sum[e][r] = make_float4(0, 0, 0, 0);
#pragma unroll 2
    for (int i = lane; i < n; i += 32) {
        float4 a[EXPERTS], b[ROWS];
#pragma unroll
        for (int e = 0; e < EXPERTS; e++) a[e] = __ldg(w[e] + i);
#pragma unroll
        for (int r = 0; r < ROWS; r++) b[r] = x[r][i];
#pragma unroll
        for (int e = 0; e < EXPERTS; e++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) add_products(sum[e][r], a[e], b[r]);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (row0 + r >= args.n_row) break;
        const float scale = router_scale(args, row0 + r);
#pragma unroll
        for (int e = 0; e < EXPERTS; e++) {
            const bool is_one = expert0 + e < args.n_expert;
            const float logit = router_logit(sum[e][r], scale, args.bias && is_one ? args.bias[expert0 + e] : 0.0f);
            if (lane == 0 && is_one) args.logits[(size_t)(row0 + r) * args.n_expert + expert0 + e] = logit;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) router_few_rows(const __grid_constant__ RouterArgs args) { router_many<2, 4>(args); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) router_many_rows(const __grid_constant__ RouterArgs args) { router_many<4, 4>(args); }

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
constexpr int MAX_ENTRIES = 4096, ROUTE_THREADS = 1024;

extern "C" __global__ void __launch_bounds__(ROUTE_THREADS) route_decode(const __grid_constant__ RouteArgs args) {
    constexpr int N_WARP = ROUTE_THREADS / 32;
    __shared__ int16_t chosen[MAX_ENTRIES];
    // Of up to ROUTE_THREADS entries: how many each warp has of each expert.
    __shared__ __align__(4) uint8_t of_warps[N_WARP][MAX_EXPERTS];
    __shared__ int next[MAX_EXPERTS];  // how many entries an expert has; then where its next one goes
    __shared__ int totals[MAX_EXPERTS / 32];
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int n_expert = args.rule.n_expert, n_used = args.rule.n_used, n_entry = args.n_row * n_used;
    static_assert(ROUTE_THREADS >= MAX_EXPERTS, "a thread an expert");
    let_next_start();
    if (tid < n_expert) next[tid] = 0;
    // Rows were complete before this chain of dependent launches.
    bool is_padding = warp < args.n_row && args.rows[warp].slot < 0;
    __syncthreads();
    wait_for_previous();
    for (int row = warp; row < args.n_row; row += N_WARP) {
        if (row > warp) is_padding = args.rows[row].slot < 0;
        const Choice choice = choose(args.rule, args.logits + (size_t)row * n_expert);
        if (lane < n_used) {
            args.weights[row * n_used + lane] = choice.weight;
            chosen[row * n_used + lane] = is_padding ? -1 : (int16_t)choice.expert;
            if (!is_padding) atomicAdd(&next[choice.expert], 1);
        }
    }
    __syncthreads();
    // Entries of the experts up to this one, and above them how many of these have any.
    const int n = tid < n_expert ? next[tid] : 0, own = n | (n > 0) << 16;
    int upto = own;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const int before = __shfl_up_sync(~0u, upto, o);
        if (lane >= o) upto += before;
    }
    if (lane == 31 && warp < MAX_EXPERTS / 32) totals[warp] = upto;
    __syncthreads();
    if (tid < n_expert) {
        for (int i = 0; i < warp; i++) upto += totals[i];
        const int before = upto - own;
        args.offsets[tid] = next[tid] = before & 0xFFFF;
        if (n > 0) args.active[1 + (before >> 16)] = tid;
        if (tid == n_expert - 1) args.offsets[n_expert] = upto & 0xFFFF, args.active[0] = upto >> 16;
    }
    for (int first = 0; first < n_entry; first += ROUTE_THREADS) {
        __syncthreads();
        for (int i = tid; i < N_WARP * MAX_EXPERTS / 4; i += ROUTE_THREADS) ((uint32_t*)of_warps)[i] = 0;
        __syncthreads();
        const int entry = first + tid, expert = entry < n_entry ? chosen[entry] : -1;
        const uint32_t same = __match_any_sync(~0u, expert);
        const int rank = __popc(same & ((1u << lane) - 1));
        if (expert >= 0 && rank == 0) of_warps[warp][expert] = __popc(same);
        __syncthreads();
        if (expert >= 0) {
            int at = next[expert] + rank;
            for (int i = 0; i < warp; i++) at += of_warps[i][expert];
            args.entries[at] = entry;
        }
        __syncthreads();
        // Of this round, before the next one clears it.
        if (tid < n_expert && first + ROUTE_THREADS < n_entry)
            for (int i = 0; i < N_WARP; i++) next[tid] += of_warps[i][tid];
    }
}

struct RouteFewArgs {
    RouterArgs router;
    RouteArgs route;
};
static_assert(sizeof(RouteFewArgs) == 168, "as in src/launch/route.rs");

// Router and choice in one, for few rows and at most EXPERTS experts: a cluster of 8 blocks, a warp an expert; the first block has the logits
// and chooses. AHEAD: float4 of a router's row that a lane has before the kernel before has ended.
constexpr int FEW_ROWS = 4, FEW_BLOCKS = 8;

template <int EXPERTS, int AHEAD>
__device__ __forceinline__ void route_few_rows(const RouteFewArgs& args) {
    constexpr int N_WARP = EXPERTS / FEW_BLOCKS, MAX_USED = 16;
    static_assert(N_WARP >= FEW_ROWS, "a warp a row");
    __shared__ float logits[FEW_ROWS][EXPERTS];
    __shared__ int16_t chosen[FEW_ROWS * MAX_USED];
    __shared__ int n_used_of[EXPERTS / 32];  // experts with an entry, 32 at a time
    static_assert(FEW_ROWS * MAX_USED <= 64 && N_WARP * 32 > EXPERTS, "an entry a bit, and a thread an expert and one more");
    const RouteArgs& route = args.route;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_expert = route.rule.n_expert, n_used = route.rule.n_used;
    const int expert = blockIdx.x * N_WARP + warp, n_entry = route.n_row * n_used;
    let_next_start();
    cluster_join();
    const RouterRow<AHEAD> weights(args.router, min(expert, n_expert - 1));
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
        const Choice choice = choose<EXPERTS / 32>(route.rule, logits[warp]);
        if (lane < n_used) {
            route.weights[warp * n_used + lane] = choice.weight;
            chosen[warp * n_used + lane] = is_active ? (int16_t)choice.expert : (int16_t)-1;
        }
    }
    __syncthreads();
    // A thread an expert: its entries as bits, and how many those before it have.
    const int e = threadIdx.x;
    uint64_t entries = 0;
    int offset = 0;
#pragma unroll 8
    for (int i = 0; i < n_entry; i++) {
        const int of = chosen[i];
        entries |= (uint64_t)(of == e) << i;
        offset += of >= 0 && of < e;
    }
    const uint32_t used = __ballot_sync(~0u, entries != 0);
    if (lane == 0 && warp < EXPERTS / 32) n_used_of[warp] = __popc(used);
    __syncthreads();
    if (e > n_expert || warp > EXPERTS / 32) return;
    route.offsets[e] = offset;
    int at = __popc(used & ((1u << lane) - 1));
    for (int i = 0; i < min(warp, EXPERTS / 32); i++) at += n_used_of[i];
    if (e == n_expert) route.active[0] = at;
    if (entries != 0) route.active[1 + at] = e;
    for (; entries != 0; entries &= entries - 1) route.entries[offset++] = __ffsll(entries) - 1;
}

// Of 32 and of 128 experts.
extern "C" __global__ void __launch_bounds__(128) route_few(const __grid_constant__ RouteFewArgs args) { route_few_rows<32, 24>(args); }
extern "C" __global__ void __launch_bounds__(512) route_few_128(const __grid_constant__ RouteFewArgs args) { route_few_rows<128, 16>(args); }
