// Attention of prompt rows on wgmma, for sm_90a (FlashAttention-3, arXiv 2407.08608): what attend_prompt.cuh computes, for operands of one
// float16 term, in blocks of keys of its own.
//
// WGS warpgroups compute, 64 pairs (row, query head) each. One warp keeps two blocks of keys and two of values on their way into shared
// memory, a page at a time. While a warpgroup's products run, it weighs the scores of the block before, and another's softmax runs beside its
// products: they take turns.
//
// Blocks of BLOCK positions begin at multiples of BLOCK, wherever a span begins. So what a row takes from a block does not depend on the
// other rows, and a row's bits depend on its own position only, as in attend_prompt.cuh.
#pragma once

#include "attend/attend_prompt.cuh"
#include "sm90.cuh"

struct AttendPromptTmaArgs {
    TensorMap k_map;  // f16 [pages * n_kv_head * PAGE, head_dim] from `k_cache`: box [PAGE, 64], 128-byte swizzle, zeros outside
    TensorMap v_map;  // likewise from `v_cache`
    AttendPromptArgs a;
};
static_assert(sizeof(AttendPromptTmaArgs) == 384, "as in src/launch/attend.rs");

// Shapes of a head size: warpgroups that compute and positions of a block, as registers and shared memory allow. Where rows are few, one
// warpgroup computes in each block, so that there are blocks for more multiprocessors; one warp is enough to copy, as registers need not be
// handed over.
template <int HD, bool FEW>
struct WgmmaShape {
    static_assert(HD % 32 == 0, "heads of other sizes attend row by row");
    static constexpr int WGS = FEW ? 1 : HD <= 64 ? 3 : 2;
    static constexpr int BLOCK = HD <= 128 ? 128 : 64;
    static constexpr int ROWS = WGS * 64, THREADS = WGS * 128 + (FEW ? 32 : 128);
    // A row's values in columns of 64, as the 128-byte swizzle wants them.
    static constexpr int N_COL = (HD + 63) / 64;
    static constexpr int Q_BYTES = 64 * 128 * N_COL, KV_BYTES = BLOCK * 128 * N_COL;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Keeps the weights of a product under way in their registers until here.
template <int N>
__device__ __forceinline__ void keep(uint32_t (&v)[N][4]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) asm volatile("" : "+r"(v[i][j])::"memory");
}

