static const char help[] = "A backend's tiles, -backend (cpu), agree with ref: every profile, part, "
                           "dimension, width and precision.\n";

#include "../check.h"
#include "../check_backend.h"

typedef struct {
  GramPart  rows, cols;
  PetscInt  m, n, q;
  PetscBool square;
  PetscReal offset; /* of all coordinates */
} Problem;

/* y = B v by two backends; scale: what an error in y is to be measured by */
static PetscErrorCode Apply(const Problem *p, const GramKernel *kernel, GramBackend backend,
                            const PetscReal *x, const PetscReal *z, const PetscReal *v, PetscReal *y)
{
  const PetscInt m       = p->m;
  const GramTile both[3] = {{0, m / 2, 0, m / 2, GRAM_TILE_DIAGONAL},
                            {0, m / 2, m / 2, m - m / 2, GRAM_TILE_BOTH},
                            {m / 2, m - m / 2, m / 2, m - m / 2, GRAM_TILE_DIAGONAL}};
  const GramTile once    = {0, m, 0, p->n, GRAM_TILE_ONCE};
  GramTiles      tiles;

  PetscFunctionBegin;
  PetscCall(GramTilesCreate(backend, kernel, p->rows, m, x, p->cols, p->n, p->square ? NULL : z, &tiles));
  if (p->square) PetscCall(GramTilesApply(tiles, 3, both, p->q, v, y, v, y));
  else PetscCall(GramTilesApply(tiles, 1, &once, p->q, v, y, NULL, NULL));
  PetscCall(GramTilesDestroy(&tiles));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* phi has all of its digits wherever it is not 0; those that come to 0 lose them there, and one changes sign */
static PetscBool Digits(const GramKernel *kernel)
{
  return (PetscBool)(GramRadialGetInfo(kernel->radial)->support == 0 &&
                     kernel->radial != GRAM_RADIAL_THIN_PLATE);
}

/* largest |y - y_ref| over the rows, relative to sum_j |phi| |v_j| for values, to max |y_ref| with gradients */
static PetscErrorCode Compare(Problem p, const GramKernel *kernel, GramBackend cpu, GramBackend ref,
                              PetscReal *error)
{
  const PetscInt  dim = kernel->dim, a = GramPartSize(p.rows, dim) * p.q, b = GramPartSize(p.cols, dim) * p.q;
  const PetscBool values = (PetscBool)(p.rows == GRAM_VALUE && p.cols == GRAM_VALUE && Digits(kernel));
  PetscReal      *x, *z, *v, *y, *y_ref, *scale, *magnitude, most = 0;

  PetscFunctionBegin;
  if (p.square) p.n = p.m;
  PetscCall(PetscMalloc4(p.m * dim, &x, p.n * dim, &z, p.n * b, &v, p.n * b, &magnitude));
  PetscCall(PetscCalloc3(p.m * a, &y, p.m * a, &y_ref, p.m * a, &scale));
  for (PetscInt i = 0; i < p.m * dim; i++) x[i] = p.offset + 2 * CheckUniform(1, (uint64_t)i);
  for (PetscInt i = 0; i < p.n * dim; i++)
    z[i] = p.square ? x[i] : p.offset + 2 * CheckUniform(2, (uint64_t)i);
  if (p.m > 1 && !p.square) PetscCall(PetscArraycpy(x, z, dim)); /* a coincident pair */
  for (PetscInt i = 0; i < p.n * b; i++) {
    v[i]         = CheckUniform(3, (uint64_t)i) - 0.5;
    magnitude[i] = PetscAbsReal(v[i]);
  }
  PetscCall(Apply(&p, kernel, cpu, x, z, v, y));
  PetscCall(Apply(&p, kernel, ref, x, z, v, y_ref));
  if (values) PetscCall(Apply(&p, kernel, ref, x, z, magnitude, scale));
  for (PetscInt i = 0; i < p.m * a; i++) most = PetscMax(most, PetscAbsReal(y_ref[i]));
  *error = 0;
  for (PetscInt i = 0; i < p.m * a; i++)
    *error = PetscMax(*error, PetscAbsReal(y[i] - y_ref[i]) / (values ? scale[i] : most));
  PetscCall(PetscFree4(x, z, v, magnitude));
  PetscCall(PetscFree3(y, y_ref, scale));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* ref's derivatives are those of its own values: differences of fourth order of the entries at points moved by h, near
   each other, farther and, for a compact phi, towards the end of its support. Sixth derivatives are below 1e6, so that
   h^4 of them is as small as eps / h^2. */
static PetscErrorCode Differences(const GramKernel *kernel, GramBackend ref)
{
  static const PetscReal weights[] = {1. / 12, -2. / 3, 0, 2. / 3, -1. / 12}, shrink[] = {0.25, 1, 1.5};
  const PetscInt         dim = kernel->dim, size = 1 + dim, zero = 0;
  const PetscReal        h   = 5e-4;
  const GramTile         one = {0, 1, 0, 1, GRAM_TILE_ONCE};

  PetscFunctionBegin;
  for (size_t distance = 0; distance < PETSC_STATIC_ARRAY_LENGTH(shrink); distance++) {
    PetscReal x[8] = {0.3, -0.2, 0.5, 0.1}, z[8], y[8][8] = {{0}}, v[8];
    GramTiles tiles;

    for (PetscInt c = 0; c < dim; c++)
      z[c] = x[c] + shrink[distance] * (const PetscReal[]){0.6, 0.2, -0.1, 0.1}[c];
    PetscCall(GramTilesCreate(ref, kernel, GRAM_JOINT, 1, x, GRAM_JOINT, 1, z, &tiles));
    for (PetscInt s = 0; s < size; s++) { /* y[s]: column s of the block */
      for (PetscInt k = 0; k < size; k++) v[k] = k == s;
      PetscCall(GramTilesApply(tiles, 1, &one, 1, v, y[s], NULL, NULL));
    }
    PetscCall(GramTilesDestroy(&tiles));
    for (PetscInt p = 0; p < size; p++) {
      for (PetscInt s = 0; s < size; s++) {
        PetscReal difference = 0;

        for (int i = -2; i <= 2; i++) {
          for (int j = -2; j <= 2; j++) {
            PetscReal xi[8], zj[8], k;

            if ((p ? i == 0 : i != 0) || (s ? j == 0 : j != 0)) continue;
            PetscCall(PetscArraycpy(xi, x, dim));
            PetscCall(PetscArraycpy(zj, z, dim));
            if (p) xi[p - 1] += i * h;
            if (s) zj[s - 1] += j * h;
            PetscCall(GramTilesCreate(ref, kernel, GRAM_VALUE, 1, xi, GRAM_VALUE, 1, zj, &tiles));
            PetscCall(GramTilesEntries(tiles, 1, &zero, 1, &zero, &k, 1));
            PetscCall(GramTilesDestroy(&tiles));
            difference += k * (p ? weights[i + 2] / h : 1) * (s ? weights[j + 2] / h : 1);
          }
        }
        CHECK(PetscAbsReal(y[s][p] - difference) <= 1e-8, "%s block (%d, %d): %.10g, differences say %.10g",
              kernel->type, (int)p, (int)s, y[s][p], difference);
      }
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static int narrowest = GRAM_SINGLE; /* of those that differ: single is mixed on a GPU */

static PetscReal Eps(int precision) { return precision == GRAM_DOUBLE ? 2.3e-16 : 1.2e-7; }

/* rounding of the distance, relative to phi: eps r^2 (1 + r), r^2 about dim / 2 here; a phi that comes to 0 has slopes up
   to 3 on its way there */
static PetscReal Rounding(const GramKernel *kernel, int precision)
{
  return Eps(precision) * (8 + 2 * (PetscReal)kernel->dim) * (Digits(kernel) ? 1 : 3);
}

/* every size, width and precision for one profile and number of coordinates */
static PetscErrorCode Values(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  static const PetscInt sizes[] = {1, 67, 200, 1025}, widths[] = {1, 2, 3, 9, 16, 17, 32, 35};

  PetscFunctionBegin;
  for (size_t s = 0; s < PETSC_STATIC_ARRAY_LENGTH(sizes); s++) {
    for (size_t w = 0; w < PETSC_STATIC_ARRAY_LENGTH(widths); w++) {
      if (sizes[s] > 1000 && (kernel->dim > 5 || w > 1)) continue; /* keeps ref below seconds */
      if (sizes[s] > 67 && w % 2) continue;
      for (int square = 0; square < 2; square++) {
        for (int precision = GRAM_DOUBLE; precision <= narrowest; precision++) {
          const PetscReal limit = Rounding(kernel, precision);
          PetscReal       error;

          PetscCall(Compare((Problem){GRAM_VALUE, GRAM_VALUE, sizes[s], 131, widths[w], (PetscBool)square, 0},
                            kernel, cpu[precision], ref, &error));
          CHECK(error <= limit, "%s dim %d size %d width %d %s %s: error %.2e > %.2e", kernel->type,
                (int)kernel->dim, (int)sizes[s], (int)widths[w], square ? "square" : "rectangular",
                GramPrecisionName(precision), error, limit);
        }
      }
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Derivatives(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  PetscFunctionBegin;
  for (int rows = GRAM_VALUE; rows <= GRAM_JOINT; rows++) {
    for (int cols = GRAM_VALUE; cols <= GRAM_JOINT; cols++) {
      for (int square = 0; square <= (rows == cols); square++) {
        for (int precision = GRAM_DOUBLE; precision <= narrowest; precision++) {
          const PetscBool twice = (PetscBool)(rows & cols & GRAM_GRADIENT);
          const PetscBool blocks =
              (PetscBool)(kernel->dim == 5 && rows == GRAM_JOINT && cols == GRAM_JOINT); /* of 64 and 256 */
          const PetscReal limit = Eps(precision) * 40 * (PetscReal)(1 + kernel->dim);
          PetscReal       error = 0;

          if (!GramRadialGetInfo(kernel->radial)->differentiable && (twice || precision)) continue;
          PetscCall(Compare((Problem){(GramPart)rows, (GramPart)cols, blocks ? 331 : 67, blocks ? 289 : 75,
                                      1 + square, (PetscBool)square, 0},
                            kernel, cpu[precision], ref, &error));
          CHECK(error <= limit, "%s dim %d rows %d cols %d %s %s: error %.2e > %.2e", kernel->type,
                (int)kernel->dim, rows, cols, square ? "square" : "rectangular", GramPrecisionName(precision),
                error, limit);
        }
      }
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Compact blocks near each other, as sorted points make them, and one far away: backends may have faster ways for these.
   Blocks of odd sizes, in the order of the cyclic cover or each pair by itself; twice, for the same bits. */
static PetscErrorCode Blocks(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  enum { N_BLOCKS = 5, MOST = 17 };
  static const PetscInt widths[] = {1, 2, 3, 9, MOST}, at[N_BLOCKS + 1] = {0, 150, 217, 218, 350, 500};
  const PetscInt        n = at[N_BLOCKS];
  PetscReal            *x, *v, *magnitude, *y, *again, *y_ref, *scale, most[MOST];

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(n * kernel->dim, &x, n * MOST, &v));
  PetscCall(
      PetscMalloc5(n * MOST, &magnitude, n * MOST, &y, n * MOST, &again, n * MOST, &y_ref, n * MOST, &scale));
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt c = 0; c < kernel->dim; c++)
      x[GramAt(i, kernel->dim, c)] = 0.3 * CheckUniform(6, GramAt(i, kernel->dim, c)) +
                                     2 * (PetscReal)i / (PetscReal)n + (i < at[N_BLOCKS - 1] ? 0 : 30);
  }
  for (PetscInt i = 0; i < n * MOST; i++) {
    v[i] = (CheckUniform(7, (uint64_t)i) - 0.5) * PetscPowReal(10, (PetscReal)(i % 4)); /* columns differ */
    magnitude[i] = PetscAbsReal(v[i]);
  }
  for (int cover = 0; cover < 2; cover++) {
    GramTile list[N_BLOCKS * N_BLOCKS];
    PetscInt n_tiles = 0;

    for (PetscInt i = 0; i < N_BLOCKS; i++) {
      for (PetscInt turn = 0; turn < (cover ? N_BLOCKS / 2 + 1 : N_BLOCKS); turn++) {
        const PetscInt j = (i + turn) % N_BLOCKS;

        list[n_tiles++] = (GramTile){at[i], at[i + 1] - at[i], at[j], at[j + 1] - at[j],
                                     !cover ? GRAM_TILE_ONCE
                                     : turn ? GRAM_TILE_BOTH
                                            : GRAM_TILE_DIAGONAL};
      }
    }
    for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(widths); k++) {
      const PetscInt q = widths[k];

      for (int b = -1; b <= narrowest; b++) {
        GramTiles tiles;
        PetscReal error = 0;
        PetscBool same;

        PetscCall(
            GramTilesCreate(b < 0 ? ref : cpu[b], kernel, GRAM_VALUE, n, x, GRAM_VALUE, n, NULL, &tiles));
        PetscCall(PetscArrayzero(y, n * q));
        PetscCall(GramTilesApply(tiles, n_tiles, list, q, v, y, v, y));
        PetscCall(PetscArrayzero(again, n * q));
        PetscCall(GramTilesApply(tiles, n_tiles, list, q, b < 0 ? magnitude : v, again, b < 0 ? magnitude : v,
                                 again));
        PetscCall(GramTilesDestroy(&tiles));
        if (b < 0) {
          PetscCall(PetscArraycpy(y_ref, y, n * q));
          PetscCall(PetscArraycpy(scale, again, n * q));
          for (PetscInt i = 0; i < n * q; i++) most[i % q] = PetscMax(i < q ? 0 : most[i % q], scale[i]);
          continue;
        }
        PetscCall(PetscArraycmp(y, again, n * q, &same));
        CHECK(same, "%s blocks in %s: other bits the second time", kernel->type, GramPrecisionName(b));
        for (PetscInt i = 0; i < n * q; i++)
          error = PetscMax(error, PetscAbsReal(y[i] - y_ref[i]) / (Digits(kernel) ? scale[i] : most[i % q]));
        CHECK(error <= Rounding(kernel, b), "%s dim %d blocks, width %d, %s, %s: error %.2e", kernel->type,
              (int)kernel->dim, (int)q, cover ? "cover" : "each pair", GramPrecisionName(b), error);
      }
    }
  }
  PetscCall(PetscFree2(x, v));
  PetscCall(PetscFree5(magnitude, y, again, y_ref, scale));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* sums of tiny and of huge numbers: nothing leaves the range of float on the way */
static PetscErrorCode Magnitudes(const GramKernel *kernel, GramBackend cpu[])
{
  enum { N = 400, MOST = 4 };
  const GramTile  list[]   = {{0, N / 2, 0, N / 2, GRAM_TILE_DIAGONAL},
                              {0, N / 2, N / 2, N / 2, GRAM_TILE_BOTH}};
  const PetscReal factor[] = {1, 0x1p-100, 0x1p100};
  PetscReal       x[3 * N], v[N * MOST], y[3][N * MOST], most = 0;
  GramTiles       tiles;

  PetscFunctionBegin;
  for (PetscInt i = 0; i < N; i++) { /* two blocks, a few length scales apart */
    for (PetscInt c = 0; c < kernel->dim; c++)
      x[i * kernel->dim + c] = 0.5 * CheckUniform(8, GramAt(i, kernel->dim, c)) + (i < N / 2 ? 0 : 2.5);
  }
  PetscCall(GramTilesCreate(cpu[GRAM_MIXED], kernel, GRAM_VALUE, N, x, GRAM_VALUE, N, NULL, &tiles));
  for (PetscInt q = 1; q <= MOST; q += MOST - 1) {
    for (int k = 0; k < 3; k++) {
      for (PetscInt i = 0; i < N * q; i++)
        v[i] = factor[k] * (i < N / 2 * q ? 1e-6 : 1) * (CheckUniform(9, (uint64_t)i) - 0.5);
      PetscCall(PetscArrayzero(y[k], N * q));
      PetscCall(GramTilesApply(tiles, 2, list, q, v, y[k], v, y[k]));
      for (PetscInt i = 0; i < N * q; i++) {
        most = k ? most : PetscMax(most, PetscAbsReal(y[0][i]));
        CHECK(PetscAbsReal(y[k][i] / factor[k] - y[0][i]) <= 1e-6 * most, "%s dim %d, times %g: %g, not %g",
              kernel->type, (int)kernel->dim, factor[k], y[k][i] / factor[k], y[0][i]);
      }
    }
  }
  PetscCall(GramTilesDestroy(&tiles));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What a tile adds does not depend on the tiles beside it in a list, nor, rowwise, a row's sum on how rows are cut: bitwise. */
static PetscErrorCode Independent(const GramKernel *kernel, GramBackend backend, PetscInt block, PetscInt q)
{
  enum { N_BLOCKS = 50, FEW = 3 };
  const PetscInt n = N_BLOCKS * block;
  GramTile       list[N_BLOCKS * FEW];
  PetscReal     *x, *z, *v, *y, *u, *y_few, *u_few;
  GramTiles      tiles;
  PetscBool      same, same_u;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(n * kernel->dim, &x, n * kernel->dim, &z, n * q, &v));
  PetscCall(PetscCalloc4(n * q, &y, n * q, &u, n * q, &y_few, n * q, &u_few));
  for (PetscInt i = 0; i < n * kernel->dim; i++) {
    x[i] = CheckUniform(10, (uint64_t)i);
    z[i] = CheckUniform(11, (uint64_t)i);
  }
  for (PetscInt i = 0; i < n * q; i++) v[i] = CheckUniform(12, (uint64_t)i) - 0.5;
  PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, n, x, GRAM_VALUE, n, NULL, &tiles));
  for (PetscInt i = 0; i < N_BLOCKS; i++)
    list[i] = (GramTile){i * block, block, (i + 1) % N_BLOCKS * block, block, GRAM_TILE_BOTH};
  PetscCall(GramTilesApply(tiles, N_BLOCKS, list, q, v, y, v, u));
  for (PetscInt i = 0; i < FEW; i++) PetscCall(GramTilesApply(tiles, 1, list + i, q, v, y_few, v, u_few));
  PetscCall(GramTilesDestroy(&tiles));
  PetscCall(PetscArraycmp(y, y_few, FEW * block * q, &same));
  PetscCall(PetscArraycmp(u + block * q, u_few + block * q, FEW * block * q, &same_u));
  CHECK(same && same_u, "%s dim %d, width %d: a tile adds other bits alone than among others", kernel->type,
        (int)kernel->dim, (int)q);

  PetscCall(GramTilesCreate(backend, kernel, GRAM_VALUE, n, x, GRAM_VALUE, n, z, &tiles));
  PetscCall(GramTilesSetRowwise(tiles));
  for (int cut = 0; cut < 2; cut++) {
    PetscReal *sum     = cut ? y_few : y;
    PetscInt   n_tiles = 0;

    PetscCall(PetscArrayzero(sum, n * q));
    for (PetscInt i = 0; i < (cut ? 2 : N_BLOCKS);
         i++) { /* the first block of rows in two, or with all the others */
      for (PetscInt j = 0; j < FEW; j++)
        list[n_tiles++] = (GramTile){cut ? i * (block / 3) : i * block,
                                     !cut ? block
                                     : i  ? block - block / 3
                                          : block / 3,
                                     j * block, block, GRAM_TILE_ONCE};
    }
    PetscCall(GramTilesApply(tiles, n_tiles, list, q, v, sum, NULL, NULL));
  }
  PetscCall(GramTilesDestroy(&tiles));
  PetscCall(PetscArraycmp(y, y_few, block * q, &same));
  CHECK(same, "%s dim %d, width %d: the sum of a row depends on how rows are cut", kernel->type,
        (int)kernel->dim, (int)q);
  PetscCall(PetscFree3(x, z, v));
  PetscCall(PetscFree4(y, u, y_few, u_few));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rows all of whose entries are small: their sums are as good as any, relative to themselves */
static PetscErrorCode Distant(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  enum { M = 128, N = 256, WIDTH = 4 };
  const GramTile once = {0, M, 0, N, GRAM_TILE_ONCE};

  PetscFunctionBegin;
  for (int distance = 0; distance < 10; distance++) {
    PetscReal x[3 * M], z[3 * N], v[N * WIDTH], magnitude[N * WIDTH], y[3][M * WIDTH] = {{0}}, error = 0,
                                                                               most = 0;
    GramTiles tiles;

    for (PetscInt i = 0; i < M * kernel->dim; i++) x[i] = 0.5 * CheckUniform(13, (uint64_t)i);
    for (PetscInt i = 0; i < N * kernel->dim; i++)
      z[i] = 0.5 * CheckUniform(14, (uint64_t)i) + (i % kernel->dim ? 0 : distance);
    for (PetscInt i = 0; i < N * WIDTH; i++) {
      v[i]         = CheckUniform(15, (uint64_t)i) - 0.5;
      magnitude[i] = PetscAbsReal(v[i]);
    }
    for (int k = 0; k < 3; k++) {
      PetscCall(
          GramTilesCreate(k ? ref : cpu[GRAM_MIXED], kernel, GRAM_VALUE, M, x, GRAM_VALUE, N, z, &tiles));
      PetscCall(GramTilesApply(tiles, 1, &once, WIDTH, k == 2 ? magnitude : v, y[k], NULL, NULL));
      PetscCall(GramTilesDestroy(&tiles));
    }
    for (PetscInt i = 0; i < M * WIDTH; i++) most = PetscMax(most, PetscAbsReal(y[2][i]));
    for (PetscInt i = 0; i < M * WIDTH; i++) {
      const PetscReal difference = PetscAbsReal(y[0][i] - y[1][i]);

      if (difference > 0)
        error = PetscMax(error, difference / (Digits(kernel) ? PetscAbsReal(y[2][i]) : most));
    }
    /* eps times the exponent, up to 100 here */
    CHECK(error <= 1.2e-7 * (14 + (PetscReal)(distance * distance)), "%s dim %d at %d: error %.1e",
          kernel->type, (int)kernel->dim, distance, error);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* coordinates near 1e6: differences are formed before anything is squared, and mixed keeps the digits of a tile */
static PetscErrorCode Offset(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  PetscFunctionBegin;
  for (int precision = GRAM_DOUBLE; precision <= narrowest; precision++) {
    PetscReal error;

    PetscCall(Compare((Problem){GRAM_VALUE, GRAM_VALUE, 200, 131, 1, PETSC_FALSE, 1e6}, kernel,
                      cpu[precision], ref, &error));
    CHECK(error <= (precision ? 2e-6 : 4e-9), "%s at offset 1e6: error %.2e", kernel->type,
          error); /* eps 1e6 / 0.5 of input rounding */
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* two clusters 1e5 apart: single sees them on one grid of 1e5 eps, mixed from the centre of each tile */
static PetscErrorCode Clusters(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  enum { HALF = 300, N = 2 * HALF };
  const GramTile list[3] = {{0, HALF, 0, HALF, GRAM_TILE_DIAGONAL},
                            {0, HALF, HALF, HALF, GRAM_TILE_BOTH},
                            {HALF, HALF, HALF, HALF, GRAM_TILE_DIAGONAL}};
  PetscReal     *x, *v, *y[GRAM_SINGLE + 2], error[GRAM_SINGLE + 1] = {0}, most = 0;
  GramTiles      tiles;

  PetscFunctionBegin;
  PetscCall(PetscMalloc2(N * kernel->dim, &x, N, &v));
  for (PetscInt i = 0; i < N * kernel->dim; i++)
    x[i] = CheckUniform(4, (uint64_t)i) + (i < HALF * kernel->dim ? 0 : 1e5);
  for (PetscInt i = 0; i < N; i++) v[i] = CheckUniform(5, (uint64_t)i);
  for (int b = 0; b <= GRAM_SINGLE + 1; b++) {
    PetscCall(PetscCalloc1(N, &y[b]));
    PetscCall(GramTilesCreate(b ? cpu[b - 1] : ref, kernel, GRAM_VALUE, N, x, GRAM_VALUE, N, NULL, &tiles));
    PetscCall(GramTilesApply(tiles, 3, list, 1, v, y[b], v, y[b]));
    PetscCall(GramTilesDestroy(&tiles));
    for (PetscInt i = 0; i < N; i++) {
      most = PetscMax(most, PetscAbsReal(y[0][i]));
      if (b) error[b - 1] = PetscMax(error[b - 1], PetscAbsReal(y[b][i] - y[0][i]));
    }
  }
  CHECK(error[GRAM_DOUBLE] <= 1e-11 * most && error[GRAM_MIXED] <= 1e-6 * most,
        "%s clusters: errors %.1e, %.1e of %.1e", kernel->type, error[GRAM_DOUBLE], error[GRAM_MIXED], most);
  CHECK(narrowest == GRAM_MIXED || GramRadialGetInfo(kernel->radial)->order > 0 || /* the far pairs are all */
            error[GRAM_SINGLE] >= 10 * error[GRAM_MIXED],
        "%s clusters: single %.1e is as good as mixed %.1e", kernel->type, error[GRAM_SINGLE],
        error[GRAM_MIXED]);
  for (int b = 0; b <= GRAM_SINGLE + 1; b++) PetscCall(PetscFree(y[b]));
  PetscCall(PetscFree2(x, v));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* far pairs are what ref says, mostly 0, whatever arithmetic overflows on the way: no inf, no NaN, no remainder */
static PetscErrorCode Far(const GramKernel *kernel, GramBackend cpu[], GramBackend ref)
{
  const PetscReal distances[] = {1e2, 1e4, 1e6, 1e10, 1e15, 1e30, 1e60, 1e100};
  const GramTile  list        = {0, 1, 0, 1, GRAM_TILE_ONCE};

  PetscFunctionBegin;
  for (size_t k = 0; k < PETSC_STATIC_ARRAY_LENGTH(distances); k++) {
    PetscReal expected = 0;

    for (int precision = -1; precision <= narrowest; precision++) {
      const PetscReal x[3] = {0}, z[3] = {distances[k], 0, 0}, v[1] = {1};
      PetscReal       y[1] = {0};
      GramTiles       tiles;

      if (precision > GRAM_DOUBLE && (distances[k] > 1e15 || PetscAbsReal(expected) > 1e37))
        continue; /* their squares, phi is no float */
      PetscCall(GramTilesCreate(precision < 0 ? ref : cpu[precision], kernel, GRAM_VALUE, 1, x, GRAM_VALUE, 1,
                                z, &tiles));
      PetscCall(GramTilesApply(tiles, 1, &list, 1, v, y, NULL, NULL));
      PetscCall(GramTilesDestroy(&tiles));
      if (precision < 0) expected = PetscIsNanReal(y[0]) ? 0 : y[0]; /* its polynomials overflow, times 0 */
      else /* powers of two lose digits for their exponent */
        CHECK(PetscAbsReal(y[0] - expected) <=
                  Eps(precision) * (16 + 2 * PetscAbsReal(PetscLogReal(PetscAbsReal(expected) + 1e-300))) *
                          PetscAbsReal(expected) +
                      1e-30,
              "%s at %g in %s: %g, not %g", kernel->type, distances[k], GramPrecisionName(precision), y[0],
              expected);
    }
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

int main(int argc, char **argv)
{
#define TEST_NAME(UPPER, Camel, name, ...) name,
  static const char *const names[] = {GRAM_RADIAL_LIST(TEST_NAME)};
  static const PetscInt    dims[]  = {1, 2, 3, 5, 100};
  GramBackend              cpu[GRAM_SINGLE + 1], ref;
  GramKernel               kernel = {.amplitude = 1};
  PetscBool                found,
      large = PETSC_FALSE, two = PETSC_FALSE,
      plain = PETSC_FALSE; /* without what is about lists of tiles, the same for all copies of tiles */
  char      name[16];
  PetscReal error;
  PetscInt  only = 0;

  PetscCall(PetscInitialize(&argc, &argv, NULL, help));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-large", &large, NULL));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-plain", &plain, NULL));
  PetscCall(PetscOptionsGetBool(NULL, NULL, "-two", &two, NULL)); /* kernels, with and without a root */
  PetscCall(PetscOptionsGetInt(NULL, NULL, "-dim", &only, NULL)); /* of dims, for slow tools */
  PetscCall(CheckBackendFound("cpu", name, &found));
  if (!found) return PetscFinalize() ? 1 : 77;
  if (!strcmp(name, "cuda")) narrowest = GRAM_MIXED;
  PetscCall(GramBackendCreate(PETSC_COMM_WORLD, "ref", GRAM_DOUBLE, &ref));
  for (int p = GRAM_DOUBLE; p <= GRAM_SINGLE; p++)
    PetscCall(GramBackendCreate(PETSC_COMM_WORLD, name, (GramPrecision)p, &cpu[p]));
  for (int type = 0; type < GRAM_RADIAL_COUNT; type++) {
    PetscCall(GramKernelSetType(&kernel, names[type], NAN, &found));
    CHECK(found, "no kernel %s", names[type]);
    if (GramRadialGetInfo(kernel.radial)->beta) kernel.beta = 0.7;
    if (two && strcmp(names[type], "gaussian") != 0 && strcmp(names[type], "matern52") != 0) continue;
    kernel.dim = 3;
    if (large) { /* one size of several row passes and column blocks, with remainders */
      const PetscInt n =
          two || kernel.radial <= GRAM_RADIAL_MATERN32 ? 10007 : 3011; /* plain loops are slow */

      PetscCall(
          Compare((Problem){GRAM_VALUE, GRAM_VALUE, n, n, 1, PETSC_TRUE, 0}, &kernel, cpu[0], ref, &error));
      CHECK(error <= Rounding(&kernel, GRAM_DOUBLE), "%s size %d: error %.2e", names[type], (int)n, error);
      continue;
    }
    PetscCall(Offset(&kernel, cpu, ref));
    PetscCall(Clusters(&kernel, cpu, ref));
    PetscCall(Far(&kernel, cpu, ref));
    PetscCall(Magnitudes(&kernel, cpu));
    PetscCall(Distant(&kernel, cpu, ref));
    for (size_t d = 0; d < PETSC_STATIC_ARRAY_LENGTH(dims); d++) {
      kernel.dim = dims[d];
      if (only && dims[d] != only) continue;
      PetscCall(Values(&kernel, cpu, ref));
      if (dims[d] < 100) PetscCall(Derivatives(&kernel, cpu, ref));
      if (dims[d] < 5 && !plain) PetscCall(Blocks(&kernel, cpu, ref));
      for (int p = GRAM_DOUBLE; p <= GRAM_MIXED && !plain && (dims[d] == 3 || dims[d] == 5); p++) {
        PetscCall(Independent(&kernel, cpu[p], 60, 1));
        PetscCall(Independent(&kernel, cpu[p], dims[d] == 3 ? 150 : 40, 3));
      }
      if (dims[d] < 5 && GramRadialGetInfo(kernel.radial)->differentiable)
        PetscCall(Differences(&kernel, ref));
    }
  }
  kernel.dim = 100; /* beyond what fits in registers */
  PetscCall(GramKernelSetType(&kernel, "matern52", NAN, &found));
  if (!large && !only) PetscCall(Derivatives(&kernel, cpu, ref));
  for (int p = GRAM_DOUBLE; p <= GRAM_SINGLE; p++) PetscCall(GramBackendDestroy(&cpu[p]));
  PetscCall(GramBackendDestroy(&ref));
  PetscCall(PetscFinalize());
  return check_failures != 0;
}
