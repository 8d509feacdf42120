#include <string.h>

#include "backend_impl.h"

/* in order of preference */
static const struct {
  const char *name;
  PetscErrorCode (*create)(MPI_Comm, GramBackend, PetscBool *);
} backends[] = {
#if defined(GRAM_HAVE_CUDA)
    {"cuda", GramBackendCreate_CUDA},
#endif
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

/* b, of whose precision the i-th backend makes itself; found alike on all ranks, else detail says what is missing */
static PetscErrorCode CreateAt(MPI_Comm comm, int i, GramBackend b, PetscBool *found)
{
  PetscBool mine = PETSC_FALSE;

  PetscFunctionBegin;
  PetscCall(PetscMemzero(&b->ops, sizeof b->ops));
  b->name   = backends[i].name;
  b->detail = NULL;
  b->data   = NULL;
  PetscCall(backends[i].create(comm, b, &mine));
  PetscCallMPI(MPI_Allreduce(&mine, found, 1, MPIU_BOOL, MPI_LAND, comm));
  if (!*found && mine) {
    if (b->ops.destroy) PetscCall(b->ops.destroy(b));
    b->detail = "no device on other ranks";
  }
  if (!b->detail) b->detail = "no device found";
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendProbe(MPI_Comm comm, int i, PetscBool *found, char detail[], size_t size)
{
  struct _p_GramBackend b = {.precision = GRAM_DOUBLE};

  PetscFunctionBegin;
  PetscCall(CreateAt(comm, i, &b, found));
  PetscCall(PetscStrncpy(detail, b.detail, size)); /* it may go with the backend */
  if (*found && b.ops.destroy) PetscCall(b.ops.destroy(&b));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreate(MPI_Comm comm, const char *name, GramPrecision precision,
                                 GramBackend *backend)
{
  static PetscBool said      = PETSC_FALSE;
  PetscBool        automatic = PETSC_TRUE, known = PETSC_FALSE, found = PETSC_FALSE;
  const char      *missing = NULL;
  GramBackend      b;

  PetscFunctionBegin;
  if (name) PetscCall(PetscStrcmp(name, "auto", &automatic));
  PetscCall(PetscNew(&b));
  b->precision = precision;
  for (int i = 0; GramBackendName(i) && !found; i++) {
    PetscBool same = automatic;

    if (!automatic) PetscCall(PetscStrcmp(name, GramBackendName(i), &same));
    if (!same) continue;
    known = PETSC_TRUE;
    PetscCall(CreateAt(comm, i, b, &found));
    if (!found && !missing) missing = b->detail;
  }
  GramCheckInput(known, comm, "backend: '%s' is not built into this program (gramarye info lists what is)",
                 name);
  GramCheckInput(found, comm, "backend: '%s' finds no device (%s)", name, missing);
  if (automatic && missing && !said) {
    said = PETSC_TRUE;
    PetscCall(PetscFPrintf(PETSC_COMM_WORLD, stderr, "gramarye: backend auto: %s, products run on %s (%s)\n",
                           missing, b->name, b->detail));
  }
  *backend = b;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreateFromOptions(MPI_Comm comm, GramBackend *backend)
{
  char name[32] = "auto", precision[32] = "double", names[128] = "auto";
  int  p = 0;

  PetscFunctionBegin;
  for (int i = 0; GramBackendName(i); i++) {
    PetscCall(PetscStrlcat(names, ", ", sizeof names));
    PetscCall(PetscStrlcat(names, GramBackendName(i), sizeof names));
  }
  PetscOptionsBegin(comm, NULL, "Who evaluates the kernel matrix", NULL);
  PetscCall(PetscOptionsString("-backend", names, "GramBackendCreate", name, name, sizeof name, NULL));
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
  if (!*backend) PetscFunctionReturn(PETSC_SUCCESS);
  if ((*backend)->ops.destroy) PetscCall((*backend)->ops.destroy(*backend));
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

PetscErrorCode GramBackendCopy(GramBackend b, void *dst, const void *src, size_t bytes)
{
  PetscFunctionBegin;
  if (!bytes) PetscFunctionReturn(PETSC_SUCCESS);
  if (b->ops.copy) PetscCall(b->ops.copy(b, dst, src, bytes));
  else memcpy(dst, src, bytes);
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscBool GramBackendReachesDevice(GramBackend b) { return (PetscBool)(b->ops.copy != NULL); }

PetscLogDouble GramBackendHostBytes(GramBackend b, PetscInt points, PetscInt dim, PetscInt q)
{
  return b->ops.hostbytes ? b->ops.hostbytes(points, dim, q) : 0;
}

PetscErrorCode GramBackendMeasurePeak(GramBackend b, PetscLogDouble *fma_per_second)
{
  PetscFunctionBegin;
  *fma_per_second = 0;
  if (b->ops.peak) PetscCall(b->ops.peak(b, fma_per_second));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendDeviceBytes(GramBackend b, PetscInt m, PetscInt n, PetscInt dim, PetscInt q,
                                      PetscLogDouble *need, PetscLogDouble *have)
{
  PetscFunctionBegin;
  *need = *have = 0;
  if (b->ops.capacity) PetscCall(b->ops.capacity(b, m, n, dim, q, need, have));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscLogDouble GramBackendFmaPerPair(GramBackend b, const GramKernel *kernel, PetscInt q, PetscBool both)
{
  const GramRadialInfo *info = GramRadialGetInfo(kernel->radial);

  return (PetscLogDouble)(kernel->dim + info->powers * b->exp2_fma + info->fma + q * (both ? 2 : 1));
}

PetscErrorCode GramTilesCreate(GramBackend backend, const GramKernel *kernel, GramPart rows, PetscInt m,
                               const PetscReal *x, GramPart cols, PetscInt n, const PetscReal *z,
                               GramTiles *tiles)
{
  GramTiles t;

  PetscFunctionBegin;
  PetscCheck(!(rows & cols & GRAM_GRADIENT) || GramRadialGetInfo(kernel->radial)->differentiable,
             PETSC_COMM_SELF, PETSC_ERR_SUP, "%s has no second derivatives at r = 0", kernel->type);
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

PetscErrorCode GramTilesSetRowwise(GramTiles t)
{
  PetscFunctionBegin;
  t->rowwise = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesMalloc(GramTiles t, GramPanelUse use, size_t numbers, PetscReal **panel)
{
  PetscFunctionBegin;
  *panel = NULL;
  if (!numbers) PetscFunctionReturn(PETSC_SUCCESS);
  if (t->backend->ops.malloc) PetscCall(t->backend->ops.malloc(t, use, numbers, panel));
  else PetscCall(PetscMalloc1(numbers, panel));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesFree(GramTiles t, PetscReal **panel)
{
  PetscFunctionBegin;
  if (!*panel) PetscFunctionReturn(PETSC_SUCCESS);
  if (t->backend->ops.free) PetscCall(t->backend->ops.free(t, panel));
  else PetscCall(PetscFree(*panel));
  *panel = NULL;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesBegin(GramTiles t, PetscInt q, const PetscReal *v, PetscReal *y, const PetscReal *w,
                              PetscReal *u)
{
  PetscFunctionBegin;
  PetscAssert(!t->q, PETSC_COMM_SELF, PETSC_ERR_ORDER, "a product of these tiles is under way");
  t->q = q;
  t->v = v;
  t->y = y;
  t->w = w;
  t->u = u;
  if (q && t->backend->ops.begin) PetscCall(t->backend->ops.begin(t, q, v, y, w, u));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesFilled(GramTiles t, PetscBool w, PetscInt first, PetscInt n)
{
  PetscFunctionBegin;
  PetscAssert(first >= 0 && n >= 0 && first + n <= (w ? t->m : t->n), PETSC_COMM_SELF,
              PETSC_ERR_ARG_OUTOFRANGE, "rows beyond those of the panel");
  if (t->q && n && t->backend->ops.filled) PetscCall(t->backend->ops.filled(t, w, first, n));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesAdd(GramTiles t, PetscInt n_tiles, const GramTile list[])
{
  PetscFunctionBegin;
  for (PetscInt i = 0; i < n_tiles; i++) {
    PetscAssert(list[i].row + list[i].n_rows <= t->m && list[i].col + list[i].n_cols <= t->n, PETSC_COMM_SELF,
                PETSC_ERR_ARG_OUTOFRANGE, "tile %" PetscInt_FMT " reaches beyond the points", i);
    PetscAssert(list[i].use != GRAM_TILE_BOTH || !t->q || (t->w && t->u), PETSC_COMM_SELF, PETSC_ERR_ARG_NULL,
                "no w or u");
    PetscAssert(list[i].use != GRAM_TILE_BOTH || t->y != t->u ||
                    list[i].row + list[i].n_rows <= list[i].col ||
                    list[i].col + list[i].n_cols <= list[i].row,
                PETSC_COMM_SELF, PETSC_ERR_ARG_WRONG, "rows and columns overlap in one array");
    PetscAssert(list[i].use != GRAM_TILE_DIAGONAL || list[i].n_rows == list[i].n_cols, PETSC_COMM_SELF,
                PETSC_ERR_ARG_WRONG, "a diagonal tile is square");
  }
  if (t->q && n_tiles) PetscCall(t->backend->ops.add(t, n_tiles, list));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesEnd(GramTiles t)
{
  PetscFunctionBegin;
  if (t->q && t->backend->ops.end) PetscCall(t->backend->ops.end(t));
  t->q = 0;
  t->v = t->w = NULL;
  t->y = t->u = NULL;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesApply(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                              const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u)
{
  PetscFunctionBegin;
  PetscCall(GramTilesBegin(t, q, v, y, w, u));
  PetscCall(GramTilesFilled(t, PETSC_FALSE, 0, t->n));
  if (w && w != v) PetscCall(GramTilesFilled(t, PETSC_TRUE, 0, t->m));
  PetscCall(GramTilesAdd(t, n_tiles, list));
  PetscCall(GramTilesEnd(t));
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesGetDeviceSeconds(GramTiles t, PetscLogDouble *seconds)
{
  PetscFunctionBegin;
  *seconds = t->device_seconds;
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramTilesEntries(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  PetscFunctionBegin;
  if (n_rows && n_cols) PetscCall(t->backend->ops.entries(t, n_rows, rows, n_cols, cols, a, lda));
  PetscFunctionReturn(PETSC_SUCCESS);
}
