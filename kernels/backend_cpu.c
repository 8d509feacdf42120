/* Tiles on the CPU: picks the copy of tile_impl.h that this processor runs best, and feeds it. */
#include <stdlib.h>
#include <string.h>
#include <petsctime.h>

#include "backend_impl.h"
#include "coulomb_tile.h"
#include "progress.h"

#define SUBTILE 256 /* edge of the pieces a diagonal tile is cut into */

_Static_assert(GRAM_TILE_DIM >= GRAM_MAX_DIM, "tiles have room for every point");

typedef struct {
  const char         *name;
  const GramTileCode *code[2]; /* entries in double, in float */
  GramCoulombTile     coulomb[2];
} Simd;

/* the points of one side, times the profile's unit */
typedef struct {
  PetscInt n, ld;
  double  *x;      /* [dim][ld] */
  float   *single; /* the same about the centre of all points, with precision single */
} Coordinates;

typedef struct {
  const Simd *simd;
  Coordinates rows, cols; /* cols = rows, not owned, when square */
  char       *scratch;    /* of the tile at hand: coordinates about its centre, panels of v, w, y, u */
  size_t      n_scratch;  /* bytes */
} TilesCPU;

static PetscBool Narrow(GramTiles t) { return (PetscBool)(t->backend->precision != GRAM_DOUBLE); }

/* The first copy this processor can run, or the one named GRAM_SIMD in the environment (tests do); from: how many of
   them to leave out. */
static const Simd *SimdPick(size_t from)
{
#define SIMD_ROW(simd, supported)                        \
  {#simd,                                                \
   {&GramTileCode_f64_##simd, &GramTileCode_f32_##simd}, \
   {GramCoulombTile_f64_##simd, GramCoulombTile_f32_##simd}},
  static const Simd table[] = {GRAM_SIMD_LIST(SIMD_ROW)};
#define SIMD_SUPPORTED(simd, supported) (supported) != 0,
  const int   have[] = {GRAM_SIMD_LIST(SIMD_SUPPORTED)};
  const char *wanted = getenv("GRAM_SIMD");

  for (size_t i = from; i < PETSC_STATIC_ARRAY_LENGTH(table); i++) {
    if (have[i] && (!wanted || !strcmp(wanted, table[i].name))) return table + i;
  }
  return table + PETSC_STATIC_ARRAY_LENGTH(table) - 1;
}

/* [n][dim] to [dim][ld], times unit */
static PetscErrorCode CoordinatesCreate(PetscInt n, PetscInt dim, const PetscReal *x, PetscReal unit,
                                        Coordinates *side)
{
  PetscFunctionBegin;
  side->n  = n;
  side->ld = n + GRAM_TILE_PAD;
  PetscCall(PetscCalloc1(GramAt(side->ld, dim, 0), &side->x));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n; i++) side->x[GramAt(c, side->ld, i)] = unit * x[GramAt(i, dim, c)];
    for (PetscInt i = n; n && i < side->ld; i++)
      side->x[GramAt(c, side->ld, i)] = side->x[GramAt(c, side->ld, n - 1)];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode CoordinatesDestroy(Coordinates *side)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(side->x));
  PetscCall(PetscFree(side->single));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* columns first ... first + n of [dim][ld] to [dim][n + pad] in float about the centre */
static void Narrowed(const Coordinates *side, PetscInt dim, PetscInt first, PetscInt n, PetscInt pad,
                     const double *centre, float *out)
{
  for (PetscInt c = 0; c < dim; c++) {
    const double *x  = side->x + GramAt(c, side->ld, first);
    float        *xf = out + GramAt(c, n + pad, 0);

    for (PetscInt i = 0; i < n; i++) xf[i] = (float)(x[i] - centre[c]);
    for (PetscInt i = n; i < n + pad; i++) xf[i] = n ? xf[n - 1] : 0;
  }
}

static void Centre(const Coordinates *side, PetscInt dim, PetscInt first, PetscInt n, double *centre)
{
  for (PetscInt c = 0; c < dim; c++) {
    const double *x   = side->x + GramAt(c, side->ld, first);
    double        sum = 0;

    for (PetscInt i = 0; i < n; i++) sum += x[i] - x[0];
    centre[c] = n ? x[0] + sum / (double)n : 0;
  }
}

static PetscErrorCode CoordinatesSingle(Coordinates *side, PetscInt dim, const double *centre)
{
  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(side->ld, dim, 0), &side->single));
  Narrowed(side, dim, 0, side->n, GRAM_TILE_PAD, centre, side->single);
  PetscFunctionReturn(PETSC_SUCCESS);
}

