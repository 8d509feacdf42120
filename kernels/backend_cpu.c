/* Tiles on the CPU: picks the copy of tile_impl.h that this processor runs best, and feeds it. */
#include <stdlib.h>
#include <string.h>
#include <petsctime.h>

#include "backend_impl.h"
#include "progress.h"
#include "tile.h"

#define SUBTILE 256 /* edge of the pieces a diagonal tile is cut into */

_Static_assert(GRAM_TILE_DIM >= GRAM_MAX_DIM, "tiles have room for every point");

typedef struct {
  const char         *name;
  const GramTileCode *code[2]; /* entries in double, in float */
} Simd;

/* coordinates of one side times the profile's unit */
typedef struct {
  PetscInt n, ld;
  double  *x;      /* [dim][ld] */
  float   *single; /* the same about the centre of all points, with precision single */
} Side;

typedef struct {
  const Simd *simd;
  Side        rows, cols; /* cols = rows, not owned, when square */
  float      *tile[2];    /* rows and columns of the tile at hand about its centre, with precision mixed */
  size_t      room[2];    /* numbers in them */
} TilesCPU;

static PetscBool Narrow(GramTiles t) { return (PetscBool)(t->backend->precision != GRAM_DOUBLE); }

/* The first copy this processor can run, or the one named GRAM_SIMD in the environment (tests do); from: how many of
   them to leave out. */
static const Simd *SimdPick(size_t from)
{
#define SIMD_ROW(simd, supported) {#simd, {&GramTileCode_f64_##simd, &GramTileCode_f32_##simd}},
  static const Simd table[] = {GRAM_SIMD_LIST(SIMD_ROW)};
#define SIMD_SUPPORTED(simd, supported) (supported) != 0,
  const int   have[] = {GRAM_SIMD_LIST(SIMD_SUPPORTED)};
  const char *wanted = getenv("GRAM_SIMD");

  for (size_t i = from; i < PETSC_STATIC_ARRAY_LENGTH(table); i++) {
    if (have[i] && (!wanted || !strcmp(wanted, table[i].name))) return table + i;
  }
  return table + PETSC_STATIC_ARRAY_LENGTH(table) - 1;
}

static PetscReal RadialUnit(GramRadial type)
{
#define RADIAL_UNIT(UPPER, Camel, name, twonu, order, unit) unit,
  static const PetscReal units[] = {GRAM_RADIAL_LIST(RADIAL_UNIT)};

  return units[type];
}

/* [n][dim] to [dim][ld], times unit */
static PetscErrorCode SideCreate(PetscInt n, PetscInt dim, const PetscReal *x, PetscReal unit, Side *side)
{
  PetscFunctionBegin;
  side->n  = n;
  side->ld = n + GRAM_TILE_PAD;
  PetscCall(PetscCalloc1(GramAt(side->ld, dim, 0), &side->x));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n; i++) side->x[GramAt(c, side->ld, i)] = unit * x[GramAt(i, dim, c)];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode SideDestroy(Side *side)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(side->x));
  PetscCall(PetscFree(side->single));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* columns first ... first + n of [dim][ld] to [dim][n + pad] in float about the centre */
static void Narrowed(const Side *side, PetscInt dim, PetscInt first, PetscInt n, PetscInt pad,
                     const double *centre, float *out)
{
  for (PetscInt c = 0; c < dim; c++) {
    const double *x  = side->x + GramAt(c, side->ld, first);
    float        *xf = out + GramAt(c, n + pad, 0);

    for (PetscInt i = 0; i < n; i++) xf[i] = (float)(x[i] - centre[c]);
    for (PetscInt i = n; i < n + pad; i++) xf[i] = 0;
  }
}

static void Centre(const Side *side, PetscInt dim, PetscInt first, PetscInt n, double *centre)
{
  for (PetscInt c = 0; c < dim; c++) {
    const double *x   = side->x + GramAt(c, side->ld, first);
    double        sum = 0;

    for (PetscInt i = 0; i < n; i++) sum += x[i] - x[0];
    centre[c] = n ? x[0] + sum / (double)n : 0;
  }
}

