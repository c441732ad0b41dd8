// Brings rows of a file's blocks into the layout of format.cuh, once, as a model is loaded; and the vectors that go with them.
//
// A warp fills a unit of a tile; each lane gathers the values of its own words. Integers and scales are only moved.
#include "weights/format.cuh"

// How the rows of a matrix are ordered in its tiles.
enum Order : int {
    ORDER_PLAIN,        // as they are
    ORDER_INTERLEAVED,  // groups of 32 rows, every second one of them this matrix (`offset` 0 or 2 tiles)
    ORDER_ADJACENT,     // heads: rows g and g + 8 of a tile turn together, (2i, 2i + 1)
    ORDER_HALVES,       // heads: likewise, (i, i + half_rot)
};

struct RepackArgs {
    const uint8_t* src;  // rows of blocks, from row `first_row` of the matrix
    uint8_t* dst;        // the matrix's first tile
    uint64_t row_bytes;  // of src
    int32_t n_row;       // here
    int32_t first_row;   // a multiple of 16 and, for heads, of head_dim
    int32_t n_in;
    int32_t n_unit;
    int32_t order;
    int32_t offset;      // ORDER_INTERLEAVED: in tiles
    int32_t head_dim;
    int32_t half_rot;
    // Of formats in tables.
    const float* points;  // of the format's grid, or null
    uint4 table;
    float scale;          // of the matrix, in a format whose matrices have one
    int32_t reserved[3];
};
static_assert(sizeof(RepackArgs) == 96, "as in src/args.rs");

// Row i of tile `tile` of the matrix, before ordering: which row of the matrix is it?
__device__ __forceinline__ int source_row(const RepackArgs& args, int tile, int i) {
    const int row = tile * 16 + i;
    if (args.order < ORDER_ADJACENT) return row;
    const int head = row / args.head_dim, within = row - head * args.head_dim;
    const int pair = (within >> 4) * 8 + (i & 7), side = i >> 3;
    if ((within >> 4) * 8 >= args.half_rot) return row;
    return head * args.head_dim + (args.order == ORDER_ADJACENT ? 2 * pair + side : pair + side * args.half_rot);
}

__device__ __forceinline__ uint16_t u16(const uint8_t* p) { return (uint16_t)(p[0] | p[1] << 8); }

// The 6-bit scale and minimum of a group of Q4_K and Q5_K.
__device__ __forceinline__ int k_scale(const uint8_t* s, int j) {
    return j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
}
__device__ __forceinline__ int k_min(const uint8_t* s, int j) {
    return j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4;
}