static void Range(const Coordinates *side, PetscInt c, double *least, double *most)
{
  for (PetscInt i = 0; i < side->n; i++) {
    *least = PetscMin(*least, side->x[GramAt(c, side->ld, i)]);
    *most  = PetscMax(*most, side->x[GramAt(c, side->ld, i)]);
  }
}

/* the largest squared distance there can be, in the profile's unit */
static double SquaredExtent(const TilesCPU *cpu, PetscInt dim)
{
  double sum = 0;

  for (PetscInt c = 0; c < dim; c++) {
    double least = PETSC_MAX_REAL, most = -PETSC_MAX_REAL;

    Range(&cpu->rows, c, &least, &most);
    Range(&cpu->cols, c, &least, &most);
    if (most > least) sum += (most - least) * (most - least);
  }
  return sum;
}

static PetscErrorCode TilesCreate_CPU(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n,
                                      const PetscReal *z)
{
  const PetscInt dim = t->kernel.dim;
  double         centre[GRAM_MAX_DIM];
  TilesCPU      *cpu;

  PetscFunctionBegin;
  PetscCall(PetscNew(&cpu));
  PetscCall(CoordinatesCreate(m, dim, x, GramKernelUnit(&t->kernel), &cpu->rows));
  cpu->cols = cpu->rows;
  if (!t->square) PetscCall(CoordinatesCreate(n, dim, z, GramKernelUnit(&t->kernel), &cpu->cols));
  cpu->simd = SimdPick(SquaredExtent(cpu, dim) < (Narrow(t) ? GRAM_FAR_SINGLE : GRAM_FAR_DOUBLE) ? 0 : 1);
  if (t->backend->precision == GRAM_SINGLE) {
    Centre(&cpu->cols, dim, 0, n, centre);
    PetscCall(CoordinatesSingle(&cpu->rows, dim, centre));
    cpu->cols.single = cpu->rows.single;
    if (!t->square) PetscCall(CoordinatesSingle(&cpu->cols, dim, centre));
  }
  t->data = cpu;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_CPU(GramTiles t)
{
  TilesCPU *cpu = (TilesCPU *)t->data;

  PetscFunctionBegin;
  if (!t->square) PetscCall(CoordinatesDestroy(&cpu->cols));
  PetscCall(CoordinatesDestroy(&cpu->rows));
  PetscCall(PetscFree(cpu->scratch));
  PetscCall(PetscFree(cpu));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A tile as its code sees it. x, z, v, w are in the precision of the entries, bytes each number. */
typedef struct {
  const char *x, *z, *v, *w;
  PetscInt    ldx, ldz;
  double     *y, *u;
  size_t      bytes, a, b; /* numbers per row and column in v, y, w, u: parts times right-hand sides */
  int         width;
} Work;

/* Rows i ... i + m of the tile against its columns j ... j + n; w, u NULL: y += B v alone. */
static void ApplyRectangle(GramTiles t, const Work *k, PetscInt i, PetscInt m, PetscInt j, PetscInt n,
                           const char *v, double *y, const char *w, double *u)
{
  const TilesCPU     *cpu  = (const TilesCPU *)t->data;
  const GramTileCode *code = cpu->simd->code[Narrow(t)];
  const char         *x = k->x + (size_t)i * k->bytes, *z = k->z + (size_t)j * k->bytes;
  const int           dim = (int)t->kernel.dim, rows = t->rows != GRAM_VALUE, cols = t->cols != GRAM_VALUE;

  if (!rows && !cols)
    code->values(t->kernel.radial, t->kernel.beta, dim, k->width, m, n, x, k->ldx, z, k->ldz, v, y, w, u);
  else
    code->derivatives(t->kernel.radial, t->kernel.beta, dim, rows, cols, k->width, m, n, x, k->ldx, z, k->ldz,
                      v, y, w, u);
}

/* rows and columns are the same points: the lower triangle in pieces, mirrored below its diagonal */
static void ApplyDiagonal(GramTiles t, const Work *k, PetscInt m)
{
  for (PetscInt j = 0; j < m; j += SUBTILE) {
    const PetscInt n = PetscMin(SUBTILE, m - j), below = j + n;
    const char    *vj = k->v + (size_t)j * k->b * k->bytes, *vi = k->v + (size_t)below * k->b * k->bytes;
    double        *yj = k->y + (size_t)j * k->a, *yi = k->y + (size_t)below * k->a;

    ApplyRectangle(t, k, j, n, j, n, vj, yj, NULL, NULL);
    if (below < m) ApplyRectangle(t, k, below, m - below, j, n, vj, yi, vi, yj);
  }
}

/* One side of a tile: n points from first on, part of each, in [..][part][q], of which columns r0 ... r0 + width
   travel to the tiles and back as [n][1 or 1 + dim][width]. A gradient alone travels with a value that is zero; it
   counts in the profile's unit. */
typedef struct {
  GramPart  part;
  PetscInt  first, n, dim, q, r0, width;
  PetscReal unit;
} Face;

static size_t FaceSize(const Face *f)
{
  return GramAt(f->n, (f->part == GRAM_VALUE ? 1 : 1 + f->dim) * f->width, 0);
}

/* where number p of point i begins in [..][part][q], and by what it is multiplied on its way */
static size_t FaceAt(const Face *f, PetscInt i, PetscInt p, PetscReal *factor)
{
  *factor = p ? f->unit : 1;
  return GramAt(f->first + i, GramPartSize(f->part, f->dim), p - (f->part == GRAM_GRADIENT)) * (size_t)f->q +
         (size_t)f->r0;
}

static void FacePack(const Face *f, PetscBool narrow, const PetscReal *v, void *packed)
{
  const PetscInt numbers = f->part == GRAM_VALUE ? 1 : 1 + f->dim, none = f->part == GRAM_GRADIENT;
  size_t         k = 0;

  for (PetscInt i = 0; i < f->n; i++) {
    for (PetscInt p = 0; p < numbers; p++) {
      PetscReal        factor;
      const PetscReal *from = p < none ? NULL : v + FaceAt(f, i, p, &factor);

      for (PetscInt r = 0; r < f->width; r++, k++) {
        const PetscReal value = from ? factor * from[r] : 0;

        if (narrow) ((float *)packed)[k] = (float)value;
        else ((double *)packed)[k] = value;
      }
    }
  }
}

static void FaceUnpack(const Face *f, const double *packed, PetscReal *y)
{
  const PetscInt numbers = f->part == GRAM_VALUE ? 1 : 1 + f->dim, none = f->part == GRAM_GRADIENT;
  size_t         k = 0;

  for (PetscInt i = 0; i < f->n; i++) {
    for (PetscInt p = 0; p < numbers; p++) {
      PetscReal  factor;
      PetscReal *to = p < none ? NULL : y + FaceAt(f, i, p, &factor);

      for (PetscInt r = 0; r < f->width; r++, k++) {
        if (to) to[r] += factor * packed[k];
      }
    }
  }
}

/* where the tile's coordinates are in double and single, and room for those of mixed */
static void Locate(GramTiles t, const GramTile *tile, float *room, Work *k)
{
  const TilesCPU *cpu = (const TilesCPU *)t->data;
  const PetscInt  dim = t->kernel.dim;
  double          centre[GRAM_MAX_DIM];

  k->ldx = cpu->rows.ld;
  k->ldz = cpu->cols.ld;
  switch (t->backend->precision) {
  case GRAM_DOUBLE:
    k->x = (const char *)(cpu->rows.x + tile->row);
    k->z = (const char *)(cpu->cols.x + tile->col);
    break;
  case GRAM_SINGLE:
    k->x = (const char *)(cpu->rows.single + tile->row);
    k->z = (const char *)(cpu->cols.single + tile->col);
    break;
  case GRAM_MIXED: /* the centre of the columns: their blocks do not depend on the ranks */
    k->ldx = tile->n_rows + GRAM_TILE_PAD;
    k->ldz = tile->n_cols;
    k->x   = (const char *)room;
    k->z   = (const char *)(room + GramAt(k->ldx, dim, 0));
    Centre(&cpu->cols, dim, tile->col, tile->n_cols, centre);
    Narrowed(&cpu->rows, dim, tile->row, tile->n_rows, GRAM_TILE_PAD, centre, room);
    Narrowed(&cpu->cols, dim, tile->col, tile->n_cols, 0, centre, room + GramAt(k->ldx, dim, 0));
  }
}

/* room in the scratch, in pieces of whole cache lines */
static char *Take(char **scratch, size_t bytes)
{
  char *piece = *scratch;

  *scratch += (bytes + 63) / 64 * 64;
  return piece;
}

static PetscErrorCode ApplyTile(GramTiles t, const GramTile *tile, const Face *row, const Face *col,
                                PetscBool inplace, const PetscReal *v, PetscReal *y, const PetscReal *w,
                                PetscReal *u)
{
  TilesCPU       *cpu   = (TilesCPU *)t->data;
  const PetscBool both  = (PetscBool)(tile->use == GRAM_TILE_BOTH);
  const size_t    n_row = FaceSize(row), n_col = FaceSize(col),
               n_coord = t->backend->precision == GRAM_MIXED
                             ? GramAt(tile->n_rows + GRAM_TILE_PAD + tile->n_cols, t->kernel.dim, 0)
                             : 0,
               bytes   = n_coord * sizeof(float) + (inplace ? 0 : 2 * (n_row + n_col) * sizeof(double)) +
                       6 * (size_t)64;
  char *scratch;
  Work  k = {.bytes = Narrow(t) ? sizeof(float) : sizeof(double), .width = (int)row->width};

  PetscFunctionBegin;
  if (bytes > cpu->n_scratch) {
    PetscCall(PetscFree(cpu->scratch));
    PetscCall(PetscMalloc1(bytes, &cpu->scratch));
    cpu->n_scratch = bytes;
  }
  scratch = cpu->scratch;
  Locate(t, tile, (float *)Take(&scratch, n_coord * sizeof(float)), &k);
  k.a = tile->n_rows ? n_row / (size_t)tile->n_rows : 0;
  k.b = tile->n_cols ? n_col / (size_t)tile->n_cols : 0;
  if (inplace) {
    k.v = (const char *)(v + GramAt(tile->col, col->q, 0));
    k.y = y + GramAt(tile->row, row->q, 0);
    k.w = both ? (const char *)(w + GramAt(tile->row, row->q, 0)) : NULL;
    k.u = both ? u + GramAt(tile->col, col->q, 0) : NULL;
  } else {
    char *vp = Take(&scratch, n_col * k.bytes), *wp = both ? Take(&scratch, n_row * k.bytes) : NULL;

    k.y = (double *)Take(&scratch, n_row * sizeof(double));
    k.u = both ? (double *)Take(&scratch, n_col * sizeof(double)) : NULL;
    FacePack(col, Narrow(t), v, vp);
    PetscCall(PetscArrayzero(k.y, n_row));
    if (both) {
      FacePack(row, Narrow(t), w, wp);
      PetscCall(PetscArrayzero(k.u, n_col));
    }
    k.v = vp;
    k.w = wp;
  }
  if (tile->use == GRAM_TILE_DIAGONAL) ApplyDiagonal(t, &k, tile->n_rows);
  else ApplyRectangle(t, &k, 0, tile->n_rows, 0, tile->n_cols, k.v, k.y, k.w, k.u);
  if (!inplace) {
    FaceUnpack(row, k.y, y);
    if (both) FaceUnpack(col, k.u, u);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Values in double are used where they lie; other right-hand sides are packed tile by tile, in even shares of at most
   GRAM_TILE_WIDTH. */
static PetscErrorCode Add_CPU(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  const PetscReal unit   = GramKernelUnit(&t->kernel);
  const PetscInt  q      = t->q;
  const PetscInt  shares = (q + GRAM_TILE_WIDTH - 1) / GRAM_TILE_WIDTH, widest = (q + shares - 1) / shares;
  const PetscBool inplace =
      (PetscBool)(!Narrow(t) && t->rows == GRAM_VALUE && t->cols == GRAM_VALUE && shares == 1);

  PetscFunctionBegin;
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    for (PetscInt r0 = 0; r0 < q; r0 += widest) {
      const PetscInt width = PetscMin(widest, q - r0);
      const Face     row   = {t->rows, tile->row, tile->n_rows, t->kernel.dim, q, r0, width, unit},
                 col       = {t->cols, tile->col, tile->n_cols, t->kernel.dim, q, r0, width, unit};

      PetscCall(ApplyTile(t, tile, &row, &col, inplace, t->v, t->y, t->w, t->u));
    }
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* The points of a list of numbers, each once where its numbers stand together: point [count], and at [n] which of them
   a number belongs to, part [n] which of its numbers it is, 0 the value. */
static PetscInt PointsOf(GramPart side, PetscInt dim, PetscInt n, const PetscInt list[], PetscInt point[],
                         PetscInt at[], PetscInt part[])
{
  const PetscInt numbers = GramPartSize(side, dim);
  PetscInt       count   = 0;

  for (PetscInt i = 0; i < n; i++) {
    const PetscInt p = list[i] / numbers;

    if (!count || point[count - 1] != p) point[count++] = p;
    at[i]   = count - 1;
    part[i] = list[i] % numbers + (side == GRAM_GRADIENT ? 1 : 0);
  }
  return count;
}

/* the coordinates of some points, [dim][ld] */
static void Pick(const Coordinates *side, PetscInt dim, PetscInt n, const PetscInt point[], PetscInt ld,
                 double *x)
{
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n; i++) x[GramAt(c, ld, i)] = side->x[GramAt(c, side->ld, point[i])];
  }
}

/* with derivatives: the jets of all pairs of points, and of those the entries */
static PetscErrorCode EntriesOfJets(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                    const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  const TilesCPU *cpu  = (const TilesCPU *)t->data;
  const PetscReal unit = GramKernelUnit(&t->kernel);
  const PetscInt  dim = t->kernel.dim, ldx = n_rows + GRAM_TILE_PAD;
  PetscInt       *row, *row_at, *row_part, *col, *col_at, *col_part, m, n;
  double         *x, *z, *jets;

  PetscFunctionBegin;
  PetscCall(PetscMalloc3(n_rows, &row, n_rows, &row_at, n_rows, &row_part));
  PetscCall(PetscMalloc3(n_cols, &col, n_cols, &col_at, n_cols, &col_part));
  m = PointsOf(t->rows, dim, n_rows, rows, row, row_at, row_part);
  n = PointsOf(t->cols, dim, n_cols, cols, col, col_at, col_part);
  PetscCall(PetscCalloc3(GramAt(ldx, dim, 0), &x, GramAt(n, dim, 0), &z, 3 * GramAt(m, n, 0), &jets));
  Pick(&cpu->rows, dim, m, row, ldx, x);
  Pick(&cpu->cols, dim, n, col, n, z);
  cpu->simd->code[0]->jets(t->kernel.radial, t->kernel.beta, (int)dim, m, n, x, ldx, z, n, jets);
  for (PetscInt j = 0; j < n_cols; j++) {
    const double *phi = jets + GramAt(col_at[j], m, 0), *first = phi + GramAt(m, n, 0),
                 *second = first + GramAt(m, n, 0);
    const PetscInt s     = col_part[j];
    PetscReal     *aj    = a + GramAt(j, lda, 0);

    for (PetscInt i = 0; i < n_rows; i++) {
      const PetscInt p = row_part[i], k = row_at[i];
      const double   dp = p ? x[GramAt(p - 1, ldx, k)] - z[GramAt(p - 1, n, col_at[j])] : 0,
                   ds   = s ? x[GramAt(s - 1, ldx, k)] - z[GramAt(s - 1, n, col_at[j])] : 0;

      if (p && s) aj[i] = -unit * unit * ((p == s ? first[k] : 0) + second[k] * dp * ds);
      else aj[i] = p ? unit * first[k] * dp : s ? -unit * first[k] * ds : phi[k];
    }
  }
  PetscCall(PetscFree3(x, z, jets));
  PetscCall(PetscFree3(col, col_at, col_part));
  PetscCall(PetscFree3(row, row_at, row_part));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Entries_CPU(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                  const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  const TilesCPU *cpu = (const TilesCPU *)t->data;
  const PetscInt  dim = t->kernel.dim, ldx = n_rows + GRAM_TILE_PAD;
  double         *x, *z;

  PetscFunctionBegin;
  if ((t->rows | t->cols) & GRAM_GRADIENT) {
    PetscCall(EntriesOfJets(t, n_rows, rows, n_cols, cols, a, lda));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(PetscCalloc2(GramAt(ldx, dim, 0), &x, GramAt(n_cols, dim, 0), &z));
  Pick(&cpu->rows, dim, n_rows, rows, ldx, x);
  Pick(&cpu->cols, dim, n_cols, cols, n_cols, z);
  cpu->simd->code[0]->entries(t->kernel.radial, t->kernel.beta, (int)dim, n_rows, n_cols, x, ldx, z, n_cols,
                              a, lda);
  PetscCall(PetscFree2(x, z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* rows that share a pass over the charges: their sums stay in the second cache */
#define COULOMB_ROWS 1024

static PetscErrorCode Coulomb_CPU(GramBackend backend, PetscInt dim, PetscInt m, const PetscReal *x,
                                  PetscInt n, const PetscReal *z, const GramCloud *cloud, PetscReal *out)
{
  const PetscReal softening2 = cloud ? cloud->softening2 : 0;
  const PetscInt  width      = dim + GRAM_COULOMB_EXTRA;
  PetscBool       narrow     = (PetscBool)(backend->precision != GRAM_DOUBLE);
  GramCoulombTile code;
  TilesCPU        sides = {0};
  double          centre[GRAM_MAX_DIM];
  float          *charge = NULL;

  PetscFunctionBegin;
  PetscCall(CoordinatesCreate(m, dim, x, 1, &sides.rows));
  PetscCall(CoordinatesCreate(n, dim, z, 1, &sides.cols));
  if (SquaredExtent(&sides, dim) > GRAM_COULOMB_FAR) narrow = PETSC_FALSE;
  code = SimdPick(0)->coulomb[narrow];
  if (narrow) {
    Centre(&sides.cols, dim, 0, n, centre);
    PetscCall(CoordinatesSingle(&sides.rows, dim, centre));
    PetscCall(CoordinatesSingle(&sides.cols, dim, centre));
    if (cloud) PetscCall(PetscMalloc1(n, &charge));
    for (PetscInt j = 0; charge && j < n; j++) charge[j] = (float)cloud->charge[j];
  }
  for (PetscInt i = 0; i < m; i++) {
    PetscCall(PetscArrayzero(out + GramAt(i, width, 0), width));
    if (!cloud) out[GramAt(i, width, dim + GRAM_COULOMB_NEAREST)] = PETSC_MAX_REAL;
  }
  for (PetscInt i = 0; i < m; i += COULOMB_ROWS) {
    const PetscInt count = PetscMin(COULOMB_ROWS, m - i);

    if (narrow)
      code((int)dim, count, n, sides.rows.single + i, sides.rows.ld, sides.cols.single, sides.cols.ld, charge,
           softening2, out + GramAt(i, width, 0));
    else
      code((int)dim, count, n, sides.rows.x + i, sides.rows.ld, sides.cols.x, sides.cols.ld,
           cloud ? cloud->charge : NULL, softening2, out + GramAt(i, width, 0));
    PetscCall(GramProgressAdd((PetscReal)count * (PetscReal)n));
  }
  PetscCall(PetscFree(charge));
  PetscCall(CoordinatesDestroy(&sides.cols));
  PetscCall(CoordinatesDestroy(&sides.rows));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Best of a few short runs: the clock needs a moment to rise, and another program may sit on the core. */
static PetscErrorCode Peak_CPU(GramBackend backend, PetscLogDouble *fma_per_second)
{
  const GramTileMulAdd muladd = SimdPick(0)->code[backend->precision != GRAM_DOUBLE]->muladd;
  double               sum, total = 0;

  PetscFunctionBegin;
  *fma_per_second = 0;
  for (int k = 0; k < 5; k++) {
    PetscLogDouble begin, end;
    double         count;

    PetscCall(PetscTime(&begin));
    count = muladd(1000000, &sum);
    PetscCall(PetscTime(&end));
    total += sum;
    if (end > begin) *fma_per_second = PetscMax(*fma_per_second, count / (end - begin));
  }
  PetscCheck(total < PETSC_MAX_REAL, PETSC_COMM_SELF, PETSC_ERR_LIB, "multiply-adds that do not add up");
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreate_CPU(MPI_Comm comm, GramBackend backend, PetscBool *found)
{
  PetscFunctionBegin;
  (void)comm;
  backend->detail   = SimdPick(0)->name;
  backend->exp2_fma = SimdPick(0)->code[backend->precision != GRAM_DOUBLE]->exp2_fma;
  backend->ops      = (GramBackendOps){.tilescreate  = TilesCreate_CPU,
                                       .tilesdestroy = TilesDestroy_CPU,
                                       .add          = Add_CPU,
                                       .entries      = Entries_CPU,
                                       .coulomb      = Coulomb_CPU,
                                       .peak         = Peak_CPU};
  *found            = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
