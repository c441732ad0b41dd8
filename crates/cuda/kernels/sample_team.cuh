// The blocks that work on one row, their barrier, and how they tell each other numbers.
//
// A team is `size` blocks (gridDim.x: 8 or 16). On Hopper and later it is a thread block cluster: the barrier is the cluster's and a
// block reads its peers' shared memory. Elsewhere the barrier is a counter in device memory, the mailboxes lie there too, and the
// launcher keeps all teams resident at once (they loop over the rows). Every number exchanged is an integer whose combination
// does not depend on the order, so neither does any result depend on the size of a team.
#pragma once

#include "common.cuh"
#include "sample_math.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SAMPLE_CLUSTERS 1
#endif

constexpr int SAMPLE_THREADS = 512;
constexpr int SAMPLE_WARPS = SAMPLE_THREADS / 32;
constexpr int SAMPLE_MAX_TEAM = 16;
// A segment is the ids of one warp: the row is cut into `size * SAMPLE_WARPS` of them, in the order of ids.
constexpr int SAMPLE_SEGMENTS = SAMPLE_MAX_TEAM * SAMPLE_WARPS;
// Candidates that a block can hold as a list.
constexpr int SAMPLE_LIST = 512;
constexpr int SAMPLE_BUCKETS = 2048;

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
    uint32_t reserved;
};
static_assert(sizeof(SampleRow) == 80, "as in src/sampling/args.rs");

constexpr uint32_t SAMPLE_GREEDY = 1, SAMPLE_MASK = 2, SAMPLE_PENALTIES = 4, SAMPLE_TYPICAL = 8, SAMPLE_TOP_P = 16, SAMPLE_MIN_P = 32;

constexpr int SAMPLE_MAX_ALTERNATIVES = 20;

struct SampleOut {
    uint32_t token;
    uint32_t chosen;          // 0: no token may be chosen, and only `token` (0) is of use
    float logit;              // the token's own
    float max;                // the largest of the row's
    uint64_t total;           // of the weights at temperature 1
    uint32_t n_alternatives;
    uint32_t reserved;
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

// What a block's peers may read.
struct Mail {
    uint64_t hist[SAMPLE_BUCKETS];
    uint64_t part[SAMPLE_BUCKETS / 8];
    uint64_t list[SAMPLE_LIST];
    uint64_t slot[2][3][SAMPLE_WARPS];
    uint32_t n_list;
    uint32_t reserved;
};
constexpr int SAMPLE_MAIL_BYTES = 23552;
static_assert(sizeof(Mail) <= SAMPLE_MAIL_BYTES, "as in src/sampling/shape.rs");

// Shared memory: a block's own part, the mailbox (its histogram alone where mailboxes lie in device memory), the logits.
constexpr int SAMPLE_LOCAL_BYTES = 13312;
#ifdef SAMPLE_CLUSTERS
constexpr int SAMPLE_NEAR_BYTES = SAMPLE_MAIL_BYTES;
#else
constexpr int SAMPLE_NEAR_BYTES = SAMPLE_BUCKETS * 8;
#endif

struct Team {
    Mail* mail;           // this block's, where peers read it
    uint64_t* near_hist;  // this block's in shared memory: the mailbox's own on a cluster
    uint32_t* counter;
    int rank, size, parity;
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

__device__ __forceinline__ const Mail* peer(const Team& team, int rank) {
#ifdef SAMPLE_CLUSTERS
    uint64_t at;
    asm("mapa.u64 %0, %1, %2;" : "=l"(at) : "l"((uint64_t)team.mail), "r"(rank));
    return (const Mail*)at;
#else
    return (const Mail*)((const unsigned char*)team.mail + (ptrdiff_t)(rank - team.rank) * SAMPLE_MAIL_BYTES);
#endif
}

// Peers' numbers change between barriers: never from a cache of this multiprocessor.
__device__ __forceinline__ uint64_t read_peer(const uint64_t* p) { return *(const volatile uint64_t*)p; }
__device__ __forceinline__ uint32_t read_peer(const uint32_t* p) { return *(const volatile uint32_t*)p; }

__device__ __forceinline__ uint64_t warp_sum64(uint64_t v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
    return v;
}

__device__ __forceinline__ uint64_t warp_max64(uint64_t v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
        const uint64_t other = __shfl_xor_sync(~0u, v, o);
        v = other > v ? other : v;
    }
    return v;
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

// Each warp gives N numbers; all blocks get those of all warps of the team: got[n][segment].
template <int N>
__device__ __forceinline__ void exchange(Team& team, uint64_t (*got)[SAMPLE_SEGMENTS], const uint64_t (&v)[N]) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int n = 0; n < N; n++)
        if (lane == n) team.mail->slot[team.parity][n][warp] = v[n];
    team_sync(team);
    for (int i = threadIdx.x; i < N * SAMPLE_SEGMENTS; i += SAMPLE_THREADS) {
        const int n = i / SAMPLE_SEGMENTS, k = i % SAMPLE_SEGMENTS, rank = k / SAMPLE_WARPS;
        got[n][k] = rank < team.size ? read_peer(&peer(team, rank)->slot[team.parity][n][k % SAMPLE_WARPS]) : 0;
    }
    // The next exchange writes the other slot: peers may still be reading this one.
    team.parity ^= 1;
    __syncthreads();
}

// Over all segments; in every lane of every warp.
__device__ __forceinline__ uint64_t sum_of(const uint64_t* got) {
    uint64_t sum = 0;
#pragma unroll
    for (int j = 0; j < SAMPLE_SEGMENTS / 32; j++) sum += got[j * 32 + (threadIdx.x & 31)];
    return warp_sum64(sum);
}

__device__ __forceinline__ uint64_t max_of(const uint64_t* got) {
    uint64_t max = 0;
#pragma unroll
    for (int j = 0; j < SAMPLE_SEGMENTS / 32; j++) {
        const uint64_t v = got[j * 32 + (threadIdx.x & 31)];
        max = v > max ? v : max;
    }
    return warp_max64(max);
}
