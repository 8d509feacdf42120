/* The Coulomb tile on the CPU, compiled once per precision and instruction set from coulomb_impl.h. */
#pragma once

#include "tile.h"

/*
  out [m][dim + 2] += forces, energies; and nearest = min (see GramCoulomb()). x [dim][ldx], GRAM_TILE_PAD more are
  readable behind m; z [dim][ldz]; charge NULL: unit charges that are points. Of a cloud the third number gets
  + sum_j c_j s^-(d/2 + 1).
*/
typedef void (*GramCoulombTile)(int dim, long m, long n, const void *x, long ldx, const void *z, long ldz,
                                const void *charge, double softening2, double *out);

#define GRAM_COULOMB_DECLARE_AS(suffix)                                                                    \
  void GramCoulombTile_##suffix(int dim, long m, long n, const void *x, long ldx, const void *z, long ldz, \
                                const void *charge, double softening2, double *out);
#define GRAM_COULOMB_DECLARE(simd, supported) \
  GRAM_COULOMB_DECLARE_AS(f64_##simd) GRAM_COULOMB_DECLARE_AS(f32_##simd)
GRAM_SIMD_LIST(GRAM_COULOMB_DECLARE)
