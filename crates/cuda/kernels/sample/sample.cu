// nvcc: -fmad=false
// The next token of each row from its logits: the steps of crates/model/src/sampling.rs, bit for bit.
//
// A team of blocks (sample_team.cuh) holds one row's logits in shared memory, cut into segments of consecutive ids, one a warp. Plain
// sampling takes two exchanges between the blocks: the largest logit, then the segments' sums of weights, from which the one warp whose
// segment holds the draw finds it. Filters that leave few tokens finish on a list of them in one block (sample_finish.cuh); where there
// is no such list, thresholds are found by histograms (sample_select.cuh), whatever the number of tokens.
#include "sample/sample_finish.cuh"
#include "sample/sample_load.cuh"

// One row, from logits in shared memory on. `lane_key` is the lane's best by rank. Says whether peers may still read this block's memory.
__device__ __forceinline__ bool sample_row(Block& b, Draw& d, int segment, uint64_t lane_key) {
    const bool speaks = b.team.rank == 0 && threadIdx.x == 0;
    const SampleRow& row = local().row;
    const uint32_t flags = row.flags;
    const Gathered* got = exchange<1>(b.team, {warp_max64(lane_key)});
    uint64_t best = max_of(b.team, *got);
    float max = key_logit(best);
    d.raw_max = max;
    if (max == -INFINITY) {
        if (speaks) emit_nothing(d, row);
        return false;
    }
    const bool lists = row.n_alternatives > 0;
    const bool filters = row.top_k > 0 || flags & (SAMPLE_TYPICAL | SAMPLE_TOP_P | SAMPLE_MIN_P);
    if (lists || filters) keep_best(b, *got);
    if (lists) b.team.turn = alternatives(b, d, row.n_alternatives);
    const bool greedy = flags & SAMPLE_GREEDY;
    const float scale = row.scale, raw_max = max;
    d.edited = flags & (SAMPLE_MASK | SAMPLE_PENALTIES | SAMPLE_BIAS);
    uint64_t raw = 0, sum = 0, total = 0;
    if (d.edited) {
        each(b, [&](float z, int) { raw += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E)); });
        const uint64_t key = edit_segment(*d.args, row, b.z(), segment, b.first);
        got = exchange<2>(b.team, {warp_max64(key), warp_sum64(raw)});
        best = max_of(b.team, got[0]);
        d.raw_total = sum_of(b.team, got[1]);
        if (filters) keep_best(b, got[0]);
        max = key_logit(best);
        // An infinite logit, which a repetition penalty can make of a huge one, leaves no weight to any.
        if (max == -INFINITY || (max == INFINITY && !greedy)) {
            if (speaks) emit_nothing(d, row);
            return lists;
        }
        if (!greedy) {
            each(b, [&](float z, int) { sum += token_weight(token_exponent(z, max, scale)); });
            got = exchange<1>(b.team, {warp_sum64(sum)});
            total = sum_of(b.team, got[0]);
        }
    } else if (greedy || scale == SAMPLE_LOG2E) {
        each(b, [&](float z, int) { sum += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E)); });
        got = exchange<1>(b.team, {warp_sum64(sum)});
        d.raw_total = total = sum_of(b.team, got[0]);
    } else {
        each(b, [&](float z, int) {
            raw += token_weight(token_exponent(z, raw_max, SAMPLE_LOG2E));
            sum += token_weight(token_exponent(z, raw_max, scale));
        });
        got = exchange<2>(b.team, {warp_sum64(sum), warp_sum64(raw)});
        total = sum_of(b.team, got[0]);
        d.raw_total = sum_of(b.team, got[1]);
    }
    if (greedy) {
        if (speaks) emit(d, row, key_id(best), max);
        return lists;
    }
    const Alive alive = all_alive(max, scale);
    if (!filters) {
        draw(b, d, alive, sum, got[0]);
        return lists;
    }
    filter(b, d, alive, best, total);
    return true;
}

template <int TEAM>
__device__ __forceinline__ void sample_rows(const SampleArgs& args) {
    const int warp = threadIdx.x >> 5;
    Block b;
    b.team.rank = blockIdx.x;
    b.team.size = TEAM;
    b.team.turn = 0;
#ifdef SAMPLE_CLUSTERS
    b.team.far_mail = nullptr;
    b.team.counter = nullptr;
#else
    b.team.far_mail = (Mail*)(args.scratch + 1024 + (size_t)(blockIdx.y * TEAM + blockIdx.x) * SAMPLE_MAIL_BYTES);
    b.team.counter = (uint32_t*)args.scratch + blockIdx.y;
#endif
    b.chunk = args.segment / 32;
    b.first = (b.team.rank * SAMPLE_WARPS + warp) * args.segment;
    team_arrive(b.team);
    wait_for_previous();
    let_next_start();
    for (int i = blockIdx.y; i < args.n_row; i += gridDim.y) {
        // All loads first: none waits for another, also not those of a row that turns out to be padding.
        const int slot = args.rows[i].slot;
        const uint32_t word = threadIdx.x < sizeof(SampleRow) / 4 ? ((const uint32_t*)(args.rows + i))[threadIdx.x] : 0;
        const uint64_t key = load_segment(args.logits + (size_t)i * args.n_vocab, b.z(), args.segment, b.first, args.n_vocab);
        if (threadIdx.x < sizeof(SampleRow) / 4) ((uint32_t*)&local().row)[threadIdx.x] = word;
        __syncthreads();
        if (i == blockIdx.y) team_wait();
        if (slot < 0) continue;
        Draw d;
        d.args = &args;
        d.row = i;
        d.edited = false;
        d.raw_total = 0;
        const bool is_read = sample_row(b, d, args.segment, key);
        // Where the last thing was an exchange on a cluster, nobody reads this block's memory any more.
        if (is_read || i + gridDim.y < args.n_row) team_sync(b.team);
    }
}

