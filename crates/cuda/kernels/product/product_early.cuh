// What the epilogue of a block reads besides its sums, on its way to shared memory while the products run: at one sequence, a kernel's last
// loads would take as long as the rest of it.
#pragma once

#include "product/product_finish.cuh"

// What blocks of one tile alone have.
template <int MT, int P>
struct TileArea {
    __device__ __forceinline__ float* exchange() { return nullptr; }
};
template <int P>
struct TileArea<1, P> {
    Row rows[P];
    float2 turns[P][8];
    float halves[P][32];  // of two blocks: see `finish`
    __device__ __forceinline__ float* exchange() { return halves[0]; }
};

// What tiles have whose matrices have scales.
template <bool SCALED>
struct ScaleArea {};
template <>
struct ScaleArea<true> {
    float tile_scales[4];
};

// Of a block of MT tiles and up to P columns.
template <int MT, int P, bool SCALED>
struct EarlyArea : TileArea<MT, P>, ScaleArea<SCALED> {
    static constexpr int ROWS = MT * 16, NEXT = MT == 1 ? 32 : ROWS;
    float bias[ROWS];
    float next[NEXT];       // weights of the norm that follows
    float before[P][ROWS];  // of the residual
    float scales[P];
    int target[P];          // the entries, where experts are involved
    float factor[P];        // their weights
    uint32_t pages[P];

    // What does not depend on the kernel before, unless experts are yet to be chosen. There are `gap` rows between the first tile and the others.
    __device__ __forceinline__ void copy_learned(const ProductArgs& args, const float* biases, int tile0, int gap) {
        const int i = threadIdx.x, j = i - 32, row = tile0 * 16 + i * 4 + (i < 4 ? 0 : gap);
        if (biases && i < ROWS / 4 && row < args.n_tile * 16) copy(bias + i * 4, biases + row);
        if (args.next_weight && j >= 0 && j < NEXT / 4 && tile0 * 16 + j * 4 < args.n_row)
            copy(next + j * 4, args.next_weight + tile0 * 16 + j * 4);
    }

    // Of the block's tiles, `step` apart, of the matrix at `w`.
    template <int F>
    __device__ __forceinline__ void copy_tile_scales(const ProductArgs& args, const uint8_t* w, int tile0, int step) {
        if constexpr (SCALED) {
            const int i = (int)threadIdx.x, tile = tile0 + i * step;
            if (i < MT && tile < args.n_tile)
                copy_activations<4>(at(this->tile_scales + i), tile_scale_at<F>(w + tile * Layout<F>::tile_bytes(args.n_unit), args.n_unit));
        }
    }

    // Where queries, keys and values go: rows and page tables were complete before this chain of dependent launches.
    __device__ __forceinline__ void copy_places(const ProductArgs& args, int tile, int first) {
        const int i = (int)threadIdx.x - 64, c = i >> 3, g = i & 7;
        if (args.epilogue != EPILOGUE_QKV || i < 0 || c >= P || first + c >= args.x.n_col) return;
        const Row row = args.rows[first + c];
        if (g == 0) this->rows[c] = row;
        const QkvPlace place = qkv_place(args, tile, g, first + c, row, 0);
        if (place.pair >= 0) copy_activations<8>(at(&this->turns[c][g]), args.turns + (size_t)row.position * args.half_rot + place.pair);
        if (place.halves && g == 0)
            copy_activations<4>(at(pages + c), args.page_tables + (size_t)row.slot * args.max_pages + row.position / PAGE);
    }

    // What depends on the kernels before.
    __device__ __forceinline__ void copy_rows(const ProductArgs& args, const Columns& columns, int tile0) {
        const int i = (int)threadIdx.x - 64;
        if (i < 0) return;
        if (args.epilogue == EPILOGUE_RESIDUAL) {
            const int c = i / (ROWS / 4), row = tile0 * 16 + i % (ROWS / 4) * 4;
            if (c < P && columns.first + c < columns.end && row < args.n_row)
                copy(before[c] + i % (ROWS / 4) * 4, args.out + (size_t)(columns.first + c) * args.ld_out + args.first_row + row);
        } else if (columns.entries && i < P && columns.first + i < columns.end) {
            const int entry = columns.entries[columns.first + i];
            target[i] = entry;
            if (args.epilogue == EPILOGUE_WEIGHTED) copy_activations<4>(at(factor + i), args.weights + entry);
        }
    }

private:
    static __device__ __forceinline__ uint32_t at(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
    // 16 bytes.
    static __device__ __forceinline__ void copy(float* to, const float* from) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at(to)), "l"(from) : "memory");
    }
};

// With tiles' scales and without.
template <int MT, int P>
constexpr bool is_as_large(int bytes) {
    return sizeof(EarlyArea<MT, P, false>) == bytes && sizeof(EarlyArea<MT, P, true>) == bytes + 16;
}
static_assert(is_as_large<1, 1>(192 + 288) && is_as_large<1, 8>(192 + 8 * 288) && is_as_large<1, 16>(192 + 16 * 288), "as in src/launch/variant.rs");
static_assert(is_as_large<2, 8>(256 + 8 * 144) && is_as_large<2, 16>(256 + 16 * 144), "as in src/launch/variant.rs");
static_assert(is_as_large<4, 1>(512 + 272) && is_as_large<4, 8>(512 + 8 * 272), "as in src/launch/variant.rs");

// Of a block whose weights have format F.
template <int F, int MT, int P>
using EarlyAreaOf = EarlyArea<MT, P, (Layout<F>::TILE_SCALE > 0)>;

// As `Late`, out of shared memory.
template <int F, int MT, int P>
struct Early {
    const ProductArgs& args;
    const Columns& columns;
    const EarlyAreaOf<F, MT, P>& area;
    int tile0;
    bool biased;
    static constexpr int AT_ONCE = 1;
    static constexpr bool HAS_TILE_SCALES = Layout<F>::TILE_SCALE > 0;

    __device__ __forceinline__ float bias(int row) const { return area.bias[row]; }
    __device__ __forceinline__ bool has_bias() const { return biased; }
    __device__ __forceinline__ float scale(int c) const { return area.scales[c]; }
    __device__ __forceinline__ float tile_scale(int row) const { return area.tile_scales[row >> 4]; }
    __device__ __forceinline__ int target(int c) const { return columns.entries ? area.target[c] : columns.first + c; }
    __device__ __forceinline__ float factor(int c) const { return area.factor[c]; }
    __device__ __forceinline__ float before(int row, int c, const float*) const { return area.before[c][row]; }
    __device__ __forceinline__ float next(int row) const { return area.next[row]; }
    __device__ __forceinline__ void store_pair(int c, int m, int g, float a, float b) const {
        if constexpr (MT == 1) {
            store_qkv(qkv_place(args, tile0, g, target(c), area.rows[c], area.pages[c]), area.turns[c][g], a, b);
        } else {
            Late<F>{args, columns, 0, tile0 * 16, nullptr, nullptr, nullptr}.store_pair(c, m, g, a, b);
        }
    }
};
