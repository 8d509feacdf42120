/*
  y += phi(X, Z) v on the CPU. Included by tile_f64.c and tile_f32.c, each built once per instruction set with

      -DGRAM_TILE_SUFFIX=f64_avx512

  Rows sit in vector lanes (four vectors at once, so that four chains of arithmetic overlap) and the columns are
  broadcast one after the other, so that any number of coordinates and right-hand sides runs the
  same loop. The choices that matter are arguments of one inline function, called with literals: the
  compiler makes the copies. Partial sums run over 256 columns in the tile's precision and are then added to y in double.
  The transposed product keeps, per column, one vector of partial sums over the rows and folds it at the end.
*/
#include <stdbool.h>

#include "tile.h"

#if defined(__AVX512F__)
  #define TILE_BYTES 64
#elif defined(__AVX2__)
  #define TILE_BYTES 32
#else
  #define TILE_BYTES 16
#endif
#define TILE_LANES ((int)(TILE_BYTES / sizeof(gram_real)))
#define TILE_ROWS  (4 * TILE_LANES)
#define TILE_COLS  256
#define TILE_ANY   0 /* for few: any number of coordinates, a loop over dim */

#define TILE_NAME_AS(name, suffix) name##_##suffix
#define TILE_NAME_OF(name, suffix) TILE_NAME_AS(name, suffix)
#define TILE_NAME(name)            TILE_NAME_OF(name, GRAM_TILE_SUFFIX)

/* |x_(i+l) - z_j|^2 for up to three coordinates: xi [3][TILE_ROWS], copied once per block of rows, and zj [3] */
#define TILE_DISTANCE(l)                                                                               \
  ((xi[0][l] - zj[0]) * (xi[0][l] - zj[0]) + (few > 1 ? (xi[1][l] - zj[1]) * (xi[1][l] - zj[1]) : 0) + \
   (few > 2 ? (xi[2][l] - zj[2]) * (xi[2][l] - zj[2]) : 0))

/* the same for any number of coordinates: s[l], whole rows at a time */
static inline __attribute__((always_inline)) void TileDistances(int  dim, const gram_real *restrict x,
                                                                long ldx, const gram_real *restrict z,
                                                                long ldz, gram_real *restrict s)
{
  for (int l = 0; l < TILE_ROWS; l++) s[l] = 0;
  for (int c = 0; c < dim; c++) {
    const gram_real zc = z[c * ldz];

#pragma omp simd
    for (int l = 0; l < TILE_ROWS; l++) {
      const gram_real d = x[c * ldx + l] - zc;

      s[l] += d * d;
    }
  }
}

/* few: 1, 2 or 3 coordinates as a literal, or TILE_ANY; uj: room for TILE_COLS * width vectors */
static inline __attribute__((always_inline)) void
TileApply_Inline(GramRadial type, int few, int dim, int width, bool both, long m, long n,
                 const gram_real *restrict x, long ldx, const gram_real *restrict z, long ldz,
                 const gram_real *restrict v, double *restrict y, const gram_real *restrict w,
                 double *restrict u, gram_real *restrict uj)
{
  for (long j0 = 0; j0 < n; j0 += TILE_COLS) {
    const long cols = n - j0 < TILE_COLS ? n - j0 : TILE_COLS;

    if (both) memset(uj, 0, sizeof uj[0] * (size_t)cols * (size_t)(width * TILE_LANES));
    for (long i0 = 0; i0 < m; i0 += TILE_ROWS) {
      const long rows = m - i0 < TILE_ROWS ? m - i0 : TILE_ROWS;
      gram_real  xi[3][TILE_ROWS], yi[GRAM_TILE_WIDTH][TILE_ROWS], wi[GRAM_TILE_WIDTH][TILE_ROWS];

      for (int c = 0; c < few; c++) {
        for (int l = 0; l < TILE_ROWS; l++) xi[c][l] = x[c * ldx + i0 + l];
      }
      for (int r = 0; r < width; r++) {
        for (int l = 0; l < TILE_ROWS; l++) yi[r][l] = 0;
        for (int l = 0; both && l < TILE_ROWS; l++) wi[r][l] = l < rows ? w[(i0 + l) * width + r] : 0;
      }
      for (long j = 0; j < cols; j++) {
        const gram_real zj[3] = {z[j0 + j], few > 1 ? z[ldz + j0 + j] : 0, few > 2 ? z[2 * ldz + j0 + j] : 0};
        gram_real       s[TILE_ROWS], p[TILE_ROWS];
        gram_real      *uj0 = uj + j * width * TILE_LANES;
        const gram_real *vj = v + (j0 + j) * width;

        if (few == TILE_ANY) TileDistances(dim, x + i0, ldx, z + j0 + j, ldz, s);
        if (width == 1) { /* one loop: the profile goes from register to sum */
          const gram_real vj0 = vj[0];

#pragma omp simd
          for (int l = 0; l < TILE_ROWS; l++) {
            const gram_real k = RadialEval(type, few == TILE_ANY ? s[l] : TILE_DISTANCE(l));

            yi[0][l] += k * vj0;
            if (both) p[l] = k * wi[0][l];
          }
          if (both) {
#pragma omp simd
            for (int l = 0; l < TILE_LANES; l++) {
              uj0[l] += (p[l] + p[l + TILE_LANES]) + (p[l + 2 * TILE_LANES] + p[l + 3 * TILE_LANES]);
            }
          }
        } else {
#pragma omp simd
          for (int l = 0; l < TILE_ROWS; l++)
            p[l] = RadialEval(type, few == TILE_ANY ? s[l] : TILE_DISTANCE(l));
          for (int r = 0; r < width; r++) {
            const gram_real vjr = vj[r];

#pragma omp simd
            for (int l = 0; l < TILE_ROWS; l++) yi[r][l] += p[l] * vjr;
            if (both) {
#pragma omp simd
              for (int l = 0; l < TILE_LANES; l++) {
                uj0[r * TILE_LANES + l] += (p[l] * wi[r][l] + p[l + TILE_LANES] * wi[r][l + TILE_LANES]) +
                                           (p[l + 2 * TILE_LANES] * wi[r][l + 2 * TILE_LANES] +
                                            p[l + 3 * TILE_LANES] * wi[r][l + 3 * TILE_LANES]);
              }
            }
          }
        }
      }
      for (long l = 0; l < rows; l++) {
        for (int r = 0; r < width; r++) y[(i0 + l) * width + r] += yi[r][l];
      }
    }
    for (long j = 0; both && j < cols; j++) {
      for (int r = 0; r < width; r++) {
        double sum = 0;

        for (int l = 0; l < TILE_LANES; l++) sum += uj[(j * width + r) * TILE_LANES + l];
        u[(j0 + j) * width + r] += sum;
      }
    }
  }
}

