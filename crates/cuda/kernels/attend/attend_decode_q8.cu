// Attention of generated rows over a cache of Q8_0: entry points by head size and number of blocks.
#include "attend/attend_decode.cuh"
#include "attend/attend_tile_q8.cuh"

ATTEND_DECODE(TileQ8, attend_decode_q8, 32)
ATTEND_DECODE(TileQ8, attend_decode_q8, 64)
ATTEND_DECODE(TileQ8, attend_decode_q8, 96)
ATTEND_DECODE(TileQ8, attend_decode_q8, 128)
ATTEND_DECODE_BY(TileQ8<192>, attend_decode_q8_192, 2)
ATTEND_DECODE_BY(TileQ8<256>, attend_decode_q8_256, 2)
