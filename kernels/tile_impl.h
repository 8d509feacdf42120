/*
  Tile products on the CPU. Included by tile_f64.c and tile_f32.c, each built once per instruction set with

      -DGRAM_TILE_SUFFIX=f64_avx512

  Rows sit in vector lanes and columns are broadcast one after the other. Four vectors of rows are in flight at once,
  so that four chains of arithmetic overlap. The choices that matter are arguments of inline functions, called with
  literals: the compiler makes the copies.

  One right-hand side: the profile goes from register to sum. Several: a block of profiles is written to the first
  level cache and multiplied there, right-hand sides in lanes, so that a profile is evaluated once for all of them.
  Sums run over at most TILE_COLS columns in the tile's precision and are then added to y in double. The transposed
  product keeps, per column, one vector of partial sums over the rows and folds it at the end.
*/
#include <stdbool.h>

#include "vector.h"

#define TILE_LANES GRAM_LANES
#define TILE_VECS  4 /* vectors of rows at once */
#define TILE_ROWS  (TILE_VECS * TILE_LANES)
#define TILE_COLS  256
#define TILE_ANY   0  /* for few: any number of coordinates, a loop over dim */
#define TILE_BLOCK 64 /* rows and columns of a block of profiles */

#define TILE_NAME_AS(name, suffix) name##_##suffix
#define TILE_NAME_OF(name, suffix) TILE_NAME_AS(name, suffix)
#define TILE_NAME(name)            TILE_NAME_OF(name, GRAM_TILE_SUFFIX)

#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("GCC unroll 16")

TILE_INLINE void TileStore(gram_scalar *x, gram_real r) { memcpy(x, &r, sizeof r); }

/* the rows of one pass: up to three coordinates in registers */
typedef struct {
  const gram_scalar *x; /* first of them */
  gram_real          x0[TILE_VECS], x1[TILE_VECS], x2[TILE_VECS];
} TileRows;

/* few: 1, 2 or 3 coordinates as a literal, or TILE_ANY; vecs: vectors of rows in flight, a literal */
TILE_INLINE void TileRowsLoad(TileRows *rows, int few, int vecs, const gram_scalar *x, long ldx)
{
  rows->x = x;
  TILE_UNROLL
  for (int a = 0; a < vecs; a++) {
    if (few > 0) rows->x0[a] = GramLoad(x + a * TILE_LANES);
    if (few > 1) rows->x1[a] = GramLoad(x + ldx + a * TILE_LANES);
    if (few > 2) rows->x2[a] = GramLoad(x + 2 * ldx + a * TILE_LANES);
  }
}

/* s[a] = |x_i - z_j|^2 for the rows in flight: differences first, so that no digits cancel */
TILE_INLINE void TileDistances(const TileRows *rows, int few, int vecs, int dim, long ldx,
                               const gram_scalar *zj, long ldz, gram_real s[TILE_VECS])
{
  TILE_UNROLL
  for (int a = 0; a < vecs; a++) {
    gram_real d;

    if (few == TILE_ANY) s[a] = (gram_real){0};
    if (few > 0) d = rows->x0[a] - zj[0], s[a] = d * d;
    if (few > 1) d = rows->x1[a] - zj[ldz], s[a] += d * d;
    if (few > 2) d = rows->x2[a] - zj[2 * ldz], s[a] += d * d;
  }
  for (int c = 0; few == TILE_ANY && c < dim; c++) {
    TILE_UNROLL
    for (int a = 0; a < vecs; a++) {
      const gram_real d = GramLoad(rows->x + c * ldx + a * TILE_LANES) - zj[c * ldz];

      s[a] += d * d;
    }
  }
}

/* y[l * stride] += lanes of s; once per pass, so that a call costs nothing and copies would cost compile time */
static __attribute__((noinline)) void TileAdd(double *y, long stride, long lanes, gram_real s)
{
  if (stride == 1 && lanes == TILE_LANES) {
    for (int l = 0; l < TILE_LANES; l++) y[l] += s[l];
  } else {
    for (long l = 0; l < lanes; l++) y[l * stride] += s[l];
  }
}

/* lanes of x[l * stride], zero behind the last */
static __attribute__((noinline)) gram_real TileGather(const gram_scalar *x, long stride, long lanes)
{
  gram_real r = {0};

  for (long l = 0; l < lanes; l++) r[l] = x[l * stride];
  return r;
}

