// C = A W^T for the prompt rows of a step: what its two main loops (prompt_gemm_mma.cuh, prompt_gemm_wgmma.cuh) share, which is
// the arguments, the order of the tiles, and what is done with the sums.
//
// A is f16 [rows, k], W is f16 [n, k], sums are f32. An output element is one chain of k16 tensor-core steps in ascending order of
// k, begun at zero, whatever the number of rows and whatever the tile: so a row's bits depend on that row and on W only. Tails (of
// k in steps of 64, of rows, of columns) are zeros in shared memory.
#pragma once

#include "common.cuh"

enum PromptEpilogue : int {
    PROMPT_STORE,     // out f32 [row][column + n] = c * scale + bias[n]
    PROMPT_RESIDUAL,  // out f32 [row][column + n] += c * scale + bias[n]
    PROMPT_GATED,     // out f16 [row][column + unit] = act(gate, up) / 8; W's rows are 32 gates, 32 ups, 32 gates, ...
    PROMPT_PLAIN,     // out f16 [row][column + n] = gelu(c * scale + bias[n]) / 8
    PROMPT_WEIGHTED,  // out f32 [use][column + n] = (c * scale + bias[n]) * weight[use], with use = uses[row]
};

enum PromptActivation : int { PROMPT_SILU, PROMPT_GELU_TANH, PROMPT_CLAMPED_SWIGLU };

// Activations of the feed-forward are stored as f16 divided by this: products of two projections outgrow f16 in some models. A
// power of two, so the division and the `scale` of the next product that undoes it are exact.
constexpr float HIDDEN_DIVISOR = 8.0f;

struct PromptGemmArgs {
    const __half* a;         // [rows, k]; with experts: the rows of expert e are offsets[e] to offsets[e + 1]
    const __half* w;         // [n, k]; with experts: [n_expert][n, k]
    const float* bias;       // [n], with experts [n_expert][n], or null
    void* out;               // f32 or f16, 16-byte aligned
    const int32_t* offsets;  // [n_expert + 1], or null without experts
    const int32_t* uses;     // weighted: what each row of A is, row * n_used + choice
    const float* weights;    // weighted: by use
    int32_t m;               // rows of A; not read with experts
    int32_t n;               // rows of W, of one expert; gated: a multiple of 64; plain: of 8
    int32_t k;               // a multiple of 32
    int32_t ld;              // values in a row of `out`; f16: a multiple of 8
    int32_t column;          // the first that is written; f16: a multiple of 8
    int32_t epilogue;        // PromptEpilogue
    int32_t activation;      // gated: PromptActivation
    int32_t n_expert;        // 0: dense
    float scale;             // a power of two
    float alpha;             // clamped SwiGLU
    float limit;             // clamped SwiGLU
    int32_t reserved;
};
static_assert(sizeof(PromptGemmArgs) == 104, "as in src/launch/prompt_gemm.rs");

// A part of C that a block computes.
struct PromptTile {
    int expert;
    int row;      // first, in A
    int row_end;  // of the expert, in A
    int col;      // first, in the expert's W
};

// The tiles of one block: every gridDim.x-th of all, expert by expert. The number of rows of an expert is known to the device only, so
// every thread that needs the sequence walks it by itself.
//
// Tiles run down a strip of rows before they go to the next columns: the blocks that run at one time then share both their rows and
// their columns, which keeps the traffic from L2 low.
template <int BM, int BN>
struct PromptTiles {
    static constexpr int STRIP = 2048 / BM;
    int index, expert, before, row, row_end, n_tile;
    int m, n_expert, n_tile_n;
    const int32_t* offsets;

    __device__ explicit PromptTiles(const PromptGemmArgs& a)
        : index(blockIdx.x), expert(-1), before(0), row(0), row_end(0), n_tile(0), m(a.m), n_expert(a.n_expert),
          n_tile_n((a.n + BN - 1) / BN), offsets(a.offsets) {}