static PetscErrorCode SideSingle(Side *side, PetscInt dim, const double *centre)
{
  PetscFunctionBegin;
  PetscCall(PetscMalloc1(GramAt(side->ld, dim, 0), &side->single));
  Narrowed(side, dim, 0, side->n, GRAM_TILE_PAD, centre, side->single);
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* the largest squared distance there can be, in the profile's unit */
static double SquaredExtent(const TilesCPU *cpu, PetscInt dim)
{
  double sum = 0;

  for (PetscInt c = 0; c < dim; c++) {
    double least = PETSC_MAX_REAL, most = -PETSC_MAX_REAL;

    for (const Side *side = &cpu->rows; side; side = side == &cpu->rows ? &cpu->cols : NULL) {
      for (PetscInt i = 0; i < side->n; i++) {
        least = PetscMin(least, side->x[GramAt(c, side->ld, i)]);
        most  = PetscMax(most, side->x[GramAt(c, side->ld, i)]);
      }
    }
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
  PetscCall(SideCreate(m, dim, x, RadialUnit(t->kernel.radial), &cpu->rows));
  cpu->cols = cpu->rows;
  if (!t->square) PetscCall(SideCreate(n, dim, z, RadialUnit(t->kernel.radial), &cpu->cols));
  cpu->simd = SimdPick(SquaredExtent(cpu, dim) < (Narrow(t) ? GRAM_FAR_SINGLE : GRAM_FAR_DOUBLE) ? 0 : 1);
  if (t->backend->precision == GRAM_SINGLE) {
    Centre(&cpu->cols, dim, 0, n, centre);
    PetscCall(SideSingle(&cpu->rows, dim, centre));
    cpu->cols.single = cpu->rows.single;
    if (!t->square) PetscCall(SideSingle(&cpu->cols, dim, centre));
  }
  t->data = cpu;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_CPU(GramTiles t)
{
  TilesCPU *cpu = (TilesCPU *)t->data;

  PetscFunctionBegin;
  if (!t->square) PetscCall(SideDestroy(&cpu->cols));
  PetscCall(SideDestroy(&cpu->rows));
  PetscCall(PetscFree(cpu->tile[0]));
  PetscCall(PetscFree(cpu->tile[1]));
  PetscCall(PetscFree(cpu));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* A tile and what it is applied to. x, z, v, w are in the precision of the entries, bytes each number. */
typedef struct {
  const char *x, *z;
  PetscInt    ldx, ldz;
  const char *v, *w;
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

  if (!rows && !cols) code->values(t->kernel.radial, dim, k->width, m, n, x, k->ldx, z, k->ldz, v, y, w, u);
  else code->derivatives(t->kernel.radial, dim, rows, cols, k->width, m, n, x, k->ldx, z, k->ldz, v, y, w, u);
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

static PetscErrorCode Room(TilesCPU *cpu, int side, size_t numbers)
{
  PetscFunctionBegin;
  if (numbers <= cpu->room[side]) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree(cpu->tile[side]));
  PetscCall(PetscMalloc1(numbers, &cpu->tile[side]));
  cpu->room[side] = numbers;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Where the tile's coordinates are, for the precision at hand. */
static PetscErrorCode Locate(GramTiles t, const GramTile *tile, Work *k)
{
  TilesCPU      *cpu = (TilesCPU *)t->data;
  const PetscInt dim = t->kernel.dim;
  double         centre[GRAM_MAX_DIM];

  PetscFunctionBegin;
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
  case GRAM_MIXED:
    k->ldx = tile->n_rows + GRAM_TILE_PAD;
    k->ldz = tile->n_cols;
    PetscCall(Room(cpu, 0, GramAt(k->ldx, dim, 0)));
    PetscCall(Room(cpu, 1, GramAt(k->ldz, dim, 0)));
    Centre(&cpu->rows, dim, tile->row, tile->n_rows, centre);
    Narrowed(&cpu->rows, dim, tile->row, tile->n_rows, GRAM_TILE_PAD, centre, cpu->tile[0]);
    Narrowed(&cpu->cols, dim, tile->col, tile->n_cols, 0, centre, cpu->tile[1]);
    k->x = (const char *)cpu->tile[0];
    k->z = (const char *)cpu->tile[1];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* v, w in the precision of the entries, parts as the tiles want them, width right-hand sides */
static PetscErrorCode ApplyTiles(GramTiles t, PetscInt n_tiles, const GramTile list[], int width,
                                 const void *v, double *y, const void *w, double *u)
{
  const size_t a = (size_t)(t->rows == GRAM_VALUE ? 1 : 1 + t->kernel.dim) * (size_t)width,
               b = (size_t)(t->cols == GRAM_VALUE ? 1 : 1 + t->kernel.dim) * (size_t)width;
  Work k         = {.bytes = Narrow(t) ? sizeof(float) : sizeof(double), .a = a, .b = b, .width = width};

  PetscFunctionBegin;
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    const PetscBool both = (PetscBool)(tile->use == GRAM_TILE_BOTH);

    PetscCall(Locate(t, tile, &k));
    k.v = (const char *)v + (size_t)tile->col * b * k.bytes;
    k.y = y + (size_t)tile->row * a;
    k.w = both ? (const char *)w + (size_t)tile->row * a * k.bytes : NULL;
    k.u = both ? u + (size_t)tile->col * b : NULL;
    if (tile->use == GRAM_TILE_DIAGONAL) ApplyDiagonal(t, &k, tile->n_rows);
    else ApplyRectangle(t, &k, 0, tile->n_rows, 0, tile->n_cols, k.v, k.y, k.w, k.u);
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* One side of a panel, on its way to the tiles and back: [n][part][q], columns r0 ... r0 + width, as
   [n][1 or 1 + dim][width]. A gradient alone travels with a value that is zero, and is counted in the profile's unit. */
typedef struct {
  GramPart  part;
  PetscInt  n, dim, q;
  PetscReal unit;
} Face;

static size_t FaceSize(const Face *f, PetscInt width)
{
  return GramAt(f->n, (f->part == GRAM_VALUE ? 1 : 1 + f->dim) * width, 0);
}

static void FacePack(const Face *f, PetscInt r0, PetscInt width, PetscBool narrow, const PetscReal *v,
                     void *packed)
{
  const PetscInt numbers = GramPartSize(f->part, f->dim), first = f->part == GRAM_GRADIENT ? 1 : 0;
  size_t         k = 0;

  for (PetscInt j = 0; j < f->n; j++) {
    for (PetscInt p = 0; p < first + numbers; p++) {
      for (PetscInt r = 0; r < width; r++, k++) {
        const PetscReal value =
            p < first ? 0 : (p ? f->unit : 1) * v[GramAt(GramAt(j, numbers, p - first), f->q, r0 + r)];

        if (narrow) ((float *)packed)[k] = (float)value;
        else ((double *)packed)[k] = value;
      }
    }
  }
}

static void FaceUnpack(const Face *f, PetscInt r0, PetscInt width, const double *packed, PetscReal *y)
{
  const PetscInt numbers = GramPartSize(f->part, f->dim), first = f->part == GRAM_GRADIENT ? 1 : 0;
  size_t         k = 0;

  for (PetscInt i = 0; i < f->n; i++) {
    for (PetscInt p = 0; p < first + numbers; p++) {
      for (PetscInt r = 0; r < width; r++, k++) {
        if (p >= first)
          y[GramAt(GramAt(i, numbers, p - first), f->q, r0 + r)] += (p ? f->unit : 1) * packed[k];
      }
    }
  }
}

/* Right-hand sides go through the tiles in even shares of at most GRAM_TILE_WIDTH; values in double that fit are used
   where they lie. */
static PetscErrorCode Apply_CPU(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                                const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u)
{
  const PetscReal unit = RadialUnit(t->kernel.radial);
  const Face     row = {t->rows, t->m, t->kernel.dim, q, unit}, col = {t->cols, t->n, t->kernel.dim, q, unit};
  const PetscInt shares = (q + GRAM_TILE_WIDTH - 1) / GRAM_TILE_WIDTH, widest = (q + shares - 1) / shares;
  double        *vp, *yp, *wp = NULL, *up = NULL;

  PetscFunctionBegin;
  if (!Narrow(t) && t->rows == GRAM_VALUE && t->cols == GRAM_VALUE && shares == 1) {
    PetscCall(ApplyTiles(t, n_tiles, list, (int)q, v, y, w, u));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(PetscMalloc2(FaceSize(&col, widest), &vp, FaceSize(&row, widest), &yp));
  if (w) PetscCall(PetscMalloc2(FaceSize(&row, widest), &wp, FaceSize(&col, widest), &up));
  for (PetscInt r0 = 0; r0 < q; r0 += widest) {
    const PetscInt width = PetscMin(widest, q - r0);

    FacePack(&col, r0, width, Narrow(t), v, vp);
    PetscCall(PetscArrayzero(yp, FaceSize(&row, width)));
    if (w) {
      FacePack(&row, r0, width, Narrow(t), w, wp);
      PetscCall(PetscArrayzero(up, FaceSize(&col, width)));
    }
    PetscCall(ApplyTiles(t, n_tiles, list, (int)width, vp, yp, wp, up));
    FaceUnpack(&row, r0, width, yp, y);
    if (w) FaceUnpack(&col, r0, width, up, u);
  }
  PetscCall(PetscFree2(vp, yp));
  PetscCall(PetscFree2(wp, up));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Entries_CPU(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                  const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  const TilesCPU *cpu = (const TilesCPU *)t->data;
  const PetscInt  dim = t->kernel.dim, ldx = n_rows + GRAM_TILE_PAD;
  double         *x, *z;

  PetscFunctionBegin;
  PetscCall(PetscCalloc2(GramAt(ldx, dim, 0), &x, GramAt(n_cols, dim, 0), &z));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n_rows; i++)
      x[GramAt(c, ldx, i)] = cpu->rows.x[GramAt(c, cpu->rows.ld, rows[i])];
    for (PetscInt j = 0; j < n_cols; j++)
      z[GramAt(c, n_cols, j)] = cpu->cols.x[GramAt(c, cpu->cols.ld, cols[j])];
  }
  cpu->simd->code[0]->entries(t->kernel.radial, (int)dim, n_rows, n_cols, x, ldx, z, n_cols, a, lda);
  PetscCall(PetscFree2(x, z));
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

PetscErrorCode GramBackendCreate_CPU(GramBackend backend, PetscBool *found)
{
  PetscFunctionBegin;
  backend->detail = SimdPick(0)->name;
  backend->ops    = (GramBackendOps){TilesCreate_CPU, TilesDestroy_CPU, Apply_CPU, Entries_CPU, Peak_CPU};
  *found          = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