/* u[j * stride] += sum over the lanes of s[j], n of them: by halves */
static __attribute__((noinline)) void TileFold(double *u, long stride, const gram_real *s, long n)
{
  for (long j = 0; j < n; j++) {
    gram_scalar a[GRAM_VECTOR_BYTES / sizeof(gram_scalar)];

    memcpy(a, s + j, sizeof a);
    TILE_UNROLL
    for (int half = TILE_LANES / 2; half > 0; half /= 2) {
      TILE_UNROLL
      for (int l = 0; l < half; l++) a[l] += a[l + half];
    }
    u[j * stride] += a[0];
  }
}

TILE_INLINE long TileAtMost(long n, long limit) { return n < 0 ? 0 : n < limit ? n : limit; }

/* ---- values, one or two right-hand sides; vecs, width: literals; uj: room for width * TILE_COLS vectors */
TILE_INLINE void TileValue_Inline(GramRadial type, gram_scalar beta, int few, int vecs, int width, int dim,
                                  bool both, long m, long n, const gram_scalar *restrict x, long ldx,
                                  const gram_scalar *restrict z, long ldz, const gram_scalar *restrict v,
                                  double *restrict y, const gram_scalar *restrict w, double *restrict u,
                                  gram_real *restrict uj)
{
  for (long j0 = 0; j0 < n; j0 += TILE_COLS) {
    const long cols = TileAtMost(n - j0, TILE_COLS);

    for (long j = 0; both && j < cols * width; j++) uj[j] = (gram_real){0};
    for (long i0 = 0; i0 < m; i0 += vecs * TILE_LANES) {
      TileRows  rows;
      gram_real yi[TILE_VECS][2], wi[TILE_VECS][2];

      TileRowsLoad(&rows, few, vecs, x + i0, ldx);
      TILE_UNROLL
      for (int a = 0; a < vecs; a++) {
        const long first = i0 + a * TILE_LANES, lanes = TileAtMost(m - first, TILE_LANES);

        TILE_UNROLL
        for (int r = 0; r < width; r++) {
          yi[a][r] = (gram_real){0};
          if (both) wi[a][r] = TileGather(w + first * width + r, width, lanes);
        }
      }
      for (long j = 0; j < cols; j++) {
        const gram_scalar *vj = v + (j0 + j) * width;
        gram_real          s[TILE_VECS], sum[2];

        TileDistances(&rows, few, vecs, dim, ldx, z + j0 + j, ldz, s);
        TILE_UNROLL
        for (int r = 0; both && r < width; r++) sum[r] = uj[j * width + r];
        TILE_UNROLL
        for (int a = 0; a < vecs; a++) {
          const gram_real k = RadialEval(type, s[a], beta);

          TILE_UNROLL
          for (int r = 0; r < width; r++) {
            yi[a][r] += k * vj[r];
            if (both) sum[r] += k * wi[a][r];
          }
        }
        TILE_UNROLL
        for (int r = 0; both && r < width; r++) uj[j * width + r] = sum[r];
      }
      TILE_UNROLL
      for (int a = 0; a < vecs; a++) {
        const long first = i0 + a * TILE_LANES, lanes = TileAtMost(m - first, TILE_LANES);

        TILE_UNROLL
        for (int r = 0; r < width; r++) TileAdd(y + first * width + r, width, lanes, yi[a][r]);
      }
    }
    if (both) TileFold(u + j0 * width, 1, uj, cols * width);
  }
}

/* ---- a block of profiles: k[j * TILE_BLOCK + i], whole passes of rows; with jets, their derivatives in two more */
TILE_INLINE void TileBlock_Inline(GramRadial type, gram_scalar beta, int few, bool jets, int dim, long m,
                                  long n, const gram_scalar *restrict x, long ldx,
                                  const gram_scalar *restrict z, long ldz, gram_scalar *restrict k)
{
  for (long i0 = 0; i0 < m; i0 += TILE_ROWS) {
    TileRows rows;

    TileRowsLoad(&rows, few, TILE_VECS, x + i0, ldx);
    for (long j = 0; j < n; j++) {
      gram_real s[TILE_VECS];

      TileDistances(&rows, few, TILE_VECS, dim, ldx, z + j, ldz, s);
      TILE_UNROLL
      for (int a = 0; a < TILE_VECS; a++) {
        gram_scalar *at = k + j * TILE_BLOCK + i0 + a * TILE_LANES;

        if (!jets) TileStore(at, RadialEval(type, s[a], beta));
        else {
          const GramJet jet = RadialJet(type, s[a], beta);

          TileStore(at, jet.phi);
          TileStore(at + TILE_BLOCK * TILE_BLOCK, jet.first);
          TileStore(at + 2 * TILE_BLOCK * TILE_BLOCK, jet.second);
        }
      }
    }
  }
}

/* Copies for 1, 2 and 3 coordinates are made of profiles that are asked for most; the others loop over dim. Each copy
   takes the compiler a second. */
