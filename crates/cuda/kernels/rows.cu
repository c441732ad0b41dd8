// What is done row by row between the products: norms, RoPE of prompts, the choice of experts.
#include "common.cuh"

constexpr int THREADS = 256;

struct NormArgs {
    float* x;               // [n_row, n_embd]; gets `parts` added
    const float* weight;    // [n_embd]; null: the rows are taken as they are
    const float* bias;      // [n_embd] or null
    const float* parts;     // [n_row * n_part, n_embd]: `residual` times each is added to x first, in order; or null
    const int32_t* source;  // [grid]: which rows of x; null: all
    __half* out;            // [grid, out_terms * n_embd], saturated; or null
    ActOut act;             // column = block
    int32_t n_embd;
    int32_t n_part;
    int32_t is_layer_norm;
    float eps;
    int32_t out_terms;      // 2: after the float16 of a row what they leave of its values, as float16
    float residual;
};
static_assert(sizeof(NormArgs) == 104, "as in src/args.rs");

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

// The sum over a block of N threads; the same bits in every thread.
template <int N>
__device__ __forceinline__ float block_sum(float v) {
    __shared__ float sums[N / 32];
    v = warp_sum(v);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) sums[threadIdx.x >> 5] = v;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    return warp_sum(lane < N / 32 ? sums[lane] : 0.0f);
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
        weight[j] = args.weight && i < n ? __ldg(args.weight + i) : 1.0f;
        bias[j] = args.bias && i < n ? __ldg(args.bias + i) : 0.0f;
    }
    wait_for_previous();
    const int row = args.source ? args.source[blockIdx.x] : blockIdx.x;
    float* x = args.x + (size_t)row * n;
    const float* parts = args.parts + (size_t)row * args.n_part * n;
    const auto value_at = [&](int i) {
        float v = x[i];
        if (args.parts) {
#pragma unroll 4
            for (int p = 0; p < args.n_part; p++) v += args.residual * parts[(size_t)p * n + i];
            x[i] = v;
        }
        return v;
    };