// Teams of 16 and of 8: the same work. The size of a cluster is a property of the kernel, so that launching it is as ever.
#ifdef SAMPLE_CLUSTERS
#define SAMPLE_TEAM(n) __cluster_dims__(n, 1, 1)
#else
#define SAMPLE_TEAM(n)
#endif

extern "C" __global__ void SAMPLE_TEAM(16) __launch_bounds__(SAMPLE_THREADS, 2)
    sample_16(const __grid_constant__ SampleArgs args) {
    sample_rows<16>(args);
}

extern "C" __global__ void SAMPLE_TEAM(8) __launch_bounds__(SAMPLE_THREADS, 2)
    sample_8(const __grid_constant__ SampleArgs args) {
    sample_rows<8>(args);
}

// A thread a row: the first of a slot's checked rows goes through them in order. A row counts if those before it are right, and is the last to
// count if the guess after it is not its token. What it counts is what `emit` and `emit_nothing` count of rows that are not checked.
extern "C" __global__ void __launch_bounds__(64) sample_check(const __grid_constant__ SampleArgs args) {
    wait_for_previous();
    let_next_start();
    const int first = blockIdx.x * blockDim.x + threadIdx.x;
    if (first >= args.n_row) return;
    const auto is_of = [&](int i, int slot) { return args.rows[i].flags & SAMPLE_CHECKED && args.rows[i].slot == slot; };
    const int slot = args.rows[first].slot;
    if (!is_of(first, slot) || (first > 0 && is_of(first - 1, slot))) return;
    uint32_t* counts = args.counts + (size_t)slot * args.n_vocab;
    uint32_t token = 0, n_kept = 0;
    for (int i = first; i < args.n_row && is_of(i, slot); i++) {
        token = args.out[i].token;
        counts[token]++;
        n_kept++;
        const bool has_next = i + 1 < args.n_row && is_of(i + 1, slot);
        // The guesses before the next row end with the one after this.
        if (!has_next || args.out[i].chosen == 0 || args.area[args.rows[i + 1].guesses + n_kept] != token) break;
    }
    args.last[slot] = token;
    args.out[first].n_kept = n_kept;
}

struct SampleBegin {
    uint32_t slot;
    uint32_t first;     // index of the prompt's first id
    uint32_t n;
    uint32_t reserved;
};
static_assert(sizeof(SampleBegin) == 16, "as in src/sampling/args.rs");

struct SampleBeginArgs {
    const SampleBegin* begins;  // [gridDim.y]
    const uint32_t* ids;
    uint32_t* last;
    uint32_t* counts;
    int32_t n_vocab;
    int32_t reserved;
};
static_assert(sizeof(SampleBeginArgs) == 40, "as in src/sampling/args.rs");

// Ids that a block of sample_begin answers for.
constexpr int SAMPLE_BEGIN_IDS = 2048;

// Starts a sequence in a slot: nothing sampled yet, and the prompt's ids are marked. Each block has a range of ids to itself and looks
// through the whole prompt for them.
extern "C" __global__ void __launch_bounds__(256) sample_begin(const SampleBeginArgs args) {
    __shared__ uint32_t marks[SAMPLE_BEGIN_IDS / 32];
    wait_for_previous();
    let_next_start();
    const SampleBegin begin = args.begins[blockIdx.y];
    const uint32_t low = blockIdx.x * SAMPLE_BEGIN_IDS;
    if (threadIdx.x < SAMPLE_BEGIN_IDS / 32) marks[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < begin.n; i += 256) {
        const uint32_t at = args.ids[begin.first + i] - low;
        if (at < SAMPLE_BEGIN_IDS) atomicOr(&marks[at / 32], 1u << (at % 32));
    }
    __syncthreads();
    uint32_t* counts = args.counts + (size_t)begin.slot * args.n_vocab;
    for (uint32_t i = threadIdx.x; i < SAMPLE_BEGIN_IDS && low + i < (uint32_t)args.n_vocab; i += 256)
        counts[low + i] = (marks[i / 32] >> (i % 32) & 1) << 31;
    if (blockIdx.x == 0 && threadIdx.x == 0) args.last[begin.slot] = 0;
}