template <int HD, bool FEW>
__device__ __forceinline__ void attend_prompt_wgmma(const AttendPromptTmaArgs& all, char* memory) {
    using S = WgmmaShape<HD, FEW>;
    constexpr int WGS = S::WGS, BLOCK = S::BLOCK, ROWS = S::ROWS, N_COL = S::N_COL, STAGES = 2;
    constexpr int Q_BYTES = S::Q_BYTES, KV_BYTES = S::KV_BYTES, PAGES = BLOCK / PAGE, COL_BYTES = BLOCK * 128, BOX_BYTES = PAGE * 128;
    const AttendPromptArgs& args = all.a;
    let_next_start();
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const int warpgroup = __shfl_sync(~0u, threadIdx.x >> 7, 0);
    const uint32_t base = ((uint32_t)__cvta_generic_to_shared(memory) + 1023) & ~1023u;
    const uint32_t k_at = base + WGS * Q_BYTES, v_at = k_at + STAGES * KV_BYTES;
    // Barriers of each stage of keys and of values, and of values with places that are to be cleared.
    const uint32_t full = v_at + STAGES * KV_BYTES, empty = full + 2 * STAGES * 8, tail = empty + 2 * STAGES * 8;
    if (threadIdx.x == 0) {
        for (int s = 0; s < 2 * STAGES; s++) {
            barrier_init(full + 8 * s, 1);
            barrier_init(empty + 8 * s, WGS * 4);
        }
        barrier_init(tail, 1);
        barriers_visible();
    }
    __syncthreads();
    wait_for_previous();
    const int group = args.n_head / args.n_kv_head, kv_head = blockIdx.x;
    const Place place = find_tile(args.spans, args.n_span, group, ROWS, blockIdx.y);
    if (place.span < 0) return;
    const PairTile<ROWS> tile(args, group, place);
    const PromptSpan span = tile.span;
    const int first_pair = tile.first_pair, n_pair = tile.n_pair, window = tile.window, begin = tile.begin, end = tile.end;
    const int first_position = tile.first_position, last_position = tile.last_position;
    const int first_block = begin / PAGES, end_block = (end + PAGES - 1) / PAGES;

    if (warpgroup == WGS) {
        if constexpr (WGS > 1) registers_down_to<24>();
        if (threadIdx.x >= WGS * 128 + 32) return;
        const uint32_t* pages = args.page_tables + (size_t)span.slot * args.max_pages;
        uint32_t n_tail = 0;
        // Pages of one block; those before the first and after the last are not fetched.
        const auto fetch = [&](const TensorMap& map, uint32_t to, uint32_t barrier, int block) {
            const int from = max(block * PAGES, begin), until = min(block * PAGES + PAGES, end);
            if (lane == 0) {
                barrier_expect(barrier, (until - from) * N_COL * BOX_BYTES);
                for (int page = from; page < until; page++) {
                    const int row = (__ldg(pages + page) * args.n_kv_head + kv_head) * PAGE;
#pragma unroll
                    for (int c = 0; c < N_COL; c++)
                        copy_box(to + c * COL_BYTES + (page - block * PAGES) * BOX_BYTES, &map, c * 64, row, barrier);
                }
            }
        };
        for (int block = first_block; block < end_block; block++) {
            const int index = block - first_block, stage = index % STAGES;
            const uint32_t phase = index / STAGES & 1;
            barrier_wait(empty + 8 * stage, phase ^ 1);
            fetch(all.k_map, k_at + stage * KV_BYTES, full + 8 * stage, block);
            barrier_wait(empty + 8 * (STAGES + stage), phase ^ 1);
            const uint32_t to = v_at + stage * KV_BYTES, arrived = full + 8 * (STAGES + stage);
            const int clear_before = begin * PAGE - block * BLOCK, clear_from = last_position + 1 - block * BLOCK;
            if (clear_before <= 0 && clear_from >= BLOCK) {
                fetch(all.v_map, to, arrived, block);
                continue;
            }
            // Values of positions that nobody sees may be anything, also no numbers, whose product with a weight of 0 is none: they become 0.
            fetch(all.v_map, to, tail, block);
            barrier_wait(tail, n_tail++ & 1);
            for (int i = lane; i < BLOCK * N_COL * 8; i += 32) {
                const int row = i / (N_COL * 8), c = i % (N_COL * 8);
                if (row < clear_before || row >= clear_from)
                    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to + c / 8 * COL_BYTES + row * 128 + c % 8 * 16), "r"(0) : "memory");
            }
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            __syncwarp();
            if (lane == 0) barrier_arrive(arrived);
        }
        return;
    }

    if constexpr (WGS > 1) registers_up_to<WGS == 3 ? 160 : 240>();
    const int thread = threadIdx.x & 127, warp = thread >> 5;
    const size_t width = (size_t)args.n_head * HD;
    const auto pair_at = [&](int pair) {
        const int row = pair / group;
        return (size_t)(span.row0 + row) * width + (size_t)(kv_head * group + pair - row * group) * HD;
    };
    const int own_pair = first_pair + warpgroup * 64;  // of the warpgroup
    const uint32_t q_at = base + warpgroup * Q_BYTES;
    for (int i = thread; i < 64 * (HD / 8); i += 128) {
        const int row = i / (HD / 8), c = i % (HD / 8);
        const bool exists = warpgroup * 64 + row < n_pair;
        copy_async(q_at + c / 8 * (64 * 128) + row * 128 + ((c ^ row) & 7) * 16, args.q + pair_at(exists ? own_pair + row : first_pair) + c * 8, exists);
    }
    commit_copies();
    wait_for_copies();
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(warpgroup + 1) : "memory");

    int position[2];
#pragma unroll
    for (int h = 0; h < 2; h++) position[h] = span.start + (first_pair + min(warpgroup * 64 + warp * 16 + h * 8 + g, n_pair - 1)) / group;
    const float scale = args.scale * LOG2_E;
    const uint64_t queries = operand(q_at);
    float s[BLOCK / 2], o[HD / 2], m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f};
    uint32_t p[BLOCK / 16][4];
