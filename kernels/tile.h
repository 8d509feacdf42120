/*
  The CPU tile product, compiled once per precision and instruction set from tile_impl.h.

  A name such as GramTileApply_f64_avx512 is one copy; backend_cpu.c picks the copies this processor can run.
*/
#pragma once

#include "radial.h"

/* instruction sets a tile is built for, best first: X(suffix, does this processor have it) */
#if defined(__x86_64__)
  #define GRAM_SIMD_LIST(X)                                                                 \
    X(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&    \
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) \
    X(avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))                \
    X(portable, 1)
#else
  #define GRAM_SIMD_LIST(X) X(portable, 1)
#endif

#define GRAM_TILE_PAD   64 /* numbers a tile may read, but never uses, behind each coordinate of x */
#define GRAM_TILE_WIDTH 16 /* most right-hand sides of one call */

/*
  GramTileApply - y += phi(X, Z) v, and with u also u += phi(X, Z)' w: each entry is evaluated once.

  x [dim][ldx]    rows: coordinates times the profile's unit; m of them count, GRAM_TILE_PAD more are readable
  z [dim][ldz]    columns, n of them
  v [n][width]    width = 1 ... GRAM_TILE_WIDTH; 1 has loops of its own
  y [m][width]    sums in double whatever the precision of the entries
  w [m][width]    NULL without the transposed product
  u [n][width]    NULL without the transposed product

  GramTileEntries - a[j * lda + i] = phi(x_i, z_j)
*/
#define GRAM_TILE_DECLARE_AS(real, bits, simd)                                                             \
  void GramTileApply_f##bits##_##simd(GramRadial type, int dim, int width, long m, long n, const real *x,  \
                                      long ldx, const real *z, long ldz, const real *v, double *y,         \
                                      const real *w, double *u);                                           \
  void GramTileEntries_f##bits##_##simd(GramRadial type, int dim, long m, long n, const real *x, long ldx, \
                                        const real *z, long ldz, double *a, long lda);
#define GRAM_TILE_DECLARE(simd, supported) \
  GRAM_TILE_DECLARE_AS(double, 64, simd)   \
  GRAM_TILE_DECLARE_AS(float, 32, simd)
GRAM_SIMD_LIST(GRAM_TILE_DECLARE)

typedef void (*GramTileApply_f64)(GramRadial, int, int, long, long, const double *, long, const double *,
                                  long, const double *, double *, const double *, double *);
typedef void (*GramTileApply_f32)(GramRadial, int, int, long, long, const float *, long, const float *, long,
                                  const float *, double *, const float *, double *);
typedef void (*GramTileEntries_f64)(GramRadial, int, long, long, const double *, long, const double *, long,
                                    double *, long);
