/* Tiles on the CPU: picks the copies of tile_impl.h that this processor runs best, and feeds them. */
#include <stdlib.h>
#include <string.h>

#include "backend_impl.h"
#include "progress.h"
#include "tile.h"

#define SUBTILE 256 /* edge of the pieces a diagonal tile is cut into */

typedef struct {
  const char         *name;
  GramTileApply_f64   apply_f64;
  GramTileApply_f32   apply_f32;
  GramTileEntries_f64 entries;
} Simd;

typedef struct {
  const Simd *simd;
  PetscInt    ldx, ldz;
  double     *x, *z;   /* [dim][ld] coordinates times the profile's unit; z = x when square */
  float      *xf, *zf; /* the same about the centre of all points, but in double precision */
} TilesCPU;

/* GRAM_SIMD=portable in the environment forces a lesser copy (tests do) */
static const Simd *SimdPick(void)
{
#define SIMD_ROW(simd, supported) \
  {#simd, GramTileApply_f64_##simd, GramTileApply_f32_##simd, GramTileEntries_f64_##simd},
  static const Simd table[] = {GRAM_SIMD_LIST(SIMD_ROW)};
#define SIMD_SUPPORTED(simd, supported) (supported) != 0,
  const int   have[] = {GRAM_SIMD_LIST(SIMD_SUPPORTED)};
  const char *wanted = getenv("GRAM_SIMD");

  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(table); i++) {
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
static PetscErrorCode Transpose(PetscInt n, PetscInt dim, const PetscReal *x, PetscReal unit, PetscInt *ld,
                                double **xt)
{
  PetscFunctionBegin;
  *ld = n + GRAM_TILE_PAD;
  PetscCall(PetscCalloc1((size_t)*ld * (size_t)dim, xt));
  for (PetscInt c = 0; c < dim; c++) {
    for (PetscInt i = 0; i < n; i++)
      (*xt)[(size_t)c * (size_t)*ld + (size_t)i] = unit * x[(size_t)i * (size_t)dim + (size_t)c];
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ToFloat(PetscInt n, PetscInt dim, PetscInt ld, const double *x, const double *centre,
                              float **xf)
{
  PetscFunctionBegin;
  PetscCall(PetscCalloc1((size_t)ld * (size_t)dim, xf));
  for (PetscInt c = 0; c < dim; c++) {
    const size_t at = (size_t)c * (size_t)ld;

    for (size_t i = 0; i < (size_t)n; i++) (*xf)[at + i] = (float)(x[at + i] - centre[c]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesCreate_CPU(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n,
                                      const PetscReal *z)
{
  const PetscInt  dim  = t->kernel.dim;
  const PetscReal unit = RadialUnit(t->kernel.radial);
  double          centre[GRAM_MAX_DIM];
  TilesCPU       *cpu;

  PetscFunctionBegin;
  PetscCall(PetscNew(&cpu));
  cpu->simd = SimdPick();
  PetscCall(Transpose(m, dim, x, unit, &cpu->ldx, &cpu->x));
  cpu->z   = cpu->x;
  cpu->ldz = cpu->ldx;
  if (!t->square) PetscCall(Transpose(n, dim, z, unit, &cpu->ldz, &cpu->z));
  if (t->backend->precision !=
      GRAM_DOUBLE) { /* single sees differences only: take out the common offset first */
    for (PetscInt c = 0; c < dim; c++) {
      centre[c] = 0;
      for (PetscInt i = 0; i < n; i++)
        centre[c] += cpu->z[(size_t)c * (size_t)cpu->ldz + (size_t)i] / (PetscReal)n;
    }
    PetscCall(ToFloat(m, dim, cpu->ldx, cpu->x, centre, &cpu->xf));
    cpu->zf = cpu->xf;
    if (!t->square) PetscCall(ToFloat(n, dim, cpu->ldz, cpu->z, centre, &cpu->zf));
  }
  t->data = cpu;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_CPU(GramTiles t)
{
  TilesCPU *cpu = (TilesCPU *)t->data;

  PetscFunctionBegin;
  if (!t->square) {
    PetscCall(PetscFree(cpu->z));
    PetscCall(PetscFree(cpu->zf));
  }
  PetscCall(PetscFree(cpu->x));
  PetscCall(PetscFree(cpu->xf));
  PetscCall(PetscFree(cpu));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* What a list of tiles is applied to, width numbers a point; v and w in the precision of the entries. */
typedef struct {
  size_t      width;
  const void *v, *w;
  double     *y, *u;
} Panel;

/* Rows row ... row + m of X, columns col ... col + n of Z; w, u NULL: y += B v alone. */
static void ApplyRectangle(GramTiles t, int width, PetscInt row, PetscInt m, PetscInt col, PetscInt n,
                           const void *v, double *y, const void *w, double *u)
{
  const TilesCPU *cpu = (const TilesCPU *)t->data;
  const int       dim = (int)t->kernel.dim;

  if (t->backend->precision == GRAM_DOUBLE) {
    cpu->simd->apply_f64(t->kernel.radial, dim, width, m, n, cpu->x + row, cpu->ldx, cpu->z + col, cpu->ldz,
                         (const double *)v, y, (const double *)w, u);
  } else {
    cpu->simd->apply_f32(t->kernel.radial, dim, width, m, n, cpu->xf + row, cpu->ldx, cpu->zf + col, cpu->ldz,
                         (const float *)v, y, (const float *)w, u);
  }
}

/* the lower triangle in pieces, mirrored below its diagonal */
static void ApplyDiagonal(GramTiles t, const GramTile *tile, int width, const char *v, size_t bytes,
                          double *y)
{
  const PetscInt m = tile->n_rows;

  for (PetscInt j = 0; j < m; j += SUBTILE) {
    const PetscInt n = PetscMin(SUBTILE, m - j), below = j + n;
    const char    *vj = v + (size_t)j * bytes;
    double        *yj = y + (size_t)j * (size_t)width;

    ApplyRectangle(t, width, tile->row + j, n, tile->col + j, n, vj, yj, NULL, NULL);
    if (below == m) break;
    ApplyRectangle(t, width, tile->row + below, m - below, tile->col + j, n, vj,
                   y + (size_t)below * (size_t)width, v + (size_t)below * bytes, yj);
  }
}

static PetscErrorCode ApplyTiles(GramTiles t, PetscInt n_tiles, const GramTile list[], const Panel *p)
{
  const size_t bytes = p->width * (t->backend->precision == GRAM_DOUBLE ? sizeof(double) : sizeof(float));

  PetscFunctionBegin;
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    const char *v    = (const char *)p->v + (size_t)tile->col * bytes;
    double     *y    = p->y + (size_t)tile->row * p->width;
    const int   both = tile->use == GRAM_TILE_BOTH, width = (int)p->width;

    if (tile->use == GRAM_TILE_DIAGONAL) ApplyDiagonal(t, tile, width, v, bytes, y);
    else {
      ApplyRectangle(t, width, tile->row, tile->n_rows, tile->col, tile->n_cols, v, y,
                     both ? (const char *)p->w + (size_t)tile->row * bytes : NULL,
                     both ? p->u + (size_t)tile->col * p->width : NULL);
    }
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* [n][q], columns r0 ... r0 + width, to [n][width] in the precision of the entries */
static void Pack(PetscInt n, PetscInt q, PetscInt r0, PetscInt width, PetscBool narrow, const PetscReal *v,
                 void *packed)
{
  for (PetscInt j = 0; j < n; j++) {
    for (PetscInt r = 0; r < width; r++) {
      const PetscReal value = v[GramAt(j, q, r0 + r)];

      if (narrow) ((float *)packed)[GramAt(j, width, r)] = (float)value;
      else ((double *)packed)[GramAt(j, width, r)] = value;
    }
  }
}

static void Unpack(PetscInt n, PetscInt q, PetscInt r0, PetscInt width, const PetscReal *packed, PetscReal *y)
{
  for (PetscInt i = 0; i < n; i++) {
    for (PetscInt r = 0; r < width; r++) y[GramAt(i, q, r0 + r)] += packed[GramAt(i, width, r)];
  }
}

/* Right-hand sides go through the tiles GRAM_TILE_WIDTH at a time; a panel that fits is used where it lies. */
static PetscErrorCode Apply_CPU(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                                const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u)
{
  const PetscBool narrow = (PetscBool)(t->backend->precision != GRAM_DOUBLE);
  const PetscInt  widest = PetscMin(q, GRAM_TILE_WIDTH);
  double         *vp, *yp, *wp = NULL, *up = NULL;

  PetscFunctionBegin;
  if (!narrow && q <= GRAM_TILE_WIDTH) {
    PetscCall(ApplyTiles(t, n_tiles, list, &(Panel){(size_t)q, v, w, y, u}));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(PetscMalloc2(GramAt(t->n, widest, 0), &vp, GramAt(t->m, widest, 0), &yp));
  if (w) PetscCall(PetscMalloc2(GramAt(t->m, widest, 0), &wp, GramAt(t->n, widest, 0), &up));
  for (PetscInt r0 = 0; r0 < q; r0 += GRAM_TILE_WIDTH) {
    const PetscInt width = PetscMin(q - r0, GRAM_TILE_WIDTH);

    Pack(t->n, q, r0, width, narrow, v, vp);
    PetscCall(PetscArrayzero(yp, GramAt(t->m, width, 0)));
    if (w) {
      Pack(t->m, q, r0, width, narrow, w, wp);
      PetscCall(PetscArrayzero(up, GramAt(t->n, width, 0)));
    }
    PetscCall(ApplyTiles(t, n_tiles, list, &(Panel){(size_t)width, vp, wp, yp, up}));
    Unpack(t->m, q, r0, width, yp, y);
    if (w) Unpack(t->n, q, r0, width, up, u);
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
      x[GramAt(c, ldx, i)] = cpu->x[(size_t)c * (size_t)cpu->ldx + (size_t)rows[i]];
    for (PetscInt j = 0; j < n_cols; j++)
      z[GramAt(c, n_cols, j)] = cpu->z[(size_t)c * (size_t)cpu->ldz + (size_t)cols[j]];
  }
  cpu->simd->entries(t->kernel.radial, (int)dim, n_rows, n_cols, x, ldx, z, n_cols, a, lda);
  PetscCall(PetscFree2(x, z));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreate_CPU(GramBackend backend, PetscBool *found)
{
  PetscFunctionBegin;
  backend->detail = SimdPick()->name;
  backend->ops    = (GramBackendOps){TilesCreate_CPU, TilesDestroy_CPU, Apply_CPU, Entries_CPU};
  *found          = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
