/*
  The reference: two plain loops over the textbook formulas, in double whatever precision is asked for.

  It calls nothing of radial.h, so that it can be the oracle for everything that does.
*/
#include "backend_impl.h"
#include "progress.h"

typedef struct {
  PetscReal *x, *z; /* [m][dim], [n][dim]; z = x when square */
} TilesRef;

/* phi(r) of DESIGN's table: Rasmussen and Williams (2006), eqs. 4.9, 4.16 to 4.18 */
static PetscReal PhiRef(GramRadial type, PetscReal r)
{
  const PetscReal t = PetscSqrtReal(3) * r, u = PetscSqrtReal(5) * r, v = PetscSqrtReal(7) * r, w = 3 * r;

  switch (type) {
  case GRAM_RADIAL_GAUSSIAN: return PetscExpReal(-r * r / 2);
  case GRAM_RADIAL_EXPONENTIAL: return PetscExpReal(-r);
  case GRAM_RADIAL_MATERN32: return (1 + t) * PetscExpReal(-t);
  case GRAM_RADIAL_MATERN52: return (1 + u + u * u / 3) * PetscExpReal(-u);
  case GRAM_RADIAL_MATERN72: return (1 + v + 2 * v * v / 5 + v * v * v / 15) * PetscExpReal(-v);
  case GRAM_RADIAL_MATERN92:
    return (1 + w + 3 * w * w / 7 + 2 * w * w * w / 21 + w * w * w * w / 105) * PetscExpReal(-w);
  default: return NAN;
  }
}

static PetscReal EntryRef(GramTiles t, PetscInt i, PetscInt j)
{
  const TilesRef  *ref = (const TilesRef *)t->data;
  const PetscReal *x = ref->x + GramAt(i, t->kernel.dim, 0), *z = ref->z + GramAt(j, t->kernel.dim, 0);
  PetscReal        r2 = 0;

  for (PetscInt c = 0; c < t->kernel.dim; c++) r2 += (x[c] - z[c]) * (x[c] - z[c]);
  return PhiRef(t->kernel.radial, PetscSqrtReal(r2));
}

static PetscErrorCode TilesCreate_Ref(GramTiles t, PetscInt m, const PetscReal *x, PetscInt n,
                                      const PetscReal *z)
{
  TilesRef *ref;

  PetscFunctionBegin;
  PetscCall(PetscNew(&ref));
  PetscCall(PetscMalloc1(GramAt(m, t->kernel.dim, 0), &ref->x));
  PetscCall(PetscArraycpy(ref->x, x, GramAt(m, t->kernel.dim, 0)));
  ref->z = ref->x;
  if (!t->square) {
    PetscCall(PetscMalloc1(GramAt(n, t->kernel.dim, 0), &ref->z));
    PetscCall(PetscArraycpy(ref->z, z, GramAt(n, t->kernel.dim, 0)));
  }
  t->data = ref;
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode TilesDestroy_Ref(GramTiles t)
{
  TilesRef *ref = (TilesRef *)t->data;

  PetscFunctionBegin;
  if (!t->square) PetscCall(PetscFree(ref->z));
  PetscCall(PetscFree(ref->x));
  PetscCall(PetscFree(ref));
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Apply_Ref(GramTiles t, PetscInt n_tiles, const GramTile list[], PetscInt q,
                                const PetscReal *v, PetscReal *y, const PetscReal *w, PetscReal *u)
{
  PetscFunctionBegin;
  for (const GramTile *tile = list; tile < list + n_tiles; tile++) {
    for (PetscInt i = tile->row; i < tile->row + tile->n_rows; i++) {
      for (PetscInt j = tile->col; j < tile->col + tile->n_cols; j++) {
        const PetscReal k = EntryRef(t, i, j);

        for (PetscInt r = 0; r < q; r++) {
          y[GramAt(i, q, r)] += k * v[GramAt(j, q, r)];
          if (tile->use == GRAM_TILE_BOTH) u[GramAt(j, q, r)] += k * w[GramAt(i, q, r)];
        }
      }
    }
    PetscCall(GramProgressAdd((PetscReal)tile->n_rows * (PetscReal)tile->n_cols));
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

static PetscErrorCode Entries_Ref(GramTiles t, PetscInt n_rows, const PetscInt rows[], PetscInt n_cols,
                                  const PetscInt cols[], PetscReal *a, PetscInt lda)
{
  PetscFunctionBegin;
  for (PetscInt j = 0; j < n_cols; j++) {
    for (PetscInt i = 0; i < n_rows; i++)
      a[(size_t)j * (size_t)lda + (size_t)i] = EntryRef(t, rows[i], cols[j]);
  }
  PetscFunctionReturn(PETSC_SUCCESS);
}

PetscErrorCode GramBackendCreate_Ref(GramBackend backend, PetscBool *found)
{
  PetscFunctionBegin;
  backend->detail    = "plain loops";
  backend->precision = GRAM_DOUBLE;
  backend->ops       = (GramBackendOps){TilesCreate_Ref, TilesDestroy_Ref, Apply_Ref, Entries_Ref};
  *found             = PETSC_TRUE;
  PetscFunctionReturn(PETSC_SUCCESS);
}
