// C = A W^T for the prompt rows of a step: what its main loops (prompt_gemm_mma.cuh, prompt_gemm_wgmma.cuh, prompt_packed.cuh) share, which is
// the arguments, the order of the tiles, and what is done with the sums.
//
// A is f16 [rows, k], W is f16 [n, k], sums are f32. An output element is one chain of k16 tensor-core steps in ascending order of
// k, begun at zero, whatever the number of rows and whatever the tile: so a row's bits depend on that row and on W only. Tails (of
// k in steps of 64, of rows, of columns) are zeros in shared memory.
#pragma once

#include "common.cuh"
#include "tensor_core.cuh"

enum PromptEpilogue : int {
    PROMPT_STORE,     // out f32 [row][column + n] = c * scale + bias[n]
    PROMPT_RESIDUAL,  // out f32 [row][column + n] += c * scale + bias[n]
    PROMPT_WEIGHTED,  // out f32 [use][column + n] = (c * scale + bias[n]) * weight[use], with use = uses[row]
    PROMPT_GATED,     // out f16 [row][column + unit] = act(gate, up) / 8; W's rows are 32 gates, 32 ups, 32 gates, ...
    PROMPT_PLAIN,     // out f16 [row][column + n] = act(c * scale + bias[n], 1) / 8
};

// Activations of the feed-forward are stored as f16 divided by this: products of two projections outgrow f16 in some models. A
// power of two, so the division and the `scale` of the next product that undoes it are exact.
constexpr float HIDDEN_DIVISOR = 8.0f;

// act(gate, up) = g * sigmoid(alpha * g * (1 + beta * g^2)) * (u + shift), where g is the gate, at most `limit`, and u is `up`, between
// -limit and limit. SiLU: 1, 0, infinity, 0. GELU by tanh, of which (1 + tanh(v)) / 2 = sigmoid(2 v): 2 sqrt(2 / pi), 0.044715,
// infinity, 0. Clamped SwiGLU: its alpha, 0, its limit, 1.
struct PromptActivation {
    float alpha;
    float beta;
    float limit;
    float shift;
};

struct PromptGemmArgs {
    const __half* a;         // [rows, k]; with experts: the rows of expert e are offsets[e] to offsets[e + 1]
    const __half* w;         // [n, w_k]; with experts: [n_expert][n, w_k]
    const float* bias;       // [n], with experts [n_expert][n], or null; 8-byte aligned
    void* out;               // f32 or f16, 16-byte aligned
    const int32_t* offsets;  // [n_expert + 1], or null without experts
    const int32_t* uses;     // weighted: what each row of A is, row * n_used + choice
    const float* weights;    // weighted: by use
    int32_t m;               // rows of A; not read with experts
    int32_t n;               // rows of W, of one expert; store: any number; gated: a multiple of 64; plain: of 8; else even
    int32_t k;               // a multiple of 32
    int32_t w_k;             // k, or half of it in whole steps of 64: then W's columns are taken twice
    int32_t ld;              // values in a row of `out`; store: any number; f16: a multiple of 8; else even, in prompt_packed.cuh a multiple of 4
    int32_t column;          // the first that is written; likewise
    int32_t n_expert;        // 0: dense
    PromptActivation act;    // gated and plain
    float scale;             // a power of two
    int32_t low;             // hidden values: where, from a value's place, goes what its float16 leaves; 0: nowhere
    int32_t reserved;
};
static_assert(sizeof(PromptGemmArgs) == 112, "as in src/launch/prompt_gemm.rs");

// Where in W's columns those of A begin again.
__device__ __forceinline__ int w_column(const PromptGemmArgs& a, int at) { return at < a.w_k ? at : at - a.w_k; }

// A part of C that a block computes.
struct PromptTile {
    int expert;
    int row;      // first, in A
    int row_end;  // of the expert, in A
    int col;      // first, in the expert's W
};

// The tiles of one block: every `stride`-th of all, expert by expert. The number of rows of an expert is known to the device only, so
// every thread that needs the sequence walks it by itself.
//
// Tiles run down a strip of rows before they go to the next columns: the blocks that run at one time then share both their rows and
// their columns, which keeps the traffic from L2 low.
template <int BM, int BN>
struct PromptTiles {
    static constexpr int STRIP = 2048 / BM;
    int index, stride, expert, before, row, row_end, n_tile;
    int m, n_expert, n_tile_n;
    const int32_t* offsets;

    __device__ PromptTiles(const PromptGemmArgs& a, int first, int stride)
        : index(first), stride(stride), expert(-1), before(0), row(0), row_end(0), n_tile(0), m(a.m), n_expert(a.n_expert),
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
        index += stride;
        return true;
    }
};