template <int F>
struct Block;
// Each: N weights in BYTES bytes; code(b, i): the stored integer of weight i; scale(b, i): what the scale plane holds for the group of
// weight i; min likewise; tail(b): d, and dmin in the high half.
template <> struct Block<Q4_0> {
    static constexpr int N = 32, BYTES = 18;
    __device__ static int code(const uint8_t* b, int i) { return i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4; }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
};
template <> struct Block<IQ4_NL> : Block<Q4_0> {};
template <> struct Block<Q4_1> {
    static constexpr int N = 32, BYTES = 20;
    __device__ static int code(const uint8_t* b, int i) { return i < 16 ? b[4 + i] & 15 : b[4 + i - 16] >> 4; }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
    __device__ static int min(const uint8_t* b, int) { return u16(b + 2); }
};
template <> struct Block<Q5_0> {
    static constexpr int N = 32, BYTES = 22;
    __device__ static int code(const uint8_t* b, int i) {
        const int low = i < 16 ? b[6 + i] & 15 : b[6 + i - 16] >> 4;
        return low | (b[2 + i / 8] >> (i % 8) & 1) << 4;
    }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
};
template <> struct Block<Q5_1> {
    static constexpr int N = 32, BYTES = 24;
    __device__ static int code(const uint8_t* b, int i) {
        const int low = i < 16 ? b[8 + i] & 15 : b[8 + i - 16] >> 4;
        return low | (b[4 + i / 8] >> (i % 8) & 1) << 4;
    }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
    __device__ static int min(const uint8_t* b, int) { return u16(b + 2); }
};
template <> struct Block<Q8_0> {
    static constexpr int N = 32, BYTES = 34;
    __device__ static int code(const uint8_t* b, int i) { return b[2 + i]; }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
};
template <> struct Block<MXFP4> {
    static constexpr int N = 32, BYTES = 17;
    __device__ static int code(const uint8_t* b, int i) { return i < 16 ? b[1 + i] & 15 : b[1 + i - 16] >> 4; }
    __device__ static int scale(const uint8_t* b, int) { return b[0]; }
};
template <> struct Block<Q2_K> {
    static constexpr int N = 256, BYTES = 84;
    __device__ static int code(const uint8_t* b, int i) { return b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3; }
    __device__ static int scale(const uint8_t* b, int i) { return b[i / 16]; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b + 80) | (uint32_t)u16(b + 82) << 16; }
};
template <> struct Block<Q3_K> {
    static constexpr int N = 256, BYTES = 110;
    __device__ static int code(const uint8_t* b, int i) {
        return (b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) | (b[i % 32] >> (i / 32) & 1) << 2;
    }
    __device__ static int scale(const uint8_t* b, int i) {
        const uint8_t* s = b + 96;
        const int g = i / 16;
        return ((s[g % 8] >> (g / 8 * 4) & 15) | (s[8 + g % 4] >> (g / 4 * 2) & 3) << 4) - 32;
    }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b + 108); }
};
template <> struct Block<Q4_K> {
    static constexpr int N = 256, BYTES = 144;
    __device__ static int code(const uint8_t* b, int i) { return b[16 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15; }
    __device__ static int scale(const uint8_t* b, int i) { return k_scale(b + 4, i / 32); }
    __device__ static int min(const uint8_t* b, int i) { return k_min(b + 4, i / 32); }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b) | (uint32_t)u16(b + 2) << 16; }
};
template <> struct Block<Q5_K> {
    static constexpr int N = 256, BYTES = 176;
    __device__ static int code(const uint8_t* b, int i) {
        return (b[48 + i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15) | (b[16 + i % 32] >> (i / 32) & 1) << 4;
    }
    __device__ static int scale(const uint8_t* b, int i) { return k_scale(b + 4, i / 32); }
    __device__ static int min(const uint8_t* b, int i) { return k_min(b + 4, i / 32); }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b) | (uint32_t)u16(b + 2) << 16; }
};
template <> struct Block<Q6_K> {
    static constexpr int N = 256, BYTES = 210;
    __device__ static int code(const uint8_t* b, int i) {
        const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        const int low = b[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
        return low | (b[128 + half * 32 + l] >> (2 * quarter) & 3) << 4;
    }
    __device__ static int scale(const uint8_t* b, int i) { return b[192 + i / 16]; }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b + 208); }
};
template <> struct Block<IQ4_XS> {
    static constexpr int N = 256, BYTES = 136;
    __device__ static int code(const uint8_t* b, int i) {
        const int byte = b[8 + i / 32 * 16 + i % 16];
        return i % 32 < 16 ? byte & 15 : byte >> 4;
    }
    __device__ static int scale(const uint8_t* b, int i) {
        const int g = i / 32;
        return ((b[4 + g / 2] >> (4 * (g % 2)) & 15) | (u16(b + 2) >> (2 * g) & 3) << 4) - 32;
    }
    __device__ static uint32_t tail(const uint8_t* b) { return u16(b); }
};

#include "weights/repack_table.cuh"

// In the layout of Q4_0: of its integers, -8 to 7 stored plus 8, these have -1 and 1, and -1 to 2.
enum : int { Q1_0 = 41, Q2_0 = 42 };
template <> struct Block<Q1_0> {
    static constexpr int N = 128, BYTES = 18;
    __device__ static int code(const uint8_t* b, int i) { return 7 + 2 * (b[2 + i / 8] >> (i % 8) & 1); }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
};
template <> struct Block<Q2_0> {
    static constexpr int N = 64, BYTES = 18;
    __device__ static int code(const uint8_t* b, int i) { return 7 + (b[2 + i / 4] >> (2 * (i % 4)) & 3); }
    __device__ static int scale(const uint8_t* b, int) { return u16(b); }
};

// The column of slot s (0 to 7) of lane t in block kb of unit u.
__device__ __forceinline__ int column_of(int u, int kb, int t, int s) { return u * 64 + kb * 32 + (s >> 2) * 16 + 4 * t + (s & 3); }