#pragma unroll
    for (int j = 0; j < HELD; j++) held[j] = tid + j * N < n ? value_at(tid + j * N) : 0.0f;
    const auto sum_over = [&](auto term, bool is_first) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (tid + j * N < n) sum += term(held[j]);
        for (int i = tid + HELD * N; i < n; i += N) sum += term(is_first ? value_at(i) : x[i]);
        return block_sum<N>(sum);
    };
    if (!args.out && !args.act.q && !args.act.f) {
        for (int i = tid + HELD * N; i < n; i += N) value_at(i);
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
            out[i] = saturate(v);
            if (args.out_terms == 2) out[n + i] = saturate(v - __half2float(out[i]));
        };
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (tid + j * N < n) put(tid + j * N, first[j]);
        for (int i = tid + HELD * N; i < n; i += N) put(i, normed_at(i));
    }
    if (args.act.q || args.act.f) {
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

// Where queries, keys and values go, turned.
struct PlaceArgs {
    float* qkv;           // [n_row, n_q + 2 n_kv]
    __half* q;            // [n_row, q_terms * n_q]; null: queries go to `q_floats`
    float* q_floats;      // [n_row, n_q]
    float* fresh;         // [n_row][keys, values][n_kv]: where keys and values go instead of the cache; or null
    __half* k_cache;      // null: keys stay in `qkv`, turned
    __half* v_cache;
    const Row* rows;
    const uint32_t* page_tables;
    const float2* turns;  // [n_ctx][half_rot]
    int32_t n_q, n_kv;
    int32_t head_dim;
    int32_t half_rot;     // 0: no rotation
    int32_t adjacent;
    int32_t max_pages;
    int32_t n_kv_head;
    int32_t q_terms;      // 2: after the float16 of a row what they leave of its values, as float16
    float heat;           // queries are multiplied by 1 + heat * ln(1 + floor(position / heat_context))
    int32_t heat_context; // 0: they are not
};
static_assert(sizeof(PlaceArgs) == 112, "as in src/args.rs");

extern "C" __global__ void __launch_bounds__(THREADS) place_rows(const __grid_constant__ PlaceArgs args) {
    let_next_start();
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    if (row.slot < 0) return;
    const int half_dim = args.head_dim / 2, n_pair = (args.n_q + 2 * args.n_kv) / 2;
    float* in = args.qkv + (size_t)blockIdx.x * (args.n_q + 2 * args.n_kv);
    const uint32_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    const float factor = args.heat_context ? 1.0f + args.heat * logf((float)(1 + row.position / args.heat_context)) : 1.0f;
    for (int p = threadIdx.x; p < n_pair; p += THREADS) {
        const int head = p / half_dim, j = p - head * half_dim, at = head * args.head_dim;
        int i0, i1;
        if (j < args.half_rot) {
            i0 = args.adjacent ? 2 * j : j;
            i1 = args.adjacent ? 2 * j + 1 : j + args.half_rot;
        } else {
            i0 = 2 * j, i1 = 2 * j + 1;
        }
        float a = in[at + i0], b = in[at + i1];
        const bool is_v = at >= args.n_q + args.n_kv;
        if (j < args.half_rot && !is_v) {
            const float2 turn = args.turns[(size_t)row.position * args.half_rot + j];
            const float ra = a * turn.x - b * turn.y;
            b = a * turn.y + b * turn.x;
            a = ra;
        }
        if (at < args.n_q && args.heat_context) a *= factor, b *= factor;
        if (at < args.n_q && args.q_floats) {
            float* q = args.q_floats + (size_t)blockIdx.x * args.n_q + at;
            q[i0] = a, q[i1] = b;
        } else if (at < args.n_q) {
            __half* q = args.q + (size_t)blockIdx.x * args.n_q * args.q_terms + at;
            const __half ha = saturate(a), hb = saturate(b);
            q[i0] = ha, q[i1] = hb;
            if (args.q_terms == 2) q[args.n_q + i0] = saturate(a - __half2float(ha)), q[args.n_q + i1] = saturate(b - __half2float(hb));
        } else if (args.fresh) {
            float* fresh = args.fresh + ((size_t)blockIdx.x * 2 + is_v) * args.n_kv + at - (is_v ? args.n_q + args.n_kv : args.n_q);
            fresh[i0] = a, fresh[i1] = b;
        } else if (!args.k_cache) {
            in[at + i0] = a, in[at + i1] = b;
        } else {
            const int kv_head = (at - (is_v ? args.n_q + args.n_kv : args.n_q)) / args.head_dim;
            __half* cache = is_v ? args.v_cache : args.k_cache;
            cache += (((size_t)page * args.n_kv_head + kv_head) * PAGE + row.position % PAGE) * args.head_dim;
            cache[i0] = saturate(a), cache[i1] = saturate(b);
        }
    }
}

struct QkNormArgs {
    float* qkv;             // [n_row, n_q + 2 n_kv]; queries and keys are normalised in place
    const float* q_weight;  // [group], or [n_q]
    const float* k_weight;  // [group], or [n_kv]
    int32_t n_q, n_kv;
    int32_t group;          // of values that are normalised together
    float eps;
    int32_t values;         // of Values
    int32_t reserved;
};
static_assert(sizeof(QkNormArgs) == 48, "as in src/args.rs");

// What becomes of the values: `qk_norm_heads` alone does more than leave them.
enum Values { VALUES_LEFT, VALUES_NORMED, VALUES_OF_KEYS };

// A warp a head.
extern "C" __global__ void __launch_bounds__(THREADS) qk_norm_heads(const __grid_constant__ QkNormArgs args) {
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, n = args.group, at = (blockIdx.y * (THREADS / 32) + (threadIdx.x >> 5)) * n;
    if (at >= args.n_q + (args.values == VALUES_NORMED ? 2 : 1) * args.n_kv) return;
    float* x = args.qkv + (size_t)blockIdx.x * (args.n_q + 2 * args.n_kv) + at;
    const bool is_k = at >= args.n_q && at < args.n_q + args.n_kv;
    const float* weight = at < args.n_q ? args.q_weight : is_k ? args.k_weight : nullptr;
    float sum = 0.0f;
    for (int i = lane; i < n; i += 32) sum += x[i] * x[i];
    const float scale = 1.0f / sqrtf(warp_sum(sum) / n + args.eps);
    for (int i = lane; i < n; i += 32) {
        if (is_k && args.values == VALUES_OF_KEYS) x[args.n_kv + i] = x[i] * scale;
        x[i] *= weight ? scale * weight[i] : scale;
    }
}

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
static_assert(sizeof(RouterArgs) == 56, "as in src/args.rs");

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
    const float* logits;  // [n_row, n_expert]
    const Row* rows;      // [n_row]
    float* weights;       // [n_row * n_used]
    int32_t* active;      // [0]: how many experts are chosen; then their numbers
    int32_t* offsets;     // [n_expert + 1] into `entries`
    int32_t* entries;     // row * n_used + choice, by expert, ascending within
    int32_t n_row;
    int32_t n_expert;
    int32_t n_used;
    int32_t reserved;
};
static_assert(sizeof(RouteArgs) == 64, "as in src/args.rs");

