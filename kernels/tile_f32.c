/* Tile products in single precision. */
#define GRAM_REAL float
#include "tile_impl.h"