// Blocks of format F into layout TO.
template <int F, int TO = F>
__device__ void repack(const RepackArgs& args) {
    using L = Layout<TO>;
    let_next_start();
    wait_for_previous();
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int u = blockIdx.y * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (u >= args.n_unit) return;
    const int tile = args.first_row / 16 + blockIdx.x;
    const int placed = args.order == ORDER_INTERLEAVED ? (tile >> 1) * 4 + (tile & 1) + args.offset : tile;
    uint8_t* out = args.dst + placed * L::tile_bytes(args.n_unit);
    uint8_t* p = out + L::unit_at(u);
    if constexpr (L::TILE_SCALE > 0) {
        if (u == 0 && lane == 0) *(float*)tile_scale_at<TO>(out, args.n_unit) = args.scale;
    }
    const uint8_t* rows[2];
    for (int r = 0; r < 2; r++) {
        const int row = source_row(args, tile, g + 8 * r) - args.first_row;
        rows[r] = row < args.n_row ? args.src + (size_t)row * args.row_bytes : nullptr;
    }
    if constexpr (L::FLOAT) {
        constexpr int SIZE = F == F32 ? 4 : 2;
        for (int kb = 0; kb < 2; kb++)
            for (int r = 0; r < 2; r++)
                for (int s = 0; s < 8; s++) {
                    const int k = column_of(u, kb, t, s);
                    uint32_t v = 0;
                    if (rows[r] && k < args.n_in) {
                        const uint8_t* at = rows[r] + (size_t)k * SIZE;
                        v = SIZE == 2 ? u16(at) : (uint32_t)u16(at) | (uint32_t)u16(at + 2) << 16;
                    }
                    if constexpr (SIZE == 2) ((uint16_t*)p)[((2 * kb + r) * 32 + lane) * 8 + s] = (uint16_t)v;
                    else ((uint32_t*)p)[((4 * kb + 2 * r + (s >> 2)) * 32 + lane) * 4 + (s & 3)] = v;
                }
    } else {
        using B = Block<F>;
        uint32_t nibbles[4] = {}, two[2] = {}, one = 0, bytes[8] = {};
        for (int kb = 0; kb < 2; kb++)
            for (int r = 0; r < 2; r++) {
                const int k0 = u * 64 + kb * 32;
                if (!rows[r] || k0 >= args.n_in) continue;
                const uint8_t* b = rows[r] + (size_t)(k0 / B::N) * B::BYTES;
                for (int s = 0; s < 8; s++) {
                    const int i = column_of(u, kb, t, s) % B::N, h = s >> 2, j = s & 3;
                    uint32_t q;
                    if constexpr (TO == TABLE16) q = B::code(b, i, args.points);
                    else q = B::code(b, i);
                    if (L::E2M1) nibbles[2 * kb + r] |= e2m1_at(q, s);
                    else if (L::NIBBLES) nibbles[2 * kb + r] |= (q & 15) << (L::TABLE ? 4 * s : 8 * j + 4 * h);
                    const uint32_t above = L::NIBBLES ? q >> 4 : q;
                    if (L::TWO_BITS) two[kb] |= (above & 3) << (8 * j + 4 * r + 2 * h);
                    if (L::ONE_BIT) one |= ((L::TWO_BITS ? above >> 2 : above) & 1) << (8 * j + 4 * kb + 2 * r + h);
                    if (L::BYTES) bytes[4 * kb + 2 * h + r] |= (q & 255) << (8 * j);
                }
            }
        if (L::NIBBLES) ((uint4*)p)[lane] = make_uint4(nibbles[0], nibbles[1], nibbles[2], nibbles[3]);
        if (L::TWO_BITS) ((uint2*)(p + L::AT_2))[lane] = make_uint2(two[0], two[1]);
        if (L::ONE_BIT) ((uint32_t*)(p + L::AT_1))[lane] = one;
        if (L::BYTES) {
            for (int kb = 0; kb < 2; kb++)
                ((uint4*)(p + L::AT_8))[32 * kb + lane] = make_uint4(bytes[4 * kb], bytes[4 * kb + 1], bytes[4 * kb + 2], bytes[4 * kb + 3]);
        }
        if constexpr (TO == TABLE16) {
            constexpr uint32_t PLUS_128 = 0x80808080u;
            const uint4 table = args.table;
            if (lane == 0) *(uint4*)(p + L::AT_TABLE) = make_uint4(table.x ^ PLUS_128, table.y ^ PLUS_128, table.z ^ PLUS_128, table.w ^ PLUS_128);
        }
        if (t == 0) {
            uint8_t* s = p + L::AT_SCALES + g * L::SCALE_STRIDE;
            uint8_t* d = out + L::tail_at(u) + g * L::TAIL_STRIDE;
            for (int r = 0; r < 2; r++) {
                for (int kb = 0; kb < 2; kb++) {
                    const int k0 = u * 64 + kb * 32;
                    const bool is_there = rows[r] && k0 < args.n_in;
                    const uint8_t* b = is_there ? rows[r] + (size_t)(k0 / B::N) * B::BYTES : nullptr;
                    const int i = k0 % B::N;
                    if constexpr (L::SCALES == SCALES_HALF || L::SCALES == SCALES_HALF_MIN)
                        ((uint16_t*)s)[2 * r + kb] = is_there ? B::scale(b, i) : 0;
                    if constexpr (L::SCALES == SCALES_HALF_MIN) ((uint16_t*)s)[4 + 2 * r + kb] = is_there ? B::min(b, i) : 0;
                    if constexpr (L::SCALES == SCALES_E8M0 || L::SCALES == SCALES_I8 || L::SCALES == SCALES_U8_MIN)
                        s[2 * r + kb] = is_there ? B::scale(b, i) : 0;
                    if constexpr (L::SCALES == SCALES_U8_MIN) s[4 + 2 * r + kb] = is_there ? B::min(b, i) : 0;
                    if constexpr (L::GROUPS_OF_16) {
                        s[4 * r + 2 * kb] = is_there ? B::scale(b, i) : 0;
                        s[4 * r + 2 * kb + 1] = is_there ? B::scale(b, i + 16) : 0;
                    }
                }
                if constexpr (L::TAIL_STRIDE != 0) {
                    // Each of four units writes the same.
                    const uint32_t tail = rows[r] ? B::tail(rows[r] + (size_t)(u * 64 / B::N) * B::BYTES) : 0;
                    if constexpr (L::TAIL_STRIDE == 4) ((uint16_t*)d)[r] = (uint16_t)tail;
                    else ((uint32_t*)d)[r] = tail;
                }
            }
        }
    }
}

