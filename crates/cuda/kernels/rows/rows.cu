// What is done row by row between the products: norms, heads, scales. What is plain of prompts is in rows_prompt.cu.
#include "common.cuh"
#include "rows/norm.cuh"
#include "rows/place.cuh"
#include "tensor_core.cuh"

constexpr int THREADS = 256, ADD_THREADS = 128;

// BLOCKS blocks of activations at a time, `store_act_block` of each: their chains of shuffles overlap.
template <int BLOCKS>
__device__ __forceinline__ void store_act_blocks(const ActOut& out, int column, int kb, int step, const float (&v)[BLOCKS]) {
    const int lane = threadIdx.x & 31, n_kb = out.k_pad / 32;
    const int t = (lane & 15) >> 2, j = (lane & 3) + ((lane & 16) >> 2);
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        const int at = kb + b * step;
        if (at >= n_kb) continue;
        if (out.f) out.f[(size_t)column * out.k_pad + at * 32 + lane] = v[b];
        if (out.h) out.h[half_place(out.n_col, column, at, lane)] = act_half(v[b]);
        if (!out.q) continue;
        // Magnitudes compare as their bits do.
        const float largest = __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(fabsf(v[b]))));
        const float inverse = largest > 0.0f ? __fdividef(127.0f, largest) : 0.0f;
        const int q = __float2int_rn(v[b] * inverse);
        const int sum = __reduce_add_sync(~0u, q);
        out.q[((size_t)at * out.n_col + column) * 32 + t * 8 + j] = (int8_t)q;
        const float d = largest * (1.0f / 127.0f);
        if (lane == 0) out.s[(size_t)at * out.n_col + column] = ActScale{d, __fmul_rn(d, (float)sum)};
    }
}

// Adds to N values of a row, value j at `at(j)` or nowhere if that is negative, what the row's experts left of them. All loads of several parts are
// under way at once: no store is between them, which the compiler would have them wait for.
template <int N, class At>
__device__ __forceinline__ void add_experts(const NormArgs& args, int row, float (&values)[N], const At& at) {
    constexpr int PARTS = N > 1 ? 4 : 8;
    const int n = args.n_embd;
    const float* parts = args.parts + (size_t)row * args.n_part * n;
    const float share = args.gate ? 1.0f / (1.0f + expf(-args.gate[row])) : 1.0f;
    float of_all[N];
#pragma unroll
    for (int j = 0; j < N; j++) of_all[j] = args.shared && at(j) >= 0 ? args.shared[(size_t)row * n + at(j)] : 0.0f;
#pragma unroll 1
    for (int first = 0; first < args.n_part; first += PARTS) {
        float part[N][PARTS];
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
            for (int p = 0; p < PARTS; p++) part[j][p] = first + p < args.n_part && at(j) >= 0 ? parts[(size_t)(first + p) * n + at(j)] : 0.0f;
#pragma unroll
        for (int p = 0; p < PARTS; p++)
            if (first + p < args.n_part)
#pragma unroll
                for (int j = 0; j < N; j++) values[j] += args.residual * part[j][p];
    }
    if (args.shared)
#pragma unroll
        for (int j = 0; j < N; j++) values[j] += args.residual * (share * of_all[j]);
}

// A thread holds the first HELD of its values and weights in registers: it takes every N-th.
template <int N, int HELD>
__device__ __forceinline__ void norm_row(const NormArgs& args) {
    let_next_start();
    const int n = args.n_embd, tid = threadIdx.x;
    // Learned vectors do not depend on the previous kernel, and come from memory: other weights have passed through the caches since.
    float weight[HELD], bias[HELD], held[HELD];
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        const int i = tid + j * N;
        weight[j] = args.weight && i < n ? load_now(args.weight + i) : 1.0f;
        bias[j] = args.bias && i < n ? load_now(args.bias + i) : 0.0f;
    }
    wait_for_previous();
    const int row = args.source ? args.source[blockIdx.x] : blockIdx.x;
    float* x = args.x + (size_t)row * n;
    const auto rest = [&](int i) {
        float v[1] = {x[i]};
        if (args.parts) add_experts(args, row, v, [&](int) { return i; });
        if (args.parts) x[i] = v[0];
        return v[0];
    };
    const auto at = [&](int j) { return tid + j * N < n ? tid + j * N : -1; };
