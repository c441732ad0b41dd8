// Attention of generated rows over a cache of Q8_0: entry points by head size and number of blocks.
#include "attend_decode.cuh"
#include "attend_tile_q8.cuh"

// `few`: of so few blocks that each may have a multiprocessor, and all registers that it wants, which
// larger heads have in any case.
#define ATTEND_DECODE_BY(HD, NAME, BLOCKS)                                                                      \
    extern "C" __global__ void __launch_bounds__(Shape<TileQ8<HD>>::THREADS, BLOCKS)                               \
        NAME(const __grid_constant__ AttendDecodeArgs args) {                                                   \
        attend_decode<TileQ8<HD>>(args);                                                                           \
    }
#define ATTEND_DECODE(HD)                                                                                       \
    ATTEND_DECODE_BY(HD, attend_decode_q8_##HD, 2)                                                              \
    ATTEND_DECODE_BY(HD, attend_decode_q8_few_##HD, 1)

ATTEND_DECODE(32)
ATTEND_DECODE(64)
ATTEND_DECODE(96)
ATTEND_DECODE(128)
ATTEND_DECODE_BY(192, attend_decode_q8_192, 2)
ATTEND_DECODE_BY(256, attend_decode_q8_256, 2)
