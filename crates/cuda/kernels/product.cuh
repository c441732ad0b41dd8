// y = W x for the generated rows of a step: all columns of the activations at once, tensor cores in the decode path. What all kernels
// of products share; product_narrow.cuh and product_wide.cuh multiply integers, product_float.cuh floats.
//
// An element's bits are the same from every kernel that can compute it. n_in is cut into 8 ranges of units, a range into 4 stripes: every
// fourth unit. A stripe's sum takes its blocks in order: mma.s8 gives a block's dot product exactly, and the float part is one multiply and
// one or two fused multiply-adds. A range is the sum of its stripes in order, an element the sum of its ranges in order.
#pragma once

#include "format.cuh"

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
    ActOut x;               // the activations (f for float weights, q and s otherwise)
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
    int32_t n_kv_head, max_pages, reserved0;
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
    int32_t reserved;
};
static_assert(sizeof(ProductArgs) == 256, "as in src/args.rs");

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

// The first unit of a range: of integers, ranges begin with whole quads of units.
template <int F>
__device__ __forceinline__ int range_start(int n_unit, int range) {
    return Layout<F>::FLOAT ? n_unit * range / WARPS : min((n_unit + 3) / 4 * range / WARPS * 4, n_unit);
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

// Where a row of queries, keys or values (in the order of the tiles) belongs within its head.
__device__ __forceinline__ int natural_row(const ProductArgs& args, int i) {
    const int tile = i >> 4, pair = tile * 8 + (i & 7);
    if (tile * 8 >= args.half_rot) return i;
    const int side = (i >> 3) & 1;
    return args.adjacent ? 2 * pair + side : pair + side * args.half_rot;
}

// Two rows g and g + 8 of a tile of queries, keys or values, of one column.
__device__ __forceinline__ void store_qkv(const ProductArgs& args, int tile, int g, int column, float a, float b) {
    const Row row = args.rows[column];
    if (row.slot < 0) return;
    const int at = args.qkv_row + tile * 16;
    const bool is_q = at < args.n_q, is_v = at >= args.n_q + args.n_k;
    const int within = at - (is_q ? 0 : is_v ? args.n_q + args.n_k : args.n_q);
    const int head = within / args.head_dim, i = within - head * args.head_dim + g;
    int i0 = i, i1 = i + 8;
    if (!is_v) {
        const int pair = (i >> 4) * 8 + (i & 7);
        if (pair < args.half_rot) {
            const float2 turn = args.turns[(size_t)row.position * args.half_rot + pair];
            const float ra = a * turn.x - b * turn.y;
            b = a * turn.y + b * turn.x;
            a = ra;
        }
        i0 = natural_row(args, i), i1 = natural_row(args, i + 8);
    }
    if (is_q) {
        float* q = args.out + (size_t)column * args.ld_out + head * args.head_dim;
        q[i0] = a, q[i1] = b;
        return;
    }
    if (args.fresh) {
        float* to = args.fresh + ((size_t)column * 2 + is_v) * args.n_k + head * args.head_dim;
        to[i0] = a, to[i1] = b;
        return;
    }
    const uint32_t page = args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
    __half* cache = is_v ? args.v_cache : args.k_cache;
    cache += (((size_t)page * args.n_kv_head + head) * PAGE + row.position % PAGE) * args.head_dim;
    cache[i0] = __float2half_rn(a), cache[i1] = __float2half_rn(b);
}

// What is left after a block's sums are in shared memory: adds the PARTS of each, and does what the epilogue says with the rows of tile
// `tile0` and following and columns `c0` and following. PAIRED: the parts of odd ranges come first.
template <int F, int PARTS, int ROWS, int LD, bool PAIRED = false>
__device__ __forceinline__ void finish(const ProductArgs& args, const float (*sums)[ROWS][LD], const Columns& columns, int c0, int n_here,
                                       int tile0, const float* bias) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = tile0 * 16;
    const auto sum_of = [&](int row, int c) {
        float y = sums[PAIRED ? 4 : 0][row][c];
#pragma unroll
        for (int i = 1; i < PARTS; i++) y = __fadd_rn(y, sums[PAIRED ? (i >> 1) + (i & 1 ? 0 : 4) : i][row][c]);
        if (Layout<F>::SHIFT > 0) y = __fmul_rn(y, 1.0f / (1 << Layout<F>::SHIFT));
        return bias ? __fadd_rn(y, bias[row0 + row]) : y;
    };
    // Where a column's results go: its place among the entries where experts are involved.
    const auto target = [&](int c) {
        const int i = columns.first + c0 + c;
        return columns.entries ? columns.entries[i] : i;
    };
    if (args.epilogue == EPILOGUE_GATED || args.epilogue == EPILOGUE_PLAIN) {
        const bool gated = args.epilogue == EPILOGUE_GATED;
#pragma unroll 1
        for (int group = 0; group < (gated ? ROWS / 64 : ROWS / 32); group++) {
            const int row = gated ? group * 64 + lane : group * 32 + lane;
            if (row0 + row - lane >= args.n_tile * 16) break;
            for (int c = warp; c < n_here; c += WARPS) {
                const float y = sum_of(row, c);
                const float up = gated ? sum_of(row + 32, c) : 1.0f;
                const float h = activate(args.activation, y, up, args.alpha, args.limit);
                store_act_block(args.act, target(c), (gated ? row0 / 64 : row0 / 32) + group, h);
            }
        }
    } else if (args.epilogue == EPILOGUE_QKV) {
        for (int i = threadIdx.x; i < ROWS / 2 * n_here; i += WARPS * 32) {
            const int pair = i % (ROWS / 2), c = i / (ROWS / 2), m = pair >> 3, g8 = pair & 7;
            if (tile0 + m >= args.n_tile) continue;
            store_qkv(args, tile0 + m, g8, target(c), sum_of(m * 16 + g8, c), sum_of(m * 16 + g8 + 8, c));
        }
    } else {
        for (int i = threadIdx.x; i < ROWS * n_here; i += WARPS * 32) {
            const int row = i % ROWS, c = i / ROWS, r = row0 + row;
            if (r >= args.n_row) continue;
            const int column = target(c);
            float* out = args.out + (size_t)column * args.ld_out + args.first_row + r;
            const float before = args.epilogue == EPILOGUE_RESIDUAL ? *out : 0.0f;
            float y = sum_of(row, c);
            if (args.epilogue == EPILOGUE_RESIDUAL) y = __fadd_rn(before, y);
            if (args.epilogue == EPILOGUE_WEIGHTED) y = __fmul_rn(y, args.weights[column]);
            *out = y;
        }
    }
}
