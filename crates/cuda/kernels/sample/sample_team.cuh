// The blocks that work on one row, their barrier, and how they tell each other numbers.
//
// A team is `size` blocks (gridDim.x: 8 or 16). On Hopper and later it is a thread block cluster: the barrier is the cluster's and a
// block reads and writes its peers' shared memory. Elsewhere the barrier is a counter in device memory, the mailboxes lie there too, and the
// launcher keeps all teams resident at once (they loop over the rows). Every number exchanged is an integer whose combination
// does not depend on the order, so neither does any result depend on the size of a team.
#pragma once

#include "common.cuh"
#include "sample/sample_math.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SAMPLE_CLUSTERS 1
#endif

constexpr int SAMPLE_THREADS = 512;
constexpr int SAMPLE_WARPS = SAMPLE_THREADS / 32;
constexpr int SAMPLE_MAX_TEAM = 16;
// A segment is the ids of one warp: the row is cut into `size * SAMPLE_WARPS` of them, in the order of ids.
constexpr int SAMPLE_SEGMENTS = SAMPLE_MAX_TEAM * SAMPLE_WARPS;
// Candidates that a block can hold as a list.
constexpr int SAMPLE_LIST = 256;
constexpr int SAMPLE_BUCKETS = 1024;

struct SampleRow {
    uint64_t bits;            // the random number
    uint64_t top_p;           // fractions of 2^32
    uint64_t min_p;
    uint64_t typical_p;
    float scale;              // log2(e) / temperature
    float repetition;
    float presence;
    float frequency;
    int32_t slot;             // -1: nothing to do
    uint32_t flags;
    uint32_t top_k;           // 0: all
    uint32_t n_alternatives;
    uint32_t mask;            // index in `area` of the mask's first word
    uint32_t bias;            // index in `area` of the first pair (id, f32), ordered by id
    uint32_t n_bias;
    uint32_t guesses;         // of a checked row: index in `area` of the number of guesses before it, and then these
};
static_assert(sizeof(SampleRow) == 80, "as in src/sampling/args.rs");

constexpr uint32_t SAMPLE_GREEDY = 1, SAMPLE_MASK = 2, SAMPLE_PENALTIES = 4, SAMPLE_TYPICAL = 8, SAMPLE_TOP_P = 16, SAMPLE_MIN_P = 32,
                   SAMPLE_BIAS = 64, SAMPLE_CHECKED = 128;

constexpr int SAMPLE_MAX_ALTERNATIVES = 20;

struct SampleOut {
    uint32_t token;
    uint32_t chosen;          // 0: no token may be chosen, and only `token` (0) is of use
    float logit;              // the token's own
    float max;                // the largest of the row's
    uint64_t total;           // of the weights at temperature 1
    uint32_t n_alternatives;
    uint32_t n_kept;          // of the first of a slot's checked rows, by sample_check: how many of them count
    uint32_t ids[SAMPLE_MAX_ALTERNATIVES];  // best first
    float logits[SAMPLE_MAX_ALTERNATIVES];
};
static_assert(sizeof(SampleOut) == 192, "as in src/sampling/args.rs");

struct SampleArgs {
    const float* logits;      // [n_row][n_vocab]
    const SampleRow* rows;    // [n_row]
    const uint32_t* area;     // masks and biases
    uint32_t* last;           // [n_slot]
    uint32_t* counts;         // [n_slot][n_vocab]: times in the answer; top bit: stands in the prompt
    SampleOut* out;           // [n_row]
    unsigned char* scratch;   // for teams that are no clusters: 16 counters in 1 KiB, 0 before the first use, then mailboxes
    int32_t n_vocab;
    int32_t n_row;
    int32_t segment;          // ids in a segment, a multiple of 128
    int32_t reserved;
};
static_assert(sizeof(SampleArgs) == 72, "as in src/sampling/args.rs");

// What a block's peers read and write.
struct Mail {
    uint64_t hist[SAMPLE_BUCKETS];   // the block's own
    uint64_t sums[SAMPLE_BUCKETS];   // the team's: each peer gives its share of the buckets
    uint64_t lists[SAMPLE_THREADS];  // from each peer its part of a list: [size][SAMPLE_THREADS / size]
    uint32_t n_list[SAMPLE_MAX_TEAM];
    uint64_t slot[2][2][SAMPLE_WARPS];  // where there are no clusters
};
constexpr int SAMPLE_MAIL_BYTES = 21504;
static_assert(sizeof(Mail) <= SAMPLE_MAIL_BYTES, "as in src/sampling/shape.rs");