__device__ __forceinline__ float activate(const PromptActivation& act, float gate, float up) {
    gate = gate > act.limit ? act.limit : gate;
    up = up > act.limit ? act.limit : up < -act.limit ? -act.limit : up;
    const float v = act.alpha * gate * fmaf(act.beta * gate, gate, 1.0f);
    return gate * __fdividef(1.0f, 1.0f + __expf(-v)) * (up + act.shift);
}

// Two hidden values as f16: those out of range become the largest there is, a NaN stays one.
__device__ __forceinline__ __half2 hidden_pair(float2 v) {
    const float top = 65504.0f * HIDDEN_DIVISOR;
    v.x = v.x > top ? top : v.x < -top ? -top : v.x;
    v.y = v.y > top ? top : v.y < -top ? -top : v.y;
    return __floats2half2_rn(v.x * (1.0f / HIDDEN_DIVISOR), v.y * (1.0f / HIDDEN_DIVISOR));
}

// What those leave of the values.
__device__ __forceinline__ float2 hidden_rest(float2 v, __half2 high) {
    const float2 h = __half22float2(high);
    return make_float2(fmaf(h.x, -HIDDEN_DIVISOR, v.x), fmaf(h.y, -HIDDEN_DIVISOR, v.y));
}

// A warp's part of C, 16 rows by 64 columns. Lane 4 g + t holds rows g and g + 8 (j = 0, 1), columns 8 i + 2 t and the next (u = 0, 1)
// in c[4 i + 2 j + u]: the layout of both mma.sync's and wgmma's sums.
struct PromptPart {
    const float* bias;  // of the lane's first column, or null
    int row;            // of the lane, j = 0, in A
    int row_end;        // of the expert
    int col;            // of the lane, i = 0
};

__device__ __forceinline__ PromptPart part_of(const PromptGemmArgs& a, const PromptTile& tile, int row, int col) {
    const int lane = threadIdx.x & 31;
    PromptPart p;
    p.row = tile.row + row + (lane >> 2);
    p.row_end = tile.row_end;
    p.col = tile.col + col + 2 * (lane & 3);
    p.bias = a.bias == nullptr ? nullptr : a.bias + (size_t)tile.expert * a.n + p.col;
    return p;
}

// The eight pairs of a row of the part that a lane has.
struct PromptPairs {
    float2 v[8];
};

// Volatile, as else the compiler gathers the loads of many parts and runs out of registers.
__device__ __forceinline__ float2 load_pair(const float* from) {
    float2 v;
    asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "l"(from) : "memory");
    return v;
}

// Only what is stored as it is may have an odd number of columns: the logits of a vocabulary of any size.
template <PromptEpilogue E>
__device__ __forceinline__ void load_bias(const PromptGemmArgs& a, const PromptPart& p, PromptPairs& bias) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        bias.v[i] = make_float2(0.0f, 0.0f);
        if (p.bias == nullptr || p.col + 8 * i >= a.n) continue;
        if (E == PROMPT_STORE && p.col + 8 * i + 1 == a.n) bias.v[i].x = p.bias[8 * i];
        else bias.v[i] = load_pair(p.bias + 8 * i);
    }
}

// c * scale + bias; the product is exact.
__device__ __forceinline__ float2 biased(float scale, const float* c, float2 bias) {
    return make_float2(fmaf(c[0], scale, bias.x), fmaf(c[1], scale, bias.y));
}

__device__ __forceinline__ float* place(const PromptGemmArgs& a, const PromptPart& p, size_t row) {
    return static_cast<float*>(a.out) + row * a.ld + a.column + p.col;
}

// What the places of row j hold before.
__device__ __forceinline__ void load_before(const PromptGemmArgs& a, const PromptPart& p, int j, PromptPairs& before) {
    const float* out = place(a, p, p.row + 8 * j);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        before.v[i] = make_float2(0.0f, 0.0f);
        if (p.row + 8 * j < p.row_end && p.col + 8 * i < a.n) before.v[i] = load_pair(out + 8 * i);
    }
}

