// y = W x for the generated rows of a step: all columns of the activations at once, tensor cores in the decode path. What all kernels
// of products share; product_narrow.cuh and product_wide.cuh multiply integers, product_half.cuh float16, product_float.cuh float32.
//
// Of integers and floats an element's bits are the same from every kernel that can compute it. n_in is cut into 8 ranges of units, a range into 4 stripes: every
// fourth unit. A stripe's sum takes its blocks in order: mma.s8 gives a block's dot product exactly, and the float part is one multiply and
// one or two fused multiply-adds. A range is the sum of its stripes in order, an element the sum of its ranges in order.
#pragma once

#include "weights/format.cuh"

constexpr int WARPS = 8;

// What is done with the sums.
enum Epilogue : int {
    EPILOGUE_STORE,     // out[column][row] = y + bias
    EPILOGUE_RESIDUAL,  // out[column][row] += y + bias
    EPILOGUE_QKV,       // RoPE; queries to out, keys and values to the cache
    EPILOGUE_GATED,     // rows in groups of 32 gate, 32 up: act(gate, up) to `act`
    EPILOGUE_PLAIN,     // act(y) to `act`
    EPILOGUE_WEIGHTED,  // out[column][row] = (y + bias) * weight[column]
};

enum Activation : int { ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_CLAMPED_SWIGLU };

struct ProductArgs {
    const uint8_t* w;       // tiles
    const float* bias;      // [n_tile * 16] in the order of the tiles' rows, or null
    int32_t n_tile;
    int32_t n_unit;
    int32_t n_row;          // rows that are stored: the last tile's others are padding
    int32_t epilogue;
    ActOut x;               // the activations (h for products in float16, f for float weights, q and s otherwise)
    float* out;             // [column][ld_out]
    int32_t ld_out;
    int32_t first_row;      // in `out`
    // Gated and plain.
    ActOut act;
    int32_t activation;
    float alpha, limit;
    // Queries, keys and values.
    int32_t head_dim;
    int32_t half_rot;       // pairs of a head that turn; tiles hold pairs (g, g + 8)
    int32_t adjacent;       // a pair is (2i, 2i + 1), otherwise (i, i + half_rot)
    int32_t n_q, n_k;       // rows of queries, rows of keys; values follow
    int32_t qkv_row;        // of the first tile, among queries, keys and values
    int32_t n_kv_head, max_pages;
    int32_t n_square;       // blocks of 32 of a row that is normed
    const float2* turns;    // [n_ctx][half_rot] cosine and sine
    __half* k_cache;
    __half* v_cache;
    const Row* rows;
    const uint32_t* page_tables;
    float* fresh;           // [column][keys, values][n_k]: where keys and values go instead of the cache; or null
    // Mixture of experts: blockIdx.y counts the chosen experts, whose columns are listed.
    const int32_t* active;      // [0]: how many experts; then their numbers
    const int32_t* offsets;     // [n_expert + 1] into `entries`
    const int32_t* entries;     // row * n_used + choice
    const float* weights;       // [entry]
    uint64_t expert_bytes;      // of an expert's tiles
    int32_t column_divisor;     // the activations' column is entry / this; 0: no experts
    // An RMS norm between two products has no kernel of its own. The one before it leaves its rows times the norm's weights as activations,
    // and the sums of squares of each 32 rows; the one after it multiplies its sums by what follows from those.
    float eps;
    const float* squares;       // [column][n_square]: of the activations' rows, which are yet to be scaled; or null: they are not
    const float* next_weight;   // [n_row], with EPILOGUE_RESIDUAL: of the norm that follows, whose input goes to `act`; or null
    float* next_squares;        // [column][n_row / 32]
    // Of experts of one row: they were chosen before the kernel before this one could start, which waits before it lets this one start.
    int32_t is_chosen;
    // Of blocks that share a width and are no cluster (product_half_wide.cuh): how many do, 4 or 8, or 0; their sums
    // [block of tiles and columns][range][column][row]; and for each of these, eight more whenever all have stored theirs.
    int32_t n_part;
    float* parts;
    uint32_t* n_stored;
};
static_assert(sizeof(ProductArgs) == 320, "as in src/args.rs");

__device__ __forceinline__ float activate(int kind, float g, float u, float alpha, float limit) {
    if (kind == ACTIVATION_SILU) return g / (1.0f + expf(-g)) * u;
    if (kind == ACTIVATION_GELU_TANH) {
        const float inner = 0.7978845608028654f * (g + 0.044715f * g * g * g);
        return 0.5f * g * (1.0f + tanhf(inner)) * u;
    }
    const float gate = fminf(g, limit);
    const float up = fminf(fmaxf(u, -limit), limit);
    return (up + 1.0f) * (gate / (1.0f + expf(-alpha * gate)));
}

// The columns of a block: the activations' own, or those of an expert. Past the end there is the last one again.
struct Columns {
    const int32_t* entries;  // null: columns are the activations' own
    int divisor;
    int first, end;

    __device__ __forceinline__ int source(int i) const {
        const int c = min(first + i, end - 1);
        return entries ? entries[c] / divisor : c;
    }
};

// The first unit of a range: ranges begin with whole quads of units, but of float32.
template <int F>
__device__ __forceinline__ int range_start(int n_unit, int range) {
    return F == F32 ? n_unit * range / WARPS : min((n_unit + 3) / 4 * range / WARPS * 4, n_unit);
}

// Copies 16 or 8 bytes to shared memory on its own; weights pass L1 by, activations are shared by the blocks of a multiprocessor.
__device__ __forceinline__ void copy_weights(uint32_t to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
template <int BYTES>
__device__ __forceinline__ void copy_activations(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(from), "n"(BYTES) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
