#include <string.h>

#include "backend_impl.h"

/* in order of preference */
static const struct {
  const char *name;
  PetscErrorCode (*create)(GramBackend, PetscBool *);
} backends[] = {
    {"cpu", GramBackendCreate_CPU},
    {"ref", GramBackendCreate_Ref},
};

const char *GramBackendName(int i)
{
  return i < (int)PETSC_STATIC_ARRAY_LENGTH(backends) ? backends[i].name : NULL;
}

const char *GramPrecisionName(int precision)
{
  static const char *const names[] = {"double", "mixed", "single"};

  return precision < (int)PETSC_STATIC_ARRAY_LENGTH(names) ? names[precision] : NULL;
}

PetscErrorCode GramBackendCreate(MPI_Comm comm, const char *name, GramPrecision precision,
                                 GramBackend *backend)
{
  PetscBool   automatic = PETSC_TRUE, known = PETSC_FALSE, found = PETSC_FALSE;
  GramBackend b;

  PetscFunctionBegin;
  if (name) PetscCall(PetscStrcmp(name, "auto", &automatic));
  PetscCall(PetscNew(&b));
  b->precision = precision;
  for (size_t i = 0; i < PETSC_STATIC_ARRAY_LENGTH(backends) && !found; i++) {
    PetscBool same = automatic;

    if (!automatic) PetscCall(PetscStrcmp(name, backends[i].name, &same));
    if (!same) continue;
    known   = PETSC_TRUE;
    b->name = backends[i].name;
    PetscCall(backends[i].create(b, &found));
  }
  GramCheckInput(known, comm, "backend: '%s' is not built into this program (gramarye info lists what is)",
                 name);
  GramCheckInput(found, comm, "backend: '%s' finds no device on this machine", name);
  *backend = b;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreateFromOptions(MPI_Comm comm, GramBackend *backend)
{
  char name[32] = "auto", precision[32] = "double";
  int  p = 0;

  PetscFunctionBegin;
  PetscOptionsBegin(comm, NULL, "Who evaluates the kernel matrix", NULL);
  PetscCall(
      PetscOptionsString("-backend", "auto, cpu, ref", "GramBackendCreate", name, name, sizeof name, NULL));
  PetscCall(PetscOptionsString("-product_precision", "Of the kernel's values: double, mixed, single",
                               "GramBackendCreate", precision, precision, sizeof precision, NULL));
  PetscOptionsEnd();
  while (GramPrecisionName(p) && strcmp(precision, GramPrecisionName(p)) != 0) p++;
  GramCheckInput(GramPrecisionName(p), comm, "product.precision: '%s' is none of double, mixed, single",
                 precision);
  PetscCall(GramBackendCreate(comm, name, (GramPrecision)p, backend));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendDestroy(GramBackend *backend)
{
  PetscFunctionBegin;
  PetscCall(PetscFree(*backend));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendGetInfo(GramBackend b, const char **name, const char **detail,
                                  GramPrecision *precision)
{
  PetscFunctionBegin;
  if (name) *name = b->name;
  if (detail) *detail = b->detail;
  if (precision) *precision = b->precision;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendMeasurePeak(GramBackend b, PetscLogDouble *fma_per_second)
{
  PetscFunctionBegin;
  *fma_per_second = 0;
  if (b->ops.peak) PetscCall(b->ops.peak(b, fma_per_second));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscLogDouble GramBackendFmaPerPair(GramBackend b, const GramKernel *kernel, PetscInt q, PetscBool both)
{
  const PetscInt p          = (GramRadialGetInfo(kernel->radial)->twonu - 1) / 2,
                 polynomial = p > 1 ? p + 2 : PetscMax(0, 2 * p);

  return (PetscLogDouble)(kernel->dim + b->exp2_fma + polynomial + q * (both ? 2 : 1));
}

PetscErrorCode GramTilesCreate(GramBackend backend, const GramKernel *kernel, GramPart rows, PetscInt m,
                               const PetscReal *x, GramPart cols, PetscInt n, const PetscReal *z,
                               GramTiles *tiles)
{
  GramTiles t;

  PetscFunctionBegin;
  PetscCheck(!(rows & cols & GRAM_GRADIENT) || GramRadialGetInfo(kernel->radial)->twonu != 1, PETSC_COMM_SELF,
             PETSC_ERR_SUP, "%s has no second derivatives at r = 0", kernel->type);
  PetscCall(PetscNew(&t));
  t->backend = backend;
  t->kernel  = *kernel;
  t->rows    = rows;
  t->cols    = cols;
  t->square  = (PetscBool)!z;
  t->m       = m;
  t->n       = z ? n : m;
  PetscCall(backend->ops.tilescreate(t, m, x, t->n, z ? z : x));
  *tiles = t;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesDestroy(GramTiles *tiles)
{
  PetscFunctionBegin;
  if (!*tiles) PetscFunctionReturn(PETSC_SUCCESS);
  PetscCall((*tiles)->backend->ops.tilesdestroy(*tiles));
  PetscCall(PetscFree(*tiles));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesApply(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                              const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u)
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < n_tiles; i++) {
    PetscAssert(list[i].row + list[i].n_rows <= t->m && list[i].col + list[i].n_cols <= t->n, PETSC_COMM_SELF,
                PETSC_ERR_ARG_OUTOFRANGE, "tile %" PetscInt_FMT " reaches beyond the points", i);
    PetscAssert(list[i].use != GRAM_TILE_BOTH || (w && u), PETSC_COMM_SELF, PETSC_ERR_ARG_NULL, "no w or u");
    PetscAssert(list[i].use != GRAM_TILE_BOTH || y != u || list[i].row + list[i].n_rows <= list[i].col ||
                    list[i].col + list[i].n_cols <= list[i].row,
                PETSC_COMM_SELF, PETSC_ERR_ARG_WRONG, "rows and columns overlap in one array");
    PetscAssert(list[i].use != GRAM_TILE_DIAGONAL || list[i].n_rows == list[i].n_cols, PETSC_COMM_SELF,
                PETSC_ERR_ARG_WRONG, "a diagonal tile is square");
  }
  if (q) PetscCall(t->backend->ops.apply(t, n_tiles, list, q, v, y, w, u));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesEntries(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  PetscFunctionBegin;
  if (n_rows && n_cols) PetscCall(t->backend->ops.entries(t, n_rows, rows, n_cols, cols, a, lda));
  PetscFunctionReturn(PETSC_SUCCESS);
}