#define TILE_COMMON(type) ((type) <= GRAM_RADIAL_MATERN52 || (type) == GRAM_RADIAL_CUBIC)
#define TILE_DIMS(COPY, type)              \
  switch (TILE_COMMON(type) ? dim : 128) { \
  case 1: COPY(type, 1)                    \
  case 2: COPY(type, 2)                    \
  case 3: COPY(type, 3)                    \
  default: COPY(type, TILE_ANY)            \
  }

static void TileBlock(GramRadial type, gram_scalar beta, int dim, long m, long n, const gram_scalar *x,
                      long ldx, const gram_scalar *z, long ldz, gram_scalar *k)
{
#define TILE_BLOCK_COPY(type, few)                                        \
  TileBlock_Inline(type, beta, few, false, dim, m, n, x, ldx, z, ldz, k); \
  return;
#define TILE_BLOCK_CASE(UPPER, ...) \
  case GRAM_RADIAL_##UPPER: TILE_DIMS(TILE_BLOCK_COPY, GRAM_RADIAL_##UPPER)
  switch (type) {
    GRAM_RADIAL_LIST(TILE_BLOCK_CASE)
  default: return;
  }
}

/* k [3][TILE_BLOCK][TILE_BLOCK]: phi, first, second */
static void TileBlockJets(GramRadial type, gram_scalar beta, int dim, long m, long n, const gram_scalar *x,
                          long ldx, const gram_scalar *z, long ldz, gram_scalar *k)
{
#define TILE_JETS_CASE(UPPER, ...)                                                             \
  case GRAM_RADIAL_##UPPER:                                                                    \
    TileBlock_Inline(GRAM_RADIAL_##UPPER, beta, TILE_ANY, true, dim, m, n, x, ldx, z, ldz, k); \
    return;
  switch (type) {
    GRAM_RADIAL_LIST(TILE_JETS_CASE)
  default: return;
  }
}

/* rows of the product at once, each with two vectors of sums: half of the registers */
#if GRAM_VECTOR_BYTES == 64
  #define TILE_HELD 8
#else
  #define TILE_HELD 4
#endif

/* c[i * width + r] += sum over k of a[i * si + k * sk] b[k * ldb + r], TILE_HELD values of i, vecs vectors of r */
TILE_INLINE void TileMultiply_Inline(int vecs, long rows, long n, const gram_scalar *restrict a, long si,
                                     long sk, const gram_scalar *restrict b, long ldb, double *restrict c,
                                     long width, long lanes)
{
  gram_real sum[TILE_HELD][2];

  TILE_UNROLL
  for (int i = 0; i < TILE_HELD; i++) sum[i][0] = sum[i][1] = (gram_real){0};
  for (long k = 0; k < n; k++) {
    const gram_real b0 = GramLoad(b + k * ldb), b1 = vecs > 1 ? GramLoad(b + k * ldb + TILE_LANES) : b0;

    TILE_UNROLL
    for (int i = 0; i < TILE_HELD; i++) {
      const gram_scalar ai = a[i * si + k * sk];

      sum[i][0] += ai * b0;
      if (vecs > 1) sum[i][1] += ai * b1;
    }
  }
  TILE_UNROLL
  for (int i = 0; i < TILE_HELD; i++) {
    if (i >= rows) return;
    TileAdd(c + i * width, 1, TileAtMost(lanes, TILE_LANES), sum[i][0]);
    if (vecs > 1)
      TileAdd(c + i * width + TILE_LANES, 1, TileAtMost(lanes - TILE_LANES, TILE_LANES), sum[i][1]);
  }
}

/* C += A B for a block: A(i, k) = a[i * si + k * sk], m x n (readable up to TILE_BLOCK), B [n][ldb] padded with
   zeros to whole vectors, C [m][width] */
static void TileMultiply(long m, long n, const gram_scalar *a, long si, long sk, const gram_scalar *b,
                         long ldb, double *c, long width)
{
  for (long r = 0; r < width; r += 2 * TILE_LANES) {
    for (long i = 0; i < m; i += TILE_HELD) {
      const long rows = TileAtMost(m - i, TILE_HELD), lanes = width - r;

      if (lanes > TILE_LANES) {
        TileMultiply_Inline(2, rows, n, a + i * si, si, sk, b + r, ldb, c + i * width + r, width, lanes);
      } else TileMultiply_Inline(1, rows, n, a + i * si, si, sk, b + r, ldb, c + i * width + r, width, lanes);
    }
  }
}

/* [n][width] to [n][ld], zeros behind width */
static void TilePad(long n, long width, const gram_scalar *v, gram_scalar *padded, long ld)
{
  for (long j = 0; j < n; j++) {
    for (long r = 0; r < ld; r++) padded[j * ld + r] = r < width ? v[j * width + r] : 0;
  }
}

static void TilePanels(GramRadial type, gram_scalar beta, int dim, int width, long m, long n,
                       const gram_scalar *x, long ldx, const gram_scalar *z, long ldz, const gram_scalar *v,
                       double *y, const gram_scalar *w, double *u)
{
  const long  ld = (width + TILE_LANES - 1) / TILE_LANES * TILE_LANES;
  gram_scalar k[TILE_BLOCK * TILE_BLOCK] __attribute__((aligned(64)));
  gram_scalar vj[TILE_BLOCK * GRAM_TILE_WIDTH] __attribute__((aligned(64)));
  gram_scalar wi[TILE_BLOCK * GRAM_TILE_WIDTH] __attribute__((aligned(64)));

  for (long j = 0; j < n; j += TILE_BLOCK) {
    const long cols = TileAtMost(n - j, TILE_BLOCK);

    TilePad(cols, width, v + j * width, vj, ld);
    for (long i = 0; i < m; i += TILE_BLOCK) {
      const long rows = TileAtMost(m - i, TILE_BLOCK);

      TileBlock(type, beta, dim, rows, cols, x + i, ldx, z + j, ldz, k);
      TileMultiply(rows, cols, k, 1, TILE_BLOCK, vj, ld, y + i * width, width);
      if (!w) continue;
      TilePad(rows, width, w + i * width, wi, ld);
      TileMultiply(cols, rows, k, TILE_BLOCK, 1, wi, ld, u + j * width, width);
    }
  }
}

static void TileValues(GramRadial type, double beta_any, int dim, int width, long m, long n, const void *x,
                       long ldx, const void *z, long ldz, const void *v, double *y, const void *w, double *u)
{
  const gram_scalar beta = (gram_scalar)beta_any;
  gram_real
      uj[2 * TILE_COLS]; /* sums of the transposed product, one for all copies below: stacks are small */

  if (width > 2) {
    TilePanels(type, beta, dim, width, m, n, x, ldx, z, ldz, v, y, w, u);
    return;
  }
/* vectors of rows at once: four, but where a Gaussian fits whole into 32 registers one at a time spills nothing */
#define TILE_VECS_OF(type, few) \
  (GRAM_VECTOR_BYTES == 64 && (type) == GRAM_RADIAL_GAUSSIAN && (few) != TILE_ANY ? 1 : TILE_VECS)
#define TILE_VALUE_WIDTH(type, few, vecs, width)                                                          \
  if (w) TileValue_Inline(type, beta, few, vecs, width, dim, true, m, n, x, ldx, z, ldz, v, y, w, u, uj); \
  else                                                                                                    \
    TileValue_Inline(type, beta, few, vecs, width, dim, false, m, n, x, ldx, z, ldz, v, y, NULL, NULL, NULL);
#define TILE_VALUE_COPY(type, few)                                    \
  if (width == 1) {                                                   \
    TILE_VALUE_WIDTH(type, few, TILE_VECS_OF(type, few), 1)           \
  } else {                                                            \
    TILE_VALUE_WIDTH(type, few, (TILE_VECS_OF(type, few) + 1) / 2, 2) \
  }                                                                   \
  return;
#define TILE_VALUE_CASE(UPPER, ...) \
  case GRAM_RADIAL_##UPPER: TILE_DIMS(TILE_VALUE_COPY, GRAM_RADIAL_##UPPER)
  switch (type) {
    GRAM_RADIAL_LIST(TILE_VALUE_CASE)
  default: return;
  }
}

static void TileEntries(GramRadial type, double beta_any, int dim, long m, long n, const void *x_any,
                        long ldx, const void *z_any, long ldz, double *a, long lda)
{
  const gram_scalar  beta = (gram_scalar)beta_any;
  const gram_scalar *x = (const gram_scalar *)x_any, *z = (const gram_scalar *)z_any;
  gram_scalar        k[TILE_BLOCK * TILE_BLOCK] __attribute__((aligned(64)));

  for (long j = 0; j < n; j += TILE_BLOCK) {
    const long cols = TileAtMost(n - j, TILE_BLOCK);

    for (long i = 0; i < m; i += TILE_BLOCK) {
      const long rows = TileAtMost(m - i, TILE_BLOCK);

      TileBlock(type, beta, dim, rows, cols, x + i, ldx, z + j, ldz, k);
      for (long c = 0; c < cols; c++) {
        for (long r = 0; r < rows; r++) a[(j + c) * lda + i + r] = k[c * TILE_BLOCK + r];
      }
    }
  }
}

static void TileJets(GramRadial type, double beta, int dim, long m, long n, const void *x_any, long ldx,
                     const void *z_any, long ldz, double *jets)
{
  const gram_scalar *x = (const gram_scalar *)x_any, *z = (const gram_scalar *)z_any;
  gram_scalar        k[3 * TILE_BLOCK * TILE_BLOCK] __attribute__((aligned(64)));

  for (long j = 0; j < n; j += TILE_BLOCK) {
    const long cols = TileAtMost(n - j, TILE_BLOCK);

    for (long i = 0; i < m; i += TILE_BLOCK) {
      const long rows = TileAtMost(m - i, TILE_BLOCK);

      TileBlockJets(type, (gram_scalar)beta, dim, rows, cols, x + i, ldx, z + j, ldz, k);
      for (int d = 0; d < 3; d++) {
        for (long c = 0; c < cols; c++) {
          for (long r = 0; r < rows; r++)
            jets[(d * n + j + c) * m + i + r] = k[(d * TILE_BLOCK + c) * TILE_BLOCK + r];
        }
      }
    }
  }
}

/* ---- values and gradients, one right-hand side at a time: the work on gradients outweighs the profile's */

#define TILE_PAIR    2 /* vectors of rows at once */
#define TILE_NUMBERS (1 + GRAM_TILE_DIM)
#define TILE_LD      (TILE_NUMBERS + TILE_LANES)

/* x_c - z_c of the a-th vector of rows */
TILE_INLINE gram_real TileDifference(const TileRows *rows, int few, int c, int a, long ldx,
                                     const gram_scalar *zj, long ldz)
{
  const gram_scalar zc = zj[c * ldz];

  if (few == TILE_ANY) return GramLoad(rows->x + c * ldx + a * TILE_LANES) - zc;
  return (c == 0 ? rows->x0[a] : c == 1 ? rows->x1[a] : rows->x2[a]) - zc;
}

/* a, b: numbers a row, a column carries; width: distance of two of them; uj: room for TILE_BLOCK * 4 and for
   8 * TILE_NUMBERS vectors */
TILE_INLINE void TileDerivative_Inline(GramRadial type, gram_scalar beta, int few, int dim_any, bool both,
                                       bool rows_gradient, bool cols_gradient, long width, long m, long n,
                                       const gram_scalar *restrict x, long ldx, const gram_scalar *restrict z,
                                       long ldz, const gram_scalar *restrict v, double *restrict y,
                                       const gram_scalar *restrict w, double *restrict u,
                                       gram_real *restrict uj)
{
  const int  dim = few == TILE_ANY ? dim_any : few;
  const long a = rows_gradient ? 1 + dim : 1, b = cols_gradient ? 1 + dim : 1,
             step = few == TILE_ANY ? 8 : TILE_BLOCK;
  gram_real few_y[4][TILE_PAIR], few_w[4][TILE_PAIR], any_y[TILE_NUMBERS][TILE_PAIR],
      any_w[TILE_NUMBERS][TILE_PAIR];
  gram_real(*const yi)[TILE_PAIR] = few == TILE_ANY ? any_y : few_y;
  gram_real(*const wi)[TILE_PAIR] = few == TILE_ANY ? any_w : few_w;

  for (long j0 = 0; j0 < n; j0 += step) {
    const long cols = TileAtMost(n - j0, step);

    for (long k = 0; both && k < cols * b; k++) uj[k] = (gram_real){0};
    for (long i0 = 0; i0 < m; i0 += TILE_PAIR * TILE_LANES) {
      TileRows rows;

      TileRowsLoad(&rows, few, TILE_PAIR, x + i0, ldx);
      for (int k = 0; k < a; k++) {
        TILE_UNROLL
        for (int p = 0; p < TILE_PAIR; p++) {
          const long first = i0 + p * TILE_LANES;

          yi[k][p] = (gram_real){0};
          if (both)
            wi[k][p] = TileGather(w + (first * a + k) * width, a * width, TileAtMost(m - first, TILE_LANES));
        }
      }
      for (long j = 0; j < cols; j++) {
        const gram_scalar *vj = v + (j0 + j) * b * width, *zj = z + j0 + j;
        gram_real          s[TILE_VECS];

        TileDistances(&rows, few, TILE_PAIR, dim, ldx, zj, ldz, s);
        TILE_UNROLL
        for (int p = 0; p < TILE_PAIR; p++) {
          const GramJet jet = RadialJet(type, s[p], beta);
          gram_real     g = {0}, h = {0}, to_x, to_z;

          /* g = d'v, h = d'w over the gradients */
          for (int c = 0; c < dim; c++) {
            const gram_real d = TileDifference(&rows, few, c, p, ldx, zj, ldz);

            if (cols_gradient) g += d * vj[(1 + c) * width];
            if (both && rows_gradient) h += d * wi[1 + c][p];
          }
          yi[0][p] += jet.phi * vj[0] - jet.first * g;
          to_x = jet.first * vj[0] - jet.second * g;
          if (both) {
            uj[j * b] += jet.phi * wi[0][p] + jet.first * h;
            to_z = jet.first * wi[0][p] + jet.second * h;
          }
          for (int c = 0; c < dim; c++) {
            const gram_real d = TileDifference(&rows, few, c, p, ldx, zj, ldz);

            if (rows_gradient) yi[1 + c][p] += d * to_x;
            if (rows_gradient && cols_gradient) yi[1 + c][p] -= jet.first * vj[(1 + c) * width];
            if (both && cols_gradient) uj[j * b + 1 + c] -= d * to_z;
            if (both && cols_gradient && rows_gradient) uj[j * b + 1 + c] -= jet.first * wi[1 + c][p];
          }
        }
      }
      for (int k = 0; k < a; k++) {
        TILE_UNROLL
        for (int p = 0; p < TILE_PAIR; p++) {
          const long first = i0 + p * TILE_LANES;

          TileAdd(y + (first * a + k) * width, a * width, TileAtMost(m - first, TILE_LANES), yi[k][p]);
        }
      }
    }
    if (both) TileFold(u + j0 * b * width, width, uj, cols * b);
  }
}

/*
  Values and gradients on both sides in many coordinates, block by block: with d = x - z, g = d'v, h = d'w over the gradients,

      t = first v_0 - second g,  s = first w_0 + second h
      y_0 += phi v_0 - first g,  y_c += d_c t - first v_c
      u_0 += phi w_0 + first h,  u_c -= d_c s + first w_c

  One pass over the coordinates of a pair makes r^2, g and h; t, s and first are kept for a block, and what is left of y and u are
  products of matrices: sum d_c t = x_c sum t - sum t z_c, coordinates from a point of the block.
*/
typedef struct {
  gram_scalar t[TILE_BLOCK * TILE_BLOCK], s[TILE_BLOCK * TILE_BLOCK], first[TILE_BLOCK * TILE_BLOCK];
  gram_scalar wt[TILE_NUMBERS * TILE_BLOCK]; /* [numbers][TILE_BLOCK]: w with rows in lanes */
  gram_real   u0[TILE_BLOCK];                /* sums over rows, lane by lane */
  gram_scalar w[TILE_BLOCK * TILE_LD], x[TILE_BLOCK * TILE_LD];       /* [rows][ld]: 0, -w_c; 1, x_c */
  gram_scalar v[TILE_COLS * TILE_LD], z[TILE_COLS * TILE_LD];         /* [cols][ld]: 0, -v_c; 1, z_c */
  double y[TILE_BLOCK * TILE_NUMBERS], tz[TILE_BLOCK * TILE_NUMBERS]; /* [rows][a]; sums of t with 1, z */
  double u[TILE_COLS * TILE_NUMBERS], sx[TILE_COLS * TILE_NUMBERS];   /* [cols][a]; sums of s with 1, x */
} TileJoint;

TILE_INLINE void TileJointBlock_Inline(GramRadial type, gram_scalar beta, bool both, int dim, long rows,
                                       long cols, const gram_scalar *restrict x, long ldx,
                                       const gram_scalar *restrict z, long ldz, const gram_scalar *restrict v,
                                       long step, TileJoint *restrict k)
{
  const long a = 1 + dim;

  for (long i0 = 0; i0 < rows; i0 += TILE_VECS * TILE_LANES) {
    gram_real y0[TILE_VECS] = {{0}};

    for (long j = 0; j < cols; j++) {
      const gram_scalar *vj = v + j * a * step, *zj = z + j;
      gram_real          r2[TILE_VECS], g[TILE_VECS], h[TILE_VECS], u0 = k->u0[j];

      TILE_UNROLL
      for (int p = 0; p < TILE_VECS; p++) r2[p] = g[p] = h[p] = (gram_real){0};
      for (int c = 0; c < dim; c++) {
        TILE_UNROLL
        for (int p = 0; p < TILE_VECS; p++) {
          const gram_real d = GramLoad(x + c * ldx + i0 + p * TILE_LANES) - zj[c * ldz];

          r2[p] += d * d;
          g[p] += d * vj[(1 + c) * step];
          if (both) h[p] += d * GramLoad(k->wt + (1 + c) * TILE_BLOCK + i0 + p * TILE_LANES);
        }
      }
      TILE_UNROLL
      for (int p = 0; p < TILE_VECS; p++) {
        const GramJet jet = RadialJet(type, r2[p], beta);
        const long    at  = j * TILE_BLOCK + i0 + p * TILE_LANES;

        y0[p] += jet.phi * vj[0] - jet.first * g[p];
        TileStore(k->t + at, jet.first * vj[0] - jet.second * g[p]);
        TileStore(k->first + at, jet.first);
        if (both) {
          const gram_real w0 = GramLoad(k->wt + i0 + p * TILE_LANES);

          u0 += jet.phi * w0 + jet.first * h[p];
          TileStore(k->s + at, jet.first * w0 + jet.second * h[p]);
        }
      }
      if (both) k->u0[j] = u0;
    }
    TILE_UNROLL
    for (int p = 0; p < TILE_VECS; p++)
      TileAdd(k->y + (i0 + p * TILE_LANES) * a, a, TileAtMost(rows - i0 - p * TILE_LANES, TILE_LANES), y0[p]);
  }
}

static void TileJointBlock(GramRadial type, gram_scalar beta, bool both, int dim, long rows, long cols,
                           const gram_scalar *x, long ldx, const gram_scalar *z, long ldz,
                           const gram_scalar *v, long step, TileJoint *k)
{
#define TILE_JOINT_CASE(UPPER, ...)                                                                         \
  case GRAM_RADIAL_##UPPER:                                                                                 \
    if (both)                                                                                               \
      TileJointBlock_Inline(GRAM_RADIAL_##UPPER, beta, true, dim, rows, cols, x, ldx, z, ldz, v, step, k);  \
    else                                                                                                    \
      TileJointBlock_Inline(GRAM_RADIAL_##UPPER, beta, false, dim, rows, cols, x, ldx, z, ldz, v, step, k); \
    return;
  switch (type) {
    GRAM_RADIAL_LIST(TILE_JOINT_CASE)
  default: return;
  }
}

/* minus [n][ld] = 0, -v_c; places [n][ld] = 1, x_c - origin_c; zeros behind */
static void TileJointSide(int dim, long n, long ld, const gram_scalar *v, long step, const gram_scalar *x,
                          long ldx, const gram_scalar *origin, long ldo, gram_scalar *minus,
                          gram_scalar *places)
{
  memset(minus, 0, (size_t)(n * ld) * sizeof *minus);
  memset(places, 0, (size_t)(n * ld) * sizeof *places);
  for (long j = 0; j < n; j++) {
    places[j * ld] = 1;
    for (long c = 1; c <= dim && v; c++) minus[j * ld + c] = -v[(j * (1 + dim) + c) * step];
    for (long c = 1; c <= dim; c++) places[j * ld + c] = x[(c - 1) * ldx + j] - origin[(c - 1) * ldo];
  }
}

/* y += [y_0, y_c + x_c sum - sums_c] from what a block of rows has gathered */
static void TileJointAdd(int dim, long n, long ld, const double *gathered, const double *sums,
                         const gram_scalar *places, double *y, long step)
{
  const long a = 1 + dim;

  for (long i = 0; i < n; i++) {
    y[i * a * step] += gathered[i * a];
    for (long c = 1; c < a; c++)
      y[(i * a + c) * step] += gathered[i * a + c] + (places[i * ld + c] * sums[i * a] - sums[i * a + c]);
  }
}

static void TileJointPanels(GramRadial type, double beta, int dim, long step, long m, long n,
                            const gram_scalar *x, long ldx, const gram_scalar *z, long ldz,
                            const gram_scalar *v, double *y, const gram_scalar *w, double *u)
{
  const long a = 1 + dim, ld = (a + TILE_LANES - 1) / TILE_LANES * TILE_LANES;
  TileJoint  k;

  for (long j = 0; j < n; j += TILE_COLS) {
    const long         cols   = TileAtMost(n - j, TILE_COLS);
    const gram_scalar *origin = z + j; /* of both sides */

    TileJointSide(dim, cols, ld, v + j * a * step, step, z + j, ldz, origin, ldz, k.v, k.z);
    memset(k.u, 0, (size_t)(cols * a) * sizeof *k.u);
    memset(k.sx, 0, (size_t)(cols * a) * sizeof *k.sx);
    for (long i = 0; i < m; i += TILE_BLOCK) {
      const long rows = TileAtMost(m - i, TILE_BLOCK);

      memset(k.y, 0, (size_t)(rows * a) * sizeof *k.y);
      memset(k.tz, 0, (size_t)(rows * a) * sizeof *k.tz);
      TileJointSide(dim, rows, ld, w ? w + i * a * step : NULL, step, x + i, ldx, origin, ldz, k.w, k.x);
      for (long c = 0; c < a && w; c++) {
        for (long r = 0; r < TILE_BLOCK; r++)
          k.wt[c * TILE_BLOCK + r] = r < rows ? w[((i + r) * a + c) * step] : 0;
      }
      for (long b = 0; b < cols; b += TILE_BLOCK) {
        const long width = TileAtMost(cols - b, TILE_BLOCK);

        memset(k.u0, 0, sizeof k.u0);
        TileJointBlock(type, (gram_scalar)beta, w != NULL, dim, rows, width, x + i, ldx, z + j + b, ldz,
                       v + (j + b) * a * step, step, &k);
        TileMultiply(rows, width, k.first, 1, TILE_BLOCK, k.v + b * ld, ld, k.y, a);
        TileMultiply(rows, width, k.t, 1, TILE_BLOCK, k.z + b * ld, ld, k.tz, a);
        if (!w) continue;
        TileFold(k.u + b * a, a, k.u0, width);
        TileMultiply(width, rows, k.first, TILE_BLOCK, 1, k.w, ld, k.u + b * a, a);
        TileMultiply(width, rows, k.s, TILE_BLOCK, 1, k.x, ld, k.sx + b * a, a);
      }
      TileJointAdd(dim, rows, ld, k.y, k.tz, k.x, y + i * a * step, step);
    }
    if (w) TileJointAdd(dim, cols, ld, k.u, k.sx, k.z, u + j * a * step, step);
  }
}

static void TileDerivatives(GramRadial type, double beta_any, int dim, int rows, int cols, int width, long m,
                            long n, const void *x, long ldx, const void *z, long ldz, const void *v_any,
                            double *y, const void *w_any, double *u)
{
  const gram_scalar  beta = (gram_scalar)beta_any;
  const gram_scalar *v = (const gram_scalar *)v_any, *w = (const gram_scalar *)w_any;
  gram_real          uj[8 * TILE_NUMBERS];

#define TILE_DERIVATIVE_COPY(type, few)                                                                      \
  if (w)                                                                                                     \
    TileDerivative_Inline(type, beta, few, dim, true, rows, cols, width, m, n, x, ldx, z, ldz, v + r, y + r, \
                          w + r, u + r, uj);                                                                 \
  else                                                                                                       \
    TileDerivative_Inline(type, beta, few, dim, false, rows, cols, width, m, n, x, ldx, z, ldz, v + r,       \
                          y + r, NULL, NULL, NULL);                                                          \
  break;
#define TILE_DERIVATIVE_CASE(UPPER, ...) \
  case GRAM_RADIAL_##UPPER: TILE_DIMS(TILE_DERIVATIVE_COPY, GRAM_RADIAL_##UPPER) break;
  for (int r = 0; r < width; r++) {
    if (rows && cols && dim > 3) {
      TileJointPanels(type, beta, dim, width, m, n, (const gram_scalar *)x, ldx, (const gram_scalar *)z, ldz,
                      v + r, y + r, w ? w + r : NULL, w ? u + r : NULL);
      continue;
    }
    switch (type) {
      GRAM_RADIAL_LIST(TILE_DERIVATIVE_CASE)
    default: return;
    }
  }
}

static double TileMulAdd(long steps, double *sum)
{
  enum { CHAINS = 12 }; /* more than latency times pipes, and they fit 16 registers */
  gram_real a[CHAINS], total = {0};

  for (int k = 0; k < CHAINS; k++) a[k] = GRAM_C(k) - (gram_real){0};
  for (long i = 0; i < steps; i++) {
    TILE_UNROLL
    for (int k = 0; k < CHAINS; k++) a[k] = a[k] * GRAM_C(0.999999) + GRAM_C(1e-6);
  }
  for (int k = 0; k < CHAINS; k++) total += a[k];
  *sum = 0;
  TileFold(sum, 1, &total, 1);
  return (double)CHAINS * TILE_LANES * (double)steps;
}

#if defined(GRAM_INTRINSICS) && defined(__AVX512F__)
  #define TILE_EXP2_FMA (GRAM_IS_DOUBLE ? 7 : 3)
#else
  #define TILE_EXP2_FMA (GRAM_IS_DOUBLE ? 12 : 7)
#endif

const GramTileCode TILE_NAME(GramTileCode) = {TileValues, TileDerivatives, TileEntries,
                                              TileJets,   TileMulAdd,      TILE_EXP2_FMA};