static inline __attribute__((always_inline)) void TileEntries_Inline(GramRadial type, int dim, long m, long n,
                                                                     const gram_real *restrict x, long ldx,
                                                                     const gram_real *restrict z, long ldz,
                                                                     double *restrict a, long          lda)
{
  for (long i0 = 0; i0 < m; i0 += TILE_ROWS) {
    const long rows = m - i0 < TILE_ROWS ? m - i0 : TILE_ROWS;

    for (long j = 0; j < n; j++) {
      gram_real s[TILE_ROWS];

      TileDistances(dim, x + i0, ldx, z + j, ldz, s);
#pragma omp simd
      for (int l = 0; l < TILE_ROWS; l++) s[l] = RadialEval(type, s[l]);
      for (long l = 0; l < rows; l++) a[j * lda + i0 + l] = s[l];
    }
  }
}

/* literals for the profile, for up to three coordinates, for one right-hand side and for the transposed product */
#define TILE_BOTH(T, D, W)                                                                \
  if (w) TileApply_Inline(T, D, dim, W, true, m, n, x, ldx, z, ldz, v, y, w, u, uj);      \
  else TileApply_Inline(T, D, dim, W, false, m, n, x, ldx, z, ldz, v, y, NULL, NULL, uj); \
  return;
#define TILE_CASE_APPLY(UPPER, Camel, name, twonu, order, unit) \
  case GRAM_RADIAL_##UPPER:                                     \
    if (width > 1) {                                            \
      TILE_BOTH(GRAM_RADIAL_##UPPER, TILE_ANY, width)           \
    }                                                           \
    switch (dim) {                                              \
    case 1: TILE_BOTH(GRAM_RADIAL_##UPPER, 1, 1)                \
    case 2: TILE_BOTH(GRAM_RADIAL_##UPPER, 2, 1)                \
    case 3: TILE_BOTH(GRAM_RADIAL_##UPPER, 3, 1)                \
    default: TILE_BOTH(GRAM_RADIAL_##UPPER, TILE_ANY, 1)        \
    }
#define TILE_CASE_ENTRIES(UPPER, Camel, name, twonu, order, unit)               \
  case GRAM_RADIAL_##UPPER:                                                     \
    TileEntries_Inline(GRAM_RADIAL_##UPPER, dim, m, n, x, ldx, z, ldz, a, lda); \
    return;

void TILE_NAME(GramTileApply)(GramRadial type, int dim, int width, long m, long n, const gram_real *x,
                              long ldx, const gram_real *z, long ldz, const gram_real *v, double *y,
                              const gram_real *w, double *u)
{
  /* sums of the transposed product, one for all copies below: stacks are small */
  gram_real uj[TILE_COLS * GRAM_TILE_WIDTH * TILE_LANES] __attribute__((aligned(64)));

  switch (type) {
    GRAM_RADIAL_LIST(TILE_CASE_APPLY)
  default: return;
  }
}

void TILE_NAME(GramTileEntries)(GramRadial type, int dim, long m, long n, const gram_real *x, long ldx,
                                const gram_real *z, long ldz, double *a, long lda)
{
  switch (type) {
    GRAM_RADIAL_LIST(TILE_CASE_ENTRIES)
  default: return;
  }
}