#pragma unroll
    for (int i = 0; i < HD / 2; i++) o[i] = 0.0f;

    const auto release = [&](uint32_t barrier) {
        if (lane == 0) barrier_arrive(barrier);
    };
    // Scores of a block; not complete yet.
    const auto score = [&](int index) {
        const int stage = index % STAGES;
        const uint64_t keys = operand(k_at + stage * KV_BYTES);
        barrier_wait(full + 8 * stage, index / STAGES & 1);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < HD / 16; k++)
            wgmma_k16<BLOCK>(s, queries + k / 4 * (64 * 128 >> 4) + k % 4 * 2, keys + k / 4 * (COL_BYTES >> 4) + k % 4 * 2, k);
        wgmma_commit();
    };
    // Adds a block's values with the weights `p`; not complete yet.
    const auto add = [&](int index) {
        const int stage = index % STAGES;
        const uint64_t values = operand_of_columns(v_at + stage * KV_BYTES, COL_BYTES);
        barrier_wait(full + 8 * (STAGES + stage), index / STAGES & 1);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < BLOCK / 16; k++) wgmma_k16_of_registers<HD, 1>(o, p[k], values + k * (16 * 128 >> 4));
        wgmma_commit();
    };
    // Weights of a block's scores in their place, and what the sums so far are to be multiplied with.
    const auto weigh = [&](int block, float (&shrink)[2]) {
        const int at = block * BLOCK;
        if (at + BLOCK - 1 > first_position || at <= last_position - window) {
#pragma unroll
            for (int n = 0; n < BLOCK / 8; n++) {
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const int there = at + n * 8 + 2 * t + (c & 1);
                    if (there > position[c >> 1] || there <= position[c >> 1] - window) s[4 * n + c] = -INFINITY;
                }
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = m[h];
#pragma unroll
            for (int n = 0; n < BLOCK / 8; n++) top = fmaxf(top, fmaxf(s[4 * n + 2 * h], s[4 * n + 2 * h + 1]));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
            top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
            const float below = finite_max(top) * scale;
            shrink[h] = exp2_fast((m[h] - finite_max(top)) * scale);
            m[h] = top;
            float total = 0.0f;
#pragma unroll
            for (int n = 0; n < BLOCK / 8; n++) {
#pragma unroll
                for (int c = 2 * h; c < 2 * h + 2; c++) {
                    s[4 * n + c] = exp2_fast(fmaf(s[4 * n + c], scale, -below));
                    total += s[4 * n + c];
                }
            }
            l[h] = l[h] * shrink[h] + total;
        }
    };
    const auto pack = [&] {
#pragma unroll
        for (int k = 0; k < BLOCK / 16; k++)
#pragma unroll
            for (int j = 0; j < 4; j++) p[k][j] = pack_half2(s[8 * k + 2 * j], s[8 * k + 2 * j + 1]);
    };
    // Warpgroups' products take turns.
    const auto my_turn = [&] {
        if constexpr (WGS > 1) asm volatile("bar.sync %0, 256;" ::"r"(4 + warpgroup) : "memory");
    };
    const auto next_turn = [&] {
        if constexpr (WGS > 1) asm volatile("bar.arrive %0, 256;" ::"r"(4 + (warpgroup + 1) % WGS) : "memory");
    };

    const int n_block = end_block - first_block;
    float shrink[2];
    // The first turn is nobody's to give but the last group's, and what that gives at the end is taken below, so that no arrival is left.
    if (warpgroup == WGS - 1) next_turn();
    my_turn();
    score(0);
    next_turn();
    wgmma_wait<0>();
    sums_are_there(s);
    release(empty);
    weigh(first_block, shrink);
    pack();
    for (int index = 1; index < n_block; index++) {
        my_turn();
        score(index);
        add(index - 1);
        next_turn();
        wgmma_wait<1>();
        sums_are_there(s);
        release(empty + 8 * (index % STAGES));
        weigh(first_block + index, shrink);
        wgmma_wait<0>();
        sums_are_there(o);
        keep(p);
        release(empty + 8 * (STAGES + (index - 1) % STAGES));
        // Most often no maximum has changed; a product with 1 would change nothing.
        if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
            for (int i = 0; i < HD / 2; i++) o[i] *= shrink[i >> 1 & 1];
        }
        pack();
    }
    my_turn();
    add(n_block - 1);
    next_turn();
    wgmma_wait<0>();
    sums_are_there(o);
    if (warpgroup == 0) my_turn();

#pragma unroll
    for (int h = 0; h < 2; h++) {
        float total = l[h];
        total += __shfl_xor_sync(~0u, total, 1);
        total += __shfl_xor_sync(~0u, total, 2);
        const int pair = warpgroup * 64 + warp * 16 + h * 8 + g;
        float factor = 1.0f / total;
        if (args.sinks) {
            const float sink = args.sinks[kv_head * group + (first_pair + pair) % group] * LOG2_E;
            const float top = m[h] * scale, largest = fmaxf(top, sink), shrunk = exp2_fast(top - largest);
            factor = shrunk / (total * shrunk + exp2_fast(sink - largest));
        }
        __half* to = args.out + pair_at(first_pair + min(pair, n_pair - 1));
#pragma unroll
        for (int q = 0; q < HD / 32; q++) {
            uint32_t w[4];
#pragma unroll
            for (int d = 0; d < 4; d++) w[d] = pack_half2(o[(4 * q + d) * 4 + 2 * h] * factor, o[(4 * q + d) * 4 + 2 * h + 1] * factor);
            transpose_quad(w);
            if (pair >= n_pair) continue;
            if (args.even_then_odd) {
                __half* half = to + q * 32 + even_then_odd(t * 8);
                *reinterpret_cast<uint2*>(half) = make_uint2(__byte_perm(w[0], w[1], 0x5410), __byte_perm(w[2], w[3], 0x5410));
                *reinterpret_cast<uint2*>(half + 8) = make_uint2(__byte_perm(w[0], w[1], 0x7632), __byte_perm(w[2], w[3], 0x7632));
            } else {
                *reinterpret_cast<uint4*>(to + q * 32 + t * 8) = make_uint4(w[0], w[1], w[2], w[3]);
            }
        }
    }
}
#endif
