/*
  The CPU tile product, compiled once per precision and instruction set from tile_impl.h.

  GramTileCode_f64_avx512 and its like are the copies; backend_cpu.c picks the first that this processor can run.
*/
#pragma once

#include "radial.h"

/*
  Copies a tile is built for, best first: X(suffix, does this processor have what CMakeLists.txt compiles it for).

  avx512       with intrinsics: 2^-u by a table in registers
  portable_v4  plain vectors of C as for every processor, compiled for AVX-512; taken when distances are so long that
               the table's arithmetic would overflow
  avx2         plain vectors, compiled for AVX2 and FMA
  portable     plain vectors of 16 bytes: SSE2, NEON, whatever the compiler makes of them
*/
#if defined(__x86_64__)
  #define GRAM_HAVE_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
  #define GRAM_HAVE_AVX512                                                                        \
    (GRAM_HAVE_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && \
     __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
  #define GRAM_SIMD_LIST(X)          \
    X(avx512, GRAM_HAVE_AVX512)      \
    X(portable_v4, GRAM_HAVE_AVX512) \
    X(avx2, GRAM_HAVE_AVX2)          \
    X(portable, 1)
#else
  #define GRAM_SIMD_LIST(X) X(portable, 1)
#endif

/* squared distances, in the profile's unit, from where the arithmetic of avx512 would overflow */
#define GRAM_FAR_DOUBLE 0x1p200
#define GRAM_FAR_SINGLE 0x1p60

#define GRAM_TILE_PAD \
  64 /* numbers behind each coordinate of x that a tile may read, and multiplies by 0: finite ones */
#define GRAM_TILE_DIM   128 /* most coordinates of derivatives */
#define GRAM_TILE_WIDTH 32  /* most right-hand sides of one call */

/*
  What the tiles have in common; x, z, v and w are in the precision of the entries:

  x [dim][ldx]  rows: coordinates times the profile's unit; m of them count, GRAM_TILE_PAD more are readable
  z [dim][ldz]  columns, n of them
  v [n][.]      y [m][.]: y += B v; up to 256 columns are summed in the precision of the entries, then in double
  w [m][.]      u [n][.]: u += B' w as well, from the same entries; NULL without. The rows of a call are summed in
                the precision of the entries
  beta          kernel.beta, where the profile depends on it
  width         1 ... GRAM_TILE_WIDTH right-hand sides, the last index of v, y, w and u

  GramTileValues      B = phi
  GramTileDerivatives B = phi with its derivatives in x and z (see GramJet). v and u are [n][b][width], y and w
                      [m][a][width] with a, b = 1 + dim: a value and then the gradient in x, the value's coefficient
                      and then the gradient's. Without rows (cols) a (b) is 1: values alone on that side.
  GramTileEntries     a[j * lda + i] = phi(x_i, z_j)
  GramTileJets        jets[(d * n + j) * m + i] = phi, first and second (d = 0, 1, 2) of GramJet at x_i, z_j
  GramTileMulAdd      steps multiply-adds of 12 independent vectors: the processor's peak. Returns how many numbers
                      took part; sum keeps the compiler honest
  exp2_fma            multiplications and multiply-adds of one 2^-u
*/
typedef void (*GramTileValues)(GramRadial type, double beta, int dim, int width, long m, long n,
                               const void *x, long ldx, const void *z, long ldz, const void *v, double *y,
                               const void *w, double *u);
typedef void (*GramTileDerivatives)(GramRadial type, double beta, int dim, int rows, int cols, int width,
                                    long m, long n, const void *x, long ldx, const void *z, long ldz,
                                    const void *v, double *y, const void *w, double *u);
typedef void (*GramTileEntries)(GramRadial type, double beta, int dim, long m, long n, const void *x,
                                long ldx, const void *z, long ldz, double *a, long lda);
typedef void (*GramTileJets)(GramRadial type, double beta, int dim, long m, long n, const void *x, long ldx,
                             const void *z, long ldz, double *jets);
typedef double (*GramTileMulAdd)(long steps, double *sum);

typedef struct {
  GramTileValues      values;
  GramTileDerivatives derivatives;
  GramTileEntries     entries;
  GramTileJets        jets;
  GramTileMulAdd      muladd;
  int                 exp2_fma;
} GramTileCode;

#define GRAM_TILE_DECLARE(simd, supported) \
  extern const GramTileCode GramTileCode_f64_##simd, GramTileCode_f32_##simd;
GRAM_SIMD_LIST(GRAM_TILE_DECLARE)