    __device__ bool next(PromptTile& tile) {
        while (index - before >= n_tile) {
            before += n_tile;
            expert += 1;
            if (expert >= (n_expert == 0 ? 1 : n_expert)) return false;
            row = n_expert == 0 ? 0 : offsets[expert];
            row_end = n_expert == 0 ? m : offsets[expert + 1];
            n_tile = (row_end - row + BM - 1) / BM * n_tile_n;
        }
        const int n_tile_m = n_tile / n_tile_n;
        const int at = index - before;
        const int strip = at / (STRIP * n_tile_n);
        const int height = min(STRIP, n_tile_m - strip * STRIP);
        const int within = at - strip * STRIP * n_tile_n;
        tile.expert = expert;
        tile.row = row + (strip * STRIP + within % height) * BM;
        tile.row_end = row_end;
        tile.col = within / height * BN;
        index += gridDim.x;
        return true;
    }
};

__device__ __forceinline__ float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

__device__ __forceinline__ float gelu_tanh(float x) {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    return x * sigmoid(2.0f * 0.79788456f * (x + 0.044715f * x * x * x));
}

__device__ __forceinline__ float gated(const PromptGemmArgs& a, float gate, float up) {
    if (a.activation == PROMPT_CLAMPED_SWIGLU) {
        gate = gate > a.limit ? a.limit : gate;
        up = up > a.limit ? a.limit : up < -a.limit ? -a.limit : up;
        return (up + 1.0f) * (gate * sigmoid(a.alpha * gate));
    }
    return (a.activation == PROMPT_SILU ? gate * sigmoid(gate) : gelu_tanh(gate)) * up;
}

// Two hidden values as f16: those out of range become the largest there is, a NaN stays one.
__device__ __forceinline__ uint32_t hidden_pair(float x, float y) {
    const float top = 65504.0f * HIDDEN_DIVISOR;
    x = x > top ? top : x < -top ? -top : x;
    y = y > top ? top : y < -top ? -top : y;
    const __half2 h = __floats2half2_rn(x * (1.0f / HIDDEN_DIVISOR), y * (1.0f / HIDDEN_DIVISOR));
    return *reinterpret_cast<const uint32_t*>(&h);
}

// Four lanes hold four words each, and lane t gets word t of each lane, in the order of the lanes.
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4]) {
    const int t = threadIdx.x & 3;
    const uint32_t a = __shfl_xor_sync(~0u, t & 1 ? w[0] : w[1], 1);
    const uint32_t b = __shfl_xor_sync(~0u, t & 1 ? w[2] : w[3], 1);
    if (t & 1) w[0] = a, w[2] = b;
    else w[1] = a, w[3] = b;
    const uint32_t c = __shfl_xor_sync(~0u, t & 2 ? w[0] : w[2], 2);
    const uint32_t d = __shfl_xor_sync(~0u, t & 2 ? w[1] : w[3], 2);
    if (t & 2) w[0] = c, w[1] = d;
    else w[2] = c, w[3] = d;
}

// What a warp's part of C, 16 rows by 64 columns, needs to be finished. Lane 4 g + t holds rows g and g + 8 (j = 0, 1), columns
// 8 i + 2 t and the next (u = 0, 1) in c[4 i + 2 j + u]: the layout of both mma.sync's and wgmma's sums.
struct PromptPart {
    const float* bias;  // of its first column, or null
    int row;            // of the lane, j = 0
    int row_end;
    int col;            // of its first column
};

__device__ __forceinline__ float2 part_bias(const PromptPart& p, int at, int n) {
    if (p.bias == nullptr) return make_float2(0.0f, 0.0f);
    return make_float2(p.col + at < n ? __ldg(p.bias + at) : 0.0f, p.col + at + 1 < n ? __ldg(p.bias + at + 1) : 0.0f);
}