// The experts of generated rows, in one block: at most 256 rows of 8 choices, at most 256 experts.
constexpr int MAX_ENTRIES = 2048, MAX_EXPERTS = 256;

// An expert and its weight: lane i has the i-th choice of a row.
struct Choice {
    int expert;
    float weight;
};

// The n_used largest of a row's logits, of equal ones the first, and the softmax over them; by a warp.
__device__ __forceinline__ Choice choose(const float* logits, int n_expert, int n_used) {
    const int lane = threadIdx.x & 31;
    Choice mine{0, 0.0f};
    float first = 0.0f, sum = 0.0f;
    const auto take = [&](int c, int at, float best) {
        if (c == 0) first = best;
        const float w = expf(best - first);
        sum += w;
        if (lane == c) mine = Choice{at, w};
    };
    if (n_expert <= 32) {
        // As integers, floats are in order once the negative ones' bits are inverted; 0 is what cannot be chosen. -0 and 0 are equal.
        const float v = lane < n_expert ? logits[lane] + 0.0f : 0.0f;
        const uint32_t bits = __float_as_uint(v);
        uint32_t key = bits >> 31 ? ~bits : bits | 0x80000000u;
        if (lane >= n_expert || v != v) key = 0;
        for (int c = 0; c < n_used; c++) {
            const uint32_t most = __reduce_max_sync(~0u, key);
            const int at = most == 0 ? 0 : __ffs(__ballot_sync(~0u, key == most)) - 1;  // all are no numbers: any expert will do
            const float best = __shfl_sync(~0u, v, at);
            if (lane == at) key = 0;
            take(c, at, best);
        }
    } else {
        int previous = -1;
        float previous_value = INFINITY;
        for (int c = 0; c < n_used; c++) {
            // The largest that comes after the previous one in the order of (value, then index).
            float best = -INFINITY;
            int at = n_expert;
            for (int e = lane; e < n_expert; e += 32) {
                const float v = logits[e];
                const bool is_later = v < previous_value || (v == previous_value && e > previous);
                if (is_later && (v > best || (v == best && e < at))) best = v, at = e;
            }
#pragma unroll
            for (int o = 16; o > 0; o >>= 1) {
                const float v = __shfl_xor_sync(~0u, best, o);
                const int e = __shfl_xor_sync(~0u, at, o);
                if (v > best || (v == best && e < at)) best = v, at = e;
            }
            if (at >= n_expert) at = 0;  // not a number: any expert will do
            previous = at, previous_value = best;
            take(c, at, best);
        }
    }
    mine.weight /= sum;
    return mine;
}

extern "C" __global__ void __launch_bounds__(THREADS) route_decode(const __grid_constant__ RouteArgs args) {
    __shared__ int16_t chosen[MAX_ENTRIES];
    __shared__ int counts[MAX_EXPERTS];
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, n_entry = args.n_row * args.n_used;
    for (int row = threadIdx.x >> 5; row < args.n_row; row += THREADS / 32) {
        const Choice choice = choose(args.logits + (size_t)row * args.n_expert, args.n_expert, args.n_used);
        if (lane < args.n_used) {
            args.weights[row * args.n_used + lane] = choice.weight;
            chosen[row * args.n_used + lane] = args.rows[row].slot < 0 ? -1 : (int16_t)choice.expert;
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < args.n_expert; e += THREADS) {
        int n = 0;
        for (int i = 0; i < n_entry; i++) n += chosen[i] == e;
        counts[e] = n;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < args.n_expert; e += THREADS) {
        int offset = 0, index = 0;
        for (int i = 0; i < e; i++) offset += counts[i], index += counts[i] > 0;
        args.offsets[e] = offset;
        if (counts[e] > 0) args.active[1 + index] = e;
        if (e == args.n_expert - 1) {
            args.offsets[args.n_expert] = offset + counts[e];
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
static_assert(sizeof(RouteFewArgs) == 120, "as in src/args.rs");

// Router and choice in one, for few rows and at most 32 experts: a cluster of 8 blocks, a warp an expert; the first block has the logits and
// chooses.
constexpr int FEW_ROWS = 4, FEW_EXPERTS = 32, FEW_THREADS = 128, FEW_AHEAD = 24;

extern "C" __global__ void __launch_bounds__(FEW_THREADS) route_few(const __grid_constant__ RouteFewArgs args) {
    __shared__ float logits[FEW_ROWS][FEW_EXPERTS];
    __shared__ int16_t chosen[FEW_ROWS * FEW_EXPERTS];
    const RouteArgs& route = args.route;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_expert = route.n_expert, n_used = route.n_used;
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
        const Choice choice = choose(logits[warp], n_expert, n_used);
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
