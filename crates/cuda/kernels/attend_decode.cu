// Attention of generated rows over a cache of float16: entry points by head size and number of blocks.
#include "attend_decode.cuh"

// `few`: of so few blocks that each may have a multiprocessor, and all registers that it wants, which
// larger heads have in any case.
#define ATTEND_DECODE_BY(HD, NAME, BLOCKS)                                                                      \
    extern "C" __global__ void __launch_bounds__(Shape<Tile<HD>>::THREADS, BLOCKS)                               \
        NAME(const __grid_constant__ AttendDecodeArgs args) {                                                   \
        attend_decode<Tile<HD>>(args);                                                                           \
    }
#define ATTEND_DECODE(HD)                                                                                       \
    ATTEND_DECODE_BY(HD, attend_decode_##HD, 2)                                                              \
    ATTEND_DECODE_BY(HD, attend_decode_few_##HD, 1)

ATTEND_DECODE(32)
ATTEND_DECODE(64)
ATTEND_DECODE(80)
ATTEND_DECODE(96)
ATTEND_DECODE(128)
ATTEND_DECODE_BY(192, attend_decode_192, 2)
ATTEND_DECODE_BY(256, attend_decode_256, 2)
