/* Vectors of the instruction set a file is built for: their bytes, to be said before radial.h, and how they are loaded. */
#pragma once

#include <string.h>

#if defined(__AVX512F__)
  #define GRAM_VECTOR_BYTES 64
#elif defined(__AVX2__)
  #define GRAM_VECTOR_BYTES 32
#else
  #define GRAM_VECTOR_BYTES 16
#endif

#include "tile.h"

static inline __attribute__((always_inline)) gram_real GramLoad(const gram_scalar *x)
{
  gram_real r;

  memcpy(&r, x, sizeof r);
  return r;
}