#pragma unroll
    for (int j = 0; j < HELD; j++) held[j] = at(j) >= 0 ? x[at(j)] : 0.0f;
    if (args.parts) {
        add_experts(args, row, held, at);
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (at(j) >= 0) x[at(j)] = held[j];
    }
    const auto sum_over = [&](auto term, bool is_first) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (tid + j * N < n) sum += term(held[j]);
        for (int i = tid + HELD * N; i < n; i += N) sum += term(is_first ? rest(i) : x[i]);
        return block_sum<N>(sum);
    };
    if (!args.out && !args.act.is_wanted()) {
        for (int i = tid + HELD * N; i < n; i += N) rest(i);
        return;
    }
    float sum = sum_over([&](float v) { return args.is_layer_norm ? v : v * v; }, true);
    float mean = 0.0f;
    if (args.is_layer_norm) {
        mean = sum / n;
        sum = sum_over([&](float v) { return (v - mean) * (v - mean); }, false);
    }
    const float scale = args.weight ? 1.0f / sqrtf(sum / n + args.eps) : 1.0f;
    const auto normed = [&](float v, float w, float b) { return args.bias ? (v - mean) * (scale * w) + b : (v - mean) * (scale * w); };
    const auto normed_at = [&](int i) { return i < n ? normed(x[i], args.weight ? args.weight[i] : 1.0f, args.bias ? args.bias[i] : 0.0f) : 0.0f; };
    float first[HELD];
#pragma unroll
    for (int j = 0; j < HELD; j++) first[j] = tid + j * N < n ? normed(held[j], weight[j], bias[j]) : 0.0f;
    if (args.out) {
        __half* out = args.out + (size_t)blockIdx.x * n * args.out_terms;
        const auto put = [&](int i, float v) {
            const __half high = saturate(v);
            out[args.even_then_odd ? even_then_odd(i) : i] = high;
            if (args.out_terms == 2) out[n + i] = saturate(v - __half2float(high));
        };
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (tid + j * N < n) put(tid + j * N, first[j]);
        for (int i = tid + HELD * N; i < n; i += N) put(i, normed_at(i));
    }
    if (args.act.is_wanted()) {
        // The blocks of a warp are N values apart, as its values are.
        constexpr int STEP = N / 32;
        store_act_blocks<HELD>(args.act, blockIdx.x, tid >> 5, STEP, first);
        for (int kb = (tid >> 5) + HELD * STEP; kb < args.act.k_pad / 32; kb += HELD * STEP) {
            float v[HELD];
#pragma unroll
            for (int j = 0; j < HELD; j++) v[j] = normed_at((kb + j * STEP) * 32 + (tid & 31));
            store_act_blocks<HELD>(args.act, blockIdx.x, kb, STEP, v);
        }
    }
}

// A block a row, of few threads for the many rows of a prompt and of many for the few generated ones.
extern "C" __global__ void __launch_bounds__(THREADS) norm_rows(const __grid_constant__ NormArgs args) { norm_row<THREADS, 4>(args); }
extern "C" __global__ void __launch_bounds__(1024, 1) norm_few(const __grid_constant__ NormArgs args) { norm_row<1024, 4>(args); }

// What experts left of generated rows, for a norm that the products after it finish: the rows times its weights, and their sums of squares, as
// `store_next` of product/product_finish.cuh leaves them. A warp has 32 values, so that many blocks share a row and no warp waits for another.
extern "C" __global__ void __launch_bounds__(ADD_THREADS) add_parts(const __grid_constant__ NormArgs args) {
    let_next_start();
    const int row = blockIdx.x, block = blockIdx.y * (ADD_THREADS / 32) + (threadIdx.x >> 5), i = block * 32 + (threadIdx.x & 31);
    if (i >= args.n_embd) return;
    const float weight = load_now(args.weight + i);
    wait_for_previous();
    float* const x = args.x + (size_t)row * args.n_embd + i;
    float y[1] = {*x};
    add_experts(args, row, y, [&](int) { return i; });
    *x = y[0];
    store_act_block(args.act, row, block, y[0] * weight);
    const float square = warp_sum(y[0] * y[0]);
    if ((threadIdx.x & 31) == 0) args.squares[(size_t)row * (args.n_embd / 32) + block] = square;
}

