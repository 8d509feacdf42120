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
  float      *xf, *zf; /* the same about the centre of all points, with precision single only */
  size_t      scratch; /* numbers in v, y and vf */
  double     *v, *y;
  float      *vf;
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
  if (t->backend->precision ==
      GRAM_SINGLE) { /* single sees differences only: take out the common offset first */
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
  PetscCall(PetscFree3(cpu->v, cpu->y, cpu->vf));
  PetscCall(PetscFree(cpu));
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* one rectangle for width right-hand sides */
static void ApplyRectangle(GramTiles t, int width, PetscInt row, PetscInt m, PetscInt col, PetscInt n,
                           PetscBool both, const double *v, double *y)
{
  const TilesCPU *cpu = (const TilesCPU *)t->data;
  const int       dim = (int)t->kernel.dim;
  double         *yi = y + (size_t)row * (size_t)width, *yj = y + (size_t)col * (size_t)width;
  const size_t    vi = (size_t)row * (size_t)width, vj = (size_t)col * (size_t)width;

  if (t->backend->precision == GRAM_SINGLE) {
    cpu->simd->apply_f32(t->kernel.radial, dim, width, m, n, cpu->xf + row, cpu->ldx, cpu->zf + col, cpu->ldz,
                         cpu->vf + vj, yi, both ? cpu->vf + vi : NULL, both ? yj : NULL);
  } else {
    cpu->simd->apply_f64(t->kernel.radial, dim, width, m, n, cpu->x + row, cpu->ldx, cpu->z + col, cpu->ldz,
                         v + vj, yi, both ? v + vi : NULL, both ? yj : NULL);
  }
}

static PetscErrorCode ApplyTiles(GramTiles t, PetscInt n_tiles, const GramTile list[], int width,
                                 const double *v, double *y)
{
  PetscFunctionBegin;
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    if (tile->both &&
        tile->row == tile->col) { /* the square's lower triangle in pieces, mirrored below its diagonal */
      const PetscInt end = tile->row + tile->n_rows;

      for (PetscInt j = tile->row; j < end; j += SUBTILE) {
        const PetscInt n = PetscMin(SUBTILE, end - j);

        ApplyRectangle(t, width, j, n, j, n, PETSC_FALSE, v, y);
        if (j + n < end) ApplyRectangle(t, width, j + n, end - j - n, j, n, PETSC_TRUE, v, y);
      }
    } else ApplyRectangle(t, width, tile->row, tile->n_rows, tile->col, tile->n_cols, tile->both, v, y);
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode ScratchReserve(TilesCPU *cpu, size_t numbers)
{
  PetscFunctionBegin;
  if (numbers <= cpu->scratch) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall(PetscFree3(cpu->v, cpu->y, cpu->vf));
  PetscCall(PetscMalloc3(numbers, &cpu->v, numbers, &cpu->y, numbers, &cpu->vf));
  cpu->scratch = numbers;
  PetscFunctionReturn(PETSC_SUCCESS);
}

/* Right-hand sides go through the tiles GRAM_TILE_WIDTH at a time; one panel that fits is used where it lies. */
static PetscErrorCode Apply_CPU(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                                const PetscReal *v, PetscReal *y)
{
  const size_t m = (size_t)t->m, n = (size_t)t->n;
  TilesCPU    *cpu   = (TilesCPU *)t->data;
  PetscBool    plain = (PetscBool)(t->backend->precision == GRAM_DOUBLE && q <= GRAM_TILE_WIDTH);

  PetscFunctionBegin;
  if (plain) {
    PetscCall(ApplyTiles(t, n_tiles, list, (int)q, v, y));
    PetscFunctionReturn(PETSC_SUCCESS);
  }
  PetscCall(ScratchReserve(cpu, PetscMax(m, n) * (size_t)PetscMin(q, GRAM_TILE_WIDTH)));
  for (size_t r0 = 0; r0 < (size_t)q; r0 += GRAM_TILE_WIDTH) {
    const size_t width = PetscMin((size_t)q - r0, GRAM_TILE_WIDTH);

    for (size_t j = 0; j < n; j++) {
      for (size_t r = 0; r < width; r++) {
        cpu->v[j * width + r]  = v[j * (size_t)q + r0 + r];
        cpu->vf[j * width + r] = (float)v[j * (size_t)q + r0 + r];
      }
    }
    PetscCall(PetscArrayzero(cpu->y, m * width));
    PetscCall(ApplyTiles(t, n_tiles, list, (int)width, cpu->v, cpu->y));
    for (size_t i = 0; i < m; i++) {
      for (size_t r = 0; r < width; r++) y[i * (size_t)q + r0 + r] += cpu->y[i * width + r];
    }
  }
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