__device__ __forceinline__ void finish_f32(const PromptGemmArgs& a, const PromptPart& p, const float* c) {
    const int t = threadIdx.x & 3;
    // Whether two columns may be read and written as one: else rows begin at odd places.
    const bool pairs = ((a.ld | a.column | a.n) & 1) == 0;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        const int row = p.row + 8 * j;
        if (row >= p.row_end) continue;
        size_t at = row;
        float weight = 1.0f;
        if (a.epilogue == PROMPT_WEIGHTED) {
            at = a.uses[row];
            weight = a.weights[at];
        }
        float* out = static_cast<float*>(a.out) + at * a.ld + a.column + p.col + 2 * t;
        // Four pairs at a time: enough loads in flight, and few registers beside the sums.
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float2 before[4];
            if (a.epilogue == PROMPT_RESIDUAL) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int at = 32 * half + 8 * i;
                    const int left = a.n - (p.col + at + 2 * t);
                    before[i] = make_float2(0.0f, 0.0f);
                    if (pairs && left > 0) before[i] = *reinterpret_cast<const float2*>(out + at);
                    if (!pairs && left > 0) before[i].x = out[at];
                    if (!pairs && left > 1) before[i].y = out[at + 1];
                }
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 32 * half + 8 * i;
                const int left = a.n - (p.col + at + 2 * t);
                const float* v = c + 16 * half + 4 * i + 2 * j;
                const float2 bias = part_bias(p, at + 2 * t, a.n);
                // The product is exact: the scale is a power of two.
                float2 y = make_float2(fmaf(v[0], a.scale, bias.x), fmaf(v[1], a.scale, bias.y));
                if (a.epilogue == PROMPT_WEIGHTED) y = make_float2(y.x * weight, y.y * weight);
                if (a.epilogue == PROMPT_RESIDUAL) y = make_float2(before[i].x + y.x, before[i].y + y.y);
                if (pairs && left > 0) *reinterpret_cast<float2*>(out + at) = y;
                if (!pairs && left > 0) out[at] = y.x;
                if (!pairs && left > 1) out[at + 1] = y.y;
            }
        }
    }
}

// After the transpose a lane holds 8 neighbouring values of a row: one store of 16 bytes.
__device__ __forceinline__ void finish_hidden(const PromptGemmArgs& a, const PromptPart& p, const float* c) {
    const int t = threadIdx.x & 3;
    const bool is_gated = a.epilogue == PROMPT_GATED;
    const int n = is_gated ? a.n / 2 : a.n;
    const int col = is_gated ? p.col / 2 : p.col;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        if (is_gated && half == 1) break;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            uint32_t w[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * half + i;
                const float2 bias = part_bias(p, 8 * at + 2 * t, a.n);
                const float x = fmaf(c[4 * at + 2 * j], a.scale, bias.x);
                const float y = fmaf(c[4 * at + 2 * j + 1], a.scale, bias.y);
                if (is_gated) {
                    const float2 up_bias = part_bias(p, 8 * i + 32 + 2 * t, a.n);
                    const float up_x = fmaf(c[4 * (i + 4) + 2 * j], a.scale, up_bias.x);
                    const float up_y = fmaf(c[4 * (i + 4) + 2 * j + 1], a.scale, up_bias.y);
                    w[i] = hidden_pair(gated(a, x, up_x), gated(a, y, up_y));
                } else {
                    w[i] = hidden_pair(gelu_tanh(x), gelu_tanh(y));
                }
            }
            transpose_quad(w);
            const int row = p.row + 8 * j;
            const int at = col + 32 * half + 8 * t;
            if (row < p.row_end && at < n) {
                __half* out = static_cast<__half*>(a.out) + (size_t)row * a.ld + a.column + at;
                *reinterpret_cast<uint4*>(out) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        }
    }
}

// Called by whole warps: `row` and `col` are the first of the warp's part within the tile.
__device__ __forceinline__ void finish(const PromptGemmArgs& a, const PromptTile& tile, int row, int col, const float* c) {
    PromptPart p;
    p.row = tile.row + row + ((threadIdx.x & 31) >> 2);
    p.row_end = tile.row_end;
    p.col = tile.col + col;
    p.bias = a.bias == nullptr ? nullptr : a.bias + (size_t)tile.expert * a.n + p.col;
    if (p.col >= a.n || tile.row + row >= tile.row_end) return;
    if (a.epilogue == PROMPT_GATED || a.epilogue == PROMPT_PLAIN) finish_hidden(a, p, c);
    else finish_f32(a, p, c);
}