// A warp a head. It holds the weights of the first HELD pairs of each lane.
extern "C" __global__ void __launch_bounds__(THREADS) place_heads(const __grid_constant__ PlaceArgs args) {
    constexpr int HELD = 4;
    let_next_start();
    const int lane = threadIdx.x & 31, n = args.head_dim, at = (blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5)) * n;
    const PlacedHead head{args, at};
    const bool is_q = head.is_q(), is_v = head.is_v(), makes_values = args.values == VALUES_OF_KEYS;
    // Values that are the keys are placed with these.
    if (at >= args.n_q + 2 * args.n_kv || (is_v && makes_values)) return;
    float2 weights[HELD];
#pragma unroll
    for (int k = 0; k < HELD; k++) weights[k] = lane + 32 * k < n / 2 ? head.weight(lane + 32 * k) : make_float2(1.0f, 1.0f);
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) return;
    float* const in = args.qkv + (size_t)blockIdx.x * (args.n_q + 2 * args.n_kv);
    const float scale = head.scale(in), heat = head.heat(row.position);
    const uint32_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    // Of keys or values: those of the head at `from`.
    const auto keep = [&](int from, bool of_values, int i0, int i1, float a, float b) {
        const int within = from - (of_values ? args.n_q + args.n_kv : args.n_q);
        if (args.fresh) {
            float* fresh = args.fresh + ((size_t)blockIdx.x * 2 + of_values) * args.n_kv + within;
            fresh[i0] = a, fresh[i1] = b;
        } else if (!args.k_cache) {
            in[from + i0] = a, in[from + i1] = b;
        } else {
            __half* cache = of_values ? args.v_cache : args.k_cache;
            cache += (((size_t)page * args.n_kv_head + within / n) * PAGE + row.position % PAGE) * n;
            cache[i0] = saturate(a), cache[i1] = saturate(b);
        }
    };
    const auto place = [&](int j, float2 weight) {
        const int i0 = head.first_of(j), i1 = head.second_of(j);
        const float2 x = make_float2(in[at + i0], in[at + i1]);
        if (makes_values && !is_q) keep(at + args.n_kv, true, i0, i1, x.x * scale, x.y * scale);
        const float2 v = head.placed(j, x, weight, head.turn(row.position, j), scale, heat);
        if (!is_q) return keep(at, is_v, i0, i1, v.x, v.y);
        if (args.q_floats) {
            float* q = args.q_floats + (size_t)blockIdx.x * args.n_q + at;
            q[i0] = v.x, q[i1] = v.y;
            return;
        }
        __half* q = args.q + (size_t)blockIdx.x * args.n_q * args.q_terms + at;
        const __half ha = saturate(v.x), hb = saturate(v.y);
        q[i0] = ha, q[i1] = hb;
        if (args.q_terms == 2) q[args.n_q + i0] = saturate(v.x - __half2float(ha)), q[args.n_q + i1] = saturate(v.y - __half2float(hb));
    };
#pragma unroll
    for (int k = 0; k < HELD; k++)
        if (lane + 32 * k < n / 2) place(lane + 32 * k, weights[k]);
    for (int j = lane + 32 * HELD; j < n / 2; j += 32) place(j, head.weight(j));
}

struct QkNormArgs {
    float* qkv;             // [n_row, n_q + 2 n_kv]; queries and keys are normalised in place
    const float* q_weight;  // [n_q]
    const float* k_weight;  // [n_kv]
    int32_t n_q, n_kv;
    float eps;
    int32_t reserved;
};
static_assert(sizeof(QkNormArgs) == 40, "as in src/args.rs");

// A block for the queries of a row, and one for its keys.
extern "C" __global__ void __launch_bounds__(THREADS) qk_norm_rows(const __grid_constant__ QkNormArgs args) {
    let_next_start();
    wait_for_previous();
    const bool is_k = blockIdx.y == 1;
    const int n = is_k ? args.n_kv : args.n_q;
    float* x = args.qkv + (size_t)blockIdx.x * (args.n_q + 2 * args.n_kv) + (is_k ? args.n_q : 0);
    const float* weight = is_k ? args.k_weight : args.q_weight;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += THREADS) sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(block_sum<THREADS>(sum) / n + args.eps);
    for (int i = threadIdx.x; i < n; i += THREADS) x[i] *= scale * weight[i];
}

