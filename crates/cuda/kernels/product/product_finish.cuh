// What is left of a product when a block's sums are in shared memory: the epilogues, and what they read besides the sums.
#pragma once

#include "product/product.cuh"

// Where two rows g and g + 8 of a tile of queries, keys or values of one column go.
struct QkvPlace {
    float* floats;   // or null
    __half* halves;  // or null; for a row of padding both are null
    int i0, i1;
    int pair;        // of the head, which turns; or -1
};

__device__ __forceinline__ QkvPlace qkv_place(const ProductArgs& args, int tile, int g, int column, const Row& row, uint32_t page) {
    QkvPlace place{nullptr, nullptr, 0, 0, -1};
    if (row.slot < 0) return place;
    const int at = args.qkv_row + tile * 16;
    const bool is_q = at < args.n_q, is_v = at >= args.n_q + args.n_k;
    const int within = at - (is_q ? 0 : is_v ? args.n_q + args.n_k : args.n_q);
    const int head = within / args.head_dim, tile_in_head = (within - head * args.head_dim) >> 4, pair = tile_in_head * 8 + g;
    place.i0 = tile_in_head * 16 + g, place.i1 = place.i0 + 8;
    if (!is_v && tile_in_head * 8 < args.half_rot) {
        place.pair = pair;
        place.i0 = args.adjacent ? 2 * pair : pair;
        place.i1 = args.adjacent ? 2 * pair + 1 : pair + args.half_rot;
    }
    if (is_q) {
        place.floats = args.out + (size_t)column * args.ld_out + head * args.head_dim;
    } else if (args.fresh) {
        place.floats = args.fresh + ((size_t)column * 2 + is_v) * args.n_k + head * args.head_dim;
    } else {
        place.halves = (is_v ? args.v_cache : args.k_cache) +
                       (((size_t)page * args.n_kv_head + head) * PAGE + row.position % PAGE) * args.head_dim;
    }
    return place;
}

__device__ __forceinline__ void store_qkv(const QkvPlace& place, float2 turn, float a, float b) {
    if (place.pair >= 0) {
        const float ra = a * turn.x - b * turn.y;
        b = a * turn.y + b * turn.x;
        a = ra;
    }
    if (place.floats) place.floats[place.i0] = a, place.floats[place.i1] = b;
    if (place.halves) place.halves[place.i0] = saturate(a), place.halves[place.i1] = saturate(b);
}

__device__ __forceinline__ uint32_t page_of(const ProductArgs& args, const Row& row) {
    return args.page_tables[(size_t)row.slot * args.max_pages + row.position / PAGE];
}

__device__ __forceinline__ float2 turn_of(const ProductArgs& args, const Row& row, int pair) {
    return args.turns[(size_t)row.position * args.half_rot + pair];
}

// What epilogues read besides the sums, when they want it. `c` counts the block's columns, `row` its rows.
template <int F>
struct Late {
    const ProductArgs& args;
    const Columns& columns;
    int c0;               // the first of the block's columns that are finished together
    int row0;             // of the block's first
    const float* biases;  // of the matrix's rows, or null
    const float* scales;  // [c] in shared memory, or null
    const uint8_t* w;     // the matrix's tiles
    static constexpr int AT_ONCE = 4;
    static constexpr bool HAS_TILE_SCALES = Layout<F>::TILE_SCALE > 0;

