// Norms and heads of a prompt's rows where nothing else is to be done with them, in whole vectors: of many rows, instructions cost more than
// memory does (rows.cu does the rest).
#include "common.cuh"
#include "rows/norm.cuh"
#include "rows/place.cuh"
#include "tensor_core.cuh"

constexpr int THREADS = 256;

// A block a row, of which a thread has HELD times four values; n_embd is a multiple of 4. Nothing is added to x, and no activations of generated
// rows are wanted.
template <int HELD>
__device__ __forceinline__ void norm_prompt(const NormArgs& args) {
    let_next_start();
    wait_for_previous();
    const int n = args.n_embd, tid = threadIdx.x, row = args.source ? args.source[blockIdx.x] : blockIdx.x;
    const float4* x = (const float4*)(args.x + (size_t)row * n);
    const auto is_there = [&](int j) { return (tid + j * THREADS) * 4 < n; };
    float4 v[HELD];
#pragma unroll
    for (int j = 0; j < HELD; j++) v[j] = is_there(j) ? x[tid + j * THREADS] : make_float4(0, 0, 0, 0);
    float sum = 0.0f, mean = 0.0f;
    if (args.is_layer_norm) {
#pragma unroll
        for (int j = 0; j < HELD; j++) sum += (v[j].x + v[j].y) + (v[j].z + v[j].w);
        mean = block_sum<THREADS>(sum) / n;
        sum = 0.0f;
    }
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        if (!is_there(j)) continue;
        v[j] = make_float4(v[j].x - mean, v[j].y - mean, v[j].z - mean, v[j].w - mean);
        sum = fmaf(v[j].x, v[j].x, fmaf(v[j].y, v[j].y, fmaf(v[j].z, v[j].z, fmaf(v[j].w, v[j].w, sum))));
    }
    const float scale = args.weight ? 1.0f / sqrtf(block_sum<THREADS>(sum) / n + args.eps) : 1.0f;
    __half* out = args.out + (size_t)blockIdx.x * n * args.out_terms;
#pragma unroll
    for (int j = 0; j < HELD; j++) {
        if (!is_there(j)) continue;
        const int i = tid + j * THREADS;
        const float4 w = args.weight ? __ldg((const float4*)args.weight + i) : make_float4(1, 1, 1, 1);
        const float4 b = args.bias ? __ldg((const float4*)args.bias + i) : make_float4(0, 0, 0, 0);
        const float y[4] = {fmaf(v[j].x, scale * w.x, b.x), fmaf(v[j].y, scale * w.y, b.y), fmaf(v[j].z, scale * w.z, b.z), fmaf(v[j].w, scale * w.w, b.w)};
        __half high[4], low[4];
#pragma unroll
        for (int k = 0; k < 4; k++) high[k] = saturate(y[k]), low[k] = saturate(y[k] - __half2float(high[k]));
        if (args.even_then_odd) {
            __half* to = out + even_then_odd(4 * i);
            *(__half2*)to = __halves2half2(high[0], high[2]), *(__half2*)(to + 8) = __halves2half2(high[1], high[3]);
            continue;
        }
        *(uint2*)(out + 4 * i) = *(const uint2*)high;
        if (args.out_terms == 2) *(uint2*)(out + n + 4 * i) = *(const uint2*)low;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) norm_prompt_4(const __grid_constant__ NormArgs args) { norm_prompt<4>(args); }
extern "C" __global__ void __launch_bounds__(THREADS) norm_prompt_8(const __grid_constant__ NormArgs args) { norm_prompt<8>(args); }