// Numbers that all warps of a team gave each other: [segment].
struct Gathered {
    uint64_t of[SAMPLE_SEGMENTS];
};

// Shared memory: a block's own part, the mailbox (where mailboxes lie in device memory: only as much as its two histograms), the logits.
constexpr int SAMPLE_LOCAL_BYTES = 9728;
#ifdef SAMPLE_CLUSTERS
constexpr int SAMPLE_NEAR_BYTES = SAMPLE_MAIL_BYTES;
#else
constexpr int SAMPLE_NEAR_BYTES = SAMPLE_BUCKETS * 16;
#endif

struct Local {
    Gathered got[2][2];
    uint64_t arrivals[2];
    uint64_t warp[2][SAMPLE_WARPS];
    float best[SAMPLE_SEGMENTS];  // the largest logit of each segment
    uint32_t n_list;
    uint64_t found_key;
    uint64_t found_need;
    uint64_t found_mass;
    uint64_t found_total;
    uint32_t found_dist;
    uint32_t found_digit;
    SampleRow row;
};
static_assert(sizeof(Local) <= SAMPLE_LOCAL_BYTES, "as in src/sampling/shape.rs");


// Found by address, not through pointers that are passed on: the compiler then knows that it is shared memory.
extern __shared__ __align__(16) unsigned char sample_shared[];

__device__ __forceinline__ Local& local() { return *(Local*)sample_shared; }

// [2][SAMPLE_BUCKETS]: on a cluster the mailbox's own.
__device__ __forceinline__ uint64_t* near_hist() { return (uint64_t*)(sample_shared + SAMPLE_LOCAL_BYTES); }

__device__ __forceinline__ float* row_logits() { return (float*)(sample_shared + SAMPLE_LOCAL_BYTES + SAMPLE_NEAR_BYTES); }

struct Team {
    int rank, size;
    int turn;           // exchanges so far
    Mail* far_mail;     // where there are no clusters: this block's mailbox
    uint32_t* counter;  // and the barrier's

    // This block's mailbox, where peers read and write it.
    __device__ __forceinline__ Mail* mail() const {
#ifdef SAMPLE_CLUSTERS
        return (Mail*)near_hist();
#else
        return far_mail;
#endif
    }
};

__device__ __forceinline__ void team_sync(const Team& team) {
    __syncwarp();
#ifdef SAMPLE_CLUSTERS
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        // All the additions of one barrier come to 2^31: the top bit flips when the last block arrives, whatever the team's size.
        const uint32_t n = team.rank == 0 ? 0x80000000u - (uint32_t)(team.size - 1) : 1u;
        const uint32_t old = atomicAdd(team.counter, n);
        while (((old ^ *(volatile uint32_t*)team.counter) & 0x80000000u) == 0) {
        }
        __threadfence();
    }
    __syncthreads();
#endif
}

#ifdef SAMPLE_CLUSTERS
__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ __forceinline__ uint32_t address_at_peer(const void* own, int rank) {
    uint32_t at;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(shared_address(own)), "r"(rank));
    return at;
}
#endif

