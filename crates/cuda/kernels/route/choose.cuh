// Which experts does a row use, and what does each weigh? The router of model/src/stage.rs, for generated rows and for prompts alike.
#pragma once

#include "common.cuh"

constexpr int MAX_EXPERTS = 512, MAX_GROUPS = 32;  // 16 experts and one group a lane

enum Gating : int { GATING_SOFTMAX, GATING_SIGMOID, GATING_SOFTMAX_OF_CHOSEN };

struct RouterRule {
    const float* bias;     // [n_expert]: added to the scores for the choice alone; or null
    const float* factors;  // [n_expert]: of the experts' outputs; or null
    int32_t n_expert;      // up to MAX_EXPERTS
    int32_t n_used;        // up to 32
    int32_t gating;        // of Gating
    int32_t is_normalised;
    int32_t n_group;       // up to MAX_GROUPS; 0: none
    int32_t n_group_used;
    float scale;
    int32_t reserved;
};
static_assert(sizeof(RouterRule) == 48, "as in src/launch/route.rs");

// An expert and its weight: lane i has the i-th choice of a row.
struct Choice {
    int expert;
    float weight;
};

// Orders floats as integers as f32::total_cmp does, all above 0; a NaN counts as the smallest.
__device__ __forceinline__ uint32_t order_of(float v) {
    const uint32_t bits = __float_as_uint(isnan(v) ? -INFINITY : v);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Which groups' experts may be chosen, a bit each. `ranks` are a row's, [n_expert].
__device__ __forceinline__ uint32_t best_groups(const RouterRule& rule, const float* ranks) {
    const int lane = threadIdx.x & 31, size = rule.n_expert / rule.n_group;
    uint32_t left = 0, kept = 0;
    if (lane < rule.n_group) {
        float first = -INFINITY, second = -INFINITY;
        for (int e = lane * size; e < (lane + 1) * size; e++) {
            second = fmaxf(second, fminf(first, ranks[e]));
            first = fmaxf(first, ranks[e]);
        }
        left = order_of(rule.gating == GATING_SIGMOID && size > 1 ? first + second : first);
    }
    for (int i = 0; i < rule.n_group_used; i++) {
        const uint32_t best = __reduce_max_sync(~0u, left);
        const int at = __ffs(__ballot_sync(~0u, left == best)) - 1;
        if (lane == at) left = 0;
        kept |= 1u << at;
    }
    return kept;
}

// A row's experts by rank, the lowest among equals first; by a warp. PER experts a lane. Where experts are in groups, ranks replace `logits`.
template <int PER>
__device__ __forceinline__ Choice choose(const RouterRule& rule, float* logits) {
    const int lane = threadIdx.x & 31, n_used = rule.n_used;
    const auto is_one = [&](int i) { return i * 32 + lane < rule.n_expert; };
    float scores[PER];
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const float logit = is_one(i) ? logits[i * 32 + lane] : -INFINITY;
        scores[i] = isnan(logit) ? -INFINITY : logit;
    }
    if (rule.gating == GATING_SOFTMAX) {
        float top = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < PER; i++) top = fmaxf(top, scores[i]);
        top = warp_max(top);
#pragma unroll
        for (int i = 0; i < PER; i++) sum += scores[i] = expf(scores[i] - top);
        sum = warp_sum(sum);
#pragma unroll
        for (int i = 0; i < PER; i++) scores[i] /= sum;
    } else if (rule.gating == GATING_SIGMOID) {
#pragma unroll
        for (int i = 0; i < PER; i++) scores[i] = 1.0f / (1.0f + expf(-scores[i]));
    }
    uint32_t left[PER];  // 0 once taken
#pragma unroll
    for (int i = 0; i < PER; i++) {
        const float rank = is_one(i) && rule.bias ? scores[i] + rule.bias[i * 32 + lane] : scores[i];
        left[i] = is_one(i) ? order_of(rank) : 0;
        if (rule.n_group && is_one(i)) logits[i * 32 + lane] = isnan(rank) ? -INFINITY : rank;
    }
    if (rule.n_group) {
        __syncwarp();
        const uint32_t kept = best_groups(rule, logits);
        const int size = rule.n_expert / rule.n_group;
#pragma unroll
        for (int i = 0; i < PER; i++)
            if (is_one(i) && !(kept >> (i * 32 + lane) / size & 1)) left[i] = order_of(-INFINITY);
    }
    Choice mine{0, 0.0f};
    for (int choice = 0; choice < n_used; choice++) {
        uint32_t best = 0;
#pragma unroll
        for (int i = 0; i < PER; i++) best = max(best, left[i]);
        best = __reduce_max_sync(~0u, best);
        uint32_t index = PER * 32;
#pragma unroll
        for (int i = PER - 1; i >= 0; i--)
            if (left[i] == best) index = i * 32 + lane;
        index = __reduce_min_sync(~0u, index);
        float score = 0.0f;
#pragma unroll
        for (int i = 0; i < PER; i++)
            if (index == i * 32 + lane) left[i] = 0, score = scores[i];
        score = __shfl_sync(~0u, score, index & 31);
        if (lane == choice) mine = Choice{(int)index, score};
    }
    if (rule.gating == GATING_SOFTMAX_OF_CHOSEN) {
        const float top = warp_max(lane < n_used ? mine.weight : -INFINITY);
        mine.weight = expf(mine.weight - top);
    }
    if (rule.gating == GATING_SOFTMAX_OF_CHOSEN || rule.is_normalised) {
        float sum = 0.0f;
        for (int choice = 0; choice < n_used; choice++) sum += __shfl_sync(~0u, mine.weight, choice);
        mine.weight /= fmaxf(sum, 1e-20f);
    }
    mine.weight *= rule.scale;
    if (rule.factors) mine.weight *= rule.factors[mine.expert];
    return mine;
}

__device__ __forceinline__ Choice choose(const RouterRule& rule, float* logits) {
    if (rule.n_expert <= 32) return choose<1>(rule, logits);
    if (rule.n_expert <= 128) return choose<4>(rule, logits);
    return rule.n_expert <= 256 ? choose<8>(rule, logits) : choose<MAX_EXPERTS / 32>(rule, logits);
}
