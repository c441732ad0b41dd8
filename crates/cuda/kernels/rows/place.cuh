// Where queries, keys and values go that are more than products: normalised by head where the model does, and turned. Of generated rows a kernel of
// its own does it (rows.cu), or attention itself (attend/attend_stage.cuh); fused multiplications are written out, so that both give the same
// bits. Prompts have another kernel (rows_prompt.cu), which adds up a norm in another order.
#pragma once

#include "common.cuh"

// What becomes of the values.
enum Values { VALUES_LEFT, VALUES_NORMED, VALUES_OF_KEYS };

struct PlaceArgs {
    float* qkv;             // [n_row, n_q + 2 n_kv]
    __half* q;              // [n_row, q_terms * n_q]; null: queries go to `q_floats`
    float* q_floats;        // [n_row, n_q]
    float* fresh;           // [n_row][keys, values][n_kv]: where keys and values go instead of the cache; or null
    __half* k_cache;        // null: keys and values stay in `qkv`, keys turned
    __half* v_cache;
    const Row* rows;
    const uint32_t* page_tables;
    const float2* turns;    // [n_ctx][half_rot]
    const float* q_weight;  // [head_dim] of the RMS norm of a head; null: 1
    const float* k_weight;
    int32_t n_q, n_kv;
    int32_t head_dim;
    int32_t half_rot;       // 0: no rotation
    int32_t adjacent;
    int32_t max_pages;
    int32_t n_kv_head;
    int32_t q_terms;        // 2: after the float16 of a row what they leave of its values, as float16
    float heat;             // queries are multiplied by 1 + heat * ln(1 + floor(position / heat_context))
    int32_t heat_context;   // 0: they are not
    int32_t is_normed;      // 0: heads are taken as they are
    int32_t values;         // of Values
    float eps;
    int32_t n_row;          // read by place_prompt alone
};
static_assert(sizeof(PlaceArgs) == 144, "as in src/args.rs");

// A head, of which a warp takes pairs of values: those that turn together where any do.
struct PlacedHead {
    const PlaceArgs& args;
    int at;  // of its first value in a row of `qkv`

    __device__ __forceinline__ bool is_q() const { return at < args.n_q; }
    __device__ __forceinline__ bool is_v() const { return at >= args.n_q + args.n_kv; }
    __device__ __forceinline__ int first_of(int j) const { return j < args.half_rot && args.adjacent == 0 ? j : 2 * j; }
    __device__ __forceinline__ int second_of(int j) const { return j < args.half_rot && args.adjacent == 0 ? j + args.half_rot : 2 * j + 1; }

    // Weights and turns are learned or follow from the position: they do not depend on the previous kernel.
    __device__ __forceinline__ float2 weight(int j) const {
        const float* weight = is_q() ? args.q_weight : is_v() ? nullptr : args.k_weight;
        return weight ? make_float2(load_now(weight + first_of(j)), load_now(weight + second_of(j))) : make_float2(1.0f, 1.0f);
    }
    __device__ __forceinline__ float2 turn(int position, int j) const {
        return j < args.half_rot && !is_v() ? args.turns[(size_t)position * args.half_rot + j] : make_float2(1.0f, 0.0f);
    }

    // What the norm multiplies the head by, of a row of `qkv`.
    __device__ __forceinline__ float scale(const float* in) const {
        if (!args.is_normed || (is_v() && args.values != VALUES_NORMED)) return 1.0f;
        float sum = 0.0f;
#pragma unroll 4
        for (int i = threadIdx.x & 31; i < args.head_dim; i += 32) sum = __fmaf_rn(in[at + i], in[at + i], sum);
        return 1.0f / sqrtf(warp_sum(sum) / args.head_dim + args.eps);
    }

    // What queries at a position are multiplied by, and nothing else is.
    __device__ __forceinline__ float heat(int position) const {
        return is_q() && args.heat_context ? __fmaf_rn(args.heat, logf((float)(1 + position / args.heat_context)), 1.0f) : 1.0f;
    }

    // What becomes of pair j, x.
    __device__ __forceinline__ float2 placed(int j, float2 x, float2 weight, float2 turn, float scale, float heat) const {
        float a = x.x * (scale * weight.x), b = x.y * (scale * weight.y);
        if (j < args.half_rot && !is_v()) {
            const float ra = __fmaf_rn(a, turn.x, -__fmul_rn(b, turn.y));
            b = __fmaf_rn(a, turn.y, __fmul_rn(b, turn.x));
            a = ra;
        }
        return is_q() ? make_float2(a * heat, b * heat) : make_float2(a, b);
    }
};