#define REPACK(FORMAT, SUFFIX) \
    extern "C" __global__ void repack_##SUFFIX(const __grid_constant__ RepackArgs args) { repack<FORMAT>(args); }
REPACK(F32, f32)
REPACK(F16, f16)
REPACK(BF16, bf16)
REPACK(Q4_0, q4_0)
REPACK(Q4_1, q4_1)
REPACK(Q5_0, q5_0)
REPACK(Q5_1, q5_1)
REPACK(Q8_0, q8_0)
REPACK(Q2_K, q2_k)
REPACK(Q3_K, q3_k)
REPACK(Q4_K, q4_k)
REPACK(Q5_K, q5_k)
REPACK(Q6_K, q6_k)
REPACK(IQ4_NL, iq4_nl)
REPACK(IQ4_XS, iq4_xs)
REPACK(MXFP4, mxfp4)
REPACK(NVFP4, nvfp4)
#define REPACK_AS(TO, FORMAT, SUFFIX) \
    extern "C" __global__ void repack_##SUFFIX(const __grid_constant__ RepackArgs args) { repack<FORMAT, TO>(args); }
REPACK_AS(Q4_0, Q1_0, q1_0)
REPACK_AS(Q4_0, Q2_0, q2_0)
REPACK_AS(TABLE16, IQ1_S, iq1_s)
REPACK_AS(TABLE16, IQ1_M, iq1_m)
REPACK_AS(TABLE16, IQ2_XXS, iq2_xxs)
REPACK_AS(TABLE16, IQ2_XS, iq2_xs)
REPACK_AS(TABLE16, IQ2_S, iq2_s)
REPACK_AS(TABLE16, IQ3_XXS, iq3_xxs)
REPACK_AS(TABLE16, IQ3_S, iq3_s)
REPACK_AS(TABLE16, TQ1_0, tq1_0)
REPACK_AS(TABLE16, TQ2_0, tq2_0)