    __device__ __forceinline__ float bias(int row) const { return biases[row0 + row]; }
    __device__ __forceinline__ bool has_bias() const { return biases != nullptr; }
    __device__ __forceinline__ float scale(int c) const { return scales[c0 + c]; }
    __device__ __forceinline__ float tile_scale(int row) const {
        return *tile_scale_at<F>(w + ((row0 + row) >> 4) * Layout<F>::tile_bytes(args.n_unit), args.n_unit);
    }
    // Where a column's results go: its place among the entries where experts are involved.
    __device__ __forceinline__ int target(int c) const {
        const int i = columns.first + c0 + c;
        return columns.entries ? columns.entries[i] : i;
    }
    __device__ __forceinline__ float factor(int c) const { return args.weights[target(c)]; }
    __device__ __forceinline__ float before(int, int, const float* out) const { return *out; }
    __device__ __forceinline__ float next(int row) const { return args.next_weight[row0 + row]; }
    __device__ __forceinline__ void store_pair(int c, int m, int g, float a, float b) const {
        const int column = target(c);
        const Row row = args.rows[column];
        const uint32_t page = row.slot >= 0 && !args.fresh ? page_of(args, row) : 0;
        const QkvPlace place = qkv_place(args, row0 / 16 + m, g, column, row, page);
        store_qkv(place, place.pair >= 0 ? turn_of(args, row, place.pair) : make_float2(1.0f, 0.0f), a, b);
    }
};

// The scales of the block's N columns to shared memory, by W warps.
template <int N, int W = WARPS>
__device__ __forceinline__ void store_scales(const ProductArgs& args, const Columns& columns, float* scales) {
    constexpr int EACH = (N + W - 1) / W;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    if (warp >= min(N, columns.end - columns.first)) return;
    // As `norm_scale`, of several columns at once: their loads and shuffles overlap.
    const float* from[EACH];
    float sum[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) from[k] = args.squares + (size_t)columns.source(warp + k * W) * args.n_square, sum[k] = 0.0f;
    // Four loads of each before any is used, as one takes the latency of the second-level cache.
#pragma unroll 1
    for (int i = lane; i < args.n_square; i += 4 * 32) {
        float square[4][EACH];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int k = 0; k < EACH; k++) square[j][k] = i + j * 32 < args.n_square ? from[k][i + j * 32] : 0.0f;
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int k = 0; k < EACH; k++) sum[k] += square[j][k];
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) sum[k] = warp_sum(sum[k]);
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (lane == 0 && warp + k * W < N) scales[warp + k * W] = scale_of_squares(sum[k], args.n_square, args.eps);
}

// What the norm that follows needs of 32 rows of one column: their values times its weights as activations, and their sum of squares. Lane i
// gives row 32 block + i.
__device__ __forceinline__ void store_next(const ProductArgs& args, int column, int block, float y, float weight) {
    store_act_block(args.act, column, block, y * weight);
    const float square = warp_sum(y * y);
    if ((threadIdx.x & 31) == 0) args.next_squares[(size_t)column * (args.n_row / 32) + block] = square;
}

// A sum of its parts, divided by 2^SHIFT; scaled as its matrix and its column are, and with its bias.
template <int SHIFT, int PARTS, int ROWS, int LD, bool PAIRED = false, class Source>
__device__ __forceinline__ float sum_of_parts(const ProductArgs& args, const float (*sums)[ROWS][LD], const Source& source, int row, int c) {
    float y = sums[PAIRED ? 4 : 0][row][c];
#pragma unroll
    for (int i = 1; i < PARTS; i++) y = __fadd_rn(y, sums[PAIRED ? (i >> 1) + (i & 1 ? 0 : 4) : i][row][c]);
    constexpr float TIMES = SHIFT > 0 ? 1.0f / (1 << SHIFT) : 1 << -SHIFT;
    if constexpr (Source::HAS_TILE_SCALES) y = __fmul_rn(y, source.tile_scale(row) * TIMES);
    else if (SHIFT != 0) y = __fmul_rn(y, TIMES);
    if (args.squares) y = __fmul_rn(y, source.scale(c));
    return source.has_bias() ? __fadd_rn(y, source.bias(row)) : y;
}

