/* Tile products in double precision. */
#define GRAM_REAL double
#include "tile_impl.h"
