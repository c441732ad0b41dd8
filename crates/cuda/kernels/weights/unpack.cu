// Weights out of the layout of format.cuh: rows as f16 for the prompt's products, and the embedding's rows as float32.
#include "weights/format_table.cuh"

struct UnpackArgs {
    const uint8_t* w;   // the first matrix's first tile
    __half* out;        // [gridDim.z][n_tile * 16][n_copy][n_in], the rows in the tiles' order, or their natural order for heads
    uint64_t stride;    // from a matrix to the next, bytes
    int32_t first_tile;
    int32_t n_in;
    int32_t n_unit;
    int32_t head_dim;   // 0: the tiles' order
    int32_t half_rot;
    int32_t adjacent;
    int32_t n_copy;
    int32_t reserved;
};
static_assert(sizeof(UnpackArgs) == 56, "as in src/args.rs");

__device__ __forceinline__ uint2 to_half4(float4 v) {
    const __half2 a = __floats2half2_rn(v.x, v.y), b = __floats2half2_rn(v.z, v.w);
    return make_uint2(*(const uint32_t*)&a, *(const uint32_t*)&b);
}

// Units of a tile to the places of a lane's two rows, `at`: found beforehand, as else most instructions would be for addresses.
template <int F, int COPIES>
__device__ __forceinline__ void unpack_units(const UnpackArgs& args, const uint8_t* tile, const uint32_t (&at)[2]) {
    using L = Layout<F>;
    const int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    float scale = 1.0f;
    if constexpr (L::TILE_SCALE > 0) scale = *tile_scale_at<F>(tile, args.n_unit);
    for (int u = blockIdx.y * warps + (threadIdx.x >> 5); u < args.n_unit; u += gridDim.y * warps) {
        Unit<F> unit;
        load_unit<F>(unit, tile, u, lane);
#pragma unroll
        for (int kb = 0; kb < 2; kb++) {
            if (u * 64 + kb * 32 >= args.n_in) break;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                __half* to = args.out + (at[r] + (uint32_t)(u * 64 + kb * 32));
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float4 v = weights<F>(unit, kb, r, h);
                    if constexpr (L::TILE_SCALE > 0) v = make_float4(v.x * scale, v.y * scale, v.z * scale, v.w * scale);
                    const uint2 w = to_half4(v);
                    *(uint2*)(to + h * 16) = w;
                    if constexpr (COPIES == 2) *(uint2*)(to + args.n_in + h * 16) = w;
                }
            }
        }
    }
}

// A block some units of a tile of a matrix.
//
// Blocks run beside those of the product before (prompt_gemm.cu) and do not wait for it: they read weights only, and it reads the other
// slab. That slab's turn comes when it has ended, since a product lets nothing start before the kernels before it have ended (those that run
// beside another product read no slab, and the first of these waits). One block
// waits when its work is done, so that this kernel ends after that product, and with it after all that came before. All blocks
// cannot: they would keep their places from those to come.
template <int F>
__device__ __forceinline__ void unpack(const UnpackArgs& args) {
    const int g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3, first = blockIdx.x * 16;
    let_next_start();
    uint32_t at[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = first + g + 8 * r;
        if (args.head_dim > 0) {
            const int within = first % args.head_dim, pair = (within >> 4) * 8 + g;
            if ((within >> 4) * 8 < args.half_rot) row = first - within + (args.adjacent ? 2 * pair + r : pair + r * args.half_rot);
        }
        at[r] = (blockIdx.z * gridDim.x * 16 + row) * (uint32_t)(args.n_in * args.n_copy) + 4 * t;
    }
    const uint8_t* tile = args.w + blockIdx.z * args.stride + (size_t)(args.first_tile + blockIdx.x) * Layout<F>::tile_bytes(args.n_unit);
    if (args.n_copy == 1) unpack_units<F, 1>(args, tile, at);
    else unpack_units<F, 2>(args, tile, at);
    if ((blockIdx.x | blockIdx.y | blockIdx.z) == 0) wait_for_previous();
}

struct EmbedArgs {
    const uint8_t* w;          // [n_vocab, n_embd]
    const uint8_t* positions;  // float32 [n_ctx, n_embd], or null
    const Row* rows;
    const uint32_t* last;      // [n_slot]
    float* x;                  // [n_row, n_embd]
    int32_t n_embd;
    int32_t n_unit;
    float scale;              // of the embedding
    int32_t reserved;
};
static_assert(sizeof(EmbedArgs) == 56, "as in src/args.rs");

// An embedding has no scale of its own.
template <int F>
__device__ __forceinline__ void embed(const EmbedArgs& args) {
    let_next_start();
    wait_for_previous();
    const Row row = args.rows[blockIdx.x];
    float* x = args.x + (size_t)blockIdx.x * args.n_embd;
    const uint32_t token = row.slot < 0 ? 0 : row.token >= 0 ? row.token : args.last[row.slot];
    const uint8_t* tile = args.w + (size_t)(token >> 4) * Layout<F>::tile_bytes(args.n_unit);
    const int i16 = token & 15, r = i16 >> 3;
    for (int i = blockIdx.y * blockDim.x + threadIdx.x; i < args.n_embd / 4; i += gridDim.y * blockDim.x) {
        const int u = i >> 4, kb = i >> 3 & 1, h = i >> 2 & 1, t = i & 3;
        float4 v = make_float4(0, 0, 0, 0);
        if (row.slot >= 0) {
            Unit<F> unit;
            load_unit<F>(unit, tile, u, (i16 & 7) * 4 + t);
            v = kb == 0 ? (h == 0 ? weights<F>(unit, 0, r, 0) : weights<F>(unit, 0, r, 1))
                        : (h == 0 ? weights<F>(unit, 1, r, 0) : weights<F>(unit, 1, r, 1));
            v.x *= args.scale, v.y *= args.scale, v.z *= args.scale, v.w *= args.scale;
            if (args.positions) {
                const float4 p = ((const float4*)args.positions)[((size_t)row.position * args.n_embd >> 2) + i];
                v.x += p.x, v.y += p.y, v.z += p.z, v.w += p.w;
            }
        }
        ((float4*)x)[i] = v;
    }
}

#define UNPACK(FORMAT, SUFFIX) \
    extern "C" __global__ void __launch_bounds__(128, 12) unpack_##SUFFIX(const __grid_constant__ UnpackArgs args) { unpack<FORMAT>(args); } \
    extern "C" __global__ void __launch_bounds__(256) embed_##SUFFIX(const __grid_constant__ EmbedArgs args) { embed<FORMAT>(args); }
UNPACK(F32, f32)
UNPACK(F16, f16)
UNPACK(BF16, bf16)
UNPACK(Q4_0, q4_0)
UNPACK(Q4_1, q4_1)
UNPACK(Q5_0, q5_0)
UNPACK(Q5_1, q5_1)
UNPACK(Q8_0, q8_0)
UNPACK(Q2_K, q2_k)
UNPACK(Q3_K, q3_k)
UNPACK(Q4_K, q4_k)
UNPACK(Q5_K, q5_k)
UNPACK(Q6_K, q6_k)
UNPACK(IQ4_NL, iq4_nl)
UNPACK(IQ4_XS, iq4_xs)
UNPACK(MXFP4, mxfp4)
UNPACK(NVFP4, nvfp4)
UNPACK(TABLE16, table16)
