// Attention of generated rows over a cache of float16: entry points by head size and number of blocks.
#include "attend/attend_decode.cuh"

ATTEND_DECODE(Tile, attend_decode, 32)
ATTEND_DECODE(Tile, attend_decode, 64)
ATTEND_DECODE(Tile, attend_decode, 96)
ATTEND_DECODE(Tile, attend_decode, 128)
ATTEND_DECODE_BY(Tile<192>, attend_decode_192, 2)
ATTEND_DECODE_BY(Tile<256>, attend_decode_256, 2)