// Of up to 16 columns' two tiles, a gate's and what it opens for: half of the rows of a block of 32.
template <int SHIFT, int ROWS, int LD, class Source>
__device__ __forceinline__ void finish_pair(const ProductArgs& args, const float (*sums)[ROWS][LD], const Source& source, int half, int n_here) {
    const int row = threadIdx.x % 16, c = threadIdx.x / 16, i = (half & 1) * 16 + row;
    if (c >= n_here) return;
    const float gate = sum_of_parts<SHIFT, WARPS>(args, sums, source, row, c), up = sum_of_parts<SHIFT, WARPS>(args, sums, source, row + 16, c);
    const float h = activate(args.activation, gate, up, args.alpha, args.limit);
    // Where float16 is multiplied, nobody reads integers.
    const int column = source.target(c);
    if (args.act.f) args.act.f[(size_t)column * args.act.k_pad + (half >> 1) * 32 + i] = h;
    if (args.act.h) args.act.h[half_place(args.act.n_col, column, half >> 1, i)] = act_half(h);
}

// Adds the PARTS of each sum, divides by 2^SHIFT, and does what the epilogue says with the block's rows and columns. PAIRED: the parts of odd ranges come first.
// `exchange`, where a block is one tile: room for 32 rows of each column. BY_ROW: a thread has one row of many, which takes fewer instructions and
// more registers.
template <int SHIFT, int PARTS, int ROWS, int LD, bool PAIRED = false, int W = WARPS, bool BY_ROW = (ROWS >= 128), class Source>
__device__ __forceinline__ void finish(const ProductArgs& args, const float (*sums)[ROWS][LD], const Source& source, int n_here, int tile0,
                                       float* exchange = nullptr) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row0 = tile0 * 16;
    const auto sum_of = [&](int row, int c) { return sum_of_parts<SHIFT, PARTS, ROWS, LD, PAIRED>(args, sums, source, row, c); };
    if (args.epilogue == EPILOGUE_GATED || args.epilogue == EPILOGUE_PLAIN) {
        const bool gated = args.epilogue == EPILOGUE_GATED;
        // Nearly always: float16 alone, of more than one column.
        const bool is_half = args.act.h && !args.act.f && !args.act.q && args.act.n_col > 1;
        __half* const lane_half = args.act.h + half_place(8, 0, 0, lane);
        const int n_column_group = (args.act.n_col + 7) / 8;
        // A warp takes 32 rows of one column at a time, or of as many as are likely to be there: a store would hold up the loads after it.
        constexpr int EACH = PARTS > 1 || LD <= 9 ? 1 : LD <= 17 ? 2 : 4;
        const int step = gated ? 64 : 32, n_group = (min(ROWS, args.n_tile * 16 - row0) + step - 1) / step, n_item = n_group * n_here;
#pragma unroll 1
        for (int first = warp; first < n_item; first += W * EACH) {
            int column[EACH], block[EACH];
            float h[EACH];
#pragma unroll
            for (int k = 0; k < EACH; k++) {
                int c = min(first + k * W, n_item - 1), group = 0;
                while (c >= n_here) c -= n_here, group++;
                const int row = group * step + lane;
                h[k] = activate(args.activation, sum_of(row, c), gated ? sum_of(row + 32, c) : 1.0f, args.alpha, args.limit);
                column[k] = source.target(c), block[k] = row0 / step + group;
            }
#pragma unroll
            for (int k = 0; k < EACH; k++) {
                if (first + k * W >= n_item) break;
                if (is_half) lane_half[((size_t)block[k] * n_column_group + column[k] / 8) * 256 + column[k] % 8 * 8] = act_half(h[k]);
                else store_act_block(args.act, column[k], block[k], h[k]);
            }
        }
    } else if (args.epilogue == EPILOGUE_QKV) {
        for (int i = threadIdx.x; i < ROWS / 2 * n_here; i += W * 32) {
            const int pair = i % (ROWS / 2), c = i / (ROWS / 2), m = pair >> 3, g8 = pair & 7;
            if (tile0 + m >= args.n_tile) continue;
            source.store_pair(c, m, g8, sum_of(m * 16 + g8, c), sum_of(m * 16 + g8 + 8, c));
        }
    } else {
        const bool has_next = args.next_weight != nullptr;
        if constexpr (ROWS == 16) {
            // Two blocks have half of the 32 rows each: the first one goes on with both. There are no more columns than threads for them.
            if (has_next) {
                const int row = threadIdx.x % ROWS, c = threadIdx.x / ROWS;
                float* out = nullptr;
                float y = 0.0f;
                if (c < n_here) {
                    out = args.out + (size_t)source.target(c) * args.ld_out + args.first_row + row0 + row;
                    y = __fadd_rn(source.before(row, c, out), sum_of(row, c));
                }
                cluster_wait();
                if (c < n_here) store_to_first(exchange + c * 32 + (tile0 & 1) * 16 + row, y);
                cluster_arrive();
                // Only now, because an arrival waits for what was stored before it.
                if (c < n_here) *out = y;
                cluster_wait();
                if ((tile0 & 1) == 0)
                    for (int i = warp; i < n_here; i += W) store_next(args, source.target(i), tile0 / 2, exchange[i * 32 + lane], source.next(lane));
                return;
            }
        }
        // The residual of several before any is used: from memory it takes long.
        constexpr int AT_ONCE = Source::AT_ONCE;
        if constexpr (BY_ROW && W * 32 % ROWS == 0) {
            constexpr int STEP = W * 32 / ROWS;
            const int row = threadIdx.x % ROWS;
            // Padding is whole warps': rows are a multiple of 32 where a norm follows.
            if (row0 + row >= args.n_row) return;
            float* const first_out = args.out + args.first_row + row0 + row;
            for (int first = threadIdx.x / ROWS; first < n_here; first += STEP * AT_ONCE) {
                float* out[AT_ONCE];
                float before[AT_ONCE] = {};
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = min(first + k * STEP, n_here - 1);
                    out[k] = first_out + (size_t)source.target(c) * args.ld_out;
                    if (args.epilogue == EPILOGUE_RESIDUAL) before[k] = source.before(row, c, out[k]);
                }
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int c = first + k * STEP;
                    if (c >= n_here) break;
                    float y = sum_of(row, c);
                    if (args.epilogue == EPILOGUE_RESIDUAL) y = __fadd_rn(before[k], y);
                    if (args.epilogue == EPILOGUE_WEIGHTED) y = __fmul_rn(y, source.factor(c));
                    *out[k] = y;
                    if (has_next) store_next(args, source.target(c), (row0 + row) / 32, y, source.next(row));
                }
            }
            return;
        }
        const auto out_of = [&](int i) { return args.out + (size_t)source.target(i / ROWS) * args.ld_out + args.first_row + row0 + i % ROWS; };
        const auto has = [&](int i) { return i < ROWS * n_here && row0 + i % ROWS < args.n_row; };
        for (int first = threadIdx.x; first < ROWS * n_here; first += W * 32 * AT_ONCE) {
            float before[AT_ONCE] = {};
            if (args.epilogue == EPILOGUE_RESIDUAL) {
#pragma unroll
                for (int k = 0; k < AT_ONCE; k++) {
                    const int i = first + k * W * 32;
                    if (has(i)) before[k] = source.before(i % ROWS, i / ROWS, out_of(i));
                }
            }
#pragma unroll
            for (int k = 0; k < AT_ONCE; k++) {
                const int i = first + k * W * 32, row = i % ROWS, c = i / ROWS;
                if (!has(i)) continue;
                float y = sum_of(row, c);
                if (args.epilogue == EPILOGUE_RESIDUAL) y = __fadd_rn(before[k], y);
                if (args.epilogue == EPILOGUE_WEIGHTED) y = __fmul_rn(y, source.factor(c));
                *out_of(i) = y;
                // A norm's rows are whole blocks of 32, so that a warp's rows go on together.
                if (ROWS > 16 && has_next) store_next(args, source.target(c), (row0 + row) / 32, y, source.next(row));
            }
        }
    }
}