template <PromptEpilogue E>
__device__ __forceinline__ void finish_f32(const PromptGemmArgs& a, const PromptPart& p, int j, const float* c,
                                           const PromptPairs& bias, const PromptPairs& before) {
    const bool present = p.row + 8 * j < p.row_end;
    size_t row = p.row + 8 * j;
    float weight = 1.0f;
    if (E == PROMPT_WEIGHTED && present) {
        row = a.uses[row];
        weight = a.weights[row];
    }
    float* out = place(a, p, row);
    const bool pairs = E != PROMPT_STORE || ((a.ld | a.column | a.n) & 1) == 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        float2 y = biased(a.scale, c + 4 * i + 2 * j, bias.v[i]);
        if (E == PROMPT_WEIGHTED) y = make_float2(y.x * weight, y.y * weight);
        if (E == PROMPT_RESIDUAL) y = make_float2(before.v[i].x + y.x, before.v[i].y + y.y);
        if (!present || p.col + 8 * i >= a.n) continue;
        if (pairs) {
            *reinterpret_cast<float2*>(out + 8 * i) = y;
        } else {
            out[8 * i] = y.x;
            if (p.col + 8 * i + 1 < a.n) out[8 * i + 1] = y.y;
        }
    }
}

// After the transpose a lane holds 8 neighbouring values of a row: one store of 16 bytes.
template <PromptEpilogue E>
__device__ __forceinline__ void finish_hidden(const PromptGemmArgs& a, const PromptPart& p, const float* c, const PromptPairs& bias) {
    const int t = threadIdx.x & 3;
    const int col = p.col - 2 * t;  // of the part; 64 apart, 32 units of the gated
    const int n = E == PROMPT_GATED ? a.n / 2 : a.n;
#pragma unroll
    for (int half = 0; half < (E == PROMPT_GATED ? 1 : 2); ++half) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            uint32_t w[4], rest[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * half + i;
                const float2 gate = biased(a.scale, c + 4 * at + 2 * j, bias.v[at]);
                float2 up = make_float2(1.0f, 1.0f);
                if (E == PROMPT_GATED) up = biased(a.scale, c + 4 * (i + 4) + 2 * j, bias.v[i + 4]);
                const float2 v = make_float2(activate(a.act, gate.x, up.x), activate(a.act, gate.y, up.y));
                const __half2 high = hidden_pair(v), low = hidden_pair(hidden_rest(v, high));
                w[i] = *reinterpret_cast<const uint32_t*>(&high), rest[i] = *reinterpret_cast<const uint32_t*>(&low);
            }
            const int at = (E == PROMPT_GATED ? col / 2 : col) + 32 * half + 8 * t;
            const int row = p.row + 8 * j;
            const bool present = row < p.row_end && at < n;
            __half* out = static_cast<__half*>(a.out) + (size_t)row * a.ld + a.column + at;
            transpose_quad(w);
            if (present) *reinterpret_cast<uint4*>(out) = make_uint4(w[0], w[1], w[2], w[3]);
            if (a.low > 0) {
                transpose_quad(rest);
                if (present) *reinterpret_cast<uint4*>(out + a.low) = make_uint4(rest[0], rest[1], rest[2], rest[3]);
            }
        }
    }
}

// Called by whole warps with the sums of PARTS parts, of which `part` is the first and each next lies ROW_STEP and COL_STEP farther;
// `before` is of its row j = 0. AHEAD fetches what a residual adds to half a part before it is needed, for 16 registers more. By
// recursion: the compiler does not unroll a loop over a body of this size, and would then keep the sums in local memory.
template <PromptEpilogue E, bool AHEAD, int PARTS, int ROW_STEP, int COL_STEP>
__device__ __forceinline__ void finish(const PromptGemmArgs& a, const PromptPart& p, const float* c, PromptPairs& before) {
    PromptPart next = p;
    next.row += ROW_STEP;
    next.col += COL_STEP;
    if (next.bias != nullptr) next.bias += COL_STEP;
    // Hides how it came about: the compiler would compute the addresses of all parts before the first.
    asm volatile("" : "+r"(next.row), "+r"(next.col), "+l"(next.bias));
    PromptPairs bias;
    load_bias<E>(a, p, bias);
    if constexpr (E == PROMPT_GATED || E == PROMPT_PLAIN) {
        finish_hidden<E>(a, p, c, bias);
    } else {
        PromptPairs second;
        if constexpr (E == PROMPT_RESIDUAL && AHEAD) load_before(a, p, 1, second);
        finish_f32<E>(a, p, 0, c, bias, before);
        if constexpr (E == PROMPT_RESIDUAL && !AHEAD) load_before(a, p, 1, second);
        if constexpr (E == PROMPT_RESIDUAL && AHEAD && PARTS > 1) load_before(a, next, 0, before);
        finish_f32<E>(a, p, 1, c, bias, second);
        if constexpr (E == PROMPT_RESIDUAL && !AHEAD && PARTS > 1) load_before(a, next, 0, before);
    }
    if constexpr (PARTS > 1) finish<E, AHEAD, PARTS - 1, ROW_STEP, COL_STEP>(a, next, c + 32, before);
}