// Before the first exchange, and only once every block of the team is past `team_wait` may one touch another's shared memory.
__device__ __forceinline__ void team_arrive(const Team& team) {
#ifdef SAMPLE_CLUSTERS
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(local().arrivals + i)));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void team_wait() {
#ifdef SAMPLE_CLUSTERS
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// A peer's mailbox.
__device__ __forceinline__ Mail* peer(const Team& team, int rank) {
#ifdef SAMPLE_CLUSTERS
    uint64_t at;
    asm("mapa.u64 %0, %1, %2;" : "=l"(at) : "l"((uint64_t)team.mail()), "r"(rank));
    return (Mail*)at;
#else
    return (Mail*)((unsigned char*)team.mail() + (ptrdiff_t)(rank - team.rank) * SAMPLE_MAIL_BYTES);
#endif
}

// Peers' numbers change between barriers: never from a cache of this multiprocessor.
__device__ __forceinline__ uint64_t read_peer(const uint64_t* p) { return *(const volatile uint64_t*)p; }
__device__ __forceinline__ uint32_t read_peer(const uint32_t* p) { return *(const volatile uint32_t*)p; }
__device__ __forceinline__ ulonglong2 read_peer(const ulonglong2* p) {
    ulonglong2 v;
    asm volatile("ld.volatile.v2.u64 {%0, %1}, [%2];" : "=l"(v.x), "=l"(v.y) : "l"(p) : "memory");
    return v;
}

// By the instruction that adds 32 bits over a warp: pieces of 27 bits leave room for 32 of them.
__device__ __forceinline__ uint64_t warp_sum64(uint64_t v) {
    const uint32_t low = __reduce_add_sync(~0u, (uint32_t)v & 0x7FFFFFFu);
    const uint32_t middle = __reduce_add_sync(~0u, (uint32_t)(v >> 27) & 0x7FFFFFFu);
    const uint32_t high = __reduce_add_sync(~0u, (uint32_t)(v >> 54));
    return low + ((uint64_t)middle << 27) + ((uint64_t)high << 54);
}

__device__ __forceinline__ uint64_t warp_max64(uint64_t v) {
    const uint32_t high = __reduce_max_sync(~0u, (uint32_t)(v >> 32));
    const uint32_t low = __reduce_max_sync(~0u, (uint32_t)(v >> 32) == high ? (uint32_t)v : 0);
    return (uint64_t)high << 32 | low;
}

// The sum over this lane and those before it.
__device__ __forceinline__ uint64_t warp_scan64(uint64_t v) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
        const uint64_t other = __shfl_up_sync(~0u, v, o);
        if (lane >= o) v += other;
    }
    return v;
}

// Each warp gives one or two numbers; all blocks get those of all warps of the team. What is got stays until the exchange after
// the next. No barrier for anything else.
template <int N>
__device__ __forceinline__ const Gathered* exchange(Team& team, const uint64_t (&v)[N]) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    Gathered* got = local().got[team.turn & 1];
#ifdef SAMPLE_CLUSTERS
    // Each number goes straight to where each block will read it, and counts there when it arrives. A warp gives its numbers only after
    // it has read those of the exchange before, so whoever has got a whole exchange knows that the one before it is read everywhere.
    uint64_t* arrivals = local().arrivals + (team.turn & 1);
    if (threadIdx.x == 0)
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(arrivals)),
                     "r"(N * team.size * SAMPLE_WARPS * 8)
                     : "memory");
    if (lane < team.size) {
        const uint32_t counted = address_at_peer(arrivals, lane);
#pragma unroll
        for (int n = 0; n < N; n++)
            asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u64 [%0], %1, [%2];" ::"r"(
                             address_at_peer(&got[n].of[team.rank * SAMPLE_WARPS + warp], lane)),
                         "l"(v[n]), "r"(counted)
                         : "memory");
    }
    uint32_t done;
    do {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(shared_address(arrivals)), "r"(team.turn >> 1 & 1)
            : "memory");
    } while (!done);
    __syncwarp();
#else
    const int turn = team.turn & 1;
#pragma unroll
    for (int n = 0; n < N; n++)
        if (lane == n) team.mail()->slot[turn][n][warp] = v[n];
    team_sync(team);
    for (int i = threadIdx.x; i < N * SAMPLE_SEGMENTS; i += SAMPLE_THREADS) {
        const int n = i / SAMPLE_SEGMENTS, k = i % SAMPLE_SEGMENTS, rank = k / SAMPLE_WARPS;
        if (rank < team.size) got[n].of[k] = read_peer(&peer(team, rank)->slot[turn][n][k % SAMPLE_WARPS]);
    }
    __syncthreads();
#endif
    team.turn++;
    return got;
}

// Over all segments; in every lane of every warp.
__device__ __forceinline__ uint64_t sum_of(const Team& team, const Gathered& got) {
    uint64_t sum = 0;
#pragma unroll 8
    for (int j = threadIdx.x & 31; j < team.size * SAMPLE_WARPS; j += 32) sum += got.of[j];
    return warp_sum64(sum);
}

__device__ __forceinline__ uint64_t max_of(const Team& team, const Gathered& got) {
    uint64_t max = 0;
#pragma unroll 8
    for (int j = threadIdx.x & 31; j < team.size * SAMPLE_WARPS; j += 32) max = got.of[j] > max ? got.of[j] : max;
    return warp_max64(max);
}