struct AddArgs {
    float* x;             // [n_row, n]; gets `residual` times y added
    const float* y;       // [n_row, n]
    const float* weight;  // [n] of an RMS norm of y; or null
    int32_t n;
    float residual;
    float eps;
    int32_t reserved;
};
static_assert(sizeof(AddArgs) == 40, "as in src/args.rs");

extern "C" __global__ void __launch_bounds__(THREADS) add_rows(const __grid_constant__ AddArgs args) {
    let_next_start();
    wait_for_previous();
    float* x = args.x + (size_t)blockIdx.x * args.n;
    const float* y = args.y + (size_t)blockIdx.x * args.n;
    if (!args.weight) {
        for (int i = threadIdx.x; i < args.n; i += THREADS) x[i] += args.residual * y[i];
        return;
    }
    float sum = 0.0f;
    for (int i = threadIdx.x; i < args.n; i += THREADS) sum += y[i] * y[i];
    const float scale = 1.0f / sqrtf(block_sum<THREADS>(sum) / args.n + args.eps);
    for (int i = threadIdx.x; i < args.n; i += THREADS) x[i] += args.residual * (y[i] * (scale * args.weight[i]));
}

struct SumArgs {
    const float* parts;        // [n_row * n_part, n]
    const float* shared;       // [n_row, n]: one more part; or null
    const float* gate;         // [n_row]: that one is multiplied by the sigmoid of this; or null
    const float* parts_norm;   // [n]: of an RMS norm of the sum of `parts`; or null
    const float* shared_norm;  // [n]: likewise of `shared`; or null
    float* out;                // [n_row, n]
    int32_t n_part;
    int32_t n;
    float eps;
    int32_t reserved;
};
static_assert(sizeof(SumArgs) == 64, "as in src/args.rs");

// What experts leave, as one sum.
extern "C" __global__ void __launch_bounds__(THREADS) sum_parts(const __grid_constant__ SumArgs args) {
    let_next_start();
    wait_for_previous();
    const int n = args.n;
    const float* parts = args.parts + (size_t)blockIdx.x * args.n_part * n;
    const float* shared = args.shared ? args.shared + (size_t)blockIdx.x * n : nullptr;
    float* out = args.out + (size_t)blockIdx.x * n;
    float of_parts = 0.0f, of_shared = 0.0f;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        float sum = 0.0f;
        for (int p = 0; p < args.n_part; p++) sum += parts[(size_t)p * n + i];
        out[i] = sum;
        of_parts += sum * sum;
        if (shared) of_shared += shared[i] * shared[i];
    }
    const float scale = args.parts_norm ? 1.0f / sqrtf(block_sum<THREADS>(of_parts) / n + args.eps) : 1.0f;
    const float share = args.gate ? 1.0f / (1.0f + expf(-args.gate[blockIdx.x])) : 1.0f;
    const float shared_scale = share * (args.shared_norm ? 1.0f / sqrtf(block_sum<THREADS>(of_shared) / n + args.eps) : 1.0f);
    for (int i = threadIdx.x; i < n; i += THREADS) {
        if (args.parts_norm) out[i] *= scale * args.parts_norm[i];
        if (shared) out[i] += shared[i] * (args.shared_norm ? shared_scale * args.shared_norm[i] : shared_scale);
    }
}

struct ScaleArgs {
    float* x;  // [n]
    uint64_t n;
    float factor;
    float cap;  // x becomes cap * tanh(factor * x / cap); 0: factor * x
};
static_assert(sizeof(ScaleArgs) == 24, "as in src/args.rs");

extern "C" __global__ void __launch_bounds__(THREADS) scale_all(const __grid_constant__ ScaleArgs args) {
    let_next_start();
    wait_for_previous();
    for (uint64_t i = (uint64_t)blockIdx.x * THREADS + threadIdx.x; i < args.n; i += (uint64_t)gridDim.x * THREADS) {
        const float v = args.factor * args.x[i];
        args.x[i] = args.cap > 0.0f ? args.cap * tanhf(v / args.cap) : v;
    }
}
