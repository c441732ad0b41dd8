// The prompt rows' experts: which each row uses with what weights, the rows sorted by expert, and their activations in that order.
//
// A "use" is row * n_used + choice, choices in descending order of rank.
#include "route/choose.cuh"
#include "tensor_core.cuh"

constexpr int SORT_THREADS = 1024;

struct RoutePromptArgs {
    float* logits;        // [n_row, n_expert]; what `choose` makes of them
    float* weights;       // by use
    int32_t* chosen;      // by use: the expert
    int32_t* uses;        // [n_row * n_used]: by expert, ascending within
    int32_t* offsets;     // [n_expert + 1]: where each expert's begin
    int32_t n_row;
    int32_t reserved;
    RouterRule rule;
};
static_assert(sizeof(RoutePromptArgs) == 96, "as in src/launch/route.rs");

// A warp a row.
extern "C" __global__ void __launch_bounds__(256) route_prompt(const RoutePromptArgs args) {
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, row = blockIdx.x * 8 + (threadIdx.x >> 5), n_used = args.rule.n_used;
    if (row >= args.n_row) return;
    const Choice choice = choose(args.rule, args.logits + (size_t)row * args.rule.n_expert);
    if (lane < n_used) {
        args.weights[(size_t)row * n_used + lane] = choice.weight;
        args.chosen[(size_t)row * n_used + lane] = choice.expert;
    }
}

// A block an expert: counts the uses of the experts before it, and lists its own in ascending order.
extern "C" __global__ void __launch_bounds__(SORT_THREADS) route_prompt_sort(const RoutePromptArgs args) {
    let_next_start();
    wait_for_previous();
    __shared__ int own_of[SORT_THREADS / 32], before_of[SORT_THREADS / 32];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int expert = blockIdx.x;
    const int n_use = args.n_row * args.rule.n_used;
    const int share = (n_use + SORT_THREADS - 1) / SORT_THREADS;
    const int begin = min((int)threadIdx.x * share, n_use), end = min(begin + share, n_use);
    int own = 0, before = 0;
    for (int i = begin; i < end; ++i) {
        const int chosen = args.chosen[i];
        own += chosen == expert;
        before += chosen < expert;
    }
    int own_to = own;  // of this warp's threads up to this one
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const int other = __shfl_up_sync(~0u, own_to, o);
        if (lane >= o) own_to += other;
    }
    before = __reduce_add_sync(~0u, before);
    if (lane == 31) {
        own_of[warp] = own_to;
        before_of[warp] = before;
    }
    __syncthreads();
    int offset = 0, at = 0, total = 0;
    for (int i = 0; i < SORT_THREADS / 32; ++i) {
        offset += before_of[i];
        at += i < warp ? own_of[i] : 0;
        total += own_of[i];
    }
    at += offset + own_to - own;
    for (int i = begin; i < end; ++i)
        if (args.chosen[i] == expert) args.uses[at++] = i;
    if (threadIdx.x == 0) {
        args.offsets[expert] = offset;
        if (expert == args.rule.n_expert - 1) args.offsets[args.rule.n_expert] = offset + total;
    }
}

struct GatherPromptArgs {
    const __half* from;   // [n_row, k]
    const int32_t* uses;  // [n_row * n_used]
    __half* to;           // [n_row * n_used, k]: row `uses[i] / n_used` at i
    int32_t n_used;
    int32_t k;  // a multiple of 8
};
static_assert(sizeof(GatherPromptArgs) == 32, "as in src/launch/route.rs");

// A block a use, a thread so many pieces of eight values at a time, which `order` puts in order.
template <int PIECES, class Order>
__device__ __forceinline__ void gather(const GatherPromptArgs& args, const Order& order) {
    let_next_start();
    wait_for_previous();
    const size_t row = args.uses[blockIdx.x] / args.n_used;
    const uint4* from = reinterpret_cast<const uint4*>(args.from + row * args.k);
    uint4* to = reinterpret_cast<uint4*>(args.to + (size_t)blockIdx.x * args.k);
    for (int i = threadIdx.x; i < args.k / (8 * PIECES); i += blockDim.x) order(from + PIECES * i, to + PIECES * i);
}

extern "C" __global__ void __launch_bounds__(128) gather_prompt(const GatherPromptArgs args) {
    gather<1>(args, [](const uint4* from, uint4* to) { *to = *from; });
}

// In the order of prompt_packed.cuh; k is a multiple of 16.
extern "C" __global__ void __launch_bounds__(128) gather_prompt_even_odd(const GatherPromptArgs args) {
    gather<2>(args, [](const uint4* from, uint4* to) {
        const uint4 a = from[0], b = from[1];
        const uint32_t w[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        uint32_t ordered[8];
        even_then_odd(w, ordered);
        to[0] = make_uint4(ordered[0], ordered[1], ordered[2], ordered[3]);
        to[1] = make_uint4(ordered[4], ordered[5], ordered[6], ordered[7]);
    });
}