// Eight values of a head a thread: those of four pairs that turn together, or that follow each other. Queries become float16 of one term, keys
// and values go to the cache or, turned, back to their place; values are no keys. `half_rot` is a multiple of 4 and `head_dim` of 8; where heads
// are normalised, an eighth of it is a power of 2 and at most 32 (`can_place_prompt` in src/launch/rows.rs).
extern "C" __global__ void __launch_bounds__(THREADS) place_prompt(const __grid_constant__ PlaceArgs args) {
    let_next_start();
    wait_for_previous();
    const int n = args.head_dim, width = args.n_q + 2 * args.n_kv;
    const int index = blockIdx.x * THREADS + threadIdx.x, row_index = index / (width / 8), at = index % (width / 8) * 8;
    const bool exists = row_index < args.n_row && args.rows[row_index].slot >= 0;
    const Row row = exists ? args.rows[row_index] : Row{0, 0, 0, 0};
    const int first = at % n, j = first / 2;  // of the head's values, and of its pairs
    const PlacedHead head{args, at - first};
    const bool is_q = head.is_q(), is_v = head.is_v(), turns = j < args.half_rot && !is_v, is_apart = j < args.half_rot && args.adjacent == 0;
    // Two runs of four values.
    const int low = is_apart ? j : first, high = is_apart ? j + args.half_rot : first + 4;
    const auto pairs = [&](float4 a, float4 b, float2 (&to)[4]) {
        if (is_apart) to[0] = make_float2(a.x, b.x), to[1] = make_float2(a.y, b.y), to[2] = make_float2(a.z, b.z), to[3] = make_float2(a.w, b.w);
        else to[0] = make_float2(a.x, a.y), to[1] = make_float2(a.z, a.w), to[2] = make_float2(b.x, b.y), to[3] = make_float2(b.z, b.w);
    };
    float* in = args.qkv + (size_t)row_index * width + head.at;
    float4 a = make_float4(0, 0, 0, 0), b = a;
    float2 x[4], weight[4], turn[4], v[4];
    if (exists) a = *(const float4*)(in + low), b = *(const float4*)(in + high);
    pairs(a, b, x);
#pragma unroll
    for (int k = 0; k < 4; k++) weight[k] = make_float2(1.0f, 1.0f), turn[k] = make_float2(1.0f, 0.0f);
    if (turns) {
        const float4* from = (const float4*)(args.turns + (size_t)row.position * args.half_rot + j);
        const float4 first_two = from[0], second_two = from[1];
        turn[0] = make_float2(first_two.x, first_two.y), turn[1] = make_float2(first_two.z, first_two.w);
        turn[2] = make_float2(second_two.x, second_two.y), turn[3] = make_float2(second_two.z, second_two.w);
    }
    float scale = 1.0f;
    if (args.is_normed) {
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < 4; k++) sum = fmaf(x[k].x, x[k].x, fmaf(x[k].y, x[k].y, sum));
        for (int o = n / 16; o > 0; o >>= 1) sum += __shfl_xor_sync(~0u, sum, o);
        if (!is_v || args.values == VALUES_NORMED) scale = 1.0f / sqrtf(sum / n + args.eps);
        const float* weights = is_q ? args.q_weight : is_v ? nullptr : args.k_weight;
        if (weights) pairs(__ldg((const float4*)(weights + low)), __ldg((const float4*)(weights + high)), weight);
    }
    if (!exists) return;
    const float heat = head.heat(row.position);
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = head.placed(j + k, x[k], weight[k], turn[k], scale, heat);
    // Back to two runs.
    if (is_apart) a = make_float4(v[0].x, v[1].x, v[2].x, v[3].x), b = make_float4(v[0].y, v[1].y, v[2].y, v[3].y);
    else a = make_float4(v[0].x, v[0].y, v[1].x, v[1].y), b = make_float4(v[2].x, v[2].y, v[3].x, v[3].y);
    if (!is_q && !args.k_cache) {
        *(float4*)(in + low) = a, *(float4*)(in + high) = b;
        return;
    }
    __half* to = args.q + (size_t)row_index * args.n_q + head.at;
    if (!is_q) {
        const int of_kind = head.at - args.n_q - (is_v ? args.n_kv : 0);
        const uint32_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
        to = (is_v ? args.v_cache : args.k_cache) + (((size_t)page * args.n_kv_head + of_kind / n) * PAGE + row.position % PAGE) * n;
    }
    const __half ha[4] = {saturate(a.x), saturate(a.y), saturate(a.z), saturate(a.w)}, hb[4] = {saturate(b.x), saturate(b.y), saturate(b.z), saturate(b.w)};
    *(uint2*)(to + low) = *(const uint2*)ha;
    *(uint2*)(to + high) = *(const uint2*)hb;
}
